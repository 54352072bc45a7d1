//! Requests calculations of the due cohorts: those that no pass includes, because they failed or need a full evaluation.

use chrono::Utc;
use cohorts_store::queue;
use cohorts_store::{Error, Store};

/// The most due cohorts of one round.
const MAX_DUE: i64 = 1_000;
/// The most rounds of one check.
const MAX_ROUNDS: usize = 20;

/// Requests calculations of the due cohorts. The rest is requested next time, so other upkeep is not delayed.
pub(super) fn request_due_cohorts(store: &Store) -> Result<(), Error> {
    let conn = &mut *store.connection()?;
    for _ in 0..MAX_ROUNDS {
        let due = queue::due(conn, Utc::now(), MAX_DUE)?;
        queue::request_if_idle(conn, &due)?;
        if (due.len() as i64) < MAX_DUE {
            break;
        }
    }
    Ok(())
}
