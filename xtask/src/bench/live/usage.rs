//! What a service has used and done: CPU time of the process, and counters of its metrics.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::service::Service;

/// The clock ticks of a second in `/proc`.
const TICKS: f64 = 100.0;

/// The CPU time of a process at an instant.
pub struct Usage {
    at: Instant,
    seconds: f64,
}

impl Usage {
    pub fn of(service: &Service) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{}/stat", service.pid()))?;
        // The name of the program, in parentheses, may contain blanks.
        let (_, fields) = text.rsplit_once(')').context("no name in the status")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || -> Result<f64> {
            let field = fields.next().context("no times in the status")?;
            Ok(field.parse()?)
        };
        Ok(Self {
            at: Instant::now(),
            seconds: (ticks()? + ticks()?) / TICKS,
        })
    }

    /// The average number of busy cores since an earlier instant.
    pub fn cores_since(&self, earlier: &Usage) -> f64 {
        (self.seconds - earlier.seconds) / (self.at - earlier.at).as_secs_f64()
    }
}

/// Counters of passes.
pub struct LiveCounters {
    pub passes: f64,
    pub touched: f64,
    /// Cohorts that were handed over to a full calculation.
    pub full: f64,
    pub log_bytes: f64,
    pub statements: f64,
}

impl LiveCounters {
    pub fn read(service: &Service) -> Result<Self> {
        let text = service.get_without_key("/metrics")?;
        let sum = |name: &str| -> f64 {
            let values = text.lines().filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let is_whole = rest.starts_with([' ', '{']);
                let value = is_whole.then(|| rest.rsplit(' ').next())??;
                value.parse::<f64>().ok()
            });
            values.sum()
        };
        Ok(Self {
            passes: sum("cohorts_passes_total"),
            touched: sum("cohorts_touched_persons_total"),
            full: sum("cohorts_full_evaluations_total"),
            log_bytes: sum("cohorts_change_log_bytes"),
            statements: sum("cohorts_database_statements_total"),
        })
    }

    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            passes: self.passes - earlier.passes,
            touched: self.touched - earlier.touched,
            full: self.full - earlier.full,
            log_bytes: self.log_bytes - earlier.log_bytes,
            statements: self.statements - earlier.statements,
        }
    }
}
