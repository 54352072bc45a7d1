//! Measures live cohorts: how soon a write or an instant shows in the feed, and what cohorts cost while they are live.
//!
//! The load is the population's usual events, 500 per second. Between them, probes are sent: persons who enter or leave a
//! cohort at a known time. The time until a probe is visible ends when its row arrives on an open stream of the feed.
//! The time of a delta against that of a full evaluation, per kind, is measured by `benches/delta.rs` of the engine.

pub mod follower;
pub mod load;
pub mod probes;
mod usage;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::kinds::{and, behavior, kinds, person};
use super::measurement::median;
use super::population::Population;
use super::{Report, serving};
use crate::service::{self, Access, Service};
use follower::Follower;
use probes::{Latencies, ProbeCohorts};
use usage::{LiveCounters, Usage};

/// The numbers of cohorts under which visibility is measured.
const COHORTS: [usize; 2] = [100, 1_000];
/// The number of counting cohorts of the idle project.
const IDLE_COHORTS: usize = 1_000;
/// The persons of the idle project.
const IDLE_PERSONS: usize = 1_000;
/// How long the load lasts for each number of cohorts.
const LOAD: Duration = Duration::from_secs(60);
/// How long the idle project is observed.
const IDLE: Duration = Duration::from_secs(30);
/// The time in which an idle project comes to rest.
const REST: Duration = Duration::from_secs(20);
/// The number of cohorts beside ingestion.
const INGESTION_COHORTS: usize = 100;
/// The number of rounds of ingestion with cohorts, and without.
const INGESTION_ROUNDS: usize = 5;
/// The longest time until a probe is visible.
const PATIENCE: Duration = Duration::from_secs(60);
const CALCULATION_TIMEOUT: Duration = Duration::from_secs(900);
const SECONDS_PER_DAY: f64 = 86_400.0;

/// The service with the loaded population.
pub struct LiveBench<'a> {
    pub service: &'a Service,
    pub access: &'a Access,
    pub population: &'a Population,
}

impl LiveBench<'_> {
    /// Measures visibility and exits with each number of cohorts.
    pub fn measure(&self, report: &mut Report) -> Result<()> {
        let probes = ProbeCohorts::create(self.service, self.access)?;
        let mut cohorts = probes.ids.to_vec();
        for count in COHORTS {
            while cohorts.len() < count + probes.ids.len() {
                let filters = varied_kind(cohorts.len());
                cohorts.push(create_cohort(self.service, self.access, &filters)?);
            }
            wait_until_live(self.service, cohorts.len())?;
            let (text, value) = self.measure_load(&probes)?;
            report.add(&format!("live_{count}"), text, value)?;
        }
        let delete = |cohort| self.service.delete_cohort(self.access, cohort);
        cohorts.into_iter().try_for_each(delete)
    }

    /// Sends the load and the probes, and waits until all probes are visible.
    fn measure_load(&self, cohorts: &ProbeCohorts) -> Result<(String, Value)> {
        let (service, access) = (self.service, self.access);
        let follower = Follower::start(service, access, &cohorts.ids)?;
        let (usage, counters) = (Usage::of(service)?, LiveCounters::read(service)?);
        let begun = Instant::now();
        let stops = AtomicBool::new(false);
        let (sent, events) = thread::scope(|scope| {
            let load = || load::send(service, access, self.population, LOAD, &stops);
            let load = scope.spawn(load);
            let sent = cohorts.send(service, access, LOAD);
            stops.store(true, Ordering::Relaxed);
            let events = load.join();
            let panicked = |_| anyhow::bail!("the load panicked");
            (sent, events.unwrap_or_else(panicked))
        });
        let (sent, events) = (sent?, events?);
        let seconds = begun.elapsed().as_secs_f64();
        let cores = Usage::of(service)?.cores_since(&usage);
        let seen = follower.wait_for(&sent, PATIENCE);
        let latencies = Latencies::of(&sent, &seen)?;
        let counted = LiveCounters::read(service)?.since(&counters);
        let rate = events as f64 / seconds;
        let bytes = counted.log_bytes / seconds * SECONDS_PER_DAY;
        let text = format!(
            "{latencies}; {rate:.0} events per second, {cores:.2} cores, {:.0} passes, {:.0} touched persons, {:.0} full \
             evaluations, {:.0} MB of change log per day before compaction",
            counted.passes,
            counted.touched,
            counted.full,
            bytes / 1e6
        );
        let value = json!({
            "visible": latencies.json(),
            "events_per_second": rate,
            "cores": cores,
            "passes": counted.passes,
            "touched_persons": counted.touched,
            "full_evaluations": counted.full,
            "change_log_bytes_per_day": bytes,
        });
        Ok((text, value))
    }
}

/// Measures ingestion into a project without cohorts and into one with live cohorts of all kinds, in alternating rounds.
pub fn measure_ingestion(
    (root, directory): (&Path, &Path),
    service: &Service,
    report: &mut Report,
) -> Result<()> {
    let projects = ["Without cohorts", "With cohorts"];
    let projects = projects.map(|name| service::create_project(root, directory, name));
    let [without, with] = projects;
    let projects = [without?, with?];
    let mut next_event = 0;
    for access in &projects {
        serving::ingest(service, access, &mut next_event)?;
    }
    let create = |nth| create_cohort(service, &projects[1], &varied_kind(nth));
    let cohorts = (0..INGESTION_COHORTS).map(create);
    let cohorts = cohorts.collect::<Result<Vec<i64>>>()?;
    wait_until_live(service, INGESTION_COHORTS)?;
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..INGESTION_ROUNDS {
        for (access, rates) in projects.iter().zip(&mut rates) {
            rates.push(serving::ingest(service, access, &mut next_event)?);
        }
    }
    let delete = |cohort| service.delete_cohort(&projects[1], cohort);
    cohorts.into_iter().try_for_each(delete)?;
    let [without, with] = rates.map(|mut rates| median(&mut rates));
    report.add(
        "live_ingestion",
        format!(
            "{without:.0} events per second without cohorts, {with:.0} with {INGESTION_COHORTS} (ratio {:.2})",
            with / without
        ),
        json!({"without_per_second": without, "with_per_second": with, "ratio": with / without}),
    )
}

/// Measures the cost of counting cohorts in a project without writes, in a database of its own.
pub fn measure_idle(root: &Path, directory: &Path, report: &mut Report) -> Result<()> {
    let directory = directory.join("idle");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    let access = service::create_project(root, &directory, "Idle")?;
    let service = Service::start(root, &directory)?;
    let event = |number| json!({"event": "visit", "distinct_id": format!("p{number}")});
    let batch: Vec<Value> = (0..IDLE_PERSONS).map(event).collect();
    service.capture(&json!({"api_key": access.token, "batch": batch}))?;
    for nth in 0..IDLE_COHORTS {
        let count = json!({"time_value": 30, "time_interval": "day", "operator": "gte",
            "operator_value": nth % 10 + 1});
        let leaf = behavior("performed_event_multiple", "visit", count);
        create_cohort(&service, &access, &and(vec![leaf]))?;
    }
    wait_until_live(&service, IDLE_COHORTS)?;
    thread::sleep(REST);
    let (usage, counters) = (Usage::of(&service)?, LiveCounters::read(&service)?);
    thread::sleep(IDLE);
    let cores = Usage::of(&service)?.cores_since(&usage);
    let counted = LiveCounters::read(&service)?.since(&counters);
    let statements = counted.statements / IDLE.as_secs_f64();
    report.add(
        "live_idle",
        format!(
            "{:.2} % of a core, {statements:.1} statements per second, {:.0} passes in {} s",
            100.0 * cores,
            counted.passes,
            IDLE.as_secs()
        ),
        json!({"cores": cores, "statements_per_second": statements, "passes": counted.passes}),
    )
}

/// The filter of one of the kinds, for persons from some age on, so that no two cohorts have the same plan.
fn varied_kind(nth: usize) -> Value {
    let kinds = kinds();
    let kind = &kinds[nth % kinds.len()];
    let age = person("age", "gte", json!(16 + nth / kinds.len() % 60));
    let values = vec![kind.filters["properties"].clone(), age];
    and(values)
}

fn create_cohort(service: &Service, access: &Access, filters: &Value) -> Result<i64> {
    serving::create_cohort(service, access, "live", filters)
}

/// Waits until no cohort waits for a calculation, and at least `count` cohorts are live.
fn wait_until_live(service: &Service, count: usize) -> Result<()> {
    let begun = Instant::now();
    let is_live = |service: &Service| -> Result<bool> {
        let live = service.metric("cohorts_live{live=\"true\"}").unwrap_or(0.0);
        Ok(live >= count as f64 && service.metric("cohorts_live{live=\"false\"}")? == 0.0)
    };
    while !is_live(service)? {
        ensure!(
            begun.elapsed() < CALCULATION_TIMEOUT,
            "the cohorts do not become live"
        );
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}
