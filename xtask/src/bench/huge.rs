//! `--preset huge`: what a very large project costs, from the import to the deletion of a person.
//!
//! Each phase prints its progress and its results. A phase that fails does not stop the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::import::{self, Rates};
use super::measurement::{median, median_of_sorted};
use super::population::{Population, Size};
use super::{changes, counts, kinds, serving};
use crate::print_line;
use crate::service::{self, Access, Service};

/// The value of `--memory` for the service, in MiB.
const MEMORY: u64 = 2_048;
/// A first preview should take at most this time, in milliseconds.
const FIRST_PREVIEW_LIMIT: f64 = 2_000.0;
/// The number of measured restarts.
const RESTARTS: usize = 3;
/// The number of measured calculations of each kind.
const CALCULATIONS: usize = 5;

/// Where the service runs, and what it has imported.
pub struct Bench<'a> {
    root: &'a Path,
    directory: PathBuf,
    size: Size,
    repetitions: usize,
    file: Option<&'a Path>,
    report: Map<String, Value>,
    failures: Vec<String>,
    /// The most memory that a process of the service had, in bytes.
    peak_memory: u64,
}

/// The project with the population, which later runs use again.
#[derive(Serialize, Deserialize)]
struct Loaded {
    persons: usize,
    events: usize,
    /// The instant of the generation. All events are before it.
    now: DateTime<Utc>,
    access: Access,
    import: Value,
}

impl Loaded {
    fn population(&self) -> Population {
        let size = Size {
            persons: self.persons,
            events: self.events,
        };
        Population::new(size, self.now.timestamp_millis())
    }
}

impl<'a> Bench<'a> {
    pub fn new(
        root: &'a Path,
        directory: PathBuf,
        size: Size,
        repetitions: usize,
        file: Option<&'a Path>,
    ) -> Self {
        Self {
            root,
            directory,
            size,
            repetitions,
            file,
            report: Map::new(),
            failures: Vec::new(),
            peak_memory: 0,
        }
    }

    pub fn run(mut self) -> Result<()> {
        service::build(self.root)?;
        let Size { persons, events } = self.size;
        self.add("size", json!({"persons": persons, "events": events}))?;
        let loaded = self.open()?;
        self.add("import", loaded.import.clone())?;
        self.add("disk_bytes", json!(self.disk_bytes()?))?;
        let (access, now) = (&loaded.access, loaded.now);
        self.phase("first_previews", |bench| bench.first_previews(access, now))?;
        self.phase("first_calculations", |bench| {
            bench.first_calculations(access)
        })?;
        let service = self.start()?;
        self.phase("warm_previews", |bench| {
            bench.warm_previews(&service, access, now)
        })?;
        self.phase("calculations", |_| calculations(&service, access))?;
        self.phase("pages", |bench| {
            serving::huge_pages(&service, access, bench.size.persons)
        })?;
        self.stop(service)?;
        self.phase("restarts", |bench| bench.restarts(access))?;
        let service = self.start()?;
        self.phase("burst", |bench| {
            let count = changes::burst_size(bench.size);
            let paths = (bench.root, bench.directory.as_path());
            changes::burst(&service, paths, access, &loaded.population(), count)
        })?;
        self.phase("merges", |bench| {
            changes::merges(&service, access, bench.size.persons)
        })?;
        self.phase("deletions", |bench| {
            changes::deletions(&service, access, bench.size.persons)
        })?;
        self.stop(service)?;
        let memory = json!({"peak_bytes": self.peak_memory, "limit_bytes": MEMORY << 20});
        self.add("memory", memory)?;
        self.add("disk_bytes_at_end", json!(self.disk_bytes()?))?;
        let failures = self.failures.join(", ");
        ensure!(failures.is_empty(), "failed: {failures}");
        Ok(())
    }

    /// Runs a phase, and reports its result or its error.
    fn phase(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Result<Value>) -> Result<()> {
        print_line(format!("== {name}"))?;
        let begin = Instant::now();
        let result = match work(self) {
            Ok(result) => result,
            Err(error) => {
                self.failures.push(name.to_owned());
                json!({"error": format!("{error:#}")})
            }
        };
        print_line(format!("{:.1} s", begin.elapsed().as_secs_f64()))?;
        self.add(name, result)
    }

    /// Prints a result, and writes the report so far.
    fn add(&mut self, name: &str, value: Value) -> Result<()> {
        print_line(format!("{name}: {value}"))?;
        self.report.insert(name.to_owned(), value);
        match self.file {
            Some(file) => Ok(fs::write(
                file,
                serde_json::to_string_pretty(&self.report)?,
            )?),
            None => Ok(()),
        }
    }

    fn start(&self) -> Result<Service> {
        let memory = MEMORY.to_string();
        Service::start_with(self.root, &self.directory, &["--memory", &memory])
    }

    fn stop(&mut self, service: Service) -> Result<()> {
        self.peak_memory = self.peak_memory.max(service.peak_memory()?);
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64> {
        let mut command = Command::new("du");
        let output = command.arg("-sk").arg(&self.directory).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let kibibytes = text.split_whitespace().next();
        let kibibytes: u64 = kibibytes.context("`du` printed no size")?.parse()?;
        Ok(kibibytes << 10)
    }

    /// Opens the project of an earlier run of the same size, or imports one.
    fn open(&self) -> Result<Loaded> {
        let file = self.directory.join("about.json");
        let text = fs::read_to_string(&file).ok();
        let loaded: Option<Loaded> = text.and_then(|text| serde_json::from_str(&text).ok());
        let Size { persons, events } = self.size;
        let is_same = |loaded: &Loaded| (loaded.persons, loaded.events) == (persons, events);
        if let Some(loaded) = loaded.filter(is_same) {
            print_line("the population of an earlier run is used again")?;
            return Ok(loaded);
        }
        let _ = fs::remove_dir_all(&self.directory);
        fs::create_dir_all(&self.directory)?;
        let loaded = self.import()?;
        fs::write(&file, serde_json::to_string(&loaded)?)?;
        Ok(loaded)
    }

    /// Imports the population. The import is killed once and repeated, and must then be complete and without duplicates.
    fn import(&self) -> Result<Loaded> {
        let (root, directory) = (self.root, self.directory.as_path());
        let now = Utc::now();
        let population = Population::new(self.size, now.timestamp_millis());
        let access = service::create_project(root, directory, "Huge")?;
        let mut rates = Rates::new(&population);
        let limit = rates.tenth();
        let (begin, project) = (Instant::now(), access.project);
        import::import_and_kill(root, directory, project, &population, &mut rates, limit)?;
        let (run, counts) = import::import(root, directory, project, &population, &mut rates)?;
        let seconds = begin.elapsed().as_secs_f64();
        print_line(&run.report)?;
        let service = self.start()?;
        let expected = counts.expected();
        let checked = counts::check(&service, &access, (counts.persons(), &expected), now)?;
        let import = json!({
            "seconds": seconds,
            "finish_seconds": run.finish_seconds,
            "killed_after_events": limit,
            "rates": rates.json(),
            "report": run.report,
            "checked": checked,
        });
        Ok(Loaded {
            persons: self.size.persons,
            events: self.size.events,
            now,
            access,
            import,
        })
    }

    /// The first preview of each kind. Each has its own process of the service.
    fn first_previews(&mut self, access: &Access, now: DateTime<Utc>) -> Result<Value> {
        let mut results = Vec::new();
        for kind in kinds::kinds() {
            let begin = Instant::now();
            let service = self.start()?;
            let preview = service.preview_when_loaded(access, &kind.filters, now)?;
            let restart = begin.elapsed().as_secs_f64() * 1e3;
            let time = preview.milliseconds;
            let is_fast = time <= FIRST_PREVIEW_LIMIT;
            let verdict = if is_fast { "fast enough" } else { "TOO SLOW" };
            print_line(format!(
                "{:<4} {:<36} {:>9} persons  first preview {time:>9.1} ms ({verdict}), {} refusals",
                kind.name, kind.description, preview.count, preview.refusals
            ))?;
            results.push(
                json!({"kind": kind.name, "persons": preview.count, "first_ms": time,
                "refusals": preview.refusals, "restart_ms": restart, "below_limit": is_fast}),
            );
            self.stop(service)?;
        }
        Ok(Value::Array(results))
    }

    /// The first calculation of each kind. Each has its own process of the service.
    fn first_calculations(&mut self, access: &Access) -> Result<Value> {
        let mut results = Map::new();
        for kind in kinds::kinds() {
            let service = self.start()?;
            let time = serving::first_calculation_time(&service, access, &kind)?;
            print_line(format!("{:<4} first calculation {time:.1} ms", kind.name))?;
            results.insert(kind.name.to_owned(), json!(time));
            self.stop(service)?;
        }
        Ok(Value::Object(results))
    }

    fn warm_previews(
        &self,
        service: &Service,
        access: &Access,
        now: DateTime<Utc>,
    ) -> Result<Value> {
        let mut results = Map::new();
        for kind in kinds::kinds() {
            service.preview_when_loaded(access, &kind.filters, now)?;
            let times = (0..self.repetitions).map(|_| {
                let (_, time) = service.preview(access, &kind.filters, now)?;
                Ok(time)
            });
            let mut times: Vec<f64> = times.collect::<Result<_>>()?;
            let time = median(&mut times);
            print_line(format!("{:<4} warm preview {time:.2} ms", kind.name))?;
            results.insert(kind.name.to_owned(), json!(time));
        }
        Ok(Value::Object(results))
    }

    /// The times from the start of a process to its first page of members, and to a page at the end.
    fn restarts(&mut self, access: &Access) -> Result<Value> {
        let service = self.start()?;
        let cohort = serving::calculated_half(&service, access)?;
        self.stop(service)?;
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for nth in 0..2 * RESTARTS {
            let is_last = nth % 2 == 1;
            let offset = if is_last { cohort.members - 100 } else { 0 };
            let begin = Instant::now();
            let service = self.start()?;
            serving::page_time(&service, access, &cohort.path(), offset)?;
            let time = begin.elapsed().as_secs_f64() * 1e3;
            if is_last {
                last.push(time);
            } else {
                first.push(time);
            }
            self.stop(service)?;
        }
        first.sort_by(f64::total_cmp);
        last.sort_by(f64::total_cmp);
        let service = self.start()?;
        service.delete_cohort(access, cohort.id)?;
        Ok(
            json!({"first_page_ms": median_of_sorted(&first), "last_page_ms": median_of_sorted(&last),
            "first_pages_ms": first, "last_pages_ms": last}),
        )
    }
}

/// The median times of calculations by a service that has the data in memory.
fn calculations(service: &Service, access: &Access) -> Result<Value> {
    let mut results = Map::new();
    for kind in kinds::kinds() {
        let time = serving::calculation_time(service, access, kind.name, CALCULATIONS)?;
        print_line(format!("{:<4} calculation {time:.1} ms", kind.name))?;
        results.insert(kind.name.to_owned(), json!(time));
    }
    Ok(Value::Object(results))
}
