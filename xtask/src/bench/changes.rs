//! Changes of a very large project: a burst of events while previews run, merges, and deletions of persons.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::counts::Counts;
use super::import;
use super::measurement::median;
use super::population::{Population, Size, write_event};
use super::serving::kind_named;
use crate::print_line;
use crate::service::{Access, Service};

/// The most events of a burst.
const BURST_EVENTS: usize = 5_000_000;
/// The events of a burst happened in this time before it, and after all other events.
const BURST_TIME: TimeDelta = TimeDelta::minutes(1);
/// The pause between previews during a burst.
const PREVIEW_PAUSE: Duration = Duration::from_millis(200);
/// The number of measured merges, and of measured deletions.
const CHANGES: usize = 20;
/// The kind of the previews after each change.
const PREVIEWED: &str = "Q3";

/// A sixteenth of the events, but not more than [`BURST_EVENTS`].
pub fn burst_size(size: Size) -> usize {
    (size.events / 16).clamp(1, BURST_EVENTS)
}

/// Imports a burst of events while previews run. No index may be built again, and all events must be visible at the end.
pub fn burst(
    service: &Service,
    (root, directory): (&Path, &Path),
    access: &Access,
    population: &Population,
    count: usize,
) -> Result<Value> {
    let filters = kind_named(PREVIEWED)?.filters;
    service.preview_when_loaded(access, &filters, Utc::now())?;
    let builds = service.metric("cohorts_index_builds_total")?;
    let until = Utc::now();
    let from = (until - BURST_TIME).max(population.now());
    let span = (from.timestamp_millis(), until.timestamp_millis());
    let mut counts = Counts::new(population.size.persons);
    let ends = AtomicBool::new(false);
    let (run, previews) = thread::scope(|scope| {
        let previews = scope.spawn(|| previews_until(&ends, service, access, &filters));
        let run = import::import_lines(root, directory, access.project, |out| {
            let mut line = String::new();
            for (nth, event) in population.burst(count, span).enumerate() {
                // The uuids of earlier events, and of earlier bursts, differ by their times.
                write_event(population.size.events + nth, &event, &mut line, out)?;
                counts.add(&event);
            }
            Ok(())
        });
        ends.store(true, Ordering::Relaxed);
        let previews = previews.join();
        (
            run,
            previews.unwrap_or_else(|_| anyhow::bail!("a preview panicked")),
        )
    });
    let (run, (mut times, refusals)) = (run?, previews?);
    let rate = count as f64 / run.seconds;
    print_line(format!(
        "{count} events, {rate:.0} per second; {}",
        run.report
    ))?;
    let checking = Instant::now();
    let now = Utc::now();
    for expected in counts.expected() {
        // Events at the instant itself do not count.
        let filter = expected.filter_since(from - TimeDelta::milliseconds(1));
        let preview = service.preview_when_loaded(access, &filter, now)?;
        ensure!(
            preview.count == expected.persons,
            "{} persons with at least {} events {} in the burst instead of {}",
            preview.count,
            expected.least,
            expected.event,
            expected.persons
        );
    }
    let slowest = times.iter().copied().fold(0.0, f64::max);
    Ok(json!({
        "events": count,
        "per_second": rate,
        "index_builds": service.metric("cohorts_index_builds_total")? - builds,
        "previews": times.len(),
        "preview_ms": median(&mut times),
        "slowest_preview_ms": slowest,
        "refused_previews": refusals,
        "checked_after_ms": checking.elapsed().as_secs_f64() * 1e3,
    }))
}

/// Previews until `ends`. Returns the times in milliseconds and the number of refusals.
fn previews_until(
    ends: &AtomicBool,
    service: &Service,
    access: &Access,
    filters: &Value,
) -> Result<(Vec<f64>, u32)> {
    let (mut times, mut refusals) = (Vec::new(), 0);
    while !ends.load(Ordering::Relaxed) || times.is_empty() {
        let preview = service.preview_when_loaded(access, filters, Utc::now())?;
        times.push(preview.milliseconds);
        refusals += preview.refusals;
        thread::sleep(PREVIEW_PAUSE);
    }
    Ok((times, refusals))
}

/// A person, as the list of persons has it.
struct ListedPerson {
    uuid: String,
    distinct_id: String,
}

/// `count` persons from random places of the list.
fn random_persons(
    service: &Service,
    access: &Access,
    persons: usize,
    (count, seed): (usize, u64),
) -> Result<Vec<ListedPerson>> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut listed: Vec<ListedPerson> = Vec::new();
    while listed.len() < count {
        let offset = rng.random_range(0..persons * 9 / 10);
        let page = service.get(access, &format!("persons/?limit=1&offset={offset}"))?;
        let person = &page["results"][0];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let person = ListedPerson {
            uuid: text(&person["id"]).context("a person has no id")?,
            distinct_id: text(&person["distinct_ids"][0]).context("a person has no distinct id")?,
        };
        if listed.iter().all(|other| other.uuid != person.uuid) {
            listed.push(person);
        }
    }
    Ok(listed)
}

/// Merges pairs of persons.
pub fn merges(service: &Service, access: &Access, persons: usize) -> Result<Value> {
    let pairs = random_persons(service, access, persons, (2 * CHANGES, 11))?;
    let mut pairs = pairs.chunks_exact(2);
    measure_changes(service, access, || {
        let pair = pairs.next().context("there are no more persons")?;
        service.capture(&json!({"api_key": access.token, "batch": [
            {"event": "$merge_dangerously", "distinct_id": pair[0].distinct_id,
                "timestamp": Utc::now().to_rfc3339(), "properties": {"alias": pair[1].distinct_id}}]}))
    })
}

/// Deletes persons.
pub fn deletions(service: &Service, access: &Access, persons: usize) -> Result<Value> {
    let doomed = random_persons(service, access, persons, (CHANGES, 13))?;
    let mut doomed = doomed.iter();
    measure_changes(service, access, || {
        let person = doomed.next().context("there are no more persons")?;
        service.delete_person(access, &person.uuid)
    })
}

/// Measures [`CHANGES`] changes, and a preview after each of them.
fn measure_changes(
    service: &Service,
    access: &Access,
    mut change: impl FnMut() -> Result<()>,
) -> Result<Value> {
    let filters = kind_named(PREVIEWED)?.filters;
    service.preview_when_loaded(access, &filters, Utc::now())?;
    let builds = service.metric("cohorts_index_builds_total")?;
    let (mut times, mut previews) = (Vec::new(), Vec::new());
    for _ in 0..CHANGES {
        let begin = Instant::now();
        change()?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        let preview = service.preview_when_loaded(access, &filters, Utc::now())?;
        previews.push(preview.milliseconds);
    }
    let slowest = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    let (slowest, slowest_preview) = (slowest(&times), slowest(&previews));
    Ok(json!({
        "median_ms": median(&mut times),
        "slowest_ms": slowest,
        "preview_after_ms": median(&mut previews),
        "slowest_preview_after_ms": slowest_preview,
        "index_builds": service.metric("cohorts_index_builds_total")? - builds,
    }))
}
