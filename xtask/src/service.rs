//! Runs the release build of the service and sends requests to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The longest time of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest time that the data of a preview may take to load.
const LOADING_TIMEOUT: Duration = Duration::from_secs(600);
/// The pause before a refused preview is tried again.
const LOADING_PAUSE: Duration = Duration::from_millis(100);

/// Builds the release binary.
pub fn build(root: &Path) -> Result<()> {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "cohorts-server",
    ]);
    ensure!(
        command.status()?.success(),
        "the build of the service failed"
    );
    Ok(())
}

/// The directory for builds and data: `CARGO_TARGET_DIR`, or `target` in the workspace.
pub fn target_directory(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root.join(directory),
        None => root.join("target"),
    }
}

fn program(root: &Path) -> PathBuf {
    target_directory(root).join("release/cohorts")
}

/// A command of the service with `directory/data` as its data directory.
fn command(root: &Path, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(root));
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(directory.join("data"));
    command.env("RUST_LOG", "warn");
    command
}

/// Runs a command and parses its standard output as JSON.
fn run_json(mut command: Command) -> Result<Value> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A project with the credentials for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Access {
    pub project: i64,
    /// A personal key with all scopes.
    pub key: String,
    /// The token for capture.
    pub token: String,
}

/// Creates a project and a key for it.
pub fn create_project(root: &Path, directory: &Path, name: &str) -> Result<Access> {
    let project = run_json(command(
        root,
        directory,
        &["project", "create", "--name", name, "--json"],
    ))?;
    let id = project["id"].as_i64().context("the project has no id")?;
    let id_text = id.to_string();
    let arguments = [
        "key",
        "create",
        "--project",
        &id_text,
        "--all-scopes",
        "--email",
        "bench@example.org",
        "--json",
    ];
    let key = run_json(command(root, directory, &arguments))?;
    let text = |object: &Value, name: &str| {
        let text = object[name].as_str().map(str::to_owned);
        text.with_context(|| format!("{object} has no {name}"))
    };
    Ok(Access {
        project: id,
        key: text(&key, "key")?,
        token: text(&project, "token")?,
    })
}

/// Starts an import that reads lines from its standard input. Its standard output has the result.
pub fn start_import(root: &Path, directory: &Path, project: i64) -> Result<Child> {
    let project = project.to_string();
    let mut import = command(root, directory, &["import", "--project", &project, "-"]);
    import.stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(import.spawn()?)
}

/// A preview that succeeded, perhaps after some refusals.
pub struct LoadedPreview {
    pub count: u64,
    /// From the first request to the response, in milliseconds.
    pub milliseconds: f64,
    /// The number of 503 responses before.
    pub refusals: u32,
}

/// A response to a request that succeeded, perhaps after some refusals.
pub struct LoadedResponse {
    pub response: Value,
    /// From the first request to the response, in milliseconds.
    pub milliseconds: f64,
    /// The number of 503 responses before.
    pub refusals: u32,
}

/// A running service. Dropping it stops the service.
pub struct Service {
    child: Child,
    url: String,
    client: Client,
}

impl Service {
    pub fn start(root: &Path, directory: &Path) -> Result<Service> {
        Service::start_with(root, directory, &[])
    }

    /// Starts the service with additional `flags` of `cohorts serve`.
    pub fn start_with(root: &Path, directory: &Path, flags: &[&str]) -> Result<Service> {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"], flags].concat();
        let mut serve = command(root, directory, &arguments);
        let mut child = serve.stdout(Stdio::piped()).spawn()?;
        let stdout = child
            .stdout
            .take()
            .context("the service has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let url = line
            .trim()
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        ensure!(
            url.starts_with("http://"),
            "the service did not start: {line}"
        );
        Ok(Service {
            child,
            url,
            client: Client::new(),
        })
    }

    /// The process id of the service.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills the process with SIGKILL and waits for its end.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Previews a filter as of `now`. Returns the number of matching persons and the duration in milliseconds.
    pub fn preview(
        &self,
        access: &Access,
        filters: &Value,
        now: DateTime<Utc>,
    ) -> Result<(u64, f64)> {
        let as_of = now.to_rfc3339_opts(SecondsFormat::Micros, true);
        let body = json!({"filters": filters, "as_of": as_of});
        let preview = self.post(access, "cohorts/preview/", &body)?;
        let count = preview["count"]
            .as_u64()
            .context("the preview has no count")?;
        let duration = preview["duration_ms"]
            .as_f64()
            .context("the preview has no duration")?;
        Ok((count, duration))
    }

    /// Previews a filter as of `now`, again and again while the service is loading its data or is busy.
    pub fn preview_when_loaded(
        &self,
        access: &Access,
        filters: &Value,
        now: DateTime<Utc>,
    ) -> Result<LoadedPreview> {
        let as_of = now.to_rfc3339_opts(SecondsFormat::Micros, true);
        let body = json!({"filters": filters, "as_of": as_of});
        let loaded = self.post_when_loaded(access, "cohorts/preview/", &body)?;
        let count = loaded.response["count"].as_u64();
        Ok(LoadedPreview {
            count: count.context("the preview has no count")?,
            milliseconds: loaded.milliseconds,
            refusals: loaded.refusals,
        })
    }

    /// Sends a POST request, again and again while the service is loading its data or is busy.
    pub fn post_when_loaded(
        &self,
        access: &Access,
        path: &str,
        body: &Value,
    ) -> Result<LoadedResponse> {
        self.when_loaded(access, path, Some(body))
    }

    /// Sends a POST request with a body, or a GET request without one, again and again while the service is loading its data
    /// or is busy.
    pub fn when_loaded(
        &self,
        access: &Access,
        path: &str,
        body: Option<&Value>,
    ) -> Result<LoadedResponse> {
        let (begin, mut refusals) = (Instant::now(), 0);
        loop {
            let (status, text) = self.ask(access, path, body)?;
            let time = begin.elapsed();
            if status != StatusCode::SERVICE_UNAVAILABLE || time > LOADING_TIMEOUT {
                ensure!(status.is_success(), "{path}: {status}: {text}");
                return Ok(LoadedResponse {
                    response: serde_json::from_str(&text)?,
                    milliseconds: time.as_secs_f64() * 1e3,
                    refusals,
                });
            }
            refusals += 1;
            thread::sleep(LOADING_PAUSE);
        }
    }

    /// Sends a POST request with a body, or a GET request without one. Returns the response, whatever its status.
    pub fn ask(
        &self,
        access: &Access,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, String)> {
        let request = match body {
            Some(body) => self.request(Method::POST, access, path).json(body),
            None => self.request(Method::GET, access, path),
        };
        let response = request.send()?;
        Ok((response.status(), response.text()?))
    }

    fn request(&self, method: Method, access: &Access, path: &str) -> RequestBuilder {
        let url = format!("{}/api/projects/{}/{path}", self.url, access.project);
        let request = self.client.request(method, url).bearer_auth(&access.key);
        request.timeout(REQUEST_TIMEOUT)
    }

    fn send(
        &self,
        method: Method,
        access: &Access,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String> {
        let mut request = self.request(method, access, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send()?;
        let (status, text) = (response.status(), response.text()?);
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(text)
    }

    /// The most resident memory that the process has had, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        let kibibytes: u64 = number
            .context("the status of the process has no VmHWM")?
            .parse()?;
        Ok(kibibytes << 10)
    }

    /// Deletes a person.
    pub fn delete_person(&self, access: &Access, uuid: &str) -> Result<()> {
        let path = format!("persons/{uuid}/");
        self.send(Method::DELETE, access, &path, None).map(drop)
    }

    /// Sends a GET request below the project's path and returns the body as text.
    pub fn get_text(&self, access: &Access, path: &str) -> Result<String> {
        self.send(Method::GET, access, path, None)
    }

    pub fn get(&self, access: &Access, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.get_text(access, path)?)?)
    }

    pub fn post(&self, access: &Access, path: &str, body: &Value) -> Result<Value> {
        let text = self.send(Method::POST, access, path, Some(body))?;
        Ok(serde_json::from_str(&text)?)
    }

    pub fn patch(&self, access: &Access, path: &str, body: &Value) -> Result<()> {
        self.send(Method::PATCH, access, path, Some(body)).map(drop)
    }

    /// Marks a cohort as deleted.
    pub fn delete_cohort(&self, access: &Access, cohort: i64) -> Result<()> {
        self.patch(
            access,
            &format!("cohorts/{cohort}/"),
            &json!({"deleted": true}),
        )
    }

    /// Sends a batch of events and waits until the service acknowledges it.
    pub fn capture(&self, batch: &Value) -> Result<()> {
        let response = self
            .client
            .post(format!("{}/batch/", self.url))
            .json(batch)
            .send()?;
        ensure!(
            response.status().is_success(),
            "the batch was rejected: {}",
            response.status()
        );
        Ok(())
    }

    /// Sends a GET request without a key and returns the body as text.
    pub fn get_without_key(&self, path: &str) -> Result<String> {
        let response = self.client.get(format!("{}{path}", self.url)).send()?;
        Ok(response.error_for_status()?.text()?)
    }

    /// Reads the value of a metric without labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let metrics = self.get_without_key("/metrics")?;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value
            .with_context(|| format!("there is no metric {name}"))?
            .parse()?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // SIGTERM lets the service stop its private Postgres, so that the next service can start it again.
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status();
        if status.is_ok_and(|status| status.success()) {
            let _ = self.child.wait();
        }
    }
}
