//! Changes of a cohort, by PATCH or PUT.

use cohorts_api::Patch;
use cohorts_api::types::{Cohort, PatchedCohort, Upload};

use super::{definition, references, show, types};
use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::activity;
use crate::handlers::uploads::Named;
use cohorts_store::cohorts;
use cohorts_store::definition::Definition;
use cohorts_store::{CohortId, Conn, members, projects, queue, tombstones};

/// Checks what needs no members, before an upload is read.
pub fn check(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
) -> Result<(), Error> {
    let found = cohorts::find(conn, caller.project.id(), id)?;
    let (row, _) = found.ok_or(Error::NotFound)?;
    let definition = checked(conn, caller, &row, body)?;
    definition::check_takes_list(&definition)
}

/// The definition after the change, if it may be.
fn checked(
    conn: &mut Conn,
    caller: &Caller,
    row: &cohorts::Cohort,
    body: PatchedCohort,
) -> Result<Definition, Error> {
    let project = caller.project.id();
    let retyped = !matches!(body.cohort_type, Patch::Absent);
    let refiltered = !matches!(body.filters, Patch::Absent);
    let queried = matches!(body.query, Patch::Value(_));
    let mut definition = definition::changed(&row.definition, body)?;
    if queried {
        references::check_query(conn, project, &definition)?;
    }
    if retyped {
        types::check(conn, project, &definition)?;
    }
    if refiltered && definition.is_static {
        definition::check_frozen(&row.definition, &definition)?;
    }
    if definition.deleted && !row.definition.deleted {
        references::check_unused(conn, project, row.id())?;
    }
    references::check(conn, project, row.id(), &definition)?;
    if refiltered {
        definition.cohort_type = types::stored(conn, project, &definition)?;
    }
    Ok(definition)
}

pub fn change(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
    named: Option<Named>,
) -> Result<Cohort, Error> {
    let project = caller.project.id();
    // What cohorts say of one another is checked and changed by one request at a time.
    projects::lock(conn, project)?;
    let mut row = cohorts::lock(conn, project, id)?.ok_or(Error::NotFound)?;
    let queried = matches!(body.query, Patch::Value(_));
    let definition = checked(conn, caller, &row, body)?;
    let turned_static = definition.is_static && !row.definition.is_static;
    if turned_static {
        // From now on it is a list, in which whoever was merged stands as whom they became.
        let tombstones = tombstones::all(conn, project.shard_key())?;
        members::edit(conn, &(&row).into(), |members| {
            Ok(tombstones.resolved(&members))
        })?;
        // What is changed next builds on these members.
        row = cohorts::lock(conn, project, id)?.ok_or(Error::NotFound)?;
    }
    if row.definition.is_static && !definition.is_static {
        queue::clear_pending_fills(conn, id)?;
    }
    let mut upload = None;
    if let Some(named) = named {
        definition::check_takes_list(&definition)?;
        upload = Some(apply(conn, caller, &row, named)?);
    }
    if definition != row.definition {
        cohorts::update(conn, id, &definition)?;
        activity::changed(conn, caller, id, &row.definition, &definition)?;
    }
    if definition.deleted || turned_static {
        // Whoever calculates it now writes nothing more.
        queue::next_attempt(conn, id)?;
        queue::cancel_calculation(conn, id)?;
    }
    if definition.is_static {
        owe(conn, &row, &definition, queried)?;
    } else if !definition.deleted {
        let mut asked = references::related(conn, project, id, &definition)?;
        asked.insert(id.0);
        queue::request_calculations(conn, &Vec::from_iter(asked))?;
    }
    let mut changed = show::find(conn, project, id)?;
    changed.upload = upload;
    Ok(changed)
}

/// What a static cohort lacks after a change, and whether that is calculated now.
fn owe(
    conn: &mut Conn,
    row: &cohorts::Cohort,
    definition: &Definition,
    queried: bool,
) -> Result<(), Error> {
    if queried {
        // Whom it finds is added, whatever is calculated now.
        queue::set_fill_pending_query(conn, row.id(), definition.deleted)?;
    } else if definition.query.is_none() && row.fill_pending_query {
        // A calculation under way is about the query that is gone.
        queue::next_attempt(conn, row.id())?;
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
    mut named: Named,
) -> Result<Upload, Error> {
    named.forget(conn, row.project().shard_key())?;
    let edit = members::edit(conn, &row.into(), |members| Ok(named.applied(members)))?;
    let upload = named.record(conn, caller, row.id(), &edit)?;
    if upload.added > 0 {
        activity::persons_edited(conn, caller, row.id(), "persons_added_manually")?;
    } else if upload.removed > 0 {
        activity::persons_edited(conn, caller, row.id(), "person_removed_manually")?;
    }
    Ok(upload)
}
