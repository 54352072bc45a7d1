//! Each acknowledged event is stored once, whichever process is killed during the capture.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Service, json_of};

const SENDERS: usize = 4;
/// Events per request.
const EVENTS: usize = 20;
/// Acknowledged requests between two kills.
const ROUND: usize = 100;

const PATIENCE: Duration = Duration::from_secs(60);

/// Sends batches until `end` is set, repeats each until it is acknowledged, and returns the number of events.
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
        let start = Instant::now();
        loop {
            let path = format!("{}/batch/", url.lock().unwrap());
            let answer = client.post(path).json(&body).send();
            if answer.is_ok_and(|answer| answer.status() == 200) {
                break;
            }
            // The restart of the service may have failed.
            assert!(start.elapsed() < PATIENCE, "nothing is acknowledged");
            thread::sleep(Duration::from_millis(5));
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
        sent += EVENTS;
    }
    sent
}

/// Waits for `more` further acknowledgements.
fn wait_for(acknowledged: &AtomicUsize, more: usize) {
    let expected = acknowledged.load(Ordering::Relaxed) + more;
    let start = Instant::now();
    while acknowledged.load(Ordering::Relaxed) < expected {
        assert!(start.elapsed() < PATIENCE, "nothing is acknowledged");
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
fn each_acknowledged_event_is_stored_once_after_kills() {
    let directory = TempDir::new().unwrap();
    let data = directory.path();
    let first = Service::start(data);
    let project = json_of(data, &["project", "create", "--name", "N", "--json"]);
    let token = project["token"].as_str().unwrap();
    let url = Mutex::new(first.url.clone());
    let acknowledged = AtomicUsize::new(0);
    let end = AtomicBool::new(false);
    let (service, sent) = thread::scope(|scope| {
        let mut service = first;
        let (url, acknowledged, end) = (&url, &acknowledged, &end);
        let start = |sender| scope.spawn(move || send(token, sender, url, acknowledged, end));
        let senders: Vec<_> = (0..SENDERS).map(start).collect();
        for round in 0..4 {
            wait_for(acknowledged, ROUND);
            if round == 2 {
                kill_postgres(data);
            }
            service.end("-9");
            service = Service::start(data);
            url.lock().unwrap().clone_from(&service.url);
        }
        wait_for(acknowledged, ROUND);
        end.store(true, Ordering::Relaxed);
        let ended = senders.into_iter().map(|sender| sender.join().unwrap());
        (service, ended.collect::<Vec<usize>>())
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
        let preview = service.post(path, key, &json!({"filters": filters}));
        assert_eq!(
            preview["count"], 1,
            "sender {sender}, {sent} events: {preview}"
        );
    }
    service.end("-TERM");
}
