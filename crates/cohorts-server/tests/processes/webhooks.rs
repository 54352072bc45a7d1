//! After kills of the service and of the receiver no change is lost to a webhook, and none arrives out of order.
//!
//! `COHORTS_TEST_KILLS` is the number of kills.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::{Client, multipart};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Access, Location, Service, program, until, well};

const KILLS: &str = "COHORTS_TEST_KILLS";
const FLAGS: [&str; 2] = ["--webhook-allow", "127.0.0.0/8"];

/// What a receiver has stored. It survives the receiver.
#[derive(Default)]
struct Stored {
    messages: HashSet<String>,
    /// The distinct ids that entered, in the order of their messages.
    entered: Vec<String>,
    /// Messages that arrived again.
    repeated: usize,
}

/// A receiver, which is killed while it reads, before it stores or before it responds.
struct Receiver {
    is_running: Arc<AtomicBool>,
    address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Receiver {
    fn start(address: SocketAddr, stored: &Arc<Mutex<Stored>>) -> Self {
        let mut listener = None;
        until("the port is free", || {
            listener = TcpListener::bind(address).ok();
            listener.is_some()
        });
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_running, stored) = (Arc::new(AtomicBool::new(true)), Arc::clone(stored));
        let running = Arc::clone(&is_running);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if !running.load(Ordering::SeqCst) {
                    return;
                }
                let _ = receive(stream.unwrap(), &running, &stored);
            }
        });
        Self {
            is_running,
            address,
            thread,
        }
    }

    fn kill(self) {
        self.is_running.store(false, Ordering::SeqCst);
        // Wakes the thread.
        drop(TcpStream::connect(self.address));
        self.thread.join().unwrap();
    }
}

/// Stores a message and responds. Returns `None` without a response if the receiver is killed, or the sender is.
fn receive(stream: TcpStream, is_running: &AtomicBool, stored: &Mutex<Stored>) -> Option<()> {
    let is_running = || is_running.load(Ordering::SeqCst).then_some(());
    let mut reader = BufReader::new(&stream);
    let (mut id, mut length) = (String::new(), 0);
    let mut line = String::new();
    loop {
        // A sender that is killed while it sends the head ends the line early.
        reader
            .read_line(&mut line)
            .ok()
            .filter(|&bytes| bytes > 0)?;
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
        match name {
            "webhook-id" => value.clone_into(&mut id),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    is_running()?;
    let body: Value = serde_json::from_slice(&body).unwrap();
    {
        let mut stored = stored.lock().unwrap();
        if stored.messages.insert(id) {
            let rows = body["data"]["results"].as_array().unwrap().iter();
            let ids = rows.map(|row| row["person"]["distinct_ids"][0].as_str().unwrap());
            stored.entered.extend(ids.map(str::to_owned));
        } else {
            stored.repeated += 1;
        }
    }
    // Time for a kill between the storage and the response.
    thread::sleep(Duration::from_millis(20));
    is_running()?;
    (&stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()
}

/// Adds a new person to a static cohort. Returns whether the service has acknowledged it.
fn add(url: &str, access: &Access, cohort: &Value, id: &str) -> bool {
    let file = multipart::Part::text(id.to_owned()).file_name("persons.csv");
    let form = multipart::Form::new()
        .part("csv", file)
        .text("create_people", "true");
    let url = format!("{url}/api/projects/{}/cohorts/{cohort}/", access.project);
    let request = Client::new().patch(url).bearer_auth(&access.key);
    let response = request.multipart(form).send();
    response.is_ok_and(|response| response.status().is_success())
}

#[test]
fn no_change_is_lost_by_kills_of_the_service_and_the_receiver() {
    let kills: usize = std::env::var(KILLS).map_or(6, |text| text.parse().unwrap());
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let access = at.project();
    let stored = Arc::new(Mutex::new(Stored::default()));
    let mut receiver = Receiver::start(([127, 0, 0, 1], 0).into(), &stored);
    let address = receiver.address;
    let mut service = Service::start(&at, &FLAGS);
    let body = json!({"name": "c", "is_static": true});
    let cohort = well(&service.url, &access, Method::POST, "cohorts/", Some(&body));
    let cohort = cohort["id"].clone();
    let body = json!({"url": format!("http://{address}/")});
    well(
        &service.url,
        &access,
        Method::POST,
        "webhooks/",
        Some(&body),
    );
    let url = Mutex::new(service.url.clone());
    let stop = AtomicBool::new(false);
    let (added, service) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut added = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let id = format!("p{}", added.len());
                until("a person is added", || {
                    let url = url.lock().unwrap().clone();
                    add(&url, &access, &cohort, &id)
                });
                added.push(id);
            }
            added
        });
        for nth in 0..kills {
            // Each kill happens after some messages, at another moment.
            let before = stored.lock().unwrap().messages.len();
            until("messages arrive", || {
                stored.lock().unwrap().messages.len() > before + nth % 3
            });
            thread::sleep(Duration::from_millis((nth as u64 * 7) % 40));
            if nth % 2 == 0 {
                service.kill();
                service = Service::start(&at, &FLAGS);
                (*url.lock().unwrap()).clone_from(&service.url);
            } else {
                receiver.kill();
                receiver = Receiver::start(address, &stored);
            }
        }
        stop.store(true, Ordering::SeqCst);
        (writer.join().unwrap(), service)
    });
    until("all changes arrive", || {
        stored.lock().unwrap().entered.len() >= added.len()
    });
    let stored = stored.lock().unwrap();
    assert!(added.len() > kills, "{} persons", added.len());
    assert_eq!(stored.entered, added, "{} repeated", stored.repeated);
    assert!(service.stop());
}

#[test]
fn the_secret_key_is_a_private_file_that_doctor_checks() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let access = at.project();
    let service = Service::start(&at, &[]);
    let file = directory.path().join("secret.key");
    assert!(!file.exists());
    let body = json!({"url": "https://hooks.example.org/"});
    well(
        &service.url,
        &access,
        Method::POST,
        "webhooks/",
        Some(&body),
    );
    assert!(service.stop());
    let key = std::fs::read_to_string(&file).unwrap();
    let doctor = |variables: &[(&str, &str)]| {
        let mut command = at.command(&["doctor"]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.contains("webhooks"));
        line.unwrap_or_default().to_owned()
    };
    assert!(doctor(&[]).starts_with("ok"));
    let same = doctor(&[("COHORTS_SECRET_KEY", key.trim())]);
    assert!(same.starts_with("ok"), "{same}");
    let other = doctor(&[("COHORTS_SECRET_KEY", &"7f".repeat(32))]);
    assert!(
        other.starts_with("WRONG") && other.contains("COHORTS_SECRET_KEY"),
        "{other}"
    );
    let output = program(&["doctor", "--secret-key", "short"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("openssl rand -base64 32"), "{error}");
}
