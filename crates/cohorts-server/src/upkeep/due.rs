//! Which cohorts are to be calculated again: of those that are due, the ones that read something that has changed.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use cohorts_engine::Dependencies;

use crate::calculation::{MAX_ERRORS, moment};
use cohorts_store::cohorts::Cohort;
use cohorts_store::projects::{self, Project};
use cohorts_store::queue::{self, DueCohort};
use cohorts_store::{Conn, Error, ProjectId, Store, events, persons, tombstones};

/// How many cohorts that are due are looked at together, and how often at a time.
const MOST_DUE: i64 = 1_000;
const MOST_ROUNDS: usize = 20;
/// How many new events are looked at to tell whom they touch.
const MOST_EVENTS: i64 = 20_000;

/// Looks at the cohorts that are due: those that may have changed are to be calculated, the others are right as they
/// are.
pub(super) fn check_due_cohorts(store: &Store, freshness: TimeDelta) -> Result<(), Error> {
    let conn = &mut *store.connection()?;
    // What is left over is looked at the next time: there are other things to do.
    for _ in 0..MOST_ROUNDS {
        let due = queue::due(conn, Utc::now(), MAX_ERRORS, MOST_DUE)?;
        let mut by_project: HashMap<ProjectId, Vec<DueCohort>> = HashMap::new();
        let count = due.len() as i64;
        for one in due {
            by_project
                .entry(one.cohort.project())
                .or_default()
                .push(one);
        }
        for (project, due) in by_project {
            if let Err(cause) = check_project(conn, project, &due, freshness) {
                // Calculating them will tell what is wrong, on each of them.
                log::warn!(
                    "project {}: all that is due is calculated: {cause}",
                    project.0
                );
                let ids: Vec<i64> = due.iter().map(|due| due.cohort.id).collect();
                queue::request_if_idle(conn, &ids)?;
            }
        }
        if count < MOST_DUE {
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
        match changes.touch(cohort, *seen_seq, now)? {
            true => changed.push(cohort.id),
            false => unchanged.push(cohort.id),
        }
    }
    queue::request_if_idle(conn, &changed)?;
    queue::confirm(conn, &unchanged, changes.head, now, now + freshness)?;
    Ok(())
}

/// What has changed in a project since cohorts of it were calculated.
struct Changes {
    project: Project,
    head: i64,
    /// The names of events that came since; nothing where they are too many to be told.
    names: Option<HashSet<String>>,
    /// Whether people were made or changed.
    people: bool,
    /// Whether somebody has become a person, or another one, or nobody, which may touch whatever they did before.
    everyone: bool,
}

impl Changes {
    fn since(conn: &mut Conn, project: ProjectId, due: &[DueCohort]) -> Result<Changes, Error> {
        let shard_key = project.shard_key();
        let project = projects::find(conn, project)?.context("the project is missing")?;
        let head = events::log_head(conn, shard_key)?;
        let seen = due.iter().map(|due| due.seen_seq).min().unwrap_or(head);
        let is_same = seen >= head;
        Ok(Changes {
            project,
            head,
            names: match is_same {
                true => Some(HashSet::new()),
                false => events::names_since(conn, shard_key, seen, MOST_EVENTS)?,
            },
            people: !is_same && persons::at_least_changed(conn, shard_key, seen, 1)?,
            everyone: !is_same
                && (persons::any_created(conn, shard_key, seen)?
                    || !tombstones::since(conn, shard_key, seen)?.retired.is_empty()),
        })
    }

    /// Whether the members of a cohort may be others by now.
    fn touch(&self, cohort: &Cohort, seen: i64, now: DateTime<Utc>) -> Result<bool, Error> {
        let Some(last) = cohort.last_calculation else {
            return Ok(true);
        };
        // Where events are deleted in time, time changes everything.
        let deletes = self.project.event_retention_days.is_some();
        if cohort.definition.is_static || cohort.errors_calculating > 0 || deletes {
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
            !now.asks_same_instants(then) || self.reach(&now.dependencies(), seen)
        }))
    }

    fn reach(&self, dependencies: &Dependencies, seen: i64) -> bool {
        if dependencies.definitions {
            return true;
        }
        if seen >= self.head {
            return false;
        }
        if self.everyone {
            return true;
        }
        let named = |names: &HashSet<String>| {
            let any = dependencies.every_event && !names.is_empty();
            any || dependencies.events.iter().any(|name| names.contains(name))
        };
        (dependencies.persons && self.people) || self.names.as_ref().is_none_or(named)
    }
}
