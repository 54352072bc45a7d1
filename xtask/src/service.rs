//! The release build of the service, as its users run it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::Method;
use reqwest::blocking::Client;
use serde::{Deserialize, Serialize};
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

/// How a project is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Access {
    pub project: i64,
    pub key: String,
    /// For those who send events.
    pub token: String,
}

/// A new project and a key for it.
pub fn project(root: &Path, directory: &Path, name: &str) -> Result<Access> {
    let made = answer(command(
        root,
        directory,
        &["project", "create", "--name", name, "--json"],
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
    let text = |of: &Value, name: &str| {
        let text = of[name].as_str().map(str::to_owned);
        text.with_context(|| format!("{of} has no {name}"))
    };
    Ok(Access {
        project: id,
        key: text(&key, "key")?,
        token: text(&made, "token")?,
    })
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
        Service::start_with(root, directory, &[])
    }

    /// With more flags.
    pub fn start_with(root: &Path, directory: &Path, flags: &[&str]) -> Result<Service> {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"], flags].concat();
        let mut serve = command(root, directory, &arguments);
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

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it as a failing machine would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How many people meet a filter, and how many milliseconds that took.
    pub fn preview(&self, of: &Access, filters: &Value, now: DateTime<Utc>) -> Result<(u64, f64)> {
        let asked =
            json!({"filters": filters, "as_of": now.to_rfc3339_opts(SecondsFormat::Micros, true)});
        let answer = self.post(of, "cohorts/preview/", &asked)?;
        let count = answer["count"].as_u64().context("a preview has a count")?;
        let took = answer["duration_ms"]
            .as_f64()
            .context("a preview has a duration")?;
        Ok((count, took))
    }

    fn ask(&self, method: Method, of: &Access, path: &str, body: Option<&Value>) -> Result<String> {
        let url = format!("{}/api/projects/{}/{path}", self.url, of.project);
        let mut request = self.client.request(method, url).bearer_auth(&of.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send()?;
        let (status, text) = (answer.status(), answer.text()?);
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(text)
    }

    pub fn text(&self, of: &Access, path: &str) -> Result<String> {
        self.ask(Method::GET, of, path, None)
    }

    pub fn get(&self, of: &Access, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.text(of, path)?)?)
    }

    pub fn post(&self, of: &Access, path: &str, body: &Value) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask(
            Method::POST,
            of,
            path,
            Some(body),
        )?)?)
    }

    pub fn patch(&self, of: &Access, path: &str, body: &Value) -> Result<()> {
        self.ask(Method::PATCH, of, path, Some(body)).map(drop)
    }

    /// Deletes a cohort.
    pub fn delete(&self, of: &Access, cohort: i64) -> Result<()> {
        self.patch(of, &format!("cohorts/{cohort}/"), &json!({"deleted": true}))
    }

    /// Sends events, and waits until they are kept.
    pub fn capture(&self, body: &Value) -> Result<()> {
        let answer = self
            .client
            .post(format!("{}/batch/", self.url))
            .json(body)
            .send()?;
        ensure!(
            answer.status().is_success(),
            "events are refused: {}",
            answer.status()
        );
        Ok(())
    }

    /// What an address answers that wants no key.
    pub fn plain(&self, path: &str) -> Result<String> {
        let answer = self.client.get(format!("{}{path}", self.url)).send()?;
        Ok(answer.error_for_status()?.text()?)
    }

    /// What a metric without labels says.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let metrics = self.plain("/metrics")?;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line
            .with_context(|| format!("there is no {name}"))?
            .parse()?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // It stops the private Postgres, so that the next one starts it anew.
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        if asked.is_ok_and(|status| status.success()) {
            let _ = self.child.wait();
        }
    }
}
