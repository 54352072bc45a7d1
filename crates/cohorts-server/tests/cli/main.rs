//! The program on the command line: its output, its exit status, and the data that survives it.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod crash;
mod demo;
mod explain;
mod import;
mod removal;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::LazyLock;

use cohorts_server::postgres::{Options, ensure_programs};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The directory of the fetched programs of PostgreSQL; `None` if the machine has its own.
static PROGRAMS: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let directory = TempDir::new().unwrap();
    let mut options = Options {
        data_dir: directory.path().to_owned(),
        durable: false,
        pg_bin: std::env::var_os("COHORTS_PG_BIN").map(PathBuf::from),
    };
    let into = std::env::temp_dir().join("cohorts-tests-programs");
    ensure_programs(&mut options, &into).unwrap();
    options.pg_bin
});

fn cohorts(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohorts"));
    for name in ["DATABASE_URL", "COHORTS_DATA_DIR", "COHORTS_LISTEN"] {
        command.env_remove(name);
    }
    command
        .env("RUST_LOG", "warn")
        .env("COHORTS_DATA_DIR", data_dir);
    if let Some(programs) = &*PROGRAMS {
        command.env("COHORTS_PG_BIN", programs);
    }
    command
}

fn run(data_dir: &Path, arguments: &[&str]) -> Output {
    cohorts(data_dir).args(arguments).output().unwrap()
}

/// The output of a command, which must succeed.
fn output_of(data_dir: &Path, arguments: &[&str]) -> String {
    let output = run(data_dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(data_dir: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&output_of(data_dir, arguments)).unwrap()
}

/// The error line of a command, which must fail.
fn error_of(data_dir: &Path, arguments: &[&str]) -> String {
    let output = run(data_dir, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        !text.contains("panicked") && !text.contains("backtrace"),
        "{text}"
    );
    let line = text.lines().rfind(|line| line.starts_with("error: "));
    line.unwrap_or_else(|| panic!("no sentence in {text}"))
        .to_owned()
}

/// A service on a free port.
struct Service {
    child: Child,
    // The pipe stays open, because the program may print more.
    _stdout: BufReader<ChildStdout>,
    url: String,
}

impl Service {
    fn start(data_dir: &Path) -> Self {
        let mut serve = cohorts(data_dir);
        serve.args(["serve", "--listen", "127.0.0.1:0"]);
        let mut child = serve.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("Cohorts is ready at ");
        let url = url.unwrap_or_else(|| panic!("it said {line:?}")).to_owned();
        Self {
            child,
            _stdout: stdout,
            url,
        }
    }

    /// Sends a signal, and returns the exit status.
    fn end(mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code()
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> Value {
        let client = reqwest::blocking::Client::new();
        let call = client.post(format!("{}{path}", self.url)).bearer_auth(key);
        let answer = call.json(body).send().unwrap();
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        serde_json::from_str(&answer.text().unwrap()).unwrap()
    }

    fn get(&self, path: &str, key: &str) -> Value {
        let client = reqwest::blocking::Client::new();
        let call = client.get(format!("{}{path}", self.url)).bearer_auth(key);
        serde_json::from_str(&call.send().unwrap().text().unwrap()).unwrap()
    }

    fn count(&self, key: &str, event: &str) -> Value {
        let leaf = json!({"type": "behavioral", "key": event, "value": "performed_event",
            "event_type": "events", "time_value": 1, "time_interval": "day"});
        let filters = json!({"properties": {"type": "OR", "values": [leaf]}});
        let path = "/api/projects/@current/cohorts/preview/";
        self.post(path, key, &json!({"filters": filters}))["count"].clone()
    }
}

/// A failed test leaves no process behind.
impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn wrong_command_prints_usage_and_exits_with_2() {
    let directory = TempDir::new().unwrap();
    for arguments in [
        &["serv"][..],
        &[],
        &["serve", "--listen", "nowhere"],
        &["key", "create", "--project", "1"],
        &["import", "--project", "1"],
    ] {
        let output = run(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("Usage:") || text.contains("--help"), "{text}");
    }
}

#[test]
fn port_in_use_is_reported_before_postgres_starts() {
    let directory = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = error_of(directory.path(), &["serve", "--listen", &address]);
    assert!(
        text.contains(&format!("cannot listen on {address}")),
        "{text}"
    );
    assert!(text.contains("in use"), "{text}");
    assert!(!directory.path().join("postgres").exists());
}

#[test]
fn error_of_an_unreachable_database_hides_the_password() {
    let directory = TempDir::new().unwrap();
    let url = "postgresql://someone:secret@127.0.0.1:1/nothing";
    let create = ["project", "create", "--name", "N", "--database-url", url];
    let output = run(directory.path(), &create);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot connect to the database"), "{text}");
    assert!(text.contains("127.0.0.1"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn unusable_data_directory_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let inside = file.join("data").display().to_string();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &inside];
    let text = error_of(directory.path(), &serve);
    assert!(
        text.contains("the data directory cannot be used") && text.contains(&inside),
        "{text}"
    );
}

#[test]
fn projects_and_keys_are_created_listed_and_revoked() {
    let directory = TempDir::new().unwrap();
    let data = directory.path();
    let zone = "Europe/Berlin";
    let create = [
        "project",
        "create",
        "--name",
        "N",
        "--timezone",
        zone,
        "--json",
    ];
    let project = json_of(data, &create);
    assert_eq!((&project["id"], &project["name"]), (&json!(1), &json!("N")));
    assert_eq!(project["timezone"], zone);
    assert!(project["token"].as_str().unwrap().starts_with("phc_"));

    let mut create = vec!["key", "create", "--project", "1", "--label", "CI", "--json"];
    create.extend(["--scope", "cohort:read", "--scope", "person:read"]);
    create.extend(["--email", "ana@x.io"]);
    let key = json_of(data, &create);
    assert_eq!(key["scopes"], json!(["cohort:read", "person:read"]));
    let secret = key["key"].as_str().unwrap();
    assert!(secret.starts_with("phx_"));
    let id = key["id"].as_str().unwrap();

    let listed = output_of(data, &["key", "list"]);
    assert!(
        listed.contains("CI  ana@x.io  projects 1  cohort:read person:read"),
        "{listed}"
    );
    assert!(
        !listed.contains(secret) && !listed.contains("revoked"),
        "{listed}"
    );
    output_of(data, &["key", "revoke", id]);
    assert!(output_of(data, &["key", "list"]).contains("revoked"));

    let mars = ["project", "create", "--name", "N", "--timezone", "Mars"];
    let no_project = ["key", "create", "--project", "7", "--all-scopes"];
    for (arguments, part) in [
        (
            &["key", "revoke", id][..],
            "there is no key 1, or it is already revoked",
        ),
        (&no_project, "there is no project 7"),
        (
            &["key", "create", "--scope", "cohorts"],
            "`cohorts` is not a scope",
        ),
        (&mars, "`Mars` is not a time zone"),
        (
            &["import", "--project", "7", "/dev/null"],
            "there is no project 7",
        ),
        (
            &["import", "--project", "1", "/no/such/file"],
            "cannot open /no/such/file",
        ),
    ] {
        let text = error_of(data, arguments);
        assert!(text.contains(part), "{text}");
    }
}

fn item(id: u32) -> String {
    let time = "2026-01-01T00:00:00Z";
    json!({"event": "x", "distinct_id": id.to_string(), "timestamp": time}).to_string()
}

fn items(ids: std::ops::Range<u32>) -> String {
    ids.map(|id| item(id) + "\n").collect()
}

#[test]
fn plain_gzip_and_zstd_files_are_imported_once() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    output_of(&data, &["project", "create", "--name", "N"]);
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let plain = file("a.ndjson", items(0..10).as_bytes());
    let level = flate2::Compression::fast();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(items(10..30).as_bytes()).unwrap();
    let packed = file("b.ndjson.gz", &encoder.finish().unwrap());
    let text = items(25..40);
    let zstd = file(
        "c.ndjson.zst",
        &zstd::encode_all(text.as_bytes(), 1).unwrap(),
    );

    let all = ["import", "--project", "1", &plain, &packed, &zstd];
    assert_eq!(output_of(&data, &all), "40 events imported, 5 duplicates\n");
    assert_eq!(output_of(&data, &all), "0 events imported, 45 duplicates\n");
}

#[test]
fn exports_of_events_and_persons_are_imported_unchanged() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    output_of(&data, &["project", "create", "--name", "N"]);
    let file = |name: &str, lines: &[Value]| {
        let path = directory.path().join(name);
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        path.display().to_string()
    };
    let person = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    let event = |uuid: u32, id: &str, plan: &str| {
        json!({"uuid": format!("0190a1b2-c3d4-7e5f-8a9b-{uuid:012}"), "event": "x", "properties": {"a": 1},
            "distinct_id": id, "team_id": 7, "timestamp": "2026-03-01T10:00:00.123456+00:00",
            "created_at": "2026-03-01 10:00:01.000000", "elements_chain": "", "person_id": person,
            "person_properties": {"plan": plan}, "_inserted_at": "2026-03-01T10:00:02Z"})
    };
    let row = |id: &str| {
        json!({"team_id": 7, "distinct_id": id, "person_id": person, "properties": {"plan": "pro", "city": "Bern"},
            "person_version": 3, "person_distinct_id_version": 0, "created_at": "2025-01-02T03:04:05Z"})
    };
    let events = file(
        "events.jsonl",
        &[
            event(1, "a", "free"),
            event(2, "b", "free"),
            event(3, "a", "pro"),
        ],
    );
    let people = file("people.jsonl", &[row("a"), row("b"), row("c")]);
    let import = ["import", "--project", "1", &people, &events];
    let expected = "3 events imported, 0 duplicates\n3 distinct ids of persons imported\n";
    assert_eq!(output_of(&data, &import), expected);
    let service = Service::start(&data);
    let key = json_of(&data, &["key", "create", "--all-scopes", "--json"]);
    let page = service.get(
        "/api/projects/@current/persons/",
        key["key"].as_str().unwrap(),
    );
    let persons = page["results"].as_array().unwrap();
    assert_eq!(persons.len(), 1, "{page}");
    assert_eq!(persons[0]["distinct_ids"], json!(["a", "b", "c"]));
    assert_eq!(
        persons[0]["properties"],
        json!({"plan": "pro", "city": "Bern"})
    );
    assert_eq!(persons[0]["created_at"], "2025-01-02T03:04:05Z");
    service.end("-TERM");
}

#[test]
fn unreadable_lines_are_named_and_others_imported() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    output_of(&data, &["project", "create", "--name", "N"]);
    let text = format!("{}\n{{\n\n{{\"event\": \"x\"}}\n", item(99));
    let mut import = cohorts(&data);
    import.args(["import", "--project", "1", "-"]);
    import
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = import.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"1 event imported, 0 duplicates\n");
    let text = String::from_utf8(output.stderr).unwrap();
    for part in [
        "standard input, line 2: it is not valid JSON",
        "standard input, line 4: `distinct_id` is missing",
        "error: 2 lines could not be read",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn command_joins_the_postgres_of_a_running_service() {
    let directory = TempDir::new().unwrap();
    let service = Service::start(directory.path());
    let create = ["project", "create", "--name", "N", "--json"];
    let project = json_of(directory.path(), &create);
    let key = json_of(
        directory.path(),
        &["key", "create", "--all-scopes", "--json"],
    );
    let event = json!({"event": "x", "distinct_id": "a"});
    let batch = json!({"api_key": project["token"], "batch": [event]});
    service.post("/batch/", "", &batch);
    assert_eq!(service.count(key["key"].as_str().unwrap(), "x"), 1);
    assert_eq!(service.end("-TERM"), Some(0));
}

#[test]
fn acknowledged_events_survive_a_killed_service() {
    let directory = TempDir::new().unwrap();
    let create = ["project", "create", "--name", "N", "--json"];
    let project = json_of(directory.path(), &create);
    let key = json_of(
        directory.path(),
        &["key", "create", "--all-scopes", "--json"],
    );
    let key = key["key"].as_str().unwrap();
    for round in 1..=3 {
        let service = Service::start(directory.path());
        let event = json!({"event": "x", "distinct_id": format!("p{round}")});
        let batch = json!({"api_key": project["token"], "batch": [event]});
        service.post("/batch/", "", &batch);
        assert_eq!(service.end("-KILL"), None);
    }
    let service = Service::start(directory.path());
    assert_eq!(service.count(key, "x"), 3);
    assert_eq!(service.end("-INT"), Some(0));
}
