//! What else a service is asked for: results stored, look-ups, pages, lists, and events taken in.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::peers::{Peers, checksum};
use super::{kinds, median};
use crate::say;
use crate::service::{Access, Service};

/// How long one round of look-ups goes on, and how many there are of each kind.
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;
/// Callers at once.
const CALLERS: usize = 4;
/// Events of one request, and requests of one round of ingestion.
const BATCH: usize = 1_000;
const BATCHES: usize = 50;
const CHECKPOINT: Duration = Duration::from_millis(200);

/// Cohorts of all kinds are stored and found again: their people are those whom the peers find at the same moment.
pub fn check(service: &Service, of: &Access, peers: &mut Peers) -> Result<()> {
    for kind in kinds::kinds() {
        let id = made(service, of, kind.name, &kind.filters)?;
        let (_, begun, _) = calculated(service, of, id, None)?;
        let path = format!("cohorts/{id}/persons/?format=ndjson");
        let lines = service.text(of, &path)?;
        let people = lines.lines().filter(|line| !line.is_empty()).map(|line| {
            let person: Value = serde_json::from_str(line)?;
            let number = person["distinct_ids"][0]
                .as_str()
                .and_then(|id| id.strip_prefix('p'));
            number
                .context("a person has a number")?
                .parse()
                .map_err(anyhow::Error::from)
        });
        let people: Vec<u64> = people.collect::<Result<_>>()?;
        let own = (people.len() as u64, checksum(people.iter().copied()));
        for peer in peers.names.clone() {
            let answer = peers.find(&peer, kind.name, begun)?;
            let theirs = (answer.count, answer.checksum);
            ensure!(
                own == theirs,
                "{}: {peer} finds {theirs:?}, the service {own:?}",
                kind.name
            );
        }
        service.delete(of, id)?;
    }
    say("people and checksums of all kinds agree")
}

fn made(service: &Service, of: &Access, name: &str, filters: &Value) -> Result<i64> {
    let made = service.post(of, "cohorts/", &json!({"name": name, "filters": filters}))?;
    made["id"].as_i64().context("a cohort has an id")
}

/// Waits for the calculation after a known one: its id, when it was begun, and when it was stored.
fn calculated(
    service: &Service,
    of: &Access,
    cohort: i64,
    after: Option<Value>,
) -> Result<(Value, DateTime<Utc>, DateTime<Utc>)> {
    let path = format!("cohorts/{cohort}/calculation_history/?limit=1");
    let begun = Instant::now();
    loop {
        let last = service.get(of, &path)?["results"][0].clone();
        let time = |name: &str| last[name].as_str().and_then(|text| text.parse().ok());
        if let (Some(started), Some(finished)) = (time("started_at"), time("finished_at"))
            && after.as_ref() != Some(&last["id"])
        {
            ensure!(last["error"].is_null(), "{last}");
            return Ok((last["id"].clone(), started, finished));
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(60),
            "cohort {cohort} is not calculated"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// From the request of a calculation to its result stored, in milliseconds, median.
pub fn stored(service: &Service, of: &Access, kind: &str, repetitions: usize) -> Result<f64> {
    let kinds = kinds::kinds();
    let kind = kinds
        .iter()
        .find(|one| one.name == kind)
        .context("there is no such kind")?;
    let id = made(service, of, "stored", &kind.filters)?;
    let mut last = calculated(service, of, id, None)?.0;
    let mut took = Vec::new();
    for _ in 0..repetitions {
        let asked = Utc::now();
        service.patch(
            of,
            &format!("cohorts/{id}/"),
            &json!({"filters": kind.filters}),
        )?;
        let (next, _, finished) = calculated(service, of, id, Some(last))?;
        last = next;
        took.push((finished - asked).as_seconds_f64() * 1e3);
    }
    service.delete(of, id)?;
    Ok(median(&mut took))
}

/// Look-ups and what a trivial endpoint answers beside them, in requests a second, medians of alternating rounds.
pub fn look_ups(service: &Service, of: &Access) -> Result<(f64, f64)> {
    let people = service.get(of, "persons/?limit=100")?;
    let ids = people["results"]
        .as_array()
        .context("there are people")?
        .iter();
    let ids: Vec<String> = ids
        .filter_map(|one| Some(one["id"].as_str()?.to_owned()))
        .collect();
    let look_up = |nth: usize| {
        let id = &ids[nth * 7 % ids.len()];
        service
            .get(of, &format!("persons/cohorts/?person_id={id}"))
            .map(drop)
    };
    let trivial = |_| service.plain("/_livez").map(drop);
    let (mut look_ups, mut trivials) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        look_ups.push(rate(&look_up)?);
        trivials.push(rate(&trivial)?);
    }
    Ok((median(&mut look_ups), median(&mut trivials)))
}

/// How many requests a second several callers make together.
fn rate(ask: &(impl Fn(usize) -> Result<()> + Sync)) -> Result<f64> {
    let (done, begun) = (AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        let call = || -> Result<()> {
            while begun.elapsed() < ROUND {
                ask(done.fetch_add(1, Ordering::Relaxed) as usize)?;
            }
            Ok(())
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        let mut calls = callers.into_iter();
        calls.try_for_each(|caller| {
            caller
                .join()
                .unwrap_or_else(|_| anyhow::bail!("a caller ended in a panic"))
        })
    })?;
    Ok(done.into_inner() as f64 / begun.elapsed().as_secs_f64())
}

/// How long pages take, in milliseconds, medians.
pub struct Pages {
    pub members: u64,
    pub first: f64,
    pub last: f64,
    pub random: f64,
    /// A page after somebody, by a cursor in Postgres.
    pub key_set: Option<f64>,
    /// A hundred cohorts of two hundred.
    pub list: f64,
}

/// Pages of 100 members of half of all people, by their offset.
pub fn pages(
    service: &Service,
    of: &Access,
    people: usize,
    mut peers: Option<&mut Peers>,
) -> Result<Pages> {
    let half = json!({"properties": {"type": "AND", "values": [
        {"type": "person", "key": "age", "operator": "lt", "value": 48}]}});
    let id = made(service, of, "half", &half)?;
    calculated(service, of, id, None)?;
    let members = service.get(of, &format!("cohorts/{id}/"))?["count"].as_u64();
    let members = members.context("a cohort has a count")?;
    let page = |offset: u64| -> Result<f64> {
        let begun = Instant::now();
        let path = format!("cohorts/{id}/persons/?limit=100&offset={offset}");
        let people = service.text(of, &path)?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let people: Value = serde_json::from_str(&people)?;
        let all = people["results"]
            .as_array()
            .is_some_and(|people| people.len() == 100);
        ensure!(all, "the page at {offset} is not full");
        Ok(took)
    };
    page(0)?;
    let rng = &mut StdRng::seed_from_u64(7);
    let (mut first, mut last, mut random, mut theirs) = (vec![], vec![], vec![], vec![]);
    for _ in 0..60 {
        first.push(page(0)?);
        last.push(page(members - 100)?);
        random.push(page(rng.random_range(0..members - 100))?);
        if let Some(peers) = &mut peers {
            theirs.push(peers.page(rng.random_range(0..people as u64 * 9 / 10))?);
        }
    }
    service.delete(of, id)?;
    let cohorts: Vec<i64> = (0..200)
        .map(|nth| {
            let body = json!({"name": format!("list {nth}"), "is_static": true});
            let made = service.post(of, "cohorts/", &body)?;
            made["id"].as_i64().context("a cohort has an id")
        })
        .collect::<Result<_>>()?;
    let mut lists = Vec::new();
    for _ in 0..30 {
        let begun = Instant::now();
        service.text(of, "cohorts/?limit=100")?;
        lists.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    cohorts.iter().try_for_each(|id| service.delete(of, *id))?;
    Ok(Pages {
        members,
        first: median(&mut first),
        last: median(&mut last),
        random: median(&mut random),
        key_set: (!theirs.is_empty()).then(|| median(&mut theirs)),
        list: median(&mut lists),
    })
}

/// Events a second that are taken in while nobody asks, and while questions keep what is in memory current.
pub fn ingestion(service: &Service, of: &Access, token: &str) -> Result<(f64, f64)> {
    let mut nth = 0_usize;
    let mut round = || -> Result<f64> {
        let bodies: Vec<Value> = (0..BATCHES)
            .map(|_| {
                let batch: Vec<Value> = (0..BATCH).map(|_| event(&mut nth)).collect();
                json!({"api_key": token, "batch": batch})
            })
            .collect();
        let begun = Instant::now();
        for body in &bodies {
            service.capture(body)?;
        }
        Ok((BATCH * BATCHES) as f64 / begun.elapsed().as_secs_f64())
    };
    let bought = kinds::kinds().into_iter().find(|kind| kind.name == "Q3");
    let bought = bought.context("there is such a kind")?.filters;
    // The first makes the people.
    round()?;
    let (mut quiet, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(round()?);
        let stop = AtomicBool::new(false);
        let rate = thread::scope(|scope| {
            scope.spawn(|| -> Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    service.preview(of, &bought, Utc::now())?;
                    thread::sleep(CHECKPOINT);
                }
                Ok(())
            });
            let rate = round();
            stop.store(true, Ordering::Relaxed);
            rate
        });
        asked.push(rate?);
    }
    Ok((median(&mut quiet), median(&mut asked)))
}

fn event(nth: &mut usize) -> Value {
    *nth += 1;
    json!({"event": "purchase", "distinct_id": format!("i{}", *nth * 7_919 % 20_000), "timestamp": Utc::now().to_rfc3339(),
        "properties": {"$browser": "Chrome", "price": *nth % 90, "$current_url": format!("https://app.example.com/p/{}", *nth % 400)}})
}
