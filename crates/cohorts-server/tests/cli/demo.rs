//! The demo: its table, its example requests, and the simulated people while it serves.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Service, cohorts, output_of};

#[test]
fn demo_prints_its_cohorts_and_can_be_repeated() {
    let directory = TempDir::new().unwrap();
    let demo = ["demo", "--once", "--people", "300", "--events", "3000"];
    let people = |table: &str| -> Vec<(String, u64)> {
        let rows = table.lines().skip(1).filter(|line| !line.is_empty());
        let cell = |line: &str, from: usize, to: usize| line[from..to].trim().to_owned();
        rows.map(|line| (cell(line, 0, 36), cell(line, 60, 68).parse().unwrap()))
            .collect()
    };
    let first = output_of(directory.path(), &demo);
    assert!(first.starts_with("cohort "), "{first}");
    let rows = people(&first);
    assert!(rows.len() >= 5, "{first}");
    assert!(
        rows.iter().all(|(_, people)| (1..300).contains(people)),
        "{first}"
    );
    assert_eq!(people(&output_of(directory.path(), &demo)), rows);
}

/// A demo that serves, with what it has printed.
struct ServingDemo {
    service: Service,
    lines: Vec<String>,
}

impl ServingDemo {
    /// Starts a demo, and reads its output up to the line that follows the feed.
    fn start(directory: &TempDir, flags: &[&str]) -> Self {
        let mut command = cohorts(directory.path());
        command.args(["demo", "--people", "300", "--events", "3000"]);
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines: Vec<String> = Vec::new();
        while !lines.iter().any(|line| line.starts_with("curl -N ")) {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "{lines:?}");
            lines.push(line.trim().to_owned());
        }
        let mut demo = Self {
            service: Service {
                child,
                _stdout: stdout,
                url: String::new(),
            },
            lines,
        };
        demo.service.url = demo.value("API");
        demo
    }

    /// The word after a name at the beginning of a line.
    fn value(&self, name: &str) -> String {
        let words = self.lines.iter().map(|line| line.split_whitespace());
        let line = words
            .map(Iterator::collect::<Vec<_>>)
            .find(|line| line.first() == Some(&name));
        line.unwrap_or_else(|| panic!("no {name} in {:?}", self.lines))[1].to_owned()
    }

    /// The number of captured events. The loaded ones are not among them.
    fn captured_events(&self) -> f64 {
        let metrics = reqwest::blocking::get(format!("{}/metrics", self.service.url));
        let metrics = metrics.unwrap().text().unwrap();
        let name = "cohorts_events_total ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value
            .unwrap_or_else(|| panic!("{metrics}"))
            .parse()
            .unwrap()
    }

    /// A page of the feed that waits for a change.
    fn changes(&self, query: &str) -> Value {
        let path = format!(
            "/api/projects/{}/cohorts/changes/?{query}&wait=30",
            self.value("project")
        );
        self.service.get(&path, &self.value("key"))
    }
}

#[test]
fn simulated_people_enter_and_leave_cohorts_while_the_demo_serves() {
    let directory = TempDir::new().unwrap();
    let demo = ServingDemo::start(&directory, &[]);
    let mut seen = (false, false);
    let mut page = demo.changes("from=2026-01-01");
    for _ in 0..200 {
        for row in page["results"].as_array().unwrap() {
            if row["cause"] == "data" {
                seen.0 |= row["change"] == "entered";
                seen.1 |= row["change"] == "left";
            }
        }
        if seen == (true, true) {
            break;
        }
        let cursor = page["cursor"].as_str().unwrap().to_owned();
        page = demo.changes(&format!("cursor={cursor}"));
    }
    assert_eq!(seen, (true, true), "entered and left because of an event");
    assert!(demo.captured_events() >= 2.0);
    assert_eq!(demo.service.end("-TERM"), Some(0));
}

#[test]
fn printed_line_follows_the_feed() {
    let directory = TempDir::new().unwrap();
    let demo = ServingDemo::start(&directory, &[]);
    let line = demo.lines.last().unwrap();
    let url = line.rsplit('\'').nth(1).unwrap();
    let request = reqwest::blocking::Client::new()
        .get(url)
        .bearer_auth(demo.value("key"))
        .header("Accept", "text/event-stream");
    assert!(line.contains("-H 'Accept: text/event-stream'"), "{line}");
    let stream = BufReader::new(request.send().unwrap());
    let rows = stream.lines().map(Result::unwrap);
    let mut rows = rows.filter(|line| line.starts_with("data: {"));
    let row = rows.next().unwrap();
    assert!(row.contains("\"cohort_id\":"), "{row}");
    drop(rows);
    assert_eq!(demo.service.end("-INT"), Some(0));
}

/// The status of the exchange of the code in an address of the console.
fn sign_in(service: &str, address: &str) -> u16 {
    let (page, code) = address.split_once("/#code=").expect("a code");
    assert_eq!(page, service);
    let client = reqwest::blocking::Client::new();
    let body = json!({"code": code});
    let call = client
        .post(format!("{service}/api/console/session/"))
        .json(&body);
    call.send().unwrap().status().as_u16()
}

#[test]
fn the_address_of_the_console_comes_first_and_signs_in_once() {
    let directory = TempDir::new().unwrap();
    let demo = ServingDemo::start(&directory, &["--quiet"]);
    let first: Vec<&str> = demo.lines[0].split_whitespace().collect();
    let ["console", address] = first[..] else {
        panic!("{:?}", demo.lines);
    };
    let service = &demo.service.url;
    assert_eq!(sign_in(service, address), 201);
    assert_eq!(sign_in(service, address), 401);
    let project = demo.value("project");
    let arguments = ["console", "--url", service, "--project", &project];
    let printed = output_of(directory.path(), &arguments);
    let address = printed.lines().next().unwrap();
    assert_eq!(sign_in(service, address), 201);
    assert_eq!(demo.service.end("-TERM"), Some(0));
}

#[test]
fn quiet_demo_has_no_simulated_people() {
    let directory = TempDir::new().unwrap();
    let demo = ServingDemo::start(&directory, &["--quiet"]);
    let shown = demo.service.get("/docs/credentials.json", "");
    let token = shown["projectTokenInHeader"].as_str().map(str::to_owned);
    let token = token.unwrap_or_else(|| panic!("{shown}"));
    let body = json!({"api_key": token, "batch": [{"event": "own", "distinct_id": "me"}]});
    demo.service.post("/batch/", "", &body);
    assert_eq!(demo.captured_events(), 1.0, "only the own event");
    assert_eq!(demo.service.end("-TERM"), Some(0));
}
