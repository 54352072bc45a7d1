//! The import of the population through `cohorts import`, with its rate over time.

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::counts::Counts;
use super::population::{Population, write_event, write_person};
use crate::print_line;
use crate::service;

/// The most events of a step. The rate is measured step by step.
const STEP_EVENTS: usize = 1_000_000;
/// A small population has about this number of steps.
const STEPS: usize = 20;
/// The first and the last rate are those of this number of events.
const COMPARED_EVENTS: usize = 2_000_000;

/// What an import did.
pub struct ImportRun {
    /// From the first line to the end of the process.
    pub seconds: f64,
    /// The time that the process took after it had received the last line.
    pub finish_seconds: f64,
    /// The lines that the process printed.
    pub report: String,
}

/// The times at which the import had received the persons and each step of events.
pub struct Rates {
    step: usize,
    persons: usize,
    persons_seconds: Option<f64>,
    /// The seconds of each step, as far as it was imported.
    steps: Vec<Option<f64>>,
}

impl Rates {
    pub fn new(population: &Population) -> Rates {
        let size = population.size;
        let step = (size.events / STEPS).clamp(1, STEP_EVENTS);
        Rates {
            step,
            persons: size.persons,
            persons_seconds: None,
            steps: vec![None; size.events / step],
        }
    }

    /// The end of the step at about a tenth of the events.
    pub fn tenth(&self) -> usize {
        (self.steps.len() / 10).max(1) * self.step
    }

    /// Events per second of each step, in order.
    fn per_second(&self) -> impl Iterator<Item = Option<f64>> {
        let rate = |seconds: &Option<f64>| seconds.map(|seconds| self.step as f64 / seconds);
        self.steps.iter().map(rate)
    }

    /// The events per second of steps.
    fn mean(&self, steps: &[Option<f64>]) -> f64 {
        let seconds: Vec<f64> = steps.iter().flatten().copied().collect();
        (self.step * seconds.len()) as f64 / seconds.iter().sum::<f64>()
    }

    /// The rates of the persons, the first events, the last events, and all events.
    pub fn json(&self) -> Value {
        let compared = (COMPARED_EVENTS / self.step).clamp(1, self.steps.len());
        let (first, last) = (
            self.mean(&self.steps[..compared]),
            self.mean(&self.steps[self.steps.len() - compared..]),
        );
        json!({
            "persons_per_second": self.persons_seconds.map(|seconds| self.persons as f64 / seconds),
            "first_per_second": first,
            "last_per_second": last,
            "ratio": last / first,
            "per_second": self.mean(&self.steps),
            "step_events": self.step,
            "steps_per_second": self.per_second().collect::<Vec<_>>(),
        })
    }
}

/// Sends the lines of the population to an import up to event `limit`, and then kills it.
pub fn import_and_kill(
    root: &Path,
    directory: &Path,
    project: i64,
    population: &Population,
    rates: &mut Rates,
    limit: usize,
) -> Result<()> {
    let mut feed = Feed::start(root, directory, project)?;
    let counts = &mut Counts::new(population.size.persons);
    feed.send(population, (rates, counts), limit)?;
    feed.import.kill()?;
    feed.import.wait()?;
    print_line(format!("killed the import after {limit} events"))
}

/// Imports the population.
pub fn import(
    root: &Path,
    directory: &Path,
    project: i64,
    population: &Population,
    rates: &mut Rates,
) -> Result<(ImportRun, Counts)> {
    let mut feed = Feed::start(root, directory, project)?;
    let mut counts = Counts::new(population.size.persons);
    feed.send(population, (rates, &mut counts), usize::MAX)?;
    Ok((feed.finish()?, counts))
}

/// Imports `lines`, which writes to the standard input of the import.
pub fn import_lines(
    root: &Path,
    directory: &Path,
    project: i64,
    lines: impl FnOnce(&mut BufWriter<ChildStdin>) -> Result<()>,
) -> Result<ImportRun> {
    let mut feed = Feed::start(root, directory, project)?;
    lines(&mut feed.out)?;
    feed.finish()
}

/// An import that receives lines.
struct Feed {
    import: Child,
    out: BufWriter<ChildStdin>,
    begin: Instant,
}

impl Feed {
    fn start(root: &Path, directory: &Path, project: i64) -> Result<Feed> {
        let mut import = service::start_import(root, directory, project)?;
        let stdin = import.stdin.take();
        let stdin = stdin.context("the import has no standard input")?;
        Ok(Feed {
            import,
            out: BufWriter::new(stdin),
            begin: Instant::now(),
        })
    }

    /// Sends the persons and up to `limit` events, and measures the steps that `rates` does not have yet.
    fn send(
        &mut self,
        population: &Population,
        (rates, counts): (&mut Rates, &mut Counts),
        limit: usize,
    ) -> Result<()> {
        let mut line = String::new();
        for person in population.persons() {
            write_person(&person, &mut line, &mut self.out)?;
        }
        let seconds = self.begin.elapsed().as_secs_f64();
        rates.persons_seconds.get_or_insert(seconds);
        print_line(format!("{} persons in {seconds:.1} s", rates.persons))?;
        let mut begin = Instant::now();
        for (index, event) in population.events().enumerate().take(limit) {
            write_event(index, &event, &mut line, &mut self.out)?;
            counts.add(&event);
            if (index + 1) % rates.step == 0 {
                let seconds = begin.elapsed().as_secs_f64();
                begin = Instant::now();
                // The first import of a step counts, not its repetition.
                rates.steps[index / rates.step].get_or_insert(seconds);
                let rate = rates.step as f64 / seconds;
                print_line(format!("{} events, {rate:.0} per second", index + 1))?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<ImportRun> {
        let Feed {
            mut import,
            mut out,
            begin,
        } = self;
        out.flush()?;
        drop(out);
        let received = Instant::now();
        let mut report = String::new();
        let stdout = import.stdout.take();
        let stdout = stdout.context("the import has no standard output")?;
        BufReader::new(stdout).read_to_string(&mut report)?;
        ensure!(import.wait()?.success(), "the import failed");
        Ok(ImportRun {
            seconds: begin.elapsed().as_secs_f64(),
            finish_seconds: received.elapsed().as_secs_f64(),
            report: report.trim().replace('\n', "; "),
        })
    }
}
