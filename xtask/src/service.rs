//! Runs the release build of the service and sends requests to it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::Method;
use reqwest::blocking::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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

fn program(root: &Path) -> PathBuf {
    root.join("target/release/cohorts")
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

/// Starts an import that reads lines from its standard input.
pub fn start_import(root: &Path, directory: &Path, project: i64) -> Result<Child> {
    let project = project.to_string();
    let mut import = command(root, directory, &["import", "--project", &project, "-"]);
    import.stdin(Stdio::piped());
    Ok(import.spawn()?)
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

    fn send(
        &self,
        method: Method,
        access: &Access,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String> {
        let url = format!("{}/api/projects/{}/{path}", self.url, access.project);
        let mut request = self.client.request(method, url).bearer_auth(&access.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send()?;
        let (status, text) = (response.status(), response.text()?);
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(text)
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
