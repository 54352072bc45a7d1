//! Requests calculations of the due cohorts: those that no pass includes, because they failed or need a full evaluation.

use chrono::Utc;
use cohorts_store::{Error, queue};

use crate::index::IndexedStore;

/// The most due cohorts of one round.
const MAX_DUE: i64 = 1_000;
/// The most rounds of one check.
const MAX_ROUNDS: usize = 20;

/// Requests calculations of the due cohorts. The rest is requested next time, so other upkeep is not delayed.
pub(super) fn request_due_cohorts(store: &IndexedStore) -> Result<(), Error> {
    let conn = &mut *store.connection()?;
    let looks = &store.signals.looks;
    for _ in 0..MAX_ROUNDS {
        let now = Utc::now();
        let due = queue::due(conn, now, MAX_DUE)?;
        if !due.is_empty() {
            queue::request_if_idle(conn, &due)?;
            looks.calculations.soon();
        }
        if (due.len() as i64) < MAX_DUE {
            if let Some(time) = queue::next_due_time(conn, now)? {
                looks.upkeep.due(time);
            }
            return Ok(());
        }
    }
    looks.upkeep.soon();
    Ok(())
}
