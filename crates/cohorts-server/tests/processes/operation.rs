//! Features for operators: logs, TLS, expired keys, the doctor.

use std::io::Read;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Location, Service, ask, printed, until, well};

#[test]
fn idle_service_takes_less_than_50_mib() {
    let directory = TempDir::new().unwrap();
    let service = Service::start(&Location::Directory(directory.path().join("data")), &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|kib| kib.trim().strip_suffix(" kB"));
    let mib = resident.unwrap().parse::<u64>().unwrap() / 1_024;
    assert!((5..50).contains(&mib), "{mib} MiB");
}

#[test]
fn json_log_is_parseable_and_has_no_secrets() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let access = at.project();
    let mut command = at.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--slow-ms",
        "0",
    ]);
    command
        .env("RUST_LOG", "debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut first,
    )
    .unwrap();
    let url = first.trim().rsplit(' ').next().unwrap().to_owned();
    let secret = "maria@example.org";
    let person =
        json!({"event": "x", "distinct_id": secret, "properties": {"$set": {"email": secret}}});
    assert!(crate::harness::sent(&url, &access, &json!([person])));
    well(
        &url,
        &access,
        Method::GET,
        &format!("persons/?distinct_id={secret}"),
        None,
    );
    let by_query = format!(
        "/api/projects/{}/cohorts/?personal_api_key={}",
        access.project, access.key
    );
    ask(&url, &access, Method::GET, &by_query, None).unwrap();
    crate::harness::signal("TERM", child.id());
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let slow = lines
        .iter()
        .find(|line| line["message"].as_str().unwrap().contains("slow: GET"));
    let slow = slow.unwrap_or_else(|| panic!("{log}"));
    assert_eq!(slow["level"], "WARN");
    assert!(
        slow["request_id"].as_str().is_some_and(|id| id.len() == 16),
        "{slow}"
    );
    for secret in [secret, &access.key, &access.token] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn terminated_service_ends_its_streams() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().join("data"));
    let service = Service::start(&at, &[]);
    let access = at.project();
    let url = format!(
        "{}/api/projects/{}/cohorts/changes.sse",
        service.url, access.project
    );
    let client = reqwest::blocking::Client::new();
    let mut stream = client.get(url).bearer_auth(&access.key).send().unwrap();
    let mut first = [0];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(first, *b":");
    crate::harness::signal("TERM", service.pid());
    let mut rest = Vec::new();
    // A stream that is cut is an error.
    stream.read_to_end(&mut rest).unwrap();
    assert!(service.stop());
}

#[test]
fn expired_key_is_rejected() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let service = Service::start(&at, &[]);
    let mut access = at.project();
    let key = printed(at.command(&[
        "key",
        "create",
        "--all-scopes",
        "--expires-in",
        "1",
        "--json",
    ]));
    key["key"].as_str().unwrap().clone_into(&mut access.key);
    let path = "/api/users/@me/";
    assert_eq!(
        ask(&service.url, &access, Method::GET, path, None)
            .unwrap()
            .0,
        200
    );
    let listed = printed(at.command(&["key", "list", "--json"]));
    let used = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["id"] == key["id"])
        .unwrap();
    assert!(
        used["last_used_at"].is_string() && used["expires_at"].is_string(),
        "{used}"
    );
    let unused = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["id"] != key["id"])
        .unwrap();
    assert_eq!(
        (&unused["last_used_at"], &unused["expires_at"]),
        (&Value::Null, &Value::Null)
    );
    // The key expires now instead of tomorrow.
    let sql = "update keys set expires_at = now() where expires_at is not null";
    run_sql(directory.path(), sql);
    assert_eq!(
        ask(&service.url, &access, Method::GET, path, None)
            .unwrap()
            .0,
        401
    );
    // Its hash is deleted, so a program or a clock that ignores the expiry does not accept the key either.
    until("the hash is deleted", || {
        let voided = "select from keys where expires_at is not null and octet_length(hash) <> 32";
        sql_rows(directory.path(), voided) == 1
    });
    run_sql(directory.path(), "update keys set expires_at = null");
    let status = || {
        ask(&service.url, &access, Method::GET, path, None)
            .unwrap()
            .0
    };
    assert_eq!(status(), 401);
}

#[test]
fn revoked_key_stays_invalid_without_its_revocation() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let service = Service::start(&at, &[]);
    let access = at.project();
    let status = || {
        let path = "/api/users/@me/";
        ask(&service.url, &access, Method::GET, path, None)
            .unwrap()
            .0
    };
    assert_eq!(status(), 200);
    let mut revoke = at.command(&["key", "revoke", "1"]);
    assert!(revoke.stdout(Stdio::null()).status().unwrap().success());
    assert_eq!(status(), 401);
    run_sql(directory.path(), "update keys set revoked_at = null");
    assert_eq!(status(), 401);
}

/// The number of rows that a statement returns or changes.
fn sql_rows(directory: &std::path::Path, statement: &str) -> usize {
    use diesel::prelude::*;
    let options = cohorts_server::postgres::Options {
        data_dir: directory.to_owned(),
        durable: true,
        pg_bin: crate::harness::fetched(),
    };
    let joined = cohorts_server::postgres::Postgres::start(&options).unwrap();
    let mut conn = PgConnection::establish(&joined.url()).unwrap();
    diesel::sql_query(statement).execute(&mut conn).unwrap()
}

fn run_sql(directory: &std::path::Path, statement: &str) {
    assert!(sql_rows(directory, statement) > 0);
}

/// The time of the next attempt is moved in the database.
#[test]
fn cohort_that_failed_very_often_is_calculated_again() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let service = Service::start(&at, &[]);
    let access = at.project();
    let call = |method: Method, rest: &str, body: Option<&Value>| {
        well(&service.url, &access, method, rest, body)
    };
    let leaf = json!({"type": "person", "key": "plan", "operator": "regex", "value": "("});
    let body = json!({"filters": {"properties": {"type": "AND", "values": [leaf]}}});
    let id = call(Method::POST, "cohorts/", Some(&body))["id"].clone();
    let path = format!("cohorts/{id}/");
    let failures = || call(Method::GET, &path, None)["errors_calculating"].as_i64();
    until("the cohort fails", || failures() == Some(1));
    run_sql(
        directory.path(),
        "update cohorts set errors_calculating = 30, due_at = now() - interval '1 minute'",
    );
    until("the cohort fails again", || failures() == Some(31));
    let cohort = call(Method::GET, &path, None);
    let next = cohort["next_calculation"].as_str().unwrap();
    let pause = next.parse::<chrono::DateTime<chrono::Utc>>().unwrap() - chrono::Utc::now();
    assert!(pause <= chrono::TimeDelta::days(1), "{cohort}");
}

#[test]
fn doctor_reports_failures_by_its_exit_status() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let mut demo = at.command(&["demo", "--once", "--people", "200", "--events", "2000"]);
    assert!(demo.output().unwrap().status.success());
    let examine = |more: &[&str]| -> (bool, String) {
        let mut command: Command = at.command(&[&["doctor"], more].concat());
        let output = command.output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (fine, text) = examine(&[]);
    assert!(
        fine && text.lines().all(|line| line.starts_with("ok ")),
        "{text}"
    );
    run_sql(
        directory.path(),
        "update cohorts set count = count + 1 where id = (select min(id) from cohorts)",
    );
    assert!(!examine(&[]).0);
    let (repaired, text) = examine(&["--repair"]);
    assert!(repaired && text.contains("repaired  counts"), "{text}");
    assert!(examine(&[]).0);
}
