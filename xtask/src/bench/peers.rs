//! Other databases with the same persons and events. The process of `peers.py` runs them and answers queries.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, NaiveTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::population::{Population, write_tables};
use crate::{print_line, service};

const SCRIPT: &str = include_str!("peers.py");
/// The tested versions of the packages that the script needs.
const PACKAGES: [&str; 3] = ["chdb==4.4.0", "duckdb==2.0.1", "psycopg[binary]==3.3.9"];
/// The factor of a person's number in a checksum.
const CHECKSUM_FACTOR: u64 = 2_654_435_761;

/// The process of the peers. Dropping it stops the process.
pub struct Peers {
    child: Child,
    requests: Option<ChildStdin>,
    responses: Lines<BufReader<ChildStdout>>,
    pub names: Vec<String>,
    pub versions: Value,
}

/// The result of a query of a peer.
pub struct PeerResult {
    /// The number of matching persons.
    pub count: u64,
    /// The [`checksum`] of the matching persons.
    pub checksum: u64,
    /// The duration in milliseconds.
    pub duration: f64,
}

/// The XOR over all persons of their number times [`CHECKSUM_FACTOR`].
pub fn checksum(persons: impl Iterator<Item = u64>) -> u64 {
    persons.fold(0, |sum, person| sum ^ person.wrapping_mul(CHECKSUM_FACTOR))
}

impl Peers {
    /// Loads the databases that are not loaded yet, and starts the process.
    ///
    /// `population` generates the persons and events again if something must be loaded.
    pub fn start(root: &Path, directory: &Path, population: &Population) -> Result<Peers> {
        let store = directory.join("peers");
        fs::create_dir_all(&store)?;
        let python = prepare_python(root)?;
        let script = store.join("peers.py");
        fs::write(&script, SCRIPT)?;
        load(&python, &script, &store, population)?;

        let mut serve = Command::new(&python);
        serve.arg(&script).arg("serve").arg(&store);
        let mut child = serve.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = child.stdin.take();
        let stdout = child
            .stdout
            .take()
            .context("the peers have no standard output")?;
        let mut peers = Peers {
            child,
            requests,
            responses: BufReader::new(stdout).lines(),
            names: Vec::new(),
            versions: Value::Null,
        };
        let ready = peers.response()?;
        let names = ready["ready"]
            .as_array()
            .context("the peers are not ready")?;
        peers.names = names
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        peers.versions = ready["versions"].clone();
        Ok(peers)
    }

    fn response(&mut self) -> Result<Value> {
        let line = self
            .responses
            .next()
            .context("the process of the peers has ended")??;
        Ok(serde_json::from_str(&line)?)
    }

    fn request(&mut self, request: &Value) -> Result<Value> {
        let requests = self
            .requests
            .as_mut()
            .context("the process of the peers has no standard input")?;
        writeln!(requests, "{request}")?;
        requests.flush()?;
        let response = self.response()?;
        let error = &response["error"];
        ensure!(error.is_null(), "{request}: {error}");
        Ok(response)
    }

    /// Runs the query of a kind as of `now`. Whole days are days in UTC.
    pub fn query(&mut self, peer: &str, kind: &str, now: DateTime<Utc>) -> Result<PeerResult> {
        let today = now.date_naive().and_time(NaiveTime::MIN).and_utc();
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let request = json!({"peer": peer, "kind": kind, "now": text(now), "today": text(today)});
        let response = self.request(&request)?;
        let number = |name: &str| {
            response[name]
                .as_u64()
                .with_context(|| format!("{response} has no {name}"))
        };
        Ok(PeerResult {
            count: number("count")?,
            checksum: number("checksum")?,
            duration: milliseconds(&response)?,
        })
    }

    /// Reads the page of 100 members after the person `after`. Returns the duration in milliseconds.
    pub fn page(&mut self, after: u64) -> Result<f64> {
        milliseconds(&self.request(&json!({"page_after": after}))?)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // At the end of its input, the process stops its Postgres and ends.
        self.requests.take();
        let _ = self.child.wait();
    }
}

fn milliseconds(response: &Value) -> Result<f64> {
    response["ms"]
        .as_f64()
        .context("a response of the peers has no time")
}

/// Runs the script's `load`, which prints a line per database.
fn load(python: &Path, script: &Path, store: &Path, population: &Population) -> Result<()> {
    let (persons, events) = (store.join("persons.csv"), store.join("events.csv"));
    let marker = store.join("loaded");
    if !marker.exists() {
        print_line("writing the population for the peers")?;
        let create = |path: &Path| fs::File::create(path).map(BufWriter::new);
        write_tables(population, &mut create(&persons)?, &mut create(&events)?)?;
    }
    let mut load = Command::new(python);
    load.arg(script)
        .arg("load")
        .args([store, &persons, &events]);
    ensure!(load.status()?.success(), "loading the peers failed");
    fs::write(marker, "")?;
    let _ = (fs::remove_file(persons), fs::remove_file(events));
    Ok(())
}

/// Returns the Python of a virtual environment with the packages, which is created once.
fn prepare_python(root: &Path) -> Result<PathBuf> {
    let home = service::target_directory(root).join("bench/python");
    let python = home.join("bin/python");
    let run = |program: &Path, arguments: &[&str]| -> Result<()> {
        let status = Command::new(program).args(arguments).status();
        let status = status.with_context(|| format!("cannot run {}", program.display()))?;
        ensure!(
            status.success(),
            "{} {} failed",
            program.display(),
            arguments.join(" ")
        );
        Ok(())
    };
    if !python.exists() {
        let home = home
            .to_str()
            .context("the path of the workspace is not UTF-8")?;
        run(Path::new("python3"), &["-m", "venv", home])?;
    }
    let install = [&["-m", "pip", "install", "--quiet"][..], &PACKAGES].concat();
    run(&python, &install)?;
    Ok(python)
}
