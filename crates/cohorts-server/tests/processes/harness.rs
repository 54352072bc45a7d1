//! The program as a process, and a client of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cohorts_server::postgres::{self, Options, Postgres};
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};

/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The program, with the directory of PostgreSQL's programs where they had to be fetched.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohorts"));
    command.args(arguments).env("RUST_LOG", "off");
    command.env_remove("DATABASE_URL");
    if let Some(programs) = fetched() {
        command.env("COHORTS_PG_BIN", programs);
    }
    command
}

/// Where PostgreSQL's programs were fetched to, if the machine has none.
pub fn fetched() -> Option<std::path::PathBuf> {
    let directory = tempfile::TempDir::new().unwrap();
    let mut options = options(directory.path());
    let into = std::env::temp_dir().join("cohorts-tests-programs");
    postgres::ensure_programs(&mut options, &into).unwrap();
    options.pg_bin
}

fn options(data_dir: &Path) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        durable: true,
        pg_bin: None,
    }
}

/// A Postgres that belongs to none of the processes.
pub fn database(directory: &Path) -> Postgres {
    let mut options = options(directory);
    options.durable = false;
    options.pg_bin = fetched();
    Postgres::start(&options).unwrap()
}

/// What a command prints as JSON.
pub fn printed(mut command: Command) -> Value {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Where the data is: in a directory, with a private Postgres, or in a database by its URL.
#[derive(Clone, Debug)]
pub enum At {
    Directory(std::path::PathBuf),
    Url(String),
}

impl At {
    pub fn of(self: &At, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        match self {
            At::Directory(directory) => command.arg("--data-dir").arg(directory),
            At::Url(url) => command.args(["--database-url", url]),
        };
        command
    }

    /// A project with a key that may do everything.
    pub fn project(&self) -> Access {
        let made = printed(self.of(&["project", "create", "--name", "P", "--json"]));
        let id = made["id"].as_i64().unwrap();
        let create = [
            "key",
            "create",
            "--project",
            &id.to_string(),
            "--all-scopes",
            "--json",
        ];
        let key = printed(self.of(&create));
        Access {
            project: id,
            token: made["token"].as_str().unwrap().to_owned(),
            key: key["key"].as_str().unwrap().to_owned(),
        }
    }
}

/// How a project is reached.
#[derive(Clone, Debug)]
pub struct Access {
    pub project: i64,
    pub token: String,
    pub key: String,
}

/// A service that runs until this is dropped, and is then killed.
pub struct Service {
    child: Child,
    pub url: String,
}

impl Service {
    pub fn start(at: &At, flags: &[&str]) -> Service {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"], flags].concat();
        let mut child = at.of(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(
            url.starts_with("http"),
            "the service does not start: {line}"
        );
        Service { child, url }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and tells whether it did so well.
    pub fn stop(mut self) -> bool {
        signal("TERM", self.pid());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// One answer: its status, and its JSON if it is any. Nothing where none came.
pub fn ask(
    url: &str,
    of: &Access,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Option<(u16, Value)> {
    let client = Client::builder()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let mut request = client
        .request(method, format!("{url}{path}"))
        .bearer_auth(&of.key);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().ok()?;
    let status = answer.status().as_u16();
    let text = answer.text().ok()?;
    Some((
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    ))
}

/// What an operation of the project answers, which must be well; 503 asks for another try.
pub fn well(url: &str, of: &Access, method: Method, path: &str, body: Option<&Value>) -> Value {
    let path = format!("/api/projects/{}/{path}", of.project);
    let mut last = (503, Value::Null);
    until("the service is there", || {
        last = ask(url, of, method.clone(), &path, body).unwrap();
        last.0 != 503
    });
    let (status, answer) = last;
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    answer
}

/// Sends events, and tells whether they were acknowledged.
pub fn sent(url: &str, of: &Access, batch: &Value) -> bool {
    let body = json!({"api_key": of.token, "batch": batch});
    let answer = ask(url, of, Method::POST, "/batch/", Some(&body));
    answer.is_some_and(|(status, _)| status == 200)
}

/// An event of a person, with a uuid that is its alone.
pub fn event(person: &str, nth: u128) -> Value {
    let uuid = format!("{:032x}", nth | 7 << 76 | 8 << 62);
    json!({"event": "x", "distinct_id": person, "uuid": uuid, "properties": {"$set": {"is": "there"}}})
}

/// The people who did x so often at least.
pub fn often(least: usize) -> Value {
    json!({"properties": {"type": "AND", "values": [{"type": "behavioral", "value": "performed_event_multiple",
        "key": "x", "event_type": "events", "time_value": 30, "time_interval": "day", "operator": "gte",
        "operator_value": least}]}})
}

/// How many people meet a filter.
pub fn count(url: &str, of: &Access, filters: &Value) -> u64 {
    let body = json!({"filters": filters});
    let answer = well(url, of, Method::POST, "cohorts/preview/", Some(&body));
    answer["count"].as_u64().unwrap()
}

/// Waits until something holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
    begun.elapsed()
}
