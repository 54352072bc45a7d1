//! New cohorts, and the first members of static ones.

use std::fs::File;

use cohorts_api::types::{Cohort, CohortCreate, Upload};
use cohorts_store::changes::{self, Cause, StaticCohort};
use cohorts_store::definition::Definition;
use cohorts_store::{
    CohortId, Conn, ProjectId, Store, cohorts, members, projects, queue, tombstones, transaction,
};
use roaring::RoaringBitmap;

use super::definition::{self, CheckedDefinition};
use super::entity_tag::TaggedCohort;
use super::references::{self, References};
use super::{find, kinds};
use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::person_file::PersonFile;
use crate::handlers::uploads::{UploadOptions, UploadedPersons};
use crate::handlers::{activity_log, lookup};

/// The persons that the request lists as first members of a static cohort.
pub struct ListedPersons {
    pub person_ids: Vec<String>,
    pub upload: Option<UploadedPersons>,
}

impl ListedPersons {
    /// Returns `None` if the request lists no members. Locks the project, so that no person is deleted until the members
    /// are written.
    fn members(
        &mut self,
        conn: &mut Conn,
        project: ProjectId,
    ) -> Result<Option<RoaringBitmap>, Error> {
        if self.upload.is_none() && self.person_ids.is_empty() {
            return Ok(None);
        }
        projects::lock(conn, project)?;
        let ids = self.person_ids.iter().map(String::as_str);
        let mut persons = lookup::persons_with_uuids(conn, project.shard_key(), ids)?;
        if let Some(upload) = &mut self.upload {
            upload.resolve(conn, project.shard_key())?;
            persons |= &upload.persons;
        }
        Ok(Some(persons))
    }
}

/// Checks a definition that comes with an upload, before the file is read.
pub fn check(conn: &mut Conn, caller: &Caller, checked: &CheckedDefinition) -> Result<(), Error> {
    definition::check_accepts_upload(&checked.definition)?;
    let project = caller.project.id();
    check_references(conn, project, &mut References::new(project), checked)
}

fn check_references(
    conn: &mut Conn,
    project: ProjectId,
    references: &mut References,
    checked: &CheckedDefinition,
) -> Result<(), Error> {
    if let Some(cohorts) = &checked.query_cohorts {
        references::check_query(conn, project, cohorts)?;
    }
    kinds::check(conn, references, &checked.definition)
}

pub fn create(
    conn: &mut Conn,
    caller: &Caller,
    checked: CheckedDefinition,
    mut listed: ListedPersons,
) -> Result<TaggedCohort, Error> {
    let project = caller.project.id();
    let mut references = References::new(project);
    check_references(conn, project, &mut references, &checked)?;
    let mut definition = checked.definition;
    let mut members = None;
    if definition.is_static {
        members = listed.members(conn, project)?;
    } else if !definition.cohort_references().is_empty() {
        references.parse_ahead(conn)?;
        // The referenced cohorts are calculated with it, so their rows are locked too.
        projects::lock(conn, project)?;
    }
    definition.cohort_type = kinds::stored(conn, project, &definition)?;
    let row = cohorts::create(conn, project, &caller.teammate, &definition)?;
    references.check_new(conn, row.id(), &definition)?;
    activity_log::created(conn, caller, row.id(), &definition)?;
    let mut upload = None;
    if definition.is_static && (members.is_some() || !definition.selects_members()) {
        let members = members.unwrap_or_default();
        upload = write_members(conn, caller, &row, members, listed.upload)?;
    } else {
        request_calculation(conn, &mut references, row.id(), &definition)?;
    }
    let mut created = find(conn, project, row.id())?;
    created.cohort.upload = upload;
    Ok(created)
}

fn write_members(
    conn: &mut Conn,
    caller: &Caller,
    row: &cohorts::Cohort,
    members: RoaringBitmap,
    upload: Option<UploadedPersons>,
) -> Result<Option<Upload>, Error> {
    let cause = if upload.is_some() {
        Cause::Upload
    } else {
        Cause::Manual
    };
    let edit = changes::edit(conn, &StaticCohort::from(row), cause, |_| Ok(members))?;
    upload
        .map(|upload| upload.record(conn, caller, row.id(), &edit))
        .transpose()
}

/// Requests the first calculation. A deleted cohort is calculated when it is restored.
fn request_calculation(
    conn: &mut Conn,
    references: &mut References,
    id: CohortId,
    definition: &Definition,
) -> Result<(), Error> {
    if definition.is_static && definition.query.is_some() {
        queue::set_fill_pending_query(conn, id, definition.deleted)?;
    } else if definition.is_static {
        queue::set_fill_pending_criteria(conn, id, definition.deleted)?;
    } else if !definition.deleted {
        references.request_calculations(conn, id, definition)?;
    }
    Ok(())
}

/// Creates a static cohort from a file, as a request with the part `csv` does.
pub fn static_from_file(
    conn: &mut Conn,
    store: &Store,
    caller: &Caller,
    name: &str,
    file: File,
) -> Result<Cohort, Error> {
    let checked = definition::new(CohortCreate {
        name: Some(name.to_owned()),
        is_static: Some(true),
        ..CohortCreate::default()
    })?;
    let file = PersonFile::open(file)?;
    let options = UploadOptions::default();
    let upload = UploadedPersons::read(conn, store, caller.project.id(), file, options)?;
    let listed = ListedPersons {
        person_ids: Vec::new(),
        upload: Some(upload),
    };
    let created = transaction(conn, |conn| create(conn, caller, checked, listed))?;
    Ok(created.cohort)
}

/// Creates a static cohort with the current members of a dynamic one.
pub fn copy(conn: &mut Conn, caller: &Caller, id: CohortId) -> Result<Cohort, Error> {
    let project = caller.project.id();
    // No person is merged or deleted until the transaction ends.
    projects::lock(conn, project)?;
    let (source, _) = cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
    if source.definition.is_static {
        return Err(Error::whole(
            "Cannot duplicate a static cohort as a static cohort.",
        ));
    }
    let definition = copied_definition(source.definition)?;
    let row = cohorts::create(conn, project, &caller.teammate, &definition)?;
    activity_log::created(conn, caller, row.id(), &definition)?;
    let members = members::read(conn, project.shard_key(), id, source.member_version)?;
    let members = tombstones::all(conn, project.shard_key())?.resolved(&members);
    let copied = StaticCohort::from(&row);
    changes::edit(conn, &copied, Cause::Manual, |_| Ok(members))?;
    Ok(find(conn, project, row.id())?.cohort)
}

fn copied_definition(source: Definition) -> Result<Definition, Error> {
    let name = source.into_row().name;
    let name = name.unwrap_or("Untitled cohort".to_owned());
    let checked = definition::new(CohortCreate {
        name: Some(format!("{name} (static copy)")),
        is_static: Some(true),
        ..CohortCreate::default()
    })?;
    Ok(checked.definition)
}
