//! `cargo xtask contention`: one project puts load on the service while another project's requests are measured.
//!
//! The measured requests start at fixed times (open loop), so a slow response delays none of the next ones. The latency
//! counts from the time at which a request should start.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::print_line;
use crate::service::{self, Access, Service};

#[derive(Args)]
pub struct Contention {
    /// The duration of the load in seconds; the requests are measured alone for a third of it
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The connections of the busy project
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// The requests of each kind that the quiet project sends per second
    #[arg(long, default_value_t = 5)]
    rate: u32,
    /// The persons of the busy project
    #[arg(long, default_value_t = 20_000)]
    persons: usize,
}

/// A latency below this is always good enough.
const GOOD_LATENCY: Duration = Duration::from_millis(250);
/// The largest ratio of the latency under load to the latency alone.
const MAX_RATIO: u32 = 5;
const BATCH_EVENTS: usize = 500;
/// The persons of the quiet project.
const QUIET_PERSONS: usize = 1_000;

/// The measured operations.
const KINDS: [Kind; 4] = [Kind::Capture, Kind::List, Kind::Preview, Kind::Ready];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Capture,
    List,
    Preview,
    Export,
    Ready,
}

impl Contention {
    pub fn run(&self, root: &Path) -> Result<()> {
        service::build(root)?;
        let directory = root.join("target/contention");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        let busy = service::create_project(root, &directory, "Busy")?;
        let quiet = service::create_project(root, &directory, "Quiet")?;
        let service = Service::start(root, &directory)?;
        add_persons(&service, &busy, self.persons)?;
        add_persons(&service, &quiet, QUIET_PERSONS)?;
        let quiet = Caller::new(&service, &quiet);
        print_line("the quiet project alone:")?;
        let alone = self.measure(&quiet, self.seconds / 3)?;
        print_line(format!("beside {} busy connections:", self.connections))?;
        let (ends, counts) = (AtomicBool::new(false), Counts::default());
        let loaded = thread::scope(|scope| {
            for number in 0..self.connections {
                let caller = Caller::new(&service, &busy);
                let (ends, counts) = (&ends, &counts);
                scope.spawn(move || caller.load(number, ends, counts));
            }
            let loaded = self.measure(&quiet, self.seconds);
            ends.store(true, Ordering::Relaxed);
            loaded
        })?;
        counts.print()?;
        compare(&alone, &loaded)
    }

    /// Sends requests of all kinds at the rate, and prints their latencies.
    fn measure(&self, caller: &Caller, seconds: u64) -> Result<Vec<Latencies>> {
        let interval = Duration::from_secs(1) / self.rate;
        let begin = Instant::now();
        let kinds = KINDS.map(|_| Mutex::new(Latencies::default()));
        thread::scope(|scope| {
            for number in 0..seconds as u32 * self.rate {
                let due = begin + interval * number;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                for (kind, latencies) in KINDS.iter().zip(&kinds) {
                    scope.spawn(move || {
                        let status = caller.send(*kind);
                        let mut latencies = latencies.lock().expect("no panic");
                        latencies.add(status, due.elapsed());
                    });
                }
            }
        });
        let all = kinds.map(|latencies| latencies.into_inner().expect("no panic"));
        for (kind, latencies) in KINDS.iter().zip(&all) {
            print_line(format!("  {kind:?}: {}", latencies.summary()))?;
        }
        Ok(all.into())
    }
}

/// Fails if a measured request failed, or the load slowed the requests down too much.
fn compare(alone: &[Latencies], loaded: &[Latencies]) -> Result<()> {
    for ((kind, alone), loaded) in KINDS.iter().zip(alone).zip(loaded) {
        ensure!(
            loaded.failures == 0,
            "{kind:?}: {} failures",
            loaded.failures
        );
        let bound = GOOD_LATENCY.max(alone.percentile(99) * MAX_RATIO);
        let p99 = loaded.percentile(99);
        ensure!(
            p99 <= bound,
            "{kind:?}: p99 is {p99:?}, more than {bound:?}"
        );
    }
    print_line("no request failed, and every p99 is within its bound")
}

fn add_persons(service: &Service, access: &Access, count: usize) -> Result<()> {
    let numbers: Vec<usize> = (0..count).collect();
    numbers
        .chunks(BATCH_EVENTS)
        .try_for_each(|numbers| service.capture(&batch(access, numbers.iter().copied())))
}

/// A batch with an event of each person.
fn batch(access: &Access, persons: impl Iterator<Item = usize>) -> Value {
    let event = |number: usize| {
        let properties = json!({"plan": if number.is_multiple_of(3) { "pro" } else { "free" },
            "$set": {"email": format!("p{number}@example.org"), "bio": "x".repeat(200)}});
        json!({"event": "visit", "distinct_id": format!("p{number}"), "properties": properties})
    };
    json!({"api_key": access.token, "batch": persons.map(event).collect::<Vec<_>>()})
}

/// A client with one connection pool and the credentials of a project.
struct Caller {
    client: Client,
    url: String,
    access: Access,
}

impl Caller {
    fn new(service: &Service, access: &Access) -> Self {
        Self {
            client: Client::builder()
                .timeout(Duration::from_secs(120))
                .build()
                .expect("a client"),
            url: service.url().to_owned(),
            access: access.clone(),
        }
    }

    /// Sends requests of one kind until `ends`.
    fn load(&self, number: usize, ends: &AtomicBool, counts: &Counts) {
        let kinds = [Kind::Capture, Kind::Preview, Kind::Export, Kind::List];
        let kind = kinds[number % kinds.len()];
        let first = number * BATCH_EVENTS;
        let body = batch(&self.access, first..first + BATCH_EVENTS).to_string();
        while !ends.load(Ordering::Relaxed) {
            let request = match kind {
                Kind::Capture => self.capture(body.clone()),
                Kind::List => self.get("persons/?limit=1000"),
                kind => self.request(kind),
            };
            counts.add(status(request));
        }
    }

    /// Sends a small request and returns its status.
    fn send(&self, kind: Kind) -> u16 {
        status(self.request(kind))
    }

    fn request(&self, kind: Kind) -> RequestBuilder {
        match kind {
            Kind::Capture => self.capture(batch(&self.access, 0..1).to_string()),
            Kind::List => self.get("persons/?limit=100"),
            Kind::Export => self.get("persons/?format=ndjson"),
            Kind::Preview => self.preview(),
            Kind::Ready => self.client.get(format!("{}/_readyz", self.url)),
        }
    }

    fn capture(&self, batch: String) -> RequestBuilder {
        let request = self.client.post(format!("{}/batch/", self.url));
        request
            .header("Content-Type", "application/json")
            .body(batch)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        let (url, project) = (&self.url, self.access.project);
        let request = self
            .client
            .get(format!("{url}/api/projects/{project}/{path}"));
        request.bearer_auth(&self.access.key)
    }

    fn preview(&self) -> RequestBuilder {
        let leaf =
            json!({"type": "person", "key": "email", "operator": "regex", "value": "^p[0-9]+7@"});
        let event = json!({"type": "behavioral", "key": "visit", "event_type": "events",
            "value": "performed_event", "time_value": 30, "time_interval": "day"});
        let filters = json!({"properties": {"type": "AND", "values": [leaf, event]}});
        let (url, project) = (&self.url, self.access.project);
        self.client
            .post(format!("{url}/api/projects/{project}/cohorts/preview/"))
            .bearer_auth(&self.access.key)
            .json(&json!({"filters": filters}))
    }
}

/// The status of a response that was read to its end; 0 without one.
fn status(request: RequestBuilder) -> u16 {
    let Ok(response) = request.send() else {
        return 0;
    };
    let status = response.status().as_u16();
    response.bytes().map_or(0, |_| status)
}

#[derive(Default)]
struct Latencies {
    sorted: Vec<Duration>,
    failures: usize,
}

impl Latencies {
    fn add(&mut self, status: u16, latency: Duration) {
        self.failures += usize::from(status != 200);
        let at = self.sorted.partition_point(|other| *other <= latency);
        self.sorted.insert(at, latency);
    }

    fn percentile(&self, percent: usize) -> Duration {
        let at = (self.sorted.len() * percent / 100).min(self.sorted.len().saturating_sub(1));
        self.sorted.get(at).copied().unwrap_or_default()
    }

    fn summary(&self) -> String {
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        let (count, failures) = (self.sorted.len(), self.failures);
        format!("{count} requests, {failures} failed, p50 {p50:.1?}, p99 {p99:.1?}")
    }
}

/// The responses to the busy project.
#[derive(Default)]
struct Counts {
    successes: AtomicUsize,
    refusals: AtomicUsize,
    others: AtomicUsize,
}

impl Counts {
    fn add(&self, status: u16) {
        let count = match status {
            200 => &self.successes,
            429 | 503 => &self.refusals,
            _ => &self.others,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn print(&self) -> Result<()> {
        let [successes, refusals, others] = [&self.successes, &self.refusals, &self.others]
            .map(|count| count.load(Ordering::Relaxed));
        print_line(format!(
            "the busy project: {successes} successes, {refusals} refusals, {others} other responses"
        ))
    }
}
