//! Decides which due cohorts are calculated again: those that read data that has changed.
//!
//! The others are confirmed as current without a calculation.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use cohorts_engine::Dependencies;

use crate::calculation::moment;
use cohorts_store::cohorts::Cohort;
use cohorts_store::projects::{self, Project};
use cohorts_store::queue::{self, DueCohort};
use cohorts_store::{Conn, Error, ProjectId, Store, events, persons, tombstones};

/// The most due cohorts of one round.
const MAX_DUE: i64 = 1_000;
/// The most rounds of one check.
const MAX_ROUNDS: usize = 20;
/// If there are more new events, their names are not collected, and every cohort that reads events is calculated.
const MAX_EVENTS: i64 = 20_000;

/// Checks the due cohorts: requests calculations of those that may have other members, and confirms the others.
pub(super) fn check_due_cohorts(store: &Store, freshness: TimeDelta) -> Result<(), Error> {
    let conn = &mut *store.connection()?;
    // The rest is checked next time, so other upkeep is not delayed.
    for _ in 0..MAX_ROUNDS {
        let due = queue::due(conn, Utc::now(), MAX_DUE)?;
        let mut by_project: HashMap<ProjectId, Vec<DueCohort>> = HashMap::new();
        let count = due.len() as i64;
        for due in due {
            by_project
                .entry(due.cohort.project())
                .or_default()
                .push(due);
        }
        for (project, due) in by_project {
            let checked = (store.outages.check(project))
                .and_then(|()| check_project(conn, project, &due, freshness));
            if let Err(cause) = checked {
                // The calculations record the cause on each cohort.
                log::warn!(
                    "project {}: due cohorts were not checked, all are calculated: {cause}",
                    project.0
                );
                let ids: Vec<i64> = due.iter().map(|due| due.cohort.id).collect();
                queue::request_if_idle(conn, &ids)?;
            }
        }
        if count < MAX_DUE {
            break;
        }
    }
    Ok(())
}

fn check_project(
    conn: &mut Conn,
    project: ProjectId,
    due: &[DueCohort],
    freshness: TimeDelta,
) -> Result<(), Error> {
    let now = Utc::now();
    let changes = Changes::since(conn, project, due)?;
    let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
    for DueCohort { cohort, seen_seq } in due {
        if changes.affect(cohort, *seen_seq, now)? {
            changed.push(cohort.id);
        } else {
            unchanged.push(cohort.id);
        }
    }
    queue::request_if_idle(conn, &changed)?;
    queue::confirm(conn, &unchanged, changes.log_head, now, now + freshness)?;
    Ok(())
}

/// What has changed in a project since the first of its due cohorts was calculated.
struct Changes {
    project: Project,
    log_head: i64,
    /// The names of new events; `None` if there are too many events.
    event_names: Option<HashSet<String>>,
    /// Whether persons were created or changed.
    has_person_changes: bool,
    /// Whether persons were created, merged or deleted. Their earlier events may then count differently.
    has_identity_changes: bool,
}

impl Changes {
    fn since(conn: &mut Conn, project: ProjectId, due: &[DueCohort]) -> Result<Changes, Error> {
        let shard_key = project.shard_key();
        let project = projects::find(conn, project)?.context("the project is missing")?;
        let log_head = events::log_head(conn, shard_key)?;
        let first_seen = due.iter().map(|due| due.seen_seq).min();
        let first_seen = first_seen.unwrap_or(log_head);
        let is_same = first_seen >= log_head;
        Ok(Changes {
            project,
            log_head,
            event_names: if is_same {
                Some(HashSet::new())
            } else {
                events::names_since(conn, shard_key, first_seen, MAX_EVENTS)?
            },
            has_person_changes: !is_same
                && persons::at_least_changed(conn, shard_key, first_seen, 1)?,
            has_identity_changes: !is_same
                && (persons::any_created(conn, shard_key, first_seen)?
                    || !tombstones::since(conn, shard_key, first_seen)?
                        .retired
                        .is_empty()),
        })
    }

    /// Whether the members of a cohort may have changed since sequence number `seen_seq`.
    fn affect(&self, cohort: &Cohort, seen_seq: i64, now: DateTime<Utc>) -> Result<bool, Error> {
        let Some(last) = cohort.last_calculation else {
            return Ok(true);
        };
        // With a retention, events leave the project as time passes.
        let has_retention = self.project.event_retention_days.is_some();
        if cohort.definition.is_static || cohort.errors_calculating > 0 || has_retention {
            return Ok(true);
        }
        let at = |time: DateTime<Utc>| {
            let moment = moment(&self.project, time.timestamp_micros())?;
            Ok::<_, Error>(cohort.plans(&moment).ok())
        };
        let (Some(then), Some(now)) = (at(last)?, at(now)?) else {
            return Ok(true);
        };
        let mut plans = now.iter().zip(&then);
        Ok(plans.any(|(now, then)| {
            !now.asks_same_instants(then) || self.affect_any(&now.dependencies(), seen_seq)
        }))
    }

    fn affect_any(&self, dependencies: &Dependencies, seen_seq: i64) -> bool {
        if dependencies.definitions {
            return true;
        }
        if seen_seq >= self.log_head {
            return false;
        }
        if self.has_identity_changes {
            return true;
        }
        let is_read = |names: &HashSet<String>| {
            let reads_all = dependencies.every_event && !names.is_empty();
            reads_all || dependencies.events.iter().any(|name| names.contains(name))
        };
        (dependencies.persons && self.has_person_changes)
            || self.event_names.as_ref().is_none_or(is_read)
    }
}
