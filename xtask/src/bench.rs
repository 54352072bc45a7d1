//! `cargo xtask bench`: a population of a chosen size, loaded through the service, and how long it takes to answer.
//!
//! The time of a preview is what the service says it took, from the filter as JSON to the people found; cold is the first
//! time after a start, warm the median of those after it, in turn with the peers where they are asked too.

mod kinds;
mod peers;
mod population;
mod serving;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::say;
use crate::service::{self, Access, Service};
use peers::Peers;
use population::Size;

#[derive(Args)]
pub struct Bench {
    /// How large the population is: `small` is 100,000 people and 2 million events, `full` ten times that
    #[arg(long, value_enum, default_value_t = Preset::Small)]
    preset: Preset,
    /// How many times each kind is asked for when warm
    #[arg(long, default_value_t = 9)]
    repetitions: usize,
    /// Ask ClickHouse, DuckDB and Postgres too, in turn, and compare whom they find; needs Python and its packages
    #[arg(long)]
    peers: bool,
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
    /// From the start of the process to the answer.
    restart: f64,
    warm: Vec<f64>,
    /// By peer.
    peers: Vec<(String, Vec<f64>)>,
}

impl Bench {
    pub fn run(&self, root: &Path) -> Result<()> {
        let (name, size) = self.preset.size();
        let directory = root.join("target/bench").join(name);
        service::build(root)?;
        let data = Loaded::open(root, &directory, size)?;
        data.settle(root, &directory)?;
        let mut peers = match self.peers {
            true => Some(Peers::start(root, &directory, || data.population(size))?),
            false => None,
        };
        let mut figures = cold(root, &directory, &data)?;
        let service = Service::start(root, &directory)?;
        self.warm(&service, &data, peers.as_mut(), &mut figures)?;
        figures.iter().try_for_each(|figure| say(figure.line()))?;
        let mut report = self.summary(&data, &figures, peers.as_ref())?;
        if let Some(peers) = &mut peers {
            serving::check(&service, &data.access, peers)?;
        }
        self.serve(
            &service,
            root,
            &directory,
            &data,
            (size, peers.as_mut()),
            &mut report,
        )?;
        if let Some(file) = &self.json {
            fs::write(file, serde_json::to_string_pretty(&report)?)?;
        }
        Ok(())
    }

    /// All kinds in turn, and each by all who are asked, the first one another each time.
    fn warm(
        &self,
        service: &Service,
        data: &Loaded,
        mut peers: Option<&mut Peers>,
        figures: &mut [Figure],
    ) -> Result<()> {
        let names = peers
            .as_ref()
            .map_or(Vec::new(), |peers| peers.names.clone());
        for figure in figures.iter_mut() {
            figure.peers = names
                .iter()
                .map(|name| (name.clone(), Vec::new()))
                .collect();
        }
        // The first time warms everybody up, and does not count.
        for repetition in 0..=self.repetitions {
            for (kind, figure) in kinds::kinds().iter().zip(figures.iter_mut()) {
                for turn in 0..=names.len() {
                    let turn = (turn + repetition) % (names.len() + 1);
                    let (count, took, times) = match (turn.checked_sub(1), &mut peers) {
                        (Some(nth), Some(peers)) => {
                            let answer = peers.find(&names[nth], kind.name, data.now)?;
                            (answer.count, answer.took, &mut figure.peers[nth].1)
                        }
                        _ => {
                            let (count, took) =
                                service.preview(&data.access, &kind.filters, data.now)?;
                            (count, took, &mut figure.warm)
                        }
                    };
                    ensure!(
                        count == figure.people,
                        "{}: {} people, then {count}",
                        kind.name,
                        figure.people
                    );
                    if repetition > 0 {
                        times.push(took);
                    }
                }
            }
        }
        let times = figures.iter_mut().flat_map(|figure| {
            std::iter::once(&mut figure.warm).chain(figure.peers.iter_mut().map(|peer| &mut peer.1))
        });
        times.for_each(|times| times.sort_by(f64::total_cmp));
        Ok(())
    }

    /// Means over all kinds, and how many times as long the peers take.
    fn summary(
        &self,
        data: &Loaded,
        figures: &[Figure],
        peers: Option<&Peers>,
    ) -> Result<Map<String, Value>> {
        let warm = mean(figures.iter().map(|one| middle(&one.warm)));
        let cold = mean(figures.iter().map(|one| one.cold));
        say(format!(
            "geometric mean: cold {cold:.2} ms, warm {warm:.3} ms"
        ))?;
        let mut ratios = Map::new();
        for (nth, name) in peers
            .map_or(&[][..], |peers| &peers.names)
            .iter()
            .enumerate()
        {
            let theirs = mean(figures.iter().map(|one| middle(&one.peers[nth].1)));
            let (warm, cold) = (theirs / warm, theirs / cold);
            say(format!(
                "{name}: geometric mean {theirs:.2} ms, {warm:.1} times as long as warm, {cold:.2} as cold"
            ))?;
            ratios.insert(
                name.clone(),
                json!({"ms": theirs, "warm": warm, "cold": cold}),
            );
        }
        let versions = peers.map(|peers| peers.versions.clone());
        let report = json!({
            "now": data.now.to_rfc3339(), "load_seconds": data.load_seconds, "versions": versions,
            "cold_ms": cold, "warm_ms": warm, "peers": ratios,
            "kinds": figures.iter().map(Figure::json).collect::<Vec<Value>>(),
        });
        match report {
            Value::Object(report) => Ok(report),
            _ => Ok(Map::new()),
        }
    }

    /// What a service does beside finding people.
    fn serve(
        &self,
        service: &Service,
        root: &Path,
        directory: &Path,
        data: &Loaded,
        (size, peers): (Size, Option<&mut Peers>),
        report: &mut Map<String, Value>,
    ) -> Result<()> {
        let mut put = |name: &str, text: String, value: Value| {
            report.insert(name.to_owned(), value);
            say(format!("{name}: {text}"))
        };
        let (of, repetitions) = (&data.access, self.repetitions.max(9));
        let (simple, compound) = (
            serving::stored(service, of, "Q3", repetitions)?,
            serving::stored(service, of, "Q6", repetitions)?,
        );
        put(
            "stored",
            format!("simple {simple:.1} ms, compound {compound:.1} ms"),
            json!({"simple_ms": simple, "compound_ms": compound}),
        )?;
        let (look_ups, trivial) = serving::look_ups(service, of)?;
        put(
            "look-ups",
            format!(
                "{look_ups:.0} a second, {:.0} % of {trivial:.0}",
                100.0 * look_ups / trivial
            ),
            json!({"per_second": look_ups, "trivial_per_second": trivial}),
        )?;
        let pages = serving::pages(service, of, size.people, peers)?;
        let (members, first, last, random, list) = (
            pages.members,
            pages.first,
            pages.last,
            pages.random,
            pages.list,
        );
        put(
            "pages",
            format!(
                "of {members} members: first {first:.2} ms, last {last:.2} ms, any {random:.2} ms; by keys in Postgres {}; list {list:.2} ms",
                pages
                    .key_set
                    .map_or("not asked".to_owned(), |took| format!("{took:.2} ms"))
            ),
            json!({"first_ms": first, "last_ms": last, "random_ms": random, "key_set_ms": pages.key_set, "list_ms": list}),
        )?;
        let bytes = data.bytes(root, directory)?;
        put(
            "bytes of an event",
            format!("{:.1} in memory, {:.1} kept", bytes.0, bytes.1),
            json!({"memory": bytes.0, "kept": bytes.1}),
        )?;
        let other = service::project(root, directory, "Ingestion")?;
        let (quiet, asked) = serving::ingestion(service, &other, &other.token)?;
        put(
            "ingestion",
            format!(
                "{quiet:.0} events a second, {asked:.0} while asked: {:.2}",
                asked / quiet
            ),
            json!({"per_second": quiet, "asked_per_second": asked}),
        )
    }
}

/// Each kind's first time after a start, which is its service's first question too.
fn cold(root: &Path, directory: &Path, data: &Loaded) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for kind in kinds::kinds() {
        let begun = Instant::now();
        let service = Service::start(root, directory)?;
        let (people, cold) = service.preview(&data.access, &kind.filters, data.now)?;
        let restart = begun.elapsed().as_secs_f64() * 1e3;
        figures.push(Figure {
            name: kind.name,
            about: kind.about,
            people,
            cold,
            restart,
            warm: Vec::new(),
            peers: Vec::new(),
        });
    }
    Ok(figures)
}

/// The geometric mean.
fn mean(times: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = times.len() as f64;
    (times.map(|time| time.max(1e-3).ln()).sum::<f64>() / count).exp()
}

/// The middle one of sorted times.
fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    middle(times)
}

impl Figure {
    fn line(&self) -> String {
        let mut line = format!(
            "{:<4} {:<36} {:>8} people  cold {:>9.2} ms  warm {:>8.3} ms ({:.3} to {:.3})",
            self.name,
            self.about,
            self.people,
            self.cold,
            middle(&self.warm),
            self.warm[0],
            self.warm[self.warm.len() - 1],
        );
        for (name, times) in &self.peers {
            line += &format!("  {name} {:.2}", middle(times));
        }
        line
    }

    fn json(&self) -> Value {
        let peers = self
            .peers
            .iter()
            .map(|(name, times)| (name.clone(), json!(middle(times))));
        json!({"kind": self.name, "people": self.people, "cold_ms": self.cold, "restart_ms": self.restart,
            "warm_ms": middle(&self.warm), "warm_min_ms": self.warm.first(), "warm_max_ms": self.warm.last(),
            "peers_ms": peers.collect::<Map<_, _>>()})
    }
}

/// A population in a service's data, kept from one run to the next.
#[derive(Serialize, Deserialize)]
struct Loaded {
    events: usize,
    now: DateTime<Utc>,
    access: Access,
    load_seconds: f64,
    /// Events of `$pageview`.
    views: usize,
}

impl Loaded {
    fn open(root: &Path, directory: &Path, size: Size) -> Result<Loaded> {
        let about = directory.join("about.json");
        let known = fs::read_to_string(&about).ok();
        let known: Option<Loaded> = known.and_then(|text| serde_json::from_str(&text).ok());
        if let Some(known) = known.filter(|known| known.events == size.events) {
            return Ok(known);
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
        let access = service::project(root, directory, "Bench")?;
        let begun = Instant::now();
        let mut import = service::import(root, directory, access.project)?;
        let mut out = BufWriter::new(import.stdin.take().context("the import takes no lines")?);
        population::write_items(&people, &events, now.timestamp_millis(), &mut out)?;
        out.flush()?;
        drop(out);
        ensure!(import.wait()?.success(), "the import failed");
        let load_seconds = begun.elapsed().as_secs_f64();
        say(format!(
            "loaded in {load_seconds:.1} s, {:.0} events a second",
            size.events as f64 / load_seconds
        ))?;
        let views = events.iter().filter(|event| event.name == 0).count();
        let loaded = Loaded {
            events: size.events,
            now,
            access,
            load_seconds,
            views,
        };
        fs::write(&about, serde_json::to_string(&loaded)?)?;
        Ok(loaded)
    }

    /// The same people and events once more.
    fn population(&self, size: Size) -> (Vec<population::Person>, Vec<population::Event>) {
        population::make_up(size, self.now.timestamp_millis())
    }

    /// Has the service keep blocks of what is asked for, as one that has run for a minute does.
    fn settle(&self, root: &Path, directory: &Path) -> Result<()> {
        let service = Service::start(root, directory)?;
        for kind in kinds::kinds() {
            service.preview(&self.access, &kind.filters, self.now)?;
        }
        service.preview(&self.access, &viewed(), self.now)?;
        thread::sleep(SETTLING);
        Ok(())
    }

    /// What an event of `$pageview` takes in memory and in what is kept, without properties, in bytes.
    fn bytes(&self, root: &Path, directory: &Path) -> Result<(f64, f64)> {
        let service = Service::start(root, directory)?;
        service.preview(&self.access, &viewed(), self.now)?;
        let memory = service.metric("cohorts_view_bytes")? / self.views as f64;
        Ok((
            memory,
            service.metric("cohorts_kept_bytes_read_total")? / self.views as f64,
        ))
    }
}

/// Everybody with any event of `$pageview`.
fn viewed() -> Value {
    json!({"properties": {"type": "AND", "values": [
        {"type": "behavioral", "value": "performed_event", "key": "$pageview", "event_type": "events",
            "time_value": 91, "time_interval": "day"}]}})
}
