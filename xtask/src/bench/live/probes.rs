//! Probes: persons who enter or leave a cohort at a known time.

use std::collections::HashMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use serde_json::{Value, json};

use super::super::kinds::{and, behavior, person};
use super::super::serving::post_cohort;
use super::follower::Seen;
use crate::service::{Access, Service};

/// The pause between two probes.
const PAUSE: Duration = Duration::from_millis(100);
/// Of this number of probes, one leaves a window and one reaches a relative date. The others have an event.
const GROUP: usize = 5;
/// The time from the write of a probe to the instant at which time alone changes the cohort.
const EXPIRES_AFTER: TimeDelta = TimeDelta::seconds(8);

/// Why a cohort changes, as an index.
#[derive(Clone, Copy)]
enum Reason {
    Event,
    Window,
    Date,
}

/// The persons with an event in the last hour, to the microsecond. The windows of filters begin with a whole hour.
const LAST_HOUR: &str = "SELECT DISTINCT person_id FROM events \
    WHERE event = 'expiring probe' AND timestamp >= now() - INTERVAL 1 HOUR";

/// The names of the reasons in the report.
const REASONS: [&str; 3] = ["event", "window", "date"];

/// The cohorts that probes enter and leave, one per reason.
pub struct ProbeCohorts {
    pub ids: [i64; 3],
}

pub struct Probe {
    reason: Reason,
    cohort: i64,
    pub distinct_id: String,
    /// The response to the write, or the instant at which time alone changes the cohort.
    due: DateTime<Utc>,
}

impl Probe {
    /// What the feed will have.
    pub fn row(&self) -> Seen {
        Seen {
            cohort: self.cohort,
            has_entered: !matches!(self.reason, Reason::Window),
            distinct_id: self.distinct_id.clone(),
        }
    }
}

impl ProbeCohorts {
    pub fn create(service: &Service, access: &Access) -> Result<Self> {
        let days = json!({"time_value": 30, "time_interval": "day"});
        let event = behavior("performed_event", "probe", days);
        let date = person("probe_date", "is_date_before", json!("-1h"));
        let definitions = [
            json!({"filters": and(vec![event])}),
            json!({"query": {"kind": "HogQLQuery", "query": LAST_HOUR}}),
            json!({"filters": and(vec![date])}),
        ];
        let mut ids = [0; 3];
        for (id, mut body) in ids.iter_mut().zip(definitions) {
            body["name"] = json!("probes");
            *id = post_cohort(service, access, &body)?;
        }
        Ok(Self { ids })
    }

    /// Sends probes for some time.
    pub fn send(&self, service: &Service, access: &Access, length: Duration) -> Result<Vec<Probe>> {
        let (begun, run) = (Instant::now(), Utc::now().timestamp_millis());
        let mut sent = Vec::new();
        while begun.elapsed() < length {
            let reason = match sent.len() % GROUP {
                0 => Reason::Window,
                1 => Reason::Date,
                _ => Reason::Event,
            };
            let distinct_id = format!("probe-{run}-{}", sent.len());
            let due = send_probe(service, access, reason, &distinct_id)?;
            sent.push(Probe {
                reason,
                cohort: self.ids[reason as usize],
                distinct_id,
                due,
            });
            thread::sleep(PAUSE);
        }
        Ok(sent)
    }
}

/// Sends a probe, and returns when its change is due.
fn send_probe(
    service: &Service,
    access: &Access,
    reason: Reason,
    distinct_id: &str,
) -> Result<DateTime<Utc>> {
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
    let expires = (Utc::now() + EXPIRES_AFTER).trunc_subsecs(3);
    let hour = TimeDelta::hours(1);
    let (event, due) = match reason {
        Reason::Event => (json!({"event": "probe"}), None),
        Reason::Window => {
            let at = text(expires - hour);
            (
                json!({"event": "expiring probe", "timestamp": at}),
                Some(expires),
            )
        }
        Reason::Date => {
            // Relative dates are whole seconds.
            let expires = expires.trunc_subsecs(0);
            let set = json!({"$set": {"probe_date": text(expires - hour)}});
            (json!({"event": "$set", "properties": set}), Some(expires))
        }
    };
    let mut event = event;
    event["distinct_id"] = json!(distinct_id);
    service.capture(&json!({"api_key": access.token, "batch": [event]}))?;
    Ok(due.unwrap_or_else(Utc::now))
}

/// The times from when changes were due until they were visible, in milliseconds, sorted; by reason.
pub struct Latencies([Vec<f64>; 3]);

impl Latencies {
    /// Fails if a probe was not seen.
    pub fn of(sent: &[Probe], seen: &HashMap<Seen, DateTime<Utc>>) -> Result<Self> {
        let mut latencies = Self(Default::default());
        for (reason, name) in REASONS.iter().enumerate() {
            let probes = || sent.iter().filter(|probe| probe.reason as usize == reason);
            let missing = probes().filter(|probe| !seen.contains_key(&probe.row()));
            let missing = missing.count();
            ensure!(
                missing == 0,
                "{missing} of {} probes of {name} are not visible",
                probes().count()
            );
        }
        for probe in sent {
            let time = seen[&probe.row()] - probe.due;
            // The row may arrive before the response to the write.
            let millis = time.as_seconds_f64().max(0.0) * 1e3;
            latencies.0[probe.reason as usize].push(millis);
        }
        for times in &mut latencies.0 {
            times.sort_by(f64::total_cmp);
        }
        Ok(latencies)
    }

    /// The median and the 99th percentile of the probes with an event.
    pub fn of_events(&self) -> (f64, f64) {
        let times = &self.0[Reason::Event as usize];
        (percentile(times, 50), percentile(times, 99))
    }

    pub fn json(&self) -> Value {
        let reasons = REASONS.iter().zip(&self.0).map(|(reason, times)| {
            let value = json!({"probes": times.len(), "p50_ms": percentile(times, 50),
                "p99_ms": percentile(times, 99), "max_ms": percentile(times, 100)});
            ((*reason).to_owned(), value)
        });
        Value::Object(reasons.collect())
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (reason, times) in REASONS.iter().zip(&self.0) {
            write!(
                f,
                "{separator}{reason} p50 {:.0} ms, p99 {:.0} ms, maximum {:.0} ms",
                percentile(times, 50),
                percentile(times, 99),
                percentile(times, 100)
            )?;
            separator = "; ";
        }
        Ok(())
    }
}

/// The smallest time that `percent` of the sorted times do not exceed.
fn percentile(times: &[f64], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_the_smallest_time_that_is_not_exceeded() {
        let times: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&times, 50), 100.0);
        assert_eq!(percentile(&times, 99), 198.0);
        assert_eq!(percentile(&times, 100), 200.0);
        assert_eq!(percentile(&[3.0], 50), 3.0);
        assert!(percentile(&[], 99).is_nan());
    }
}
