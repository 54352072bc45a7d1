//! The release build of the service, as its users run it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::blocking::Client;
use serde_json::{Value, json};

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
    ensure!(command.status()?.success(), "the service does not build");
    Ok(())
}

fn program(root: &Path) -> PathBuf {
    root.join("target/release/cohorts")
}

/// The program on the data of a directory.
fn command(root: &Path, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(root));
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(directory.join("data"));
    command.env("RUST_LOG", "warn");
    command
}

fn answer(mut command: Command) -> Result<Value> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A new project and a key for it.
pub fn project(root: &Path, directory: &Path) -> Result<(i64, String)> {
    let made = answer(command(
        root,
        directory,
        &["project", "create", "--name", "Bench", "--json"],
    ))?;
    let id = made["id"].as_i64().context("a project has an id")?;
    let of = id.to_string();
    let key = [
        "key",
        "create",
        "--project",
        &of,
        "--all-scopes",
        "--email",
        "bench@example.org",
        "--json",
    ];
    let key = answer(command(root, directory, &key))?;
    Ok((
        id,
        key["key"].as_str().context("a key has a text")?.to_owned(),
    ))
}

/// An import that reads lines.
pub fn import(root: &Path, directory: &Path, project: i64) -> Result<Child> {
    let project = project.to_string();
    let mut import = command(root, directory, &["import", "--project", &project, "-"]);
    import.stdin(Stdio::piped());
    Ok(import.spawn()?)
}

/// A service that runs until this is dropped.
pub struct Service {
    child: Child,
    url: String,
    client: Client,
}

impl Service {
    pub fn start(root: &Path, directory: &Path) -> Result<Service> {
        let mut serve = command(root, directory, &["serve", "--listen", "127.0.0.1:0"]);
        let mut child = serve.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("the service says nothing")?;
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
            "the service does not start: {line}"
        );
        Ok(Service {
            child,
            url,
            client: Client::new(),
        })
    }

    /// How many people meet a filter, and how many milliseconds that took.
    pub fn preview(
        &self,
        key: &str,
        project: i64,
        filters: &Value,
        now: DateTime<Utc>,
    ) -> Result<(u64, f64)> {
        let asked =
            json!({"filters": filters, "as_of": now.to_rfc3339_opts(SecondsFormat::Micros, true)});
        let request = self.client.post(format!(
            "{}/api/projects/{project}/cohorts/preview/",
            self.url
        ));
        let answer = request.bearer_auth(key).json(&asked).send()?;
        let (status, answer) = (answer.status(), answer.json::<Value>()?);
        ensure!(status.is_success(), "{status}: {answer}");
        let count = answer["count"].as_u64().context("a preview has a count")?;
        let took = answer["duration_ms"]
            .as_f64()
            .context("a preview has a duration")?;
        Ok((count, took))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It stops the private Postgres, so that the next one starts it anew.
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        if asked.is_ok_and(|status| status.success()) {
            let _ = self.child.wait();
        }
    }
}
