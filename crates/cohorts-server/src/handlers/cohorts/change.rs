//! Changes of a cohort, by PATCH or PUT.

use cohorts_api::Patch;
use cohorts_api::types::{Cohort, PatchedCohort};

use super::{definition, references, show, types};
use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::uploads::Named;
use crate::handlers::{activity, members};
use crate::store::cohorts::{self, Definition};
use crate::store::{CohortId, Conn, calculations, projects};

/// What the cohort would be after the change, before anything is locked.
pub fn foreseen(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
) -> Result<Definition, Error> {
    let found = cohorts::find(conn, caller.project.id(), id)?;
    let (row, _) = found.ok_or(Error::NotFound)?;
    definition::changed(&row.definition, body)
}

pub fn change(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
    named: Option<&Named>,
) -> Result<Cohort, Error> {
    let project = caller.project.id();
    // What cohorts say of one another is checked and changed by one request at a time.
    projects::lock(conn, project)?;
    let row = cohorts::lock(conn, project, id)?.ok_or(Error::NotFound)?;
    let retyped = !matches!(body.cohort_type, Patch::Absent);
    let refiltered = !matches!(body.filters, Patch::Absent);
    let mut definition = definition::changed(&row.definition, body)?;
    if retyped {
        types::check(conn, project, &definition)?;
    }
    if refiltered && definition.is_static {
        definition::check_frozen(&row.definition, &definition)?;
    }
    if definition.deleted && !row.definition.deleted {
        references::check_unused(conn, project, id)?;
    }
    references::check(conn, project, id, &definition)?;
    let mut upload = None;
    if let Some(named) = named {
        definition::check_takes_list(&definition)?;
        let edit = members::edit(conn, &row, |members| named.applied(members))?;
        upload = Some(named.record(conn, caller, id, &edit)?);
        activity::persons_edited(conn, caller, id, "persons_added_manually")?;
    }
    if refiltered {
        definition.cohort_type = types::stored(conn, project, &definition)?;
    }
    if definition != row.definition {
        cohorts::update(conn, id, &definition)?;
        activity::changed(conn, caller, id, &row.definition, &definition)?;
    }
    let turned_static = definition.is_static && !row.definition.is_static;
    if definition.deleted || turned_static {
        // Whoever calculates it now writes nothing more.
        calculations::next_attempt(conn, id)?;
        cohorts::cancel_calculation(conn, id)?;
    } else if !definition.is_static {
        cohorts::request_calculation(conn, id)?;
    } else if row.definition.deleted && row.last_calculation.is_none() {
        // It was deleted before it was ever filled.
        cohorts::request_snapshot(conn, id)?;
    }
    let mut changed = show::find(conn, project, id)?;
    changed.upload = upload;
    Ok(changed)
}
