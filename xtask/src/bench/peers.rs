//! Other databases that hold the same people and events: `peers.py`, which the bench asks in turn with the service.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, NaiveTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::population::{Event, Person, write_tables};
use crate::say;

const SCRIPT: &str = include_str!("peers.py");
/// What the script was tried with.
const PACKAGES: [&str; 3] = ["chdb==4.4.0", "duckdb==2.0.1", "psycopg[binary]==3.3.9"];
/// A person's part in a checksum.
const FACTOR: u64 = 2_654_435_761;

/// The peers, which run until this is dropped.
pub struct Peers {
    child: Child,
    questions: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    pub names: Vec<String>,
    pub versions: Value,
}

/// What a peer found, and how many milliseconds that took.
pub struct Answer {
    pub count: u64,
    pub checksum: u64,
    pub took: f64,
}

/// The exclusive or of the parts that people have in a checksum.
pub fn checksum(people: impl Iterator<Item = u64>) -> u64 {
    people.fold(0, |sum, person| sum ^ person.wrapping_mul(FACTOR))
}

impl Peers {
    /// Fills the databases where that is not done, and opens them. Loading prints what it found.
    pub fn start(
        root: &Path,
        directory: &Path,
        make_up: impl FnOnce() -> (Vec<Person>, Vec<Event>),
    ) -> Result<Peers> {
        let store = directory.join("peers");
        fs::create_dir_all(&store)?;
        let python = python(root)?;
        let script = store.join("peers.py");
        fs::write(&script, SCRIPT)?;
        let (people, events) = (store.join("people.csv"), store.join("events.csv"));
        if !store.join("loaded").exists() {
            say("writing the population for the peers")?;
            let (all, happened) = make_up();
            let table =
                |path: &Path| Ok::<_, std::io::Error>(BufWriter::new(fs::File::create(path)?));
            write_tables(&all, &happened, &mut table(&people)?, &mut table(&events)?)?;
        }
        let mut load = Command::new(&python);
        load.arg(&script)
            .arg("load")
            .args([&store, &people, &events]);
        ensure!(load.status()?.success(), "the peers could not be loaded");
        fs::write(store.join("loaded"), "")?;
        let _ = (fs::remove_file(people), fs::remove_file(events));

        let mut serve = Command::new(&python);
        serve.arg(&script).arg("serve").arg(&store);
        let mut child = serve.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the peers say nothing")?).lines();
        let mut peers = Peers {
            child,
            questions,
            answers,
            names: Vec::new(),
            versions: Value::Null,
        };
        let ready = peers.line()?;
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

    fn line(&mut self) -> Result<Value> {
        let line = self.answers.next().context("the peers have ended")??;
        Ok(serde_json::from_str(&line)?)
    }

    fn ask(&mut self, question: &Value) -> Result<Value> {
        let questions = self
            .questions
            .as_mut()
            .context("the peers take no questions")?;
        writeln!(questions, "{question}")?;
        questions.flush()?;
        let answer = self.line()?;
        ensure!(answer["error"].is_null(), "{question}: {}", answer["error"]);
        Ok(answer)
    }

    /// Who meets a kind at a moment; whole days are those of UTC.
    pub fn find(&mut self, peer: &str, kind: &str, now: DateTime<Utc>) -> Result<Answer> {
        let today = now.date_naive().and_time(NaiveTime::MIN).and_utc();
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let question = json!({"peer": peer, "kind": kind, "now": text(now), "today": text(today)});
        let answer = self.ask(&question)?;
        let number = |name: &str| {
            answer[name]
                .as_u64()
                .with_context(|| format!("{answer} has no {name}"))
        };
        Ok(Answer {
            count: number("count")?,
            checksum: number("checksum")?,
            took: answer["ms"].as_f64().context("an answer has a time")?,
        })
    }

    /// How many milliseconds a page of 100 members took, after somebody.
    pub fn page(&mut self, after: u64) -> Result<f64> {
        let answer = self.ask(&json!({"page_after": after}))?;
        answer["ms"].as_f64().context("an answer has a time")
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // The end of its input ends it, and with it the Postgres that it runs.
        self.questions.take();
        let _ = self.child.wait();
    }
}

/// A Python with the packages, made once.
fn python(root: &Path) -> Result<PathBuf> {
    let home = root.join("target/bench/python");
    let python = home.join("bin/python");
    let run = |program: &Path, arguments: &[&str]| -> Result<()> {
        let status = Command::new(program).args(arguments).status();
        let status = status.with_context(|| format!("{} does not run", program.display()))?;
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
            .context("the path of the project is no text")?;
        run(Path::new("python3"), &["-m", "venv", home])?;
    }
    let install = [&["-m", "pip", "install", "--quiet"][..], &PACKAGES].concat();
    run(&python, &install)?;
    Ok(python)
}
