//! The load on the service: threads that write, merge, delete and read, and the counts of what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::Utc;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::print_line;
use crate::service::Access;

/// The names of the events.
pub const EVENTS: [&str; 2] = ["seen", "bought"];
/// The number of persons of each writer.
const PERSONS: usize = 5_000;
/// The number of events in a batch.
const BATCH_EVENTS: usize = 100;
/// One of this number of merged persons is deleted.
const MERGES_PER_DELETION: u64 = 50;
const MERGE_INTERVAL: Duration = Duration::from_millis(500);
const READ_INTERVAL: Duration = Duration::from_millis(20);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The acknowledged events by distinct id, counted by name in the order of [`EVENTS`].
pub type EventCounts = BTreeMap<String, [u32; 2]>;

/// The state that all threads of the load share.
pub struct Workload {
    pub access: Access,
    /// Only events of persons that were not deleted.
    pub event_counts: Mutex<EventCounts>,
    /// The URL of the service; `None` while it is down.
    url: Mutex<Option<String>>,
    stopped: AtomicBool,
    acknowledged: AtomicU64,
    retries: AtomicU64,
    reads: AtomicU64,
    failed_reads: AtomicU64,
    merges: AtomicU64,
    deletions: AtomicU64,
}

impl Workload {
    pub fn new(access: Access) -> Workload {
        Workload {
            access,
            event_counts: Mutex::default(),
            url: Mutex::default(),
            stopped: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            failed_reads: AtomicU64::new(0),
            merges: AtomicU64::new(0),
            deletions: AtomicU64::new(0),
        }
    }

    pub fn set_url(&self, url: Option<&str>) {
        *self.url.lock().expect("no thread panics with the lock") = url.map(str::to_owned);
    }

    /// Makes all threads end. A request in progress is completed first.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn print_counts(&self) -> Result<()> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        print_line(format!(
            "{} events acknowledged, {} persons merged, {} deleted, {} retries; {} reads, {} failed while the service was down",
            load(&self.acknowledged),
            load(&self.merges),
            load(&self.deletions),
            load(&self.retries),
            load(&self.reads),
            load(&self.failed_reads)
        ))
    }

    fn is_running(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    fn url(&self) -> Option<String> {
        self.url
            .lock()
            .expect("no thread panics with the lock")
            .clone()
    }

    /// Sends batches with about `rate` events per second, and retries each batch until it is acknowledged.
    pub fn write_events(&self, writer: usize, rate: usize) {
        let rng = &mut StdRng::seed_from_u64(writer as u64 + 7);
        let client = Client::new();
        let pause = Duration::from_secs_f64(BATCH_EVENTS as f64 / rate as f64);
        while self.is_running() {
            let events: Vec<(String, usize)> = (0..BATCH_EVENTS)
                .map(|_| {
                    let person = (rng.random::<f64>().powi(2) * PERSONS as f64) as usize;
                    let event = rng.random_range(0..EVENTS.len());
                    (format!("w{writer}-{person}"), event)
                })
                .collect();
            let body = self.batch_body(&events, rng);
            if !self.retry(|url| is_acknowledged(&client, url, &body)) {
                return;
            }
            self.acknowledged
                .fetch_add(BATCH_EVENTS as u64, Ordering::Relaxed);
            let mut counts = self.lock_counts();
            for (distinct_id, event) in events {
                counts.entry(distinct_id).or_default()[event] += 1;
            }
            drop(counts);
            thread::sleep(pause);
        }
    }

    fn lock_counts(&self) -> std::sync::MutexGuard<'_, EventCounts> {
        self.event_counts
            .lock()
            .expect("no thread panics with the lock")
    }

    /// Repeats `attempt` until it succeeds, even after the stop, because its outcome must be known.
    ///
    /// Returns `false` if the service is down and does not come back.
    fn retry(&self, attempt: impl Fn(&str) -> bool) -> bool {
        loop {
            match self.url() {
                Some(url) if attempt(&url) => return true,
                None if !self.is_running() => return false,
                _ => self.retries.fetch_add(1, Ordering::Relaxed),
            };
            thread::sleep(RETRY_INTERVAL);
        }
    }

    /// Repeatedly creates two persons and merges them. Deletes some of the merged persons.
    pub fn merge_and_delete(&self) {
        let rng = &mut StdRng::seed_from_u64(3);
        let client = Client::new();
        for number in 1_u64.. {
            let (survivor, alias) = (format!("m{number}"), format!("n{number}"));
            let events = [
                (survivor.clone(), 0),
                (alias.clone(), 0),
                (alias.clone(), 1),
            ];
            let mut merge = self.batch_body(&[(survivor.clone(), 0)], rng);
            merge["batch"][0]["event"] = json!("$merge_dangerously");
            merge["batch"][0]["properties"] = json!({"alias": alias});
            let bodies = [self.batch_body(&events, rng), merge];
            let send = |body| self.retry(|url| is_acknowledged(&client, url, body));
            if !self.is_running() || !bodies.iter().all(send) {
                return;
            }
            self.acknowledged.fetch_add(4, Ordering::Relaxed);
            self.merges.fetch_add(1, Ordering::Relaxed);
            if !number.is_multiple_of(MERGES_PER_DELETION) {
                self.lock_counts().insert(survivor, [2, 1]);
            } else if self.retry(|url| self.delete_person(&client, url, &survivor).unwrap_or(false))
            {
                self.deletions.fetch_add(1, Ordering::Relaxed);
            } else {
                return;
            }
            thread::sleep(MERGE_INTERVAL);
        }
    }

    /// Deletes the person with a distinct id. Returns whether no such person exists any more.
    fn delete_person(&self, client: &Client, url: &str, distinct_id: &str) -> Result<bool> {
        let persons = format!("{url}/api/projects/{}/persons/", self.access.project);
        let response = client
            .get(format!("{persons}?distinct_id={distinct_id}"))
            .bearer_auth(&self.access.key)
            .send()?;
        let page: Value = response.error_for_status()?.json()?;
        let results = page["results"]
            .as_array()
            .context("the page has no results")?;
        let Some(id) = results.first().and_then(|person| person["id"].as_str()) else {
            return Ok(true);
        };
        let response = client
            .delete(format!("{persons}{id}/"))
            .bearer_auth(&self.access.key)
            .send()?;
        Ok(response.status().is_success())
    }

    /// Builds the body of a batch from pairs of distinct id and index in [`EVENTS`].
    fn batch_body(&self, events: &[(String, usize)], rng: &mut StdRng) -> Value {
        let items = events.iter().map(|(distinct_id, event)| {
            let bytes: [u8; 16] = rng.random();
            let uuid = format!("{:032x}", u128::from_be_bytes(bytes) & !(0xf << 76) | (4 << 76));
            json!({"event": EVENTS[*event], "distinct_id": distinct_id, "uuid": uuid, "timestamp": Utc::now().to_rfc3339(),
                "properties": {"$set": {"group": distinct_id.len()}}})
        });
        json!({"api_key": self.access.token, "batch": items.collect::<Vec<_>>()})
    }

    /// Sends read requests in turn.
    ///
    /// Panics, and so fails the soak, if a response is neither a success nor a server error.
    pub fn read(&self, cohorts: &[i64]) {
        let client = Client::new();
        let mut number = 0;
        while self.is_running() {
            number += 1;
            let id = cohorts[number % cohorts.len()];
            let path = match number % 4 {
                0 => "cohorts/?limit=20".to_owned(),
                1 => format!("cohorts/{id}/"),
                2 => format!("cohorts/{id}/persons/?limit=50&offset={}", number % 500),
                _ => format!("cohorts/{id}/calculation_history/?limit=5"),
            };
            let response = self.url().map(|url| {
                let url = format!("{url}/api/projects/{}/{path}", self.access.project);
                client.get(url).bearer_auth(&self.access.key).send()
            });
            match response {
                Some(Ok(response)) if response.status().is_success() => {
                    self.reads.fetch_add(1, Ordering::Relaxed)
                }
                Some(Ok(response)) if !response.status().is_server_error() => {
                    panic!("{path}: {}", response.status())
                }
                _ => self.failed_reads.fetch_add(1, Ordering::Relaxed),
            };
            thread::sleep(READ_INTERVAL);
        }
    }
}

fn is_acknowledged(client: &Client, url: &str, body: &Value) -> bool {
    let response = client.post(format!("{url}/batch/")).json(body).send();
    response.is_ok_and(|response| response.status().is_success())
}
