//! The log under clients without a key: no errors, no forged lines, no floods.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Location, PATIENCE, Service, database, event, sent};

/// Odd requests: each is sent on a connection of its own, which then ends.
fn requests() -> Vec<Vec<u8>> {
    let post = |path: &str, headers: &str, body: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let head = |line: &str, headers: &str| format!("{line}\r\n{headers}\r\n").into_bytes();
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(1 << 20));
    let long = format!("GET /{} HTTP/1.1", "a".repeat(60_000));
    let deep = format!("{{\"api_key\": {}", "[".repeat(100_000));
    vec![
        endless.into_bytes(),
        head(&long, "Host: a\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        head("GET /a\u{1b}[2J\u{7f} HTTP/1.1", "Host: a\r\n"),
        head("GET /%0a2026-01-01%20ERROR%1b[2J HTTP/1.1", "Host: a\r\n"),
        b"GET /\xc2\x9b\xe2\x80\xa8ERROR\xe2\x80\xae HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        head("GET /_livez HTTP/1.1", ""),
        head("GET http://b/_livez HTTP/1.1", "Host: a\r\nHost: b\r\n"),
        head("CONNECT a:80 HTTP/1.1", "Host: a\r\n"),
        head("OPTIONS * HTTP/1.1", "Host: a\r\nOrigin: \u{e9}\r\n"),
        head(
            "OPTIONS /batch/ HTTP/1.1",
            "Host: a\r\nOrigin: x\r\nAccess-Control-Request-Method: \u{1}\r\n",
        ),
        head(
            "GET /_livez HTTP/1.1",
            "Host: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
        ),
        head(
            "POST /batch/ HTTP/1.1",
            "Host: a\r\nContent-Length: 99\r\nExpect: 100-continue\r\n",
        ),
        head(
            "POST /batch/ HTTP/1.1",
            "Host: a\r\nContent-Length: 1000\r\n",
        ),
        head("POST /batch/ HTTP/1.1", "Host: a\r\nContent-Length: -1\r\n"),
        head(
            "POST /batch/ HTTP/1.1",
            "Host: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        ),
        head(
            "POST /batch/ HTTP/1.1",
            "Host: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
        ),
        head(
            "POST /batch/ HTTP/1.1",
            "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n",
        ),
        post("/batch/", "Content-Encoding: gzip\r\n", b"\x1f\x8bgarbage"),
        post("/batch/", "Content-Encoding: a\r\n", b"{}"),
        post(
            "/batch/",
            "",
            b"{\"api_key\": \"a\\u0000b\", \"batch\": [{\"event\": \"x\"}]}",
        ),
        post(
            "/batch/",
            "",
            b"[{\"event\": \"a\\u0000\\n\", \"token\": \"\\ud800\"}]",
        ),
        post(
            "/batch/",
            "",
            b"{\"batch\": [{\"event\": \"x\", \"token\": \"phc_\\u001b[2J\\n\"}]}",
        ),
        post("/batch/", "", deep.as_bytes()),
        post("/batch/", "", b"\xff\xfe"),
        post("/e/?compression=base64", "", b"data=%%%"),
        post("/flags/", "", b"\xff"),
        post(
            "/i/v1/analytics/events/",
            "Authorization: Bearer phc_\u{e9}\r\n",
            b"{}",
        ),
        head("GET /array/%00%0a/config.js HTTP/1.1", "Host: a\r\n"),
        head("GET /docs/%2e%2e/%00 HTTP/1.1", "Host: a\r\n"),
        head(
            "GET /api/schema/?format=%ff&format=b HTTP/1.1",
            "Host: a\r\n",
        ),
        head(
            "GET /api/projects/%ff%00/cohorts/ HTTP/1.1",
            "Host: a\r\nAuthorization: Bearer \u{1}\r\n",
        ),
        head(
            "GET /api/projects/1/cohorts/?personal_api_key=%00%0a HTTP/1.1",
            "Host: a\r\n",
        ),
        post(
            "/api/projects/1/cohorts/",
            "Content-Type: multipart/form-data\r\n",
            b"--a",
        ),
        post(
            "/api/projects/1/cohorts/",
            "Content-Type: application/json\r\n",
            b"{\"personal_api_key\": \"\\u0000\"}",
        ),
    ]
}

/// Sends bytes, and reads the response until the service closes the connection or answers no more.
fn send(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    // The service may close the connection before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The log of a service that has answered `rounds` of all requests.
fn log_of(rounds: usize, flags: &[&str]) -> String {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let at = Location::Url(database());
    let arguments = [&["serve", "--listen", "127.0.0.1:0"], flags].concat();
    let mut command = at.command(&arguments);
    command
        .env("RUST_LOG", "info")
        .env_remove("COHORTS_LOG_FORMAT");
    command.stderr(Stdio::from(File::create(&path).unwrap()));
    let service = Service::spawn(command);
    let address = service.url.strip_prefix("http://").unwrap().to_owned();
    for _ in 0..rounds {
        for request in requests() {
            send(&address, &request);
        }
    }
    assert!(service.stop());
    fs::read_to_string(path).unwrap()
}

#[test]
fn clients_without_a_key_cause_no_errors_and_forge_no_lines() {
    let log = log_of(15, &[]);
    for line in log.split('\n').filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (time, level) = (words.next().unwrap(), words.next().unwrap());
        assert!(
            chrono::DateTime::parse_from_rfc3339(time).is_ok(),
            "{line:?}"
        );
        assert!(matches!(level, "INFO" | "WARN"), "{line}");
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.contains(['\u{2028}', '\u{202e}']), "{line:?}");
        assert!(line.len() < 2_500, "{} bytes", line.len());
    }
    let warnings = log.lines().filter(|line| line.contains(" WARN ")).count();
    assert!(warnings <= 40, "{warnings} warnings:\n{log}");
}

#[test]
fn lines_in_json_are_one_object_each() {
    let log = log_of(1, &["--log-format", "json"]);
    assert!(log.lines().count() > 20, "{log}");
    for line in log.split('\n').filter(|line| !line.is_empty()) {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        assert_ne!(parsed["level"], "ERROR", "{line}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

/// A token is public, so its events must not fill the log.
#[test]
fn replaced_times_are_logged_with_event_and_value_in_few_short_lines() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let at = Location::Url(database());
    let access = at.project();
    let mut command = at.command(&["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("RUST_LOG", "info")
        .env_remove("COHORTS_LOG_FORMAT");
    command.stderr(Stdio::from(File::create(&path).unwrap()));
    let service = Service::spawn(command);
    let event = |nth: usize| {
        let time = format!("soon\n{nth}{}", "x".repeat(10_000));
        json!({"event": format!("late\u{1b}[2J{nth}"), "distinct_id": "a", "timestamp": time})
    };
    let body = json!({"api_key": access.token, "sent_at": "never", "batch": (0..1_000).map(event).collect::<Value>()});
    let answer = reqwest::blocking::Client::new()
        .post(format!("{}/batch/", service.url))
        .json(&body)
        .send();
    assert_eq!(answer.unwrap().status(), 200);
    assert!(service.stop());
    let log = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert!((4..10).contains(&lines.len()), "{log}");
    assert!(lines.iter().all(|line| line.len() < 400), "{log}");
    for part in [
        r"`late\u{1b}[2J0` got the time of its arrival: the time `soon\n0xxx",
        "1000 events of one request got the time of their arrival",
        "is not corrected by `sent_at`: the time `never`",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

/// A client that sends its body slowly is not a slow service.
#[test]
fn a_slow_body_is_not_a_slow_request() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let at = Location::Url(database());
    let mut command = at.command(&["serve", "--listen", "127.0.0.1:0", "--slow-ms", "500"]);
    command.env("RUST_LOG", "info");
    command.stderr(Stdio::from(File::create(&path).unwrap()));
    let service = Service::spawn(command);
    let mut stream = TcpStream::connect(service.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        b"POST /batch/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{";
    stream.write_all(head).unwrap();
    // The body must take longer than the limit, so there is no event to wait for.
    std::thread::sleep(Duration::from_millis(800));
    stream.write_all(b"}").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    assert!(service.stop());
    let log = fs::read_to_string(path).unwrap();
    assert!(log.contains("POST /batch/ 401 "), "{log}");
    assert!(!log.contains("slow:"), "{log}");
}

#[test]
fn refused_events_are_logged_with_reason_and_name_in_few_lines() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let at = Location::Url(database());
    let access = at.project();
    let mut command = at.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("RUST_LOG", "info");
    command.stderr(Stdio::from(File::create(&path).unwrap()));
    let service = Service::spawn(command);
    let name = format!("sign\nup{}", "a".repeat(5_000));
    let mut batch = vec![json!({"event": name, "distinctId": "camel"}); 1_000];
    batch[1] = json!({"distinct_id": "a"});
    assert!(!sent(&service.url, &access, &json!(batch)));
    batch.push(event("a", 1));
    assert!(sent(&service.url, &access, &json!(batch)));
    assert!(service.stop());
    let log = fs::read_to_string(path).unwrap();
    let refused: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("refused"))
        .collect();
    assert_eq!(refused.len(), 8, "{log}");
    for line in [refused[0], refused[2]] {
        assert!(line.contains(r#"the event "sign\nupa"#), "{line}");
        assert!(line.contains("`distinct_id` is missing"), "{line}");
        assert!(line.len() < 500, "{line}");
    }
    assert!(refused[1].contains("`event` is missing"), "{log}");
    assert!(refused[7].contains("refused 1000 of 1001 items"), "{log}");
}
