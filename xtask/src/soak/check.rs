//! The cohorts of the soak and the check of their members.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::workload::{EVENTS, EventCounts, Workload};
use crate::print_line;
use crate::service::{Access, Service};

/// Every cohort must be calculated within this time after the last event.
const CALCULATION_TIMEOUT: Duration = Duration::from_secs(120);

/// A cohort of the persons with at least `minimum` events of a name, or with fewer if `negated`.
pub struct CountCohort {
    pub id: i64,
    /// The index of the name in [`EVENTS`].
    event: usize,
    minimum: u32,
    negated: bool,
}

/// Creates cohorts with several minimums for each event name, each also negated.
pub fn create_cohorts(service: &Service, access: &Access) -> Result<Vec<CountCohort>> {
    let mut cohorts = Vec::new();
    for (event, name) in EVENTS.iter().enumerate() {
        for minimum in [1, 2, 3, 5, 10, 20, 50] {
            for negated in [false, true] {
                let count = json!({"type": "behavioral", "value": "performed_event_multiple", "key": name,
                    "event_type": "events", "time_value": 30, "time_interval": "day", "operator": "gte",
                    "operator_value": minimum, "negation": negated});
                let any = json!({"type": "person", "key": "group", "operator": "is_set", "value": "is_set"});
                let filters = json!({"properties": {"type": "AND", "values": [any, count]}});
                let body =
                    json!({"name": format!("{name} {minimum} {negated}"), "filters": filters});
                let id = service.post(access, "cohorts/", &body)?["id"].as_i64();
                cohorts.push(CountCohort {
                    id: id.context("the cohort has no id")?,
                    event,
                    minimum,
                    negated,
                });
            }
        }
    }
    Ok(cohorts)
}

/// Waits for the calculations after the last event, and compares the members with the acknowledged events.
pub fn check_members(
    service: &Service,
    workload: &Workload,
    cohorts: &[CountCohort],
) -> Result<()> {
    let last_event = Utc::now();
    let start = Instant::now();
    let counts = workload
        .event_counts
        .lock()
        .expect("no thread panics with the lock");
    let mut wrong = 0;
    for cohort in cohorts {
        wait_for_calculation(service, &workload.access, cohort.id, last_event, start)?;
        let members = members(service, &workload.access, cohort.id, &counts)?;
        let distinct: BTreeSet<&String> = members.iter().collect();
        let expected = cohort.expected_members(&counts);
        if distinct != expected || members.len() != distinct.len() {
            wrong += 1;
            print_line(format!(
                "cohort {} has {} members, which differ from the {} expected",
                cohort.id,
                members.len(),
                expected.len()
            ))?;
        }
    }
    ensure!(wrong == 0, "{wrong} of {} cohorts are wrong", cohorts.len());
    print_line(format!(
        "all {} cohorts are correct {:.0} s after the last event: no event lost or counted twice, no calculation stuck",
        cohorts.len(),
        start.elapsed().as_secs_f64()
    ))
}

impl CountCohort {
    fn expected_members<'a>(&self, counts: &'a EventCounts) -> BTreeSet<&'a String> {
        let matches = |counts: &[u32; 2]| (counts[self.event] >= self.minimum) != self.negated;
        counts
            .iter()
            .filter(|(_, counts)| matches(counts))
            .map(|(distinct_id, _)| distinct_id)
            .collect()
    }
}

/// Waits until the cohort has been calculated as of an instant after `last_event`.
fn wait_for_calculation(
    service: &Service,
    access: &Access,
    cohort: i64,
    last_event: DateTime<Utc>,
    start: Instant,
) -> Result<()> {
    loop {
        let cohort = service.get(access, &format!("cohorts/{cohort}/"))?;
        let calculated = cohort["last_calculation"]
            .as_str()
            .and_then(|text| text.parse::<DateTime<Utc>>().ok());
        if cohort["is_calculating"] == false && calculated.is_some_and(|time| time > last_event) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < CALCULATION_TIMEOUT,
            "the cohort was not calculated in time: {cohort}"
        );
        thread::sleep(Duration::from_millis(500));
    }
}

/// Returns one distinct id per member. A merged person has two, and the one in `counts` is returned.
fn members(
    service: &Service,
    access: &Access,
    cohort: i64,
    counts: &EventCounts,
) -> Result<Vec<String>> {
    let lines = service.get_text(access, &format!("cohorts/{cohort}/persons/?format=ndjson"))?;
    let members = lines.lines().filter(|line| !line.is_empty()).map(|line| {
        let person: Value = serde_json::from_str(line)?;
        let distinct_ids = person["distinct_ids"]
            .as_array()
            .context("a person has no distinct_ids")?;
        let mut ids = distinct_ids.iter().filter_map(Value::as_str);
        let counted = ids.clone().find(|id| counts.contains_key(*id));
        let id = counted.or_else(|| ids.next());
        id.map(str::to_owned).context("a person has no distinct id")
    });
    members.collect()
}
