//! Changes of a cohort, by PATCH or PUT.

use cohorts_api::Patch;
use cohorts_api::types::{Cohort, PatchedCohort, Upload};
use cohorts_store::changes::{self, Cause};
use cohorts_store::definition::Definition;
use cohorts_store::{CohortId, Conn, cohorts, projects, queue, tombstones};

use super::definition::CheckedDefinition;
use super::references::{self, References};
use super::{definition, find, kinds};
use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::activity_log;
use crate::handlers::uploads::UploadedPersons;
use crate::kill_points::KillPoint;

/// Checks a change that comes with an upload, before the file is read.
pub fn check(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
) -> Result<(), Error> {
    let row = cohorts::find(conn, caller.project.id(), id)?;
    let (row, _) = row.ok_or(Error::NotFound)?;
    let mut references = References::new(row.project());
    let checked = checked(conn, &mut references, &row, body)?;
    definition::check_accepts_upload(&checked.definition)
}

/// The definition after the change. Fails if the change is not allowed.
fn checked(
    conn: &mut Conn,
    references: &mut References,
    row: &cohorts::Cohort,
    body: PatchedCohort,
) -> Result<CheckedDefinition, Error> {
    let project = row.project();
    let has_type = !matches!(body.cohort_type, Patch::Absent);
    let has_filters = !matches!(body.filters, Patch::Absent);
    let has_query = !matches!(body.query, Patch::Absent);
    let mut checked = definition::changed(&row.definition, body)?;
    if let Some(cohorts) = &checked.query_cohorts {
        references::check_query(conn, project, cohorts)?;
    }
    let definition = &mut checked.definition;
    if has_type {
        kinds::check(conn, references, definition)?;
    }
    if has_filters && definition.is_static {
        definition::check_frozen(&row.definition, definition)?;
    }
    if definition.deleted && !row.definition.deleted {
        references::check_unused(conn, project, row.id())?;
    }
    references.check(conn, row.id(), definition)?;
    let was_by_query = row.definition.live_query().is_some();
    let is_by_query = definition.live_query().is_some();
    if was_by_query && !is_by_query && !definition.is_static && !has_type {
        definition.cohort_type = None;
    }
    if has_filters || has_query || was_by_query != is_by_query {
        definition.cohort_type = kinds::stored(conn, project, definition)?;
    }
    Ok(checked)
}

pub fn change(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
    upload: Option<UploadedPersons>,
) -> Result<Cohort, Error> {
    let project = caller.project.id();
    let mut references = References::new(project);
    let (row, _) = cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
    if !row.definition.is_static {
        references.parse_ahead(conn)?;
    }
    // References between cohorts are checked and changed by one request at a time.
    projects::lock(conn, project)?;
    let mut row = cohorts::lock(conn, project, id)?.ok_or(Error::NotFound)?;
    let checked = checked(conn, &mut references, &row, body)?;
    let has_query = checked.query_cohorts.is_some();
    let definition = checked.definition;
    let becomes_static = definition.is_static && !row.definition.is_static;
    if becomes_static {
        resolve_members(conn, &row)?;
        // The upload below edits these members.
        row = cohorts::lock(conn, project, id)?.ok_or(Error::NotFound)?;
    }
    if row.definition.is_static && !definition.is_static {
        queue::clear_pending_fills(conn, id)?;
    }
    let mut applied = None;
    if let Some(upload) = upload {
        definition::check_accepts_upload(&definition)?;
        applied = Some(apply(conn, caller, &row, upload)?);
    }
    if definition != row.definition {
        cohorts::update(conn, id, &definition)?;
        activity_log::changed(conn, caller, id, &row.definition, &definition)?;
    }
    if definition.deleted || becomes_static {
        // A running calculation must not publish its members.
        queue::revoke_claim(conn, id)?;
        queue::cancel_calculation(conn, id)?;
    }
    if definition.is_static {
        update_pending_fill(conn, &row, &definition, has_query)?;
    } else if !definition.deleted {
        references.request_calculations(conn, id, &definition)?;
    }
    let mut cohort = find(conn, project, id)?;
    cohort.upload = applied;
    Ok(cohort)
}

/// Replaces merged members of a cohort that becomes static by their survivors, because no later calculation does it.
fn resolve_members(conn: &mut Conn, row: &cohorts::Cohort) -> Result<(), Error> {
    let tombstones = tombstones::all(conn, row.project().shard_key())?;
    changes::edit(conn, &row.into(), Cause::Merge, |members| {
        Ok(tombstones.resolved(&members))
    })?;
    Ok(())
}

/// Updates which members a static cohort still lacks, and requests their calculation.
fn update_pending_fill(
    conn: &mut Conn,
    row: &cohorts::Cohort,
    definition: &Definition,
    has_query: bool,
) -> Result<(), Error> {
    if has_query {
        // The members of the query are added, even if a calculation is running.
        queue::set_fill_pending_query(conn, row.id(), definition.deleted)?;
    } else if definition.query.is_none() && row.fill_pending_query {
        // A running calculation evaluates the removed query.
        queue::revoke_claim(conn, row.id())?;
        queue::clear_fill_pending_query(conn, row.id())?;
        if !definition.deleted {
            queue::request_pending_fill(conn, row.id())?;
        }
    } else if row.definition.deleted && !definition.deleted {
        queue::request_pending_fill(conn, row.id())?;
    }
    Ok(())
}

/// Changes the members by an upload.
fn apply(
    conn: &mut Conn,
    caller: &Caller,
    row: &cohorts::Cohort,
    mut upload: UploadedPersons,
) -> Result<Upload, Error> {
    upload.resolve(conn, row.project().shard_key())?;
    let change = |members| Ok(upload.applied(members));
    let edit = changes::edit(conn, &row.into(), Cause::Upload, change)?;
    let applied = upload.record(conn, caller, row.id(), &edit)?;
    if applied.added > 0 {
        activity_log::persons_edited(conn, caller, row.id(), "persons_added_manually")?;
    } else if applied.removed > 0 {
        activity_log::persons_edited(conn, caller, row.id(), "person_removed_manually")?;
    }
    KillPoint::UploadWritten.reached();
    Ok(applied)
}
