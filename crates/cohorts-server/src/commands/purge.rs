//! `cohorts purge`: deletes cohorts for good that were marked as deleted some time ago, and forgets persons that were
//! deleted before that time, with the changes that name them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use chrono::{DateTime, TimeDelta, Utc};
use cohorts_engine::plan_query;
use cohorts_store::changes::retention::{self, PurgedMembers};
use cohorts_store::changes::{plan_purge, purge as purge_persons};
use cohorts_store::projects::{self, Project};
use cohorts_store::purge::{self, CohortRows, DefinedCohort, DeletedCohort};
use cohorts_store::{Conn, Error, ProjectId, transaction};

use super::output::{counted, print};
use super::progress::Progress;
use crate::calculation::moment;
use crate::{Data, Days};

/// Cohorts that are deleted in one transaction.
const COHORTS: usize = 50;
/// Rows that are deleted in one transaction.
const STEP: i64 = 5_000;
/// Chunks of members that are deleted in one transaction.
const CHUNKS: i64 = 200;

/// The deleted cohorts of a project, divided into those that a purge removes and those that it keeps.
#[derive(Debug, Default, PartialEq, Eq)]
struct PurgePlan {
    /// The cohorts to delete.
    cohorts: Vec<DeletedCohort>,
    /// Deleted cohorts that remaining cohorts refer to, each with the id of one of these.
    kept: Vec<(DeletedCohort, i64)>,
}

/// The numbers of deleted rows.
#[derive(Clone, Copy, Debug, Default)]
struct Purged {
    cohorts: usize,
    rows: CohortRows,
    /// Deleted persons that the change log names no more.
    persons: u64,
}

impl Purged {
    fn describe(&self) -> String {
        let Self { cohorts, rows, .. } = self;
        let counted = |count: usize, noun| counted(count as u64, noun);
        format!(
            "{} with {}, {}, {}, {}, {} and {}",
            counted(*cohorts, "cohort"),
            counted(rows.members.chunks, "member chunk"),
            counted(rows.members.changes, "change"),
            counted(rows.members.sizes, "size"),
            counted(rows.calculations, "calculation"),
            counted(rows.uploads, "upload"),
            counted(rows.activities, "activity entry").replace("entrys", "entries")
        )
    }
}

/// Purges the cohorts of a project, or of all projects, that were deleted at least `age` ago.
///
/// `is_dry_run` only prints what would be deleted.
///
/// # Errors
///
/// Fails if there is no such project, or the database is not available.
pub fn run(
    data: &Data,
    project: Option<i64>,
    Days(age): Days,
    is_dry_run: bool,
) -> anyhow::Result<()> {
    let conn = &mut *data.store.connection()?;
    let deleted_before = Utc::now() - TimeDelta::days(age.into());
    let projects = match project {
        None => projects::all(conn)?,
        Some(id) => vec![ProjectId(id)],
    };
    let mut total = Purged::default();
    for id in projects {
        let row = projects::find(conn, id)?;
        ensure!(
            row.is_some() || project.is_none(),
            "there is no project {}",
            id.0
        );
        // Another command may have deleted the project meanwhile.
        let Some(row) = row else { continue };
        let purged = if is_dry_run {
            show(conn, &row, deleted_before)?
        } else {
            purge(conn, &row, deleted_before)?
        };
        total.cohorts += purged.cohorts;
        total.rows += purged.rows;
        total.persons += forget_persons(conn, id, deleted_before, is_dry_run)?;
    }
    let verb = if is_dry_run {
        "This would purge"
    } else {
        "Purged"
    };
    print(format!("{verb} {}", total.describe()))?;
    if total.persons > 0 {
        let persons = counted(total.persons, "deleted person");
        print(format!(
            "{verb} the ids of {persons}, and the changes that name them"
        ))?;
    }
    Ok(())
}

/// Forgets the deleted persons of a project that no change since a time names, and returns their number.
fn forget_persons(
    conn: &mut Conn,
    project: ProjectId,
    time: DateTime<Utc>,
    is_dry_run: bool,
) -> Result<u64, Error> {
    let plan = plan_purge(conn, project, time)?;
    if !is_dry_run {
        purge_persons(conn, project, &plan)?;
    }
    Ok(plan.count())
}

/// Prints the cohorts of a project that a purge would delete, and those that it would keep.
fn show(
    conn: &mut Conn,
    project: &Project,
    deleted_before: DateTime<Utc>,
) -> anyhow::Result<Purged> {
    let plan = plan(conn, project, deleted_before)?;
    let mut purged = Purged::default();
    for cohort in &plan.cohorts {
        print(format!("project {}: {}", project.id, named(cohort)))?;
        purged.cohorts += 1;
        purged.rows += purge::count(conn, project.id(), &[cohort.id])?;
    }
    print_kept(project, &plan)?;
    Ok(purged)
}

/// Deletes cohorts of a project in steps.
fn purge(
    conn: &mut Conn,
    project: &Project,
    deleted_before: DateTime<Utc>,
) -> anyhow::Result<Purged> {
    let mut progress = Progress::new(&format!("purging project {}", project.id), None);
    let plan = plan(conn, project, deleted_before)?;
    let mut purged = Purged::default();
    let mut kept = plan.kept.clone();
    for cohorts in plan.cohorts.chunks(COHORTS) {
        let ids: Vec<i64> = cohorts.iter().map(|cohort| cohort.id).collect();
        purged.rows += delete_history(conn, &ids)?;
        purged.cohorts += delete_cohorts(conn, project, deleted_before, &ids, &mut kept)?;
        progress.set(0, purged.describe());
    }
    for cohort in purge::orphans(conn, project.id())? {
        loop {
            let deleted = retention::delete_of_cohort(conn, project.id(), cohort, CHUNKS)?;
            purged.rows.members += deleted;
            progress.set(0, purged.describe());
            if deleted == PurgedMembers::default() {
                break;
            }
        }
    }
    drop(progress);
    print_kept(
        project,
        &PurgePlan {
            kept,
            ..PurgePlan::default()
        },
    )?;
    Ok(purged)
}

fn delete_history(conn: &mut Conn, ids: &[i64]) -> Result<CohortRows, Error> {
    let mut deleted = CohortRows::default();
    loop {
        let step = purge::delete_history(conn, ids, STEP)?;
        if step == CohortRows::default() {
            return Ok(deleted);
        }
        deleted += step;
    }
}

/// Deletes those of the cohorts `ids` that are still to be purged, under the lock of the project: one may have been
/// restored, or another cohort may refer to it now.
fn delete_cohorts(
    conn: &mut Conn,
    project: &Project,
    deleted_before: DateTime<Utc>,
    ids: &[i64],
    kept: &mut Vec<(DeletedCohort, i64)>,
) -> Result<usize, Error> {
    transaction(conn, |conn| {
        projects::lock(conn, project.id())?;
        let plan = plan(conn, project, deleted_before)?;
        let to_purge = plan.cohorts.iter().map(|cohort| cohort.id);
        let to_purge: Vec<i64> = to_purge.filter(|id| ids.contains(id)).collect();
        let newly_kept = plan
            .kept
            .into_iter()
            .filter(|(cohort, _)| ids.contains(&cohort.id));
        kept.extend(newly_kept);
        purge::delete_rows(conn, &to_purge)
    })
}

fn plan(
    conn: &mut Conn,
    project: &Project,
    deleted_before: DateTime<Utc>,
) -> Result<PurgePlan, Error> {
    let candidates = purge::deleted_before(conn, project.id(), deleted_before)?;
    if candidates.is_empty() {
        return Ok(PurgePlan::default());
    }
    let mut references = BTreeMap::new();
    for cohort in purge::defined(conn, project.id())? {
        references.insert(cohort.id, references_of(project, &cohort));
    }
    Ok(plan_of(candidates, &references))
}

/// The cohorts that a calculation of the cohort reads.
fn references_of(project: &Project, cohort: &DefinedCohort) -> BTreeSet<i64> {
    let mut references = cohort.definition.cohort_references();
    if let Ok(filter) = cohort.definition.filter() {
        references.extend(filter.cohort_references());
    }
    if let Some(query) = cohort
        .definition
        .query
        .as_ref()
        .filter(|_| cohort.fill_pending_query)
        && let Ok(now) = moment(project, Utc::now().timestamp_micros())
        && let Ok(plan) = plan_query(&query.parse(), &now)
    {
        references.extend(plan.cohort_references());
    }
    references
}

/// Splits the candidates into those to purge and those to keep. A kept cohort keeps those that it refers to.
fn plan_of(candidates: Vec<DeletedCohort>, references: &BTreeMap<i64, BTreeSet<i64>>) -> PurgePlan {
    let mut to_purge: BTreeSet<i64> = candidates.iter().map(|cohort| cohort.id).collect();
    let mut kept_for: BTreeMap<i64, i64> = BTreeMap::new();
    let mut remaining: Vec<i64> = references
        .keys()
        .copied()
        .filter(|id| !to_purge.contains(id))
        .collect();
    while let Some(id) = remaining.pop() {
        for referenced in references.get(&id).into_iter().flatten() {
            if to_purge.remove(referenced) {
                kept_for.insert(*referenced, id);
                remaining.push(*referenced);
            }
        }
    }
    let mut plan = PurgePlan::default();
    for cohort in candidates {
        match kept_for.get(&cohort.id) {
            Some(user) => plan.kept.push((cohort, *user)),
            None => plan.cohorts.push(cohort),
        }
    }
    plan
}

fn print_kept(project: &Project, plan: &PurgePlan) -> anyhow::Result<()> {
    plan.kept.iter().try_for_each(|(cohort, user)| {
        print(format!(
            "project {}: {} is kept, because cohort {user} refers to it",
            project.id,
            named(cohort)
        ))
    })
}

fn named(cohort: &DeletedCohort) -> String {
    match cohort.name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => format!("cohort {} ({})", cohort.id, name.escape_debug()),
        None => format!("cohort {}", cohort.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cohorts_that_remaining_ones_need_are_kept_with_those_that_these_need() {
        let cohort = |id| DeletedCohort { id, name: None };
        // 1 remains. It refers to 2, which refers to 3 and 4. 5 and 6 refer to each other.
        let references = [(1, vec![2]), (2, vec![3, 4]), (5, vec![6, 3]), (6, vec![5])];
        let references = references.map(|(id, ids)| (id, BTreeSet::from_iter(ids)));
        let plan = plan_of((2..=6).map(cohort).collect(), &BTreeMap::from(references));
        let ids = |cohorts: &[DeletedCohort]| -> Vec<i64> {
            cohorts.iter().map(|cohort| cohort.id).collect()
        };
        assert_eq!(ids(&plan.cohorts), [5, 6]);
        let kept: Vec<(i64, i64)> = plan
            .kept
            .iter()
            .map(|(cohort, user)| (cohort.id, *user))
            .collect();
        assert_eq!(kept, [(2, 1), (3, 2), (4, 2)]);
    }
}
