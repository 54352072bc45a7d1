//! Measures the service beyond previews: calculations, look-ups, pages, lists and ingestion.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use super::kinds::{self, CohortKind};
use super::measurement::median;
use super::peers::{Peers, checksum};
use crate::print_line;
use crate::service::{Access, Service};

/// The duration of one round of look-ups.
const LOOKUP_ROUND: Duration = Duration::from_secs(3);
/// The number of rounds of each measured rate.
const ROUNDS: usize = 3;
/// The number of concurrent callers in a round of look-ups.
const CALLERS: usize = 4;
/// The number of events in a request.
const BATCH_EVENTS: usize = 1_000;
/// The number of requests in a round of ingestion.
const BATCHES: usize = 50;
/// The pause between previews during ingestion.
const PREVIEW_INTERVAL: Duration = Duration::from_millis(200);
const CALCULATION_TIMEOUT: Duration = Duration::from_secs(600);
/// The number of measured pages of each place in a list.
const PAGES: usize = 60;
const MILLION: usize = 1_000_000;

/// Checks that the stored members of each kind equal the result of every peer at the same instant.
pub fn compare_members(service: &Service, access: &Access, peers: &mut Peers) -> Result<()> {
    for kind in kinds::kinds() {
        let id = create_cohort(service, access, kind.name, &kind.filters)?;
        let calculation = wait_for_calculation(service, access, id, None)?;
        let members = member_numbers(service, access, id)?;
        let ours = (members.len() as u64, checksum(members.iter().copied()));
        for peer in peers.names.clone() {
            let result = peers.query(&peer, kind.name, calculation.started)?;
            let theirs = (result.count, result.checksum);
            ensure!(
                ours == theirs,
                "{}: count and checksum of {peer} are {theirs:?}, of the service {ours:?}",
                kind.name
            );
        }
        service.delete_cohort(access, id)?;
    }
    print_line("the members of all kinds agree with the peers")
}

/// Returns the numbers of the members, which are the digits of their distinct ids.
fn member_numbers(service: &Service, access: &Access, cohort: i64) -> Result<Vec<u64>> {
    let lines = service.get_text(access, &format!("cohorts/{cohort}/persons/?format=ndjson"))?;
    let members = lines.lines().filter(|line| !line.is_empty()).map(|line| {
        let person: Value = serde_json::from_str(line)?;
        let number = person["distinct_ids"][0]
            .as_str()
            .and_then(|id| id.strip_prefix('p'))
            .context("a person has an unexpected distinct id")?;
        Ok(number.parse()?)
    });
    members.collect()
}

pub fn create_cohort(
    service: &Service,
    access: &Access,
    name: &str,
    filters: &Value,
) -> Result<i64> {
    post_cohort(service, access, &json!({"name": name, "filters": filters}))
}

/// Creates a cohort, and returns its id.
pub fn post_cohort(service: &Service, access: &Access, body: &Value) -> Result<i64> {
    let cohort = service.post(access, "cohorts/", body)?;
    cohort["id"].as_i64().context("the cohort has no id")
}

/// A finished calculation of a cohort.
pub struct Calculation {
    id: Value,
    started: DateTime<Utc>,
    finished: DateTime<Utc>,
}

/// Waits until the newest calculation of a cohort is finished and is not the calculation `previous`.
pub fn wait_for_calculation(
    service: &Service,
    access: &Access,
    cohort: i64,
    previous: Option<Value>,
) -> Result<Calculation> {
    let path = format!("cohorts/{cohort}/calculation_history/?limit=1");
    let start = Instant::now();
    loop {
        let newest = service.get(access, &path)?["results"][0].clone();
        let time = |name: &str| newest[name].as_str().and_then(|text| text.parse().ok());
        if let (Some(started), Some(finished)) = (time("started_at"), time("finished_at"))
            && previous.as_ref() != Some(&newest["id"])
        {
            ensure!(newest["error"].is_null(), "{newest}");
            return Ok(Calculation {
                id: newest["id"].clone(),
                started,
                finished,
            });
        }
        ensure!(
            start.elapsed() < CALCULATION_TIMEOUT,
            "cohort {cohort} was not calculated in time"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the median time from the request of a calculation to its stored result, in milliseconds.
pub fn calculation_time(
    service: &Service,
    access: &Access,
    kind: &str,
    repetitions: usize,
) -> Result<f64> {
    let kind = kind_named(kind)?;
    let id = create_cohort(service, access, "calculation", &kind.filters)?;
    let mut previous = wait_for_calculation(service, access, id, None)?.id;
    let mut times = Vec::new();
    for _ in 0..repetitions {
        let requested = Utc::now();
        service.patch(
            access,
            &format!("cohorts/{id}/"),
            &json!({"filters": kind.filters}),
        )?;
        let calculation = wait_for_calculation(service, access, id, Some(previous))?;
        previous = calculation.id;
        times.push((calculation.finished - requested).as_seconds_f64() * 1e3);
    }
    service.delete_cohort(access, id)?;
    Ok(median(&mut times))
}

pub fn kind_named(name: &str) -> Result<CohortKind> {
    let kind = kinds::kinds().into_iter().find(|kind| kind.name == name);
    kind.with_context(|| format!("there is no kind {name}"))
}

/// Rates in requests per second.
pub struct LookupRates {
    /// Reads of the cohorts of a person.
    pub lookups: f64,
    /// Reads of a trivial endpoint.
    pub trivial: f64,
}

/// Measures look-ups and a trivial endpoint in alternating rounds. Returns the medians.
pub fn lookup_rates(service: &Service, access: &Access) -> Result<LookupRates> {
    let page = service.get(access, "persons/?limit=100")?;
    let persons = page["results"]
        .as_array()
        .context("the page has no results")?;
    let ids: Vec<&str> = persons
        .iter()
        .filter_map(|person| person["id"].as_str())
        .collect();
    let lookup = |index: usize| {
        let id = ids[index * 7 % ids.len()];
        // The JSON is not parsed, because the trivial endpoint has none.
        service
            .get_text(access, &format!("persons/cohorts/?person_id={id}"))
            .map(drop)
    };
    let trivial = |_| service.get_without_key("/_livez").map(drop);
    let (mut lookup_rates, mut trivial_rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        lookup_rates.push(request_rate(&lookup)?);
        trivial_rates.push(request_rate(&trivial)?);
    }
    Ok(LookupRates {
        lookups: median(&mut lookup_rates),
        trivial: median(&mut trivial_rates),
    })
}

/// Returns the requests per second of [`CALLERS`] concurrent callers in one round.
fn request_rate(request: &(impl Fn(usize) -> Result<()> + Sync)) -> Result<f64> {
    let (count, start) = (AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        let call = || -> Result<()> {
            while start.elapsed() < LOOKUP_ROUND {
                request(count.fetch_add(1, Ordering::Relaxed) as usize)?;
            }
            Ok(())
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        callers.into_iter().try_for_each(|caller| {
            caller
                .join()
                .unwrap_or_else(|_| anyhow::bail!("a caller panicked"))
        })
    })?;
    Ok(count.into_inner() as f64 / start.elapsed().as_secs_f64())
}

/// A cohort with its members.
pub struct CalculatedCohort {
    pub id: i64,
    pub members: u64,
}

impl CalculatedCohort {
    /// The path of the list of members.
    pub fn path(&self) -> String {
        format!("cohorts/{}/persons/", self.id)
    }
}

/// Creates and calculates the cohort of persons below an age. The ages from 16 to 79 are equally frequent.
fn calculated_below(service: &Service, access: &Access, age: u32) -> Result<CalculatedCohort> {
    let filters = json!({"properties": {"type": "AND", "values": [
        {"type": "person", "key": "age", "operator": "lt", "value": age}]}});
    calculated(service, access, "age", &filters)
}

/// Creates and calculates a cohort.
pub fn calculated(
    service: &Service,
    access: &Access,
    name: &str,
    filters: &Value,
) -> Result<CalculatedCohort> {
    let id = create_cohort(service, access, name, filters)?;
    wait_for_calculation(service, access, id, None)?;
    let members = service.get(access, &format!("cohorts/{id}/"))?["count"].as_u64();
    let members = members.context("the cohort has no count")?;
    Ok(CalculatedCohort { id, members })
}

/// Creates and calculates a cohort with half of all persons.
pub fn calculated_half(service: &Service, access: &Access) -> Result<CalculatedCohort> {
    calculated_below(service, access, 48)
}

/// Measures pages of all persons, of a cohort with half of them, and of one with about a million.
pub fn huge_pages(service: &Service, access: &Access, persons: usize) -> Result<Value> {
    let half = calculated_half(service, access)?;
    let ages = (MILLION * 64 / persons.max(1)).clamp(1, 32) as u32;
    let million = calculated_below(service, access, 16 + ages)?;
    let all = ("persons/".to_owned(), persons as u64);
    let mut results = Map::new();
    let lists = [
        ("all", all),
        ("half", (half.path(), half.members)),
        ("million", (million.path(), million.members)),
    ];
    for (name, (path, members)) in lists {
        let times = pages_of(service, access, &path, members)?;
        print_line(format!("{name}: {times}"))?;
        results.insert(name.to_owned(), times);
    }
    let ratio = |part: &str| {
        let time = |list: &str| results[list][part].as_f64().unwrap_or(f64::NAN);
        json!({"all": time("all") / time("million"), "half": time("half") / time("million")})
    };
    let ratios =
        json!({"first": ratio("first_ms"), "last": ratio("last_ms"), "random": ratio("random_ms")});
    results.insert("ratio_to_million".to_owned(), ratios);
    service.delete_cohort(access, half.id)?;
    service.delete_cohort(access, million.id)?;
    Ok(Value::Object(results))
}

/// The median times of the first page, the last page, and random pages of a list.
fn pages_of(service: &Service, access: &Access, path: &str, members: u64) -> Result<Value> {
    let page = |offset: u64| page_time(service, access, path, offset);
    page(0)?;
    let rng = &mut StdRng::seed_from_u64(7);
    let (mut first, mut last, mut random) = (vec![], vec![], vec![]);
    let end = members.saturating_sub(100);
    for _ in 0..PAGES {
        first.push(page(0)?);
        last.push(page(end)?);
        random.push(page(rng.random_range(0..=end))?);
    }
    Ok(
        json!({"members": members, "first_ms": median(&mut first), "last_ms": median(&mut last),
        "random_ms": median(&mut random)}),
    )
}

/// Creates a cohort and returns the time of its first calculation, in milliseconds.
pub fn first_calculation_time(
    service: &Service,
    access: &Access,
    kind: &CohortKind,
) -> Result<f64> {
    let requested = Utc::now();
    let id = create_cohort(service, access, "calculation", &kind.filters)?;
    let calculation = wait_for_calculation(service, access, id, None)?;
    service.delete_cohort(access, id)?;
    Ok((calculation.finished - requested).as_seconds_f64() * 1e3)
}

/// Median times in milliseconds.
pub struct PageTimes {
    /// The number of members of the cohort.
    pub members: u64,
    pub first: f64,
    pub last: f64,
    pub random: f64,
    /// A page after a random person, by keyset pagination in Postgres.
    pub keyset: Option<f64>,
    /// A page of 100 of 200 cohorts.
    pub list: f64,
}

/// Measures pages of 100 members, by offset, of a cohort with half of all persons.
pub fn page_times(
    service: &Service,
    access: &Access,
    persons: usize,
    mut peers: Option<&mut Peers>,
) -> Result<PageTimes> {
    let cohort = calculated_half(service, access)?;
    let (path, members) = (cohort.path(), cohort.members);
    let page = |offset: u64| page_time(service, access, &path, offset);
    page(0)?;
    let rng = &mut StdRng::seed_from_u64(7);
    let (mut first, mut last, mut random, mut keyset) = (vec![], vec![], vec![], vec![]);
    for _ in 0..PAGES {
        first.push(page(0)?);
        last.push(page(members - 100)?);
        random.push(page(rng.random_range(0..members - 100))?);
        if let Some(peers) = &mut peers {
            keyset.push(peers.page(rng.random_range(0..persons as u64 * 9 / 10))?);
        }
    }
    service.delete_cohort(access, cohort.id)?;
    Ok(PageTimes {
        members,
        first: median(&mut first),
        last: median(&mut last),
        random: median(&mut random),
        keyset: (!keyset.is_empty()).then(|| median(&mut keyset)),
        list: list_time(service, access)?,
    })
}

/// The time of a page of 100 persons of the list at `path`, in milliseconds.
pub fn page_time(service: &Service, access: &Access, path: &str, offset: u64) -> Result<f64> {
    let start = Instant::now();
    let path = format!("{path}?limit=100&offset={offset}");
    let text = service.get_text(access, &path)?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    let page: Value = serde_json::from_str(&text)?;
    let is_full = page["results"]
        .as_array()
        .is_some_and(|persons| persons.len() == 100);
    ensure!(is_full, "the page at offset {offset} is not full");
    Ok(time)
}

fn list_time(service: &Service, access: &Access) -> Result<f64> {
    let cohorts: Vec<i64> = (0..200)
        .map(|index| {
            let body = json!({"name": format!("list {index}"), "is_static": true});
            let cohort = service.post(access, "cohorts/", &body)?;
            cohort["id"].as_i64().context("the cohort has no id")
        })
        .collect::<Result<_>>()?;
    let mut times = Vec::new();
    for _ in 0..30 {
        let start = Instant::now();
        service.get_text(access, "cohorts/?limit=100")?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    for id in cohorts {
        service.delete_cohort(access, id)?;
    }
    Ok(median(&mut times))
}

/// Rates in events per second.
pub struct IngestionRates {
    /// Without other requests.
    pub idle: f64,
    /// While previews keep the index current.
    pub previewing: f64,
}

/// Measures ingestion with and without concurrent previews, in alternating rounds. Returns the medians.
pub fn ingestion_rates(service: &Service, access: &Access) -> Result<IngestionRates> {
    let mut next_event = 0;
    let purchase_filter = kind_named("Q3")?.filters;
    // The first round creates the persons and is not counted.
    ingest(service, access, &mut next_event)?;
    let (mut idle, mut previewing) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        idle.push(ingest(service, access, &mut next_event)?);
        let stop = AtomicBool::new(false);
        let rate = thread::scope(|scope| {
            scope.spawn(|| -> Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    service.preview(access, &purchase_filter, Utc::now())?;
                    thread::sleep(PREVIEW_INTERVAL);
                }
                Ok(())
            });
            let rate = ingest(service, access, &mut next_event);
            stop.store(true, Ordering::Relaxed);
            rate
        });
        previewing.push(rate?);
    }
    Ok(IngestionRates {
        idle: median(&mut idle),
        previewing: median(&mut previewing),
    })
}

/// Sends one round of batches and returns the events per second.
pub fn ingest(service: &Service, access: &Access, next_event: &mut usize) -> Result<f64> {
    let bodies: Vec<Value> = (0..BATCHES)
        .map(|_| {
            let batch: Vec<Value> = (0..BATCH_EVENTS).map(|_| event(next_event)).collect();
            json!({"api_key": access.token, "batch": batch})
        })
        .collect();
    let start = Instant::now();
    for body in &bodies {
        service.capture(body)?;
    }
    Ok((BATCH_EVENTS * BATCHES) as f64 / start.elapsed().as_secs_f64())
}

fn event(next_event: &mut usize) -> Value {
    *next_event += 1;
    let number = *next_event;
    json!({"event": "purchase", "distinct_id": format!("i{}", number * 7_919 % 20_000), "timestamp": Utc::now().to_rfc3339(),
        "properties": {"$browser": "Chrome", "price": number % 90, "$current_url": format!("https://app.example.com/p/{}", number % 400)}})
}
