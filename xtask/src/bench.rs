//! `cargo xtask bench`: a population of a chosen size, loaded through the service, and how long ten kinds of cohort take.
//!
//! The time of a preview is what the service says it took, from the filter as JSON to the people found; cold is the first
//! time after a start, warm the median of those after it.

mod kinds;
mod population;
mod service;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use population::Size;
use service::Service;

#[derive(Args)]
pub struct Bench {
    /// How large the population is: `small` is 100,000 people and 2 million events, `full` ten times that
    #[arg(long, value_enum, default_value_t = Preset::Small)]
    preset: Preset,
    /// How many times each kind is asked for when warm
    #[arg(long, default_value_t = 9)]
    repetitions: usize,
    /// Write the figures to this file, as JSON
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

/// How long a service takes at most until it keeps blocks.
const SETTLING: Duration = Duration::from_secs(25);

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// 2,000 people and 40,000 events, to try the command out
    Tiny,
    Small,
    Full,
}

impl Preset {
    fn size(self) -> (&'static str, Size) {
        let size = |people, events| Size { people, events };
        match self {
            Preset::Tiny => ("tiny", size(2_000, 40_000)),
            Preset::Small => ("small", size(100_000, 2_000_000)),
            Preset::Full => ("full", size(1_000_000, 20_000_000)),
        }
    }
}

/// A kind of cohort as it was measured, in milliseconds.
struct Figure {
    name: &'static str,
    about: &'static str,
    people: u64,
    cold: f64,
    warm: Vec<f64>,
}

impl Bench {
    pub fn run(&self, root: &Path) -> Result<()> {
        let (name, size) = self.preset.size();
        let directory = root.join("target/bench").join(name);
        service::build(root)?;
        let data = Loaded::open(root, &directory, size)?;
        data.settle(root, &directory)?;
        let mut figures = Vec::new();
        for kind in kinds::kinds() {
            // Each kind's first time is its service's first too.
            let service = Service::start(root, &directory)?;
            let ask = || service.preview(&data.key, data.project, &kind.filters, data.now);
            let (people, cold) = ask()?;
            let mut warm = Vec::new();
            for _ in 0..self.repetitions {
                let (again, took) = ask()?;
                ensure!(
                    again == people,
                    "{}: {people} people, then {again}",
                    kind.name
                );
                warm.push(took);
            }
            warm.sort_by(f64::total_cmp);
            figures.push(Figure {
                name: kind.name,
                about: kind.about,
                people,
                cold,
                warm,
            });
            if let Some(figure) = figures.last() {
                say(figure.line())?;
            }
        }
        self.report(&data, size, &figures)
    }

    fn report(&self, data: &Loaded, size: Size, figures: &[Figure]) -> Result<()> {
        let mean = |of: fn(&Figure) -> f64| {
            let logs = figures.iter().map(|figure| of(figure).max(1e-3).ln());
            (logs.sum::<f64>() / figures.len() as f64).exp()
        };
        say(format!(
            "geometric mean: cold {:.2} ms, warm {:.3} ms",
            mean(|one| one.cold),
            mean(Figure::median)
        ))?;
        let Some(file) = &self.json else {
            return Ok(());
        };
        let kinds = figures.iter().map(|figure| {
            json!({"kind": figure.name, "people": figure.people, "cold_ms": figure.cold,
                "warm_ms": figure.median(), "warm_min_ms": figure.warm.first(), "warm_max_ms": figure.warm.last()})
        });
        let report = json!({
            "people": size.people, "events": size.events, "now": data.now.to_rfc3339(),
            "load_seconds": data.load_seconds, "kinds": kinds.collect::<Vec<Value>>(),
        });
        fs::write(file, serde_json::to_string_pretty(&report)?)?;
        Ok(())
    }
}

impl Figure {
    fn median(&self) -> f64 {
        self.warm[self.warm.len() / 2]
    }

    fn line(&self) -> String {
        format!(
            "{:<4} {:<36} {:>8} people  cold {:>9.2} ms  warm {:>8.3} ms ({:.3} to {:.3})",
            self.name,
            self.about,
            self.people,
            self.cold,
            self.median(),
            self.warm[0],
            self.warm[self.warm.len() - 1],
        )
    }
}

/// A population in a service's data, kept from one run to the next.
struct Loaded {
    now: DateTime<Utc>,
    project: i64,
    key: String,
    load_seconds: Option<f64>,
}

impl Loaded {
    fn open(root: &Path, directory: &Path, size: Size) -> Result<Loaded> {
        let about = directory.join("about.json");
        let known = fs::read_to_string(&about).ok();
        let known: Option<Value> = known.and_then(|text| serde_json::from_str(&text).ok());
        if let Some(known) = known.filter(|known| known["events"] == size.events) {
            return Loaded::read(&known);
        }
        // What an interrupted run has left is no whole population.
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)?;
        let now = Utc::now();
        say(format!(
            "making up {} people and {} events",
            size.people, size.events
        ))?;
        let (people, events) = population::make_up(size, now.timestamp_millis());
        let (project, key) = service::project(root, directory)?;
        let begun = Instant::now();
        let mut import = service::import(root, directory, project)?;
        let mut out = BufWriter::new(import.stdin.take().context("the import takes no lines")?);
        population::write_items(&people, &events, now.timestamp_millis(), &mut out)?;
        out.flush()?;
        drop(out);
        ensure!(import.wait()?.success(), "the import failed");
        let seconds = begun.elapsed().as_secs_f64();
        say(format!(
            "loaded in {seconds:.1} s, {:.0} events a second",
            size.events as f64 / seconds
        ))?;
        let known = json!({"events": size.events, "now": now.to_rfc3339(), "project": project, "key": key, "load_seconds": seconds});
        fs::write(&about, known.to_string())?;
        Loaded::read(&known)
    }

    /// Has the service keep blocks of what is asked for, as one that has run for a minute does.
    fn settle(&self, root: &Path, directory: &Path) -> Result<()> {
        let service = Service::start(root, directory)?;
        for kind in kinds::kinds() {
            service.preview(&self.key, self.project, &kind.filters, self.now)?;
        }
        thread::sleep(SETTLING);
        Ok(())
    }

    fn read(known: &Value) -> Result<Loaded> {
        let text = |name: &str| {
            known[name]
                .as_str()
                .with_context(|| format!("{name} is not known"))
        };
        Ok(Loaded {
            now: text("now")?.parse()?,
            project: known["project"]
                .as_i64()
                .context("the project is not known")?,
            key: text("key")?.to_owned(),
            load_seconds: known["load_seconds"].as_f64(),
        })
    }
}

fn say(text: impl AsRef<str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.as_ref())?;
    Ok(out.flush()?)
}
