//! The program as a process, and a client of it.

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cohorts_server::postgres::{self, Ephemeral, Options};
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};

/// The time limit of each wait.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The program with arguments, and with the fetched programs of PostgreSQL if the machine has none.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohorts"));
    command.args(arguments).env("RUST_LOG", "off");
    command.env_remove("DATABASE_URL");
    if let Some(programs) = fetched() {
        command.env("COHORTS_PG_BIN", programs);
    }
    command
}

/// The directory of the fetched programs of PostgreSQL; `None` if the machine has its own.
pub fn fetched() -> Option<std::path::PathBuf> {
    let directory = tempfile::TempDir::new().unwrap();
    let mut options = options(directory.path());
    let into = std::env::temp_dir().join("cohorts-tests-programs");
    postgres::ensure_programs(&mut options, &into).unwrap();
    options.pg_bin
}

pub fn options(data_dir: &Path) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        durable: true,
        pg_bin: None,
    }
}

/// The Postgres of the services that are started with a URL.
static POSTGRES: LazyLock<Ephemeral> = LazyLock::new(|| Ephemeral::start(fetched()));
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The URL of a new database, in a Postgres that none of the services owns.
pub fn database() -> String {
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    POSTGRES.create_database(&name, None);
    POSTGRES.url_for(&name)
}

/// The JSON that a command prints.
pub fn printed(mut command: Command) -> Value {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The location of the data: a directory with a private Postgres, or the URL of a database.
#[derive(Clone, Debug)]
pub enum Location {
    Directory(std::path::PathBuf),
    Url(String),
}

impl Location {
    pub fn command(self: &Location, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        match self {
            Location::Directory(directory) => command.arg("--data-dir").arg(directory),
            Location::Url(url) => command.args(["--database-url", url]),
        };
        command
    }

    /// Creates a project, and a key with all scopes.
    pub fn project(&self) -> Access {
        let creation = printed(self.command(&["project", "create", "--name", "P", "--json"]));
        let id = creation["id"].as_i64().unwrap();
        let create = [
            "key",
            "create",
            "--project",
            &id.to_string(),
            "--all-scopes",
            "--json",
        ];
        let key = printed(self.command(&create));
        Access {
            project: id,
            token: creation["token"].as_str().unwrap().to_owned(),
            key: key["key"].as_str().unwrap().to_owned(),
        }
    }
}

/// The credentials of a project.
#[derive(Clone, Debug)]
pub struct Access {
    pub project: i64,
    pub token: String,
    pub key: String,
}

/// A running service, which is killed when this is dropped.
pub struct Service {
    child: Child,
    pub url: String,
}

impl Service {
    pub fn start(at: &Location, flags: &[&str]) -> Service {
        Self::start_with(at, flags, &[])
    }

    /// Starts the service with environment variables.
    pub fn start_with(at: &Location, flags: &[&str], variables: &[(&str, &str)]) -> Service {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"], flags].concat();
        let mut command = at.command(&arguments);
        command.envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// Starts the service by a command, and waits until it listens.
    pub fn spawn(mut command: Command) -> Service {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
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

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it with a signal, and returns whether it ended with success.
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

/// The most memory that a process has used since its start or the last [`reset_high_water_mark`], in bytes.
pub fn high_water_mark(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse::<u64>().unwrap() << 10
}

/// Sets the high-water mark of a process to the memory that it uses now.
pub fn reset_high_water_mark(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// Status and JSON of a response, or the text if it is not JSON; `None` without a response.
pub fn ask(
    url: &str,
    access: &Access,
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
        .bearer_auth(&access.key);
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

/// The successful response of an operation of the project. A 503 is retried.
pub fn well(url: &str, access: &Access, method: Method, path: &str, body: Option<&Value>) -> Value {
    let path = format!("/api/projects/{}/{path}", access.project);
    let mut last = (503, Value::Null);
    until("the service is there", || {
        last = ask(url, access, method.clone(), &path, body).unwrap();
        last.0 != 503
    });
    let (status, answer) = last;
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    answer
}

/// Sends events, and returns whether they were acknowledged.
pub fn sent(url: &str, access: &Access, batch: &Value) -> bool {
    let body = json!({"api_key": access.token, "batch": batch});
    let answer = ask(url, access, Method::POST, "/batch/", Some(&body));
    answer.is_some_and(|(status, _)| status == 200)
}

/// An event of a person with this uuid.
pub fn event(person: &str, nth: u128) -> Value {
    let uuid = format!("{:032x}", nth | 7 << 76 | 8 << 62);
    json!({"event": "x", "distinct_id": person, "uuid": uuid, "properties": {"$set": {"is": "there"}}})
}

/// Filters for the persons with at least `least` events `x`.
pub fn often(least: usize) -> Value {
    json!({"properties": {"type": "AND", "values": [{"type": "behavioral", "value": "performed_event_multiple",
        "key": "x", "event_type": "events", "time_value": 30, "time_interval": "day", "operator": "gte",
        "operator_value": least}]}})
}

/// The number of persons that match filters.
pub fn count(url: &str, access: &Access, filters: &Value) -> u64 {
    let body = json!({"filters": filters});
    let answer = well(url, access, Method::POST, "cohorts/preview/", Some(&body));
    answer["count"].as_u64().unwrap()
}

/// Waits until the condition holds, and returns the time that it took.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    until_right(what, || holds().then_some(()).ok_or("it does not hold"))
}

/// Waits until the check succeeds, and returns the time that it took. If it never does, the panic shows the last error.
#[track_caller]
pub fn until_right<E: Display>(what: &str, mut check: impl FnMut() -> Result<(), E>) -> Duration {
    let start = Instant::now();
    while let Err(wrong) = check() {
        assert!(start.elapsed() < PATIENCE, "{what}: {wrong}");
        thread::sleep(Duration::from_millis(50));
    }
    start.elapsed()
}
