//! `cargo xtask soak`: much at once for a while, with kills, and then a look at everything.
//!
//! Writers send events, each batch again and again until it is acknowledged; others read; cohorts are calculated all the
//! time; and every now and then the service, or its Postgres, is killed and started again. In the end every cohort must
//! have just the people who are told by what was acknowledged: nothing lost, nothing counted twice, nothing stuck.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Utc};
use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::say;
use crate::service::{self, Access, Service};

#[derive(Args)]
pub struct Soak {
    /// How long it goes on, in minutes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// The seconds between two kills, about
    #[arg(long, default_value_t = 60)]
    kill_every: u64,
    /// Events that each writer sends in a second, about
    #[arg(long, default_value_t = 500)]
    rate: usize,
}

const WRITERS: usize = 2;
const READERS: usize = 2;
const PEOPLE: usize = 5_000;
const BATCH: usize = 100;
/// One of so many who were merged is deleted.
const DELETED: u64 = 50;
const CHANGE_EVERY: Duration = Duration::from_millis(500);
/// A cohort must be right so long after the last event.
const SETTLED: Duration = Duration::from_secs(120);
/// The memory that the views may take, in MiB.
const MEMORY: &str = "64";

/// How many events of each kind everybody has done, by what was acknowledged.
type Counts = BTreeMap<String, [u32; 2]>;
const EVENTS: [&str; 2] = ["seen", "bought"];

/// What goes on, seen by all threads.
struct Scene {
    access: Access,
    /// Where the service listens; nothing while it does not.
    url: Mutex<Option<String>>,
    stop: AtomicBool,
    acknowledged: AtomicU64,
    again: AtomicU64,
    read: AtomicU64,
    unread: AtomicU64,
    merged: AtomicU64,
    deleted: AtomicU64,
    counts: Mutex<Counts>,
}

impl Soak {
    pub fn run(&self, root: &Path) -> Result<()> {
        service::build(root)?;
        let directory = root.join("target/soak");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        let scene = Scene {
            access: service::project(root, &directory, "Soak")?,
            url: Mutex::default(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            again: AtomicU64::new(0),
            read: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            merged: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            counts: Mutex::default(),
        };
        let start = || Service::start_with(root, &directory, &["--memory", MEMORY]);
        let first = start()?;
        let cohorts = cohorts(&first, &scene.access)?;
        *scene.url.lock().expect("the address") = Some(first.url().to_owned());
        let (kept, story) = thread::scope(|scope| {
            for writer in 0..WRITERS {
                let scene = &scene;
                scope.spawn(move || scene.write(writer, self.rate));
            }
            for _ in 0..READERS {
                scope.spawn(|| scene.read(&cohorts));
            }
            scope.spawn(|| scene.change());
            let story = self.kill_and_start(&scene, first, &start, &directory);
            scene.stop.store(true, Ordering::Relaxed);
            story
        })?;
        story.tell(&scene)?;
        check(&kept, &scene, &cohorts)
    }

    /// Kills the service or its Postgres every now and then, and starts it again, until the time is over.
    fn kill_and_start(
        &self,
        scene: &Scene,
        first: Service,
        start: &dyn Fn() -> Result<Service>,
        directory: &Path,
    ) -> Result<(Service, Story)> {
        let rng = &mut StdRng::seed_from_u64(1);
        let end = Instant::now() + Duration::from_secs_f64(self.minutes * 60.0);
        let (mut service, mut story) = (first, Story::default());
        while Instant::now() < end {
            let pause = Duration::from_millis(rng.random_range(500..=self.kill_every * 2_000));
            let until = end.min(Instant::now() + pause);
            while Instant::now() < until {
                story.memory.push(memory(&service)?);
                thread::sleep(Duration::from_secs(1).min(until - Instant::now()));
            }
            if Instant::now() >= end {
                break;
            }
            let began = Instant::now();
            if rng.random_bool(0.25) {
                kill_postgres(directory)?;
                story.postgres_kills += 1;
                // Whoever runs a service whose database is gone starts it anew when it is not ready.
                if !ready(&service, Duration::from_secs(20)) {
                    *scene.url.lock().expect("the address") = None;
                    drop(service);
                    service = start()?;
                }
            } else {
                *scene.url.lock().expect("the address") = None;
                service.kill()?;
                story.kills += 1;
                service = start()?;
            }
            ensure!(
                ready(&service, Duration::from_secs(30)),
                "the service does not become ready again"
            );
            story.back.push(began.elapsed());
            *scene.url.lock().expect("the address") = Some(service.url().to_owned());
        }
        Ok((service, story))
    }
}

/// What happened.
#[derive(Default)]
struct Story {
    kills: u32,
    postgres_kills: u32,
    /// From a kill to being ready again.
    back: Vec<Duration>,
    /// Resident memory of the service and what of it the views take, in MiB, every second.
    memory: Vec<(u64, u64)>,
}

impl Story {
    fn tell(&self, scene: &Scene) -> Result<()> {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        say(format!(
            "{} events acknowledged, {} people merged, {} deleted, {} requests sent again; {} answers read, {} questions unanswered while it was away",
            load(&scene.acknowledged),
            load(&scene.merged),
            load(&scene.deleted),
            load(&scene.again),
            load(&scene.read),
            load(&scene.unread)
        ))?;
        let slowest = self.back.iter().max().copied().unwrap_or_default();
        say(format!(
            "{} kills of the service, {} of Postgres; ready again after {:.1} s at most",
            self.kills,
            self.postgres_kills,
            slowest.as_secs_f64()
        ))?;
        let parts = self.memory.chunks(self.memory.len().div_ceil(PARTS).max(1));
        for (nth, part) in parts.enumerate() {
            let all = sorted(part.iter().map(|(all, _)| *all));
            let views = sorted(part.iter().map(|(_, views)| *views));
            say(format!(
                "memory in part {} of {PARTS}: {} MiB, {} of it views; {} and {} at most",
                nth + 1,
                all[all.len() / 2],
                views[views.len() / 2],
                all[all.len() - 1],
                views[views.len() - 1],
            ))?;
        }
        Ok(())
    }
}

/// Of so many parts of the time the memory is shown.
const PARTS: usize = 6;

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
}

impl Scene {
    fn going_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn url(&self) -> Option<String> {
        self.url.lock().expect("the address").clone()
    }

    /// Sends batches, each until it is acknowledged.
    fn write(&self, writer: usize, rate: usize) {
        let rng = &mut StdRng::seed_from_u64(writer as u64 + 7);
        let client = Client::new();
        let pause = Duration::from_secs_f64(BATCH as f64 / rate as f64);
        while self.going_on() {
            let batch: Vec<(String, usize)> = (0..BATCH)
                .map(|_| {
                    let person = format!(
                        "w{writer}-{}",
                        (rng.random::<f64>().powi(2) * PEOPLE as f64) as usize
                    );
                    (person, rng.random_range(0..EVENTS.len()))
                })
                .collect();
            let body = self.body(&batch, rng);
            if !self.until_done(|url| sent(&client, url, &body)) {
                return;
            }
            self.acknowledged.fetch_add(BATCH as u64, Ordering::Relaxed);
            let mut counts = self.counts.lock().expect("the counts");
            for (person, event) in batch {
                counts.entry(person).or_default()[event] += 1;
            }
            drop(counts);
            thread::sleep(pause);
        }
    }

    /// What was begun is brought to its end, or nobody knows what became of it; no if the service does not come back.
    fn until_done(&self, attempt: impl Fn(&str) -> bool) -> bool {
        loop {
            match self.url() {
                Some(url) if attempt(&url) => return true,
                None if !self.going_on() => return false,
                _ => self.again.fetch_add(1, Ordering::Relaxed),
            };
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Has people made who become one, and deletes one now and then.
    fn change(&self) {
        let rng = &mut StdRng::seed_from_u64(3);
        let client = Client::new();
        for nth in 1_u64.. {
            let (one, other) = (format!("m{nth}"), format!("n{nth}"));
            let batch = [(one.clone(), 0), (other.clone(), 0), (other.clone(), 1)];
            let mut merge = self.body(&[(one.clone(), 0)], rng);
            merge["batch"][0]["event"] = json!("$merge_dangerously");
            merge["batch"][0]["properties"] = json!({"alias": other});
            let steps = [self.body(&batch, rng), merge];
            let sent = |step| self.until_done(|url| sent(&client, url, step));
            if !self.going_on() || !steps.iter().all(sent) {
                return;
            }
            self.acknowledged.fetch_add(4, Ordering::Relaxed);
            self.merged.fetch_add(1, Ordering::Relaxed);
            if nth % DELETED != 0 {
                let mut counts = self.counts.lock().expect("the counts");
                counts.insert(one, [2, 1]);
            } else if self.until_done(|url| self.is_deleted(&client, url, &one)) {
                self.deleted.fetch_add(1, Ordering::Relaxed);
            } else {
                return;
            }
            thread::sleep(CHANGE_EVERY);
        }
    }

    /// Deletes whoever has a distinct id; whether nobody has it any more.
    fn is_deleted(&self, client: &Client, url: &str, distinct_id: &str) -> bool {
        let persons = format!("{url}/api/projects/{}/persons/", self.access.project);
        let gone = || -> Result<bool> {
            let found = client.get(format!("{persons}?distinct_id={distinct_id}"));
            let found = found.bearer_auth(&self.access.key).send()?;
            let found: Value = found.error_for_status()?.json()?;
            let results = found["results"].as_array().context("there are results")?;
            let Some(id) = results.first().and_then(|person| person["id"].as_str()) else {
                return Ok(true);
            };
            let person = client.delete(format!("{persons}{id}/"));
            let answer = person.bearer_auth(&self.access.key).send()?;
            Ok(answer.status().is_success())
        };
        gone().unwrap_or(false)
    }

    fn body(&self, batch: &[(String, usize)], rng: &mut StdRng) -> Value {
        let events = batch.iter().map(|(person, event)| {
            let bytes: [u8; 16] = rng.random();
            let uuid = format!("{:032x}", u128::from_be_bytes(bytes) & !(0xf << 76) | (4 << 76));
            json!({"event": EVENTS[*event], "distinct_id": person, "uuid": uuid, "timestamp": Utc::now().to_rfc3339(),
                "properties": {"$set": {"group": person.len()}}})
        });
        json!({"api_key": self.access.token, "batch": events.collect::<Vec<_>>()})
    }

    /// Reads whatever there is; an answer other than one of a service that is away ends everything.
    fn read(&self, cohorts: &[Wanted]) {
        let client = Client::new();
        let mut nth = 0;
        while self.going_on() {
            nth += 1;
            let id = cohorts[nth % cohorts.len()].id;
            let path = match nth % 4 {
                0 => "cohorts/?limit=20".to_owned(),
                1 => format!("cohorts/{id}/"),
                2 => format!("cohorts/{id}/persons/?limit=50&offset={}", nth % 500),
                _ => format!("cohorts/{id}/calculation_history/?limit=5"),
            };
            let answer = self.url().map(|url| {
                let url = format!("{url}/api/projects/{}/{path}", self.access.project);
                client.get(url).bearer_auth(&self.access.key).send()
            });
            match answer {
                Some(Ok(answer)) if answer.status().is_success() => {
                    self.read.fetch_add(1, Ordering::Relaxed)
                }
                Some(Ok(answer)) if !answer.status().is_server_error() => {
                    panic!("{path}: {}", answer.status())
                }
                _ => self.unread.fetch_add(1, Ordering::Relaxed),
            };
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn sent(client: &Client, url: &str, body: &Value) -> bool {
    let answer = client.post(format!("{url}/batch/")).json(body).send();
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// A cohort, and whom it must have.
struct Wanted {
    id: i64,
    event: usize,
    /// So many events at least, or fewer if `negated`.
    least: u32,
    negated: bool,
}

/// Of each event those who did it so often, and those who did not.
fn cohorts(service: &Service, of: &Access) -> Result<Vec<Wanted>> {
    let mut made = Vec::new();
    for (event, name) in EVENTS.iter().enumerate() {
        for least in [1, 2, 3, 5, 10, 20, 50] {
            for negated in [false, true] {
                let often = json!({"type": "behavioral", "value": "performed_event_multiple", "key": name,
                    "event_type": "events", "time_value": 30, "time_interval": "day", "operator": "gte",
                    "operator_value": least, "negation": negated});
                let any = json!({"type": "person", "key": "group", "operator": "is_set", "value": "is_set"});
                let filters = json!({"properties": {"type": "AND", "values": [any, often]}});
                let body = json!({"name": format!("{name} {least} {negated}"), "filters": filters});
                let id = service.post(of, "cohorts/", &body)?["id"].as_i64();
                made.push(Wanted {
                    id: id.context("a cohort has an id")?,
                    event,
                    least,
                    negated,
                });
            }
        }
    }
    Ok(made)
}

/// Every cohort has in time just whom it must have.
fn check(service: &Service, scene: &Scene, cohorts: &[Wanted]) -> Result<()> {
    let (of, ended) = (&scene.access, Utc::now());
    let counts = scene.counts.lock().expect("the counts");
    let (begun, mut wrong) = (Instant::now(), 0);
    for cohort in cohorts {
        let path = format!("cohorts/{}/", cohort.id);
        loop {
            let shown = service.get(of, &path)?;
            let last = shown["last_calculation"]
                .as_str()
                .and_then(|text| text.parse::<DateTime<Utc>>().ok());
            if shown["is_calculating"] == false && last.is_some_and(|last| last > ended) {
                break;
            }
            ensure!(begun.elapsed() < SETTLED, "stuck: {shown}");
            thread::sleep(Duration::from_millis(500));
        }
        let lines = service.text(of, &format!("cohorts/{}/persons/?format=ndjson", cohort.id))?;
        let people = lines.lines().filter(|line| !line.is_empty()).map(|line| {
            let person: Value = serde_json::from_str(line)?;
            let ids = person["distinct_ids"].as_array().context("a list")?;
            let mut ids = ids.iter().filter_map(Value::as_str);
            // Whoever was merged has two.
            let known = ids.clone().find(|id| counts.contains_key(*id));
            let id = known.or_else(|| ids.next());
            id.map(str::to_owned).context("a person has an id")
        });
        let people: Vec<String> = people.collect::<Result<_>>()?;
        let found: BTreeSet<&String> = people.iter().collect();
        let meets = |own: &[u32; 2]| (own[cohort.event] >= cohort.least) != cohort.negated;
        let wanted: BTreeSet<&String> = counts
            .iter()
            .filter(|(_, own)| meets(own))
            .map(|(id, _)| id)
            .collect();
        if found != wanted || people.len() != found.len() {
            wrong += 1;
            say(format!(
                "cohort {}: {} people, and not the {} who are wanted",
                cohort.id,
                people.len(),
                wanted.len()
            ))?;
        }
    }
    ensure!(wrong == 0, "{wrong} of {} cohorts are wrong", cohorts.len());
    say(format!(
        "all {} cohorts are right, {:.0} s after the last event: nothing lost, nothing doubled, nothing stuck",
        cohorts.len(),
        begun.elapsed().as_secs_f64()
    ))?;
    Ok(())
}

/// Whether the service says in time that it is ready.
fn ready(service: &Service, within: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < within {
        if service.plain("/_readyz").is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}

/// Resident memory of a service, and what of it the views take, in MiB.
fn memory(service: &Service) -> Result<(u64, u64)> {
    let views = service.metric("cohorts_view_bytes").unwrap_or(0.0);
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let resident: u64 = number.context("a process tells its memory")?.parse()?;
    Ok((resident >> 10, views as u64 >> 20))
}

/// Kills the Postgres of a directory as the kernel does when memory is short.
fn kill_postgres(directory: &Path) -> Result<()> {
    let file = find(directory, "postmaster.pid").context("there is no Postgres")?;
    let text = fs::read_to_string(&file)?;
    let pid = text
        .lines()
        .next()
        .context("there is no number of a process")?
        .trim();
    let done = Command::new("kill").args(["-KILL", pid]).status()?;
    match done.success() {
        true => Ok(()),
        false => bail!("Postgres, process {pid}, could not be killed"),
    }
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(directory)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let here = entries
        .iter()
        .find(|path| path.file_name().is_some_and(|own| own == name));
    here.cloned().or_else(|| {
        entries
            .iter()
            .filter(|path| path.is_dir())
            .find_map(|path| find(path, name))
    })
}
