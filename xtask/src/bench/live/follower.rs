//! A reader of the feed that notes when each row arrives.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use reqwest::blocking::Client;
use serde_json::Value;

use super::probes::Probe;
use crate::service::{Access, Service};

/// A row of the feed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Seen {
    pub cohort: i64,
    pub has_entered: bool,
    pub distinct_id: String,
}

/// An open stream. Its thread ends with the service.
pub struct Follower(Receiver<(Seen, DateTime<Utc>)>);

impl Follower {
    /// Opens a stream over the later changes of some cohorts.
    pub fn start(service: &Service, access: &Access, cohorts: &[i64]) -> Result<Self> {
        let names = cohorts.iter().map(|id| format!("&cohort_id={id}"));
        let url = format!(
            "{}/api/projects/{}/cohorts/changes.sse?from=now{}",
            service.url(),
            access.project,
            names.collect::<String>()
        );
        let client = Client::builder().timeout(None).build()?;
        let response = client.get(url).bearer_auth(&access.key).send()?;
        ensure!(response.status().is_success(), "{}", response.status());
        let (sender, rows) = channel();
        thread::spawn(move || {
            for line in BufReader::new(response).lines().map_while(Result::ok) {
                let arrived = Utc::now();
                if let Some(data) = line.strip_prefix("data: ")
                    && let Some(row) = row(data)
                    && sender.send((row, arrived)).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self(rows))
    }

    /// The first arrival of each row, as soon as all probes have arrived, or after the time.
    pub fn wait_for(self, probes: &[Probe], patience: Duration) -> HashMap<Seen, DateTime<Utc>> {
        let end = Instant::now() + patience;
        let mut seen = HashMap::new();
        while !probes.iter().all(|probe| seen.contains_key(&probe.row())) {
            let rest = end.saturating_duration_since(Instant::now());
            let Ok((row, arrived)) = self.0.recv_timeout(rest) else {
                break;
            };
            seen.entry(row).or_insert(arrived);
        }
        seen
    }
}

fn row(data: &str) -> Option<Seen> {
    let row: Value = serde_json::from_str(data).ok()?;
    Some(Seen {
        cohort: row["cohort_id"].as_i64()?,
        has_entered: row["change"] == "entered",
        distinct_id: row["person"]["distinct_ids"][0].as_str()?.to_owned(),
    })
}
