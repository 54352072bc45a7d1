//! The service stays under its memory limit while clients attack it: its high-water mark is measured from outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{
    Access, Location, Service, count, event, high_water_mark, reset_high_water_mark, sent, until,
};

/// `COHORTS_MEMORY` of the services, in MiB.
const MEMORY: u64 = 64;
/// What the service may take in addition, in MiB.
pub const MARGIN: u64 = 512;

/// A service with little memory, and an access to one of its projects.
pub struct Attacked {
    pub service: Service,
    pub access: Access,
    _directory: TempDir,
}

impl Attacked {
    pub fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let at = Location::Directory(directory.path().to_owned());
        let access = at.project();
        let service = Service::start(&at, &["--memory", &MEMORY.to_string()]);
        // The first event makes the service allocate what every service has.
        assert!(sent(&service.url, &access, &json!([event("first", 1)])));
        reset_high_water_mark(service.pid());
        Self {
            service,
            access,
            _directory: directory,
        }
    }

    /// Runs `attack` while another client sends events, and asserts that the client is answered and the memory is at most
    /// `margin` MiB above `COHORTS_MEMORY`.
    pub fn withstands(&self, margin: u64, attack: impl FnOnce() + Send) {
        let url = self.service.url.as_str();
        thread::scope(|scope| {
            let attack = scope.spawn(attack);
            let mut nth = 100;
            while !attack.is_finished() || nth < 110 {
                until("another client is answered", || {
                    sent(url, &self.access, &json!([event("other", nth)]))
                });
                nth += 1;
            }
        });
        let peak = high_water_mark(self.service.pid()) >> 20;
        assert!(peak < MEMORY + margin, "{peak} MiB");
    }
}

/// Posts a body to the capture endpoint, and returns the status.
fn post(url: &str, encoding: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let head = format!(
        "POST /batch/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Encoding: {encoding}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Compresses `start`, as many repetitions of `unit` as the largest body has, and `end`.
fn bomb(start: &str, unit: &str, end: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(start.as_bytes()).unwrap();
    let units = unit.repeat(((31 << 20) / unit.len()).max(1));
    encoder.write_all(units.as_bytes()).unwrap();
    encoder.write_all(end.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn small_bodies_that_unpack_to_large_trees_take_little_memory() {
    let attacked = Attacked::start();
    let url = attacked.service.url.as_str();
    let bombs = [
        bomb(r#"{"sent_at":[[0]"#, ",[0]", r#"],"batch":[]}"#),
        bomb(
            r#"{"created_at":[{"":0}"#,
            r#",{"":0}"#,
            r#"],"event":"x"}"#,
        ),
        bomb(r#"{"batch":[{"api_key":[[0]"#, ",[0]", "]}]}"),
        bomb(r#"{"batch":[{}"#, ",{}", "]}"),
        bomb(r#"{"event":"#, "[", "}"),
    ];
    attacked.withstands(MARGIN, || {
        thread::scope(|scope| {
            for bomb in &bombs {
                scope.spawn(move || {
                    for _ in 0..2 {
                        let status = post(url, "gzip", bomb);
                        assert!(matches!(status, 400 | 401 | 503), "{status}");
                    }
                });
            }
        });
    });
}

/// A compressed batch of the largest size.
fn large_batch(access: &Access, person: usize) -> Vec<u8> {
    let text = "x".repeat(100_000);
    let item = format!(
        r#",{{"event":"large","distinct_id":"p{person}","properties":{{"text":"{text}"}}}}"#
    );
    let start = format!(
        r#"{{"api_key":"{}","batch":[{{"event":"x","distinct_id":"p{person}"}}"#,
        access.token
    );
    bomb(&start, &item, "]}")
}

#[test]
fn large_batches_at_once_are_all_stored() {
    let attacked = Attacked::start();
    let url = attacked.service.url.as_str();
    let batches: Vec<Vec<u8>> = (0..3)
        .map(|person| large_batch(&attacked.access, person))
        .collect();
    let bomb = bomb(r#"{"batch":[{}"#, ",{}", "]}");
    attacked.withstands(MARGIN, || {
        thread::scope(|scope| {
            // Bodies without a token unpack to much at the same time.
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2 {
                        assert!(matches!(post(url, "gzip", &bomb), 400 | 401));
                    }
                });
            }
            for batch in &batches {
                scope.spawn(|| assert_eq!(post(url, "gzip", batch), 200));
            }
        });
    });
    let stored = json!({"properties": {"type": "AND", "values": [{"type": "behavioral", "value": "performed_event",
        "key": "large", "event_type": "events", "time_value": 30, "time_interval": "day"}]}});
    assert_eq!(count(url, &attacked.access, &stored), 3);
}

/// Sends an item with the text `properties`, until it is acknowledged.
fn set_properties(url: &str, access: &Access, person: usize, properties: &str) {
    let body = format!(
        r#"{{"api_key":"{}","event":"x","distinct_id":"p{person}","properties":{{"$set":{properties}}}}}"#,
        access.token
    );
    until("the person is written", || {
        post(url, "identity", body.as_bytes()) == 200
    });
}

#[test]
fn small_batch_that_changes_many_large_persons_takes_little_memory() {
    const PERSONS: usize = 60;
    let attacked = Attacked::start();
    let (url, access) = (attacked.service.url.as_str(), &attacked.access);
    // A tree of values takes many times the memory of so short members.
    let members: Vec<String> = (0..30_000).map(|nth| format!(r#""{nth}":1"#)).collect();
    let large = format!("{{{}}}", members.join(","));
    thread::scope(|scope| {
        for first in 0..4 {
            let large = &large;
            scope.spawn(move || {
                for person in (first..PERSONS).step_by(4) {
                    set_properties(url, access, person, large);
                }
            });
        }
    });
    reset_high_water_mark(attacked.service.pid());
    // There are far fewer persons than in a large attack, so the margin is smaller too.
    attacked.withstands(MARGIN / 8, || {
        let item = |person: usize| {
            json!({"event": "paid", "distinct_id": format!("p{person}"), "properties": {"$set": {"b": 1}}})
        };
        let batch = json!((0..PERSONS).map(item).collect::<Vec<_>>());
        until("the batch is acknowledged", || sent(url, access, &batch));
    });
    let changed = json!({"properties": {"type": "AND", "values": [
        {"type": "person", "key": "b", "operator": "exact", "value": 1}]}});
    assert_eq!(count(url, access, &changed), PERSONS as u64);
}
