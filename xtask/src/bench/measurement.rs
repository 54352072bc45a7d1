//! The measured times of one kind of cohort, and the statistics over them.

use serde_json::{Map, Value, json};

/// The measurements of a kind of cohort. All times are in milliseconds.
pub struct Measurement {
    pub name: &'static str,
    pub description: &'static str,
    pub persons: u64,
    /// The first preview after a start.
    pub cold: f64,
    /// From the start of the process to the result of the first preview.
    pub restart: f64,
    pub warm: Vec<f64>,
    /// The times of each peer, by name.
    pub peers: Vec<(String, Vec<f64>)>,
}

impl Measurement {
    /// The warm times of the service, or of the peer with an index.
    pub fn times_mut(&mut self, peer: Option<usize>) -> &mut Vec<f64> {
        match peer {
            Some(index) => &mut self.peers[index].1,
            None => &mut self.warm,
        }
    }

    pub fn sort_times(&mut self) {
        self.warm.sort_by(f64::total_cmp);
        for (_, times) in &mut self.peers {
            times.sort_by(f64::total_cmp);
        }
    }

    pub fn line(&self) -> String {
        let mut line = format!(
            "{:<4} {:<36} {:>8} persons  cold {:>9.2} ms  warm {:>8.3} ms ({:.3} to {:.3})",
            self.name,
            self.description,
            self.persons,
            self.cold,
            median_of_sorted(&self.warm),
            self.warm[0],
            self.warm[self.warm.len() - 1],
        );
        for (name, times) in &self.peers {
            line += &format!("  {name} {:.2}", median_of_sorted(times));
        }
        line
    }

    pub fn json(&self) -> Value {
        let peers = self
            .peers
            .iter()
            .map(|(name, times)| (name.clone(), json!(median_of_sorted(times))));
        json!({"kind": self.name, "persons": self.persons, "cold_ms": self.cold, "restart_ms": self.restart,
            "warm_ms": median_of_sorted(&self.warm), "warm_min_ms": self.warm.first(), "warm_max_ms": self.warm.last(),
            "peers_ms": peers.collect::<Map<_, _>>()})
    }
}

/// Returns the geometric mean of `times`. Times below 1 µs count as 1 µs.
pub fn geometric_mean(times: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = times.len() as f64;
    (times.map(|time| time.max(1e-3).ln()).sum::<f64>() / count).exp()
}

/// Returns the median of sorted times, or NaN if there are none.
pub fn median_of_sorted(times: &[f64]) -> f64 {
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the time that `part` of the sorted times do not exceed, or NaN if there are none.
pub fn percentile_of_sorted(times: &[f64], part: f64) -> f64 {
    let rank = (times.len() as f64 * part).ceil() as usize;
    let time = times.get(rank.saturating_sub(1));
    time.copied().unwrap_or(f64::NAN)
}

/// Sorts `times` and returns their median.
pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    median_of_sorted(times)
}
