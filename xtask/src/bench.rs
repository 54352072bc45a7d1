//! `cargo xtask bench`: measures the service on a synthetic population of a chosen size.
//!
//! The time of a preview is the duration that the service reports: from the filter as JSON to the matching persons.
//! A cold time is the first preview after a start. A warm time is the median of later previews.
//! With `--peers`, warm previews alternate with queries of other databases.

mod changes;
mod counts;
mod dataset;
mod huge;
mod import;
mod kinds;
mod live;
mod measurement;
mod peers;
mod population;
mod questions;
mod serving;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::print_line;
use crate::service::{self, Service};
use dataset::Dataset;
use live::LiveBench;
use measurement::{Measurement, geometric_mean, median_of_sorted};
use peers::Peers;
use population::Size;
use questions::QuestionBench;

#[derive(Args)]
pub struct Bench {
    /// The size of the population
    #[arg(long, value_enum, default_value_t = Preset::Small)]
    preset: Preset,
    /// The number of persons, instead of that of the preset
    #[arg(long)]
    persons: Option<usize>,
    /// The number of events, instead of that of the preset
    #[arg(long)]
    events: Option<usize>,
    /// The number of warm previews of each kind
    #[arg(long, default_value_t = 9)]
    repetitions: usize,
    /// Also query ClickHouse, DuckDB and Postgres and compare their results; needs Python and the network
    #[arg(long)]
    peers: bool,
    /// Measure only live cohorts
    #[arg(long, conflicts_with = "peers")]
    live: bool,
    /// Measure only questions about cohorts: explain, memberships, overlap, compare, the catalogue and look-ups; and captures
    /// and the feed beside them
    #[arg(long, conflicts_with_all = ["peers", "live"])]
    questions: bool,
    /// Write the results to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// 2,000 persons and 40,000 events, for a quick test of the bench
    Tiny,
    /// 100,000 persons and 2 million events
    Small,
    /// 1 million persons and 20 million events
    Full,
    /// 20 million persons and 100 million events, with other measurements: an interrupted import, restarts, a burst,
    /// merges and deletions
    Huge,
}

impl Preset {
    fn name_and_size(self) -> (&'static str, Size) {
        let size = |persons, events| Size { persons, events };
        match self {
            Preset::Tiny => ("tiny", size(2_000, 40_000)),
            Preset::Small => ("small", size(100_000, 2_000_000)),
            Preset::Full => ("full", size(1_000_000, 20_000_000)),
            Preset::Huge => ("huge", size(20_000_000, 100_000_000)),
        }
    }
}

impl Bench {
    pub fn run(&self, root: &Path) -> Result<()> {
        let (name, preset_size) = self.preset.name_and_size();
        let size = Size {
            persons: self.persons.unwrap_or(preset_size.persons),
            events: self.events.unwrap_or(preset_size.events),
        };
        ensure!(
            size.persons >= 1_000 && size.events >= 1_000,
            "at least 1,000 persons and events are needed"
        );
        let directory = service::target_directory(root).join("bench").join(name);
        if let Preset::Huge = self.preset {
            ensure!(!self.peers, "the preset huge has no peers");
            let file = self.json.as_deref();
            return huge::Bench::new(root, directory, size, self.repetitions, file).run();
        }
        service::build(root)?;
        let dataset = Dataset::open(root, &directory, size)?;
        dataset.write_checkpoints(root, &directory)?;
        let mut report = Report(Map::new());
        if self.questions {
            let service = Service::start(root, &directory)?;
            measure_questions(&service, &dataset, size, &mut report)?;
            questions::measure_catalogue_work(root, &mut report)?;
        } else {
            if !self.live {
                self.measure_previews(root, &directory, &dataset, size, &mut report)?;
            }
            measure_live(root, &directory, &dataset, size, &mut report)?;
        }
        if let Some(file) = &self.json {
            fs::write(file, serde_json::to_string_pretty(&report.0)?)?;
        }
        Ok(())
    }

    /// Measures previews, calculations, look-ups, pages and ingestion.
    fn measure_previews(
        &self,
        root: &Path,
        directory: &Path,
        dataset: &Dataset,
        size: Size,
        report: &mut Report,
    ) -> Result<()> {
        let mut peers = if self.peers {
            Some(Peers::start(root, directory, &dataset.population(size))?)
        } else {
            None
        };
        let mut measurements = measure_cold(root, directory, dataset)?;
        let service = Service::start(root, directory)?;
        self.measure_warm(&service, dataset, peers.as_mut(), &mut measurements)?;
        for measurement in &measurements {
            print_line(measurement.line())?;
        }
        report.0 = self.summary(dataset, &measurements, peers.as_ref())?;
        if let Some(peers) = &mut peers {
            serving::compare_members(&service, &dataset.access, peers)?;
        }
        self.measure_serving(&service, dataset, size, peers.as_mut(), report)?;
        measure_questions(&service, dataset, size, report)?;
        measure_event_bytes(root, directory, dataset, report)?;
        measure_ingestion(&service, root, directory, report)
    }

    /// Measures warm previews and peers. The order of the service and the peers rotates with each repetition.
    fn measure_warm(
        &self,
        service: &Service,
        dataset: &Dataset,
        mut peers: Option<&mut Peers>,
        measurements: &mut [Measurement],
    ) -> Result<()> {
        let names = peers
            .as_ref()
            .map_or(Vec::new(), |peers| peers.names.clone());
        for measurement in measurements.iter_mut() {
            measurement.peers = names
                .iter()
                .map(|name| (name.clone(), Vec::new()))
                .collect();
        }
        // Repetition 0 is a warm-up and is not counted.
        for repetition in 0..=self.repetitions {
            for (kind, measurement) in kinds::kinds().iter().zip(measurements.iter_mut()) {
                for turn in 0..=names.len() {
                    // 0 is the service, and the other numbers are the peers.
                    let peer = ((turn + repetition) % (names.len() + 1)).checked_sub(1);
                    let (count, time) = match (peer, &mut peers) {
                        (Some(index), Some(peers)) => {
                            let result = peers.query(&names[index], kind.name, dataset.now)?;
                            (result.count, result.duration)
                        }
                        _ => service.preview(&dataset.access, &kind.filters, dataset.now)?,
                    };
                    let persons = measurement.persons;
                    ensure!(
                        count == persons,
                        "{}: {persons} persons, then {count}",
                        kind.name
                    );
                    if repetition > 0 {
                        measurement.times_mut(peer).push(time);
                    }
                }
            }
        }
        measurements.iter_mut().for_each(Measurement::sort_times);
        Ok(())
    }

    /// Prints the means over all kinds and the ratios to the peers, and starts the report.
    fn summary(
        &self,
        dataset: &Dataset,
        measurements: &[Measurement],
        peers: Option<&Peers>,
    ) -> Result<Map<String, Value>> {
        let warm = geometric_mean(measurements.iter().map(|kind| median_of_sorted(&kind.warm)));
        let cold = geometric_mean(measurements.iter().map(|kind| kind.cold));
        print_line(format!(
            "geometric mean: cold {cold:.2} ms, warm {warm:.3} ms"
        ))?;
        let mut ratios = Map::new();
        let names = peers.map_or(&[][..], |peers| &peers.names);
        for (index, name) in names.iter().enumerate() {
            let medians = measurements
                .iter()
                .map(|kind| median_of_sorted(&kind.peers[index].1));
            let mean = geometric_mean(medians);
            let (warm, cold) = (mean / warm, mean / cold);
            print_line(format!(
                "{name}: geometric mean {mean:.2} ms, {warm:.1} times the warm mean, {cold:.2} times the cold mean"
            ))?;
            ratios.insert(
                name.clone(),
                json!({"ms": mean, "warm": warm, "cold": cold}),
            );
        }
        let versions = peers.map(|peers| peers.versions.clone());
        let kinds: Vec<Value> = measurements.iter().map(Measurement::json).collect();
        let entries = [
            ("now", json!(dataset.now.to_rfc3339())),
            ("load_seconds", json!(dataset.load_seconds)),
            ("versions", json!(versions)),
            ("cold_ms", json!(cold)),
            ("warm_ms", json!(warm)),
            ("peers", Value::Object(ratios)),
            ("kinds", Value::Array(kinds)),
        ];
        let entries = entries.map(|(name, value)| (name.to_owned(), value));
        Ok(entries.into_iter().collect())
    }

    /// Measures calculations and pages.
    fn measure_serving(
        &self,
        service: &Service,
        dataset: &Dataset,
        size: Size,
        peers: Option<&mut Peers>,
        report: &mut Report,
    ) -> Result<()> {
        let (access, repetitions) = (&dataset.access, self.repetitions.max(9));
        let simple = serving::calculation_time(service, access, "Q3", repetitions)?;
        let compound = serving::calculation_time(service, access, "Q6", repetitions)?;
        report.add(
            "calculation",
            format!("simple {simple:.1} ms, compound {compound:.1} ms"),
            json!({"simple_ms": simple, "compound_ms": compound}),
        )?;
        let pages = serving::page_times(service, access, size.persons, peers)?;
        let keyset = pages
            .keyset
            .map_or("not measured".to_owned(), |time| format!("{time:.2} ms"));
        report.add(
            "pages",
            format!(
                "{} members: first page {:.2} ms, last {:.2} ms, random {:.2} ms; keyset page in Postgres {keyset}; \
                 list of cohorts {:.2} ms",
                pages.members, pages.first, pages.last, pages.random, pages.list
            ),
            json!({"first_ms": pages.first, "last_ms": pages.last, "random_ms": pages.random,
                "keyset_ms": pages.keyset, "list_ms": pages.list}),
        )
    }
}

/// The results as JSON.
struct Report(Map<String, Value>);

impl Report {
    /// Prints a result and adds it.
    fn add(&mut self, name: &str, text: String, value: Value) -> Result<()> {
        self.0.insert(name.to_owned(), value);
        print_line(format!("{name}: {text}"))
    }
}

/// Measures questions about cohorts and persons.
fn measure_questions(
    service: &Service,
    dataset: &Dataset,
    size: Size,
    report: &mut Report,
) -> Result<()> {
    let access = &dataset.access;
    let lookups = serving::lookup_rates(service, access)?;
    report.add(
        "lookups",
        format!(
            "{:.0} per second, {:.0} % of the rate of /_livez ({:.0})",
            lookups.lookups,
            100.0 * lookups.lookups / lookups.trivial,
            lookups.trivial
        ),
        json!({"per_second": lookups.lookups, "trivial_per_second": lookups.trivial}),
    )?;
    let bench = QuestionBench {
        service,
        access,
        population: &dataset.population(size),
    };
    bench.measure(report)
}

/// Measures live cohorts over the population, beside ingestion, and in an idle project.
fn measure_live(
    root: &Path,
    directory: &Path,
    dataset: &Dataset,
    size: Size,
    report: &mut Report,
) -> Result<()> {
    let service = Service::start(root, directory)?;
    let bench = LiveBench {
        service: &service,
        access: &dataset.access,
        population: &dataset.population(size),
    };
    bench.measure(report)?;
    live::measure_ingestion((root, directory), &service, report)?;
    drop(service);
    live::measure_idle(root, directory, report)
}

/// Measures the first preview of each kind after a start. Each kind has its own process of the service.
fn measure_cold(root: &Path, directory: &Path, dataset: &Dataset) -> Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    for kind in kinds::kinds() {
        let start = Instant::now();
        let service = Service::start(root, directory)?;
        let (persons, cold) = service.preview(&dataset.access, &kind.filters, dataset.now)?;
        let restart = start.elapsed().as_secs_f64() * 1e3;
        measurements.push(Measurement {
            name: kind.name,
            description: kind.description,
            persons,
            cold,
            restart,
            warm: Vec::new(),
            peers: Vec::new(),
        });
    }
    Ok(measurements)
}

fn measure_event_bytes(
    root: &Path,
    directory: &Path,
    dataset: &Dataset,
    report: &mut Report,
) -> Result<()> {
    let bytes = dataset.event_bytes(root, directory)?;
    report.add(
        "bytes_per_event",
        format!("{:.1} in memory, {:.1} stored", bytes.memory, bytes.stored),
        json!({"memory": bytes.memory, "stored": bytes.stored}),
    )
}

fn measure_ingestion(
    service: &Service,
    root: &Path,
    directory: &Path,
    report: &mut Report,
) -> Result<()> {
    let access = service::create_project(root, directory, "Ingestion")?;
    let rates = serving::ingestion_rates(service, &access)?;
    report.add(
        "ingestion",
        format!(
            "{:.0} events per second, {:.0} during previews (ratio {:.2})",
            rates.idle,
            rates.previewing,
            rates.previewing / rates.idle
        ),
        json!({"per_second": rates.idle, "previewing_per_second": rates.previewing}),
    )
}
