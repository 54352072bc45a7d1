//! New cohorts, and whom a static one begins with.

use cohorts_api::types::{Cohort, CohortCreate};
use roaring::RoaringBitmap;

use super::{definition, references, show, types};
use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::activity;
use crate::handlers::members::known;
use crate::handlers::uploads::Named;
use cohorts_store::cohorts;
use cohorts_store::definition::Definition;
use cohorts_store::members::{self, StaticCohort};
use cohorts_store::{CohortId, Conn, ProjectId, projects, queue, tombstones};

/// Whom a new static cohort is filled with, beside what its criteria or its query find.
pub struct First {
    pub person_ids: Vec<String>,
    pub named: Option<Named>,
}

impl First {
    /// Nothing where no members are listed.
    fn members(
        &mut self,
        conn: &mut Conn,
        project: ProjectId,
    ) -> Result<Option<RoaringBitmap>, Error> {
        if self.named.is_none() && self.person_ids.is_empty() {
            return Ok(None);
        }
        // Nobody is deleted from here on, so whom we find is there when the cohort is.
        projects::lock(conn, project)?;
        let ids = self.person_ids.iter().map(String::as_str);
        let mut people = known(conn, project.shard_key(), ids)?;
        if let Some(named) = &mut self.named {
            named.forget(conn, project.shard_key())?;
            people |= &named.people;
        }
        Ok(Some(people))
    }
}

/// Checks what needs no members, before an upload is read.
pub fn check(conn: &mut Conn, caller: &Caller, definition: &Definition) -> Result<(), Error> {
    definition::check_takes_list(definition)?;
    references::check_query(conn, caller.project.id(), definition)?;
    types::check(conn, caller.project.id(), definition)
}

pub fn create(
    conn: &mut Conn,
    caller: &Caller,
    mut definition: Definition,
    mut first: First,
) -> Result<Cohort, Error> {
    let project = caller.project.id();
    references::check_query(conn, project, &definition)?;
    types::check(conn, project, &definition)?;
    let listed = match definition.is_static {
        true => first.members(conn, project)?,
        false => None,
    };
    if !definition.is_static && references::names_any(&definition) {
        // They are calculated with it, so their rows are locked too.
        projects::lock(conn, project)?;
    }
    definition.cohort_type = types::stored(conn, project, &definition)?;
    let cohort = cohorts::create(conn, project, &caller.teammate, &definition)?;
    activity::created(conn, caller, cohort.id(), &definition)?;
    let mut upload = None;
    if definition.is_static && (listed.is_some() || !definition.selects_members()) {
        let edit = members::edit(conn, &StaticCohort::from(&cohort), |_| {
            Ok(listed.unwrap_or_default())
        })?;
        if let Some(named) = &first.named {
            upload = Some(named.record(conn, caller, cohort.id(), &edit)?);
        }
    } else if definition.is_static && definition.query.is_some() {
        queue::set_fill_pending_query(conn, cohort.id(), definition.deleted)?;
    } else if definition.is_static {
        queue::set_fill_pending_criteria(conn, cohort.id(), definition.deleted)?;
    } else if definition.deleted {
        // It is calculated when it is restored.
    } else {
        let mut asked = references::related(conn, project, cohort.id(), &definition)?;
        asked.insert(cohort.id);
        queue::request_calculations(conn, &Vec::from_iter(asked))?;
    }
    let mut made = show::find(conn, project, cohort.id())?;
    made.upload = upload;
    Ok(made)
}

/// Makes a static cohort of the members that a dynamic one has now.
pub fn copy(conn: &mut Conn, caller: &Caller, id: CohortId) -> Result<Cohort, Error> {
    let project = caller.project.id();
    // Nobody is merged or deleted meanwhile.
    projects::lock(conn, project)?;
    let (source, _) = cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
    if source.definition.is_static {
        return Err(Error::whole(
            "Cannot duplicate a static cohort as a static cohort.",
        ));
    }
    let name = source
        .definition
        .into_row()
        .name
        .unwrap_or("Untitled cohort".to_owned());
    let definition = definition::new(CohortCreate {
        name: Some(format!("{name} (static copy)")),
        is_static: Some(true),
        ..CohortCreate::default()
    })?;
    let made = cohorts::create(conn, project, &caller.teammate, &definition)?;
    activity::created(conn, caller, made.id(), &definition)?;
    let found = members::read(conn, project.shard_key(), id, source.member_version)?;
    let found = tombstones::all(conn, project.shard_key())?.resolved(&found);
    members::edit(conn, &StaticCohort::from(&made), |_| Ok(found))?;
    show::find(conn, project, made.id())
}
