//! What was acknowledged is there, once, whatever is killed while it comes in.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Served, json_of};

const SENDERS: usize = 4;
/// Events of a request.
const EVENTS: usize = 20;
/// Requests that are acknowledged between two kills.
const ROUND: usize = 100;

const PATIENCE: Duration = Duration::from_secs(60);

/// Sends until it is told to end, each batch again until it is acknowledged. Returns how many events that is.
fn send(
    token: &str,
    sender: usize,
    url: &Mutex<String>,
    acknowledged: &AtomicUsize,
    end: &AtomicBool,
) -> usize {
    let client = reqwest::blocking::Client::new();
    let mut sent = 0;
    while !end.load(Ordering::Relaxed) {
        let event = |_| {
            json!({"event": "x", "distinct_id": format!("p{sender}"), "uuid": Uuid::new_v4(),
                "timestamp": Utc::now().to_rfc3339()})
        };
        let events: Vec<Value> = (0..EVENTS).map(event).collect();
        let body = json!({"api_key": token, "batch": events});
        let begun = Instant::now();
        loop {
            let path = format!("{}/batch/", url.lock().unwrap());
            let answer = client.post(path).json(&body).send();
            if answer.is_ok_and(|answer| answer.status() == 200) {
                break;
            }
            // Whoever was to start the service again may have failed.
            assert!(begun.elapsed() < PATIENCE, "nothing is acknowledged");
            thread::sleep(Duration::from_millis(5));
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
        sent += EVENTS;
    }
    sent
}

/// Waits for so many more acknowledgements.
fn wait_for(acknowledged: &AtomicUsize, more: usize) {
    let wanted = acknowledged.load(Ordering::Relaxed) + more;
    let begun = Instant::now();
    while acknowledged.load(Ordering::Relaxed) < wanted {
        assert!(begun.elapsed() < PATIENCE, "nothing is acknowledged");
        thread::sleep(Duration::from_millis(1));
    }
}

fn kill_postgres(data_dir: &Path) {
    let file = std::fs::read_to_string(data_dir.join("postgres/data/postmaster.pid")).unwrap();
    let pid = file.lines().next().unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-9", pid])
        .status();
    assert!(killed.unwrap().success());
}

#[test]
fn every_acknowledged_event_is_there_once_after_kills_of_all_kinds() {
    let directory = TempDir::new().unwrap();
    let data = directory.path();
    let first = Served::start(data);
    let project = json_of(data, &["project", "create", "--name", "N", "--json"]);
    let token = project["token"].as_str().unwrap();
    let url = Mutex::new(first.url.clone());
    let acknowledged = AtomicUsize::new(0);
    let end = AtomicBool::new(false);
    let (served, sent) = thread::scope(|scope| {
        let mut served = first;
        let (url, acknowledged, end) = (&url, &acknowledged, &end);
        let start = |sender| scope.spawn(move || send(token, sender, url, acknowledged, end));
        let senders: Vec<_> = (0..SENDERS).map(start).collect();
        for round in 0..4 {
            wait_for(acknowledged, ROUND);
            if round == 2 {
                kill_postgres(data);
            }
            served.end("-9");
            served = Served::start(data);
            url.lock().unwrap().clone_from(&served.url);
        }
        wait_for(acknowledged, ROUND);
        end.store(true, Ordering::Relaxed);
        let ended = senders.into_iter().map(|sender| sender.join().unwrap());
        (served, ended.collect::<Vec<usize>>())
    });
    let key = json_of(data, &["key", "create", "--all-scopes", "--json"]);
    let key = key["key"].as_str().unwrap();
    for (sender, sent) in sent.into_iter().enumerate() {
        let times = json!({"type": "behavioral", "key": "x", "value": "performed_event_multiple",
            "event_type": "events", "time_value": 1, "time_interval": "day",
            "operator": "exact", "operator_value": sent});
        let id = json!({"type": "person", "key": "distinct_id", "operator": "exact", "value": format!("p{sender}")});
        let filters = json!({"properties": {"type": "AND", "values": [times, id]}});
        let path = "/api/projects/@current/cohorts/preview/";
        let found = served.post(path, key, &json!({"filters": filters}));
        assert_eq!(found["count"], 1, "sender {sender}, {sent} events: {found}");
    }
    served.end("-TERM");
}
