//! Uploads: the outcome of each file of ids that was added to a static cohort.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::keys::Teammate;
use crate::pages::{PageIds, RowSize, octet_length};
use crate::schema::{cohorts, teammates, uploads};
use crate::{CohortId, Conn, JsonText, ProjectId, Result};

/// A row of `uploads`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = uploads)]
pub struct Upload {
    /// The id, unique among all cohorts.
    pub id: i64,
    /// The time of the upload.
    pub created_at: DateTime<Utc>,
    /// The outcome of the file's rows.
    #[diesel(embed)]
    pub outcome: UploadOutcome,
}

/// How many rows of a file had which outcome.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = uploads)]
pub struct UploadOutcome {
    /// The kind of id in the file, such as `distinct_id`.
    pub id_kind: String,
    /// The character between the columns; `None` for uploads before this column existed.
    pub delimiter: Option<String>,
    /// A JSON list of the columns and their use; `None` for uploads before this column existed.
    pub file_columns: Option<JsonText>,
    /// Rows of the file.
    pub rows: i64,
    /// Persons added to the cohort.
    pub added: i64,
    /// Persons of the file who were members before.
    pub already_members: i64,
    /// Rows with an id that has no person.
    pub unknown: i64,
    /// Rows that cannot be read.
    pub bad_rows: i64,
    /// Persons created for ids of the file.
    pub created_people: i64,
    /// Members removed, because the file replaced the member list.
    pub removed: i64,
    /// A JSON list of the first rows that were not added.
    pub problems: JsonText,
    /// How many more rows were not added.
    pub problems_left_out: i64,
}

/// An upload and the teammate who made it.
pub type UploadWithTeammate = (Upload, Option<Teammate>);

/// Writes the outcome of an upload in the transaction of the caller.
///
/// # Errors
///
/// Fails if the database fails.
pub fn record(
    conn: &mut Conn,
    cohort: CohortId,
    teammate: &Teammate,
    outcome: &UploadOutcome,
) -> Result<Upload> {
    Ok(diesel::insert_into(uploads::table)
        .values((
            uploads::cohort_id.eq(cohort.0),
            uploads::teammate_id.eq(teammate.id),
            uploads::created_at.eq(Utc::now()),
            outcome,
        ))
        .returning(Upload::as_returning())
        .get_result(conn)?)
}

/// The uploads of a cohort, if it belongs to the project.
#[diesel::dsl::auto_type(no_type_alias)]
fn uploads_of(project: i64, cohort: i64) -> _ {
    let ids = cohorts::table
        .filter(cohorts::project_id.eq(project).and(cohorts::id.eq(cohort)))
        .select(cohorts::id);
    uploads::table.filter(uploads::cohort_id.eq_any(ids))
}

/// The upload of the cohort with this id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    id: i64,
) -> Result<Option<UploadWithTeammate>> {
    Ok(uploads_of(project.0, cohort.0)
        .left_join(teammates::table)
        .filter(uploads::id.eq(id))
        .select((Upload::as_select(), Option::<Teammate>::as_select()))
        .first(conn)
        .optional()?)
}

/// The page of a cohort's uploads, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    limit: i64,
    offset: i64,
) -> Result<PageIds> {
    let uploads = uploads_of(project.0, cohort.0);
    let ids = uploads
        .order(uploads::id.desc())
        .limit(limit)
        .offset(offset)
        .select(uploads::id)
        .load(conn)?;
    let count = uploads.count().get_result(conn)?;
    Ok(PageIds { ids, count })
}

/// The sizes of the cohort's uploads `ids`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn sizes(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    ids: &[i64],
) -> Result<Vec<RowSize>> {
    let rows: Vec<(i64, Option<i32>)> = uploads_of(project.0, cohort.0)
        .filter(uploads::id.eq_any(ids))
        .select((
            uploads::id,
            octet_length(uploads::problems.cast::<Text>().nullable()),
        ))
        .load(conn)?;
    let sizes = rows
        .into_iter()
        .map(|(id, bytes)| RowSize::new(id, [bytes]));
    Ok(sizes.collect())
}

/// The cohort's uploads `ids`, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn by_ids(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    ids: &[i64],
) -> Result<Vec<UploadWithTeammate>> {
    Ok(uploads_of(project.0, cohort.0)
        .left_join(teammates::table)
        .filter(uploads::id.eq_any(ids))
        .order(uploads::id.desc())
        .select((Upload::as_select(), Option::<Teammate>::as_select()))
        .load(conn)?)
}

/// Deletes all uploads of a cohort except the newest `limit`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn prune(conn: &mut Conn, cohort: CohortId, limit: i64) -> Result<()> {
    let uploads = uploads::table.filter(uploads::cohort_id.eq(cohort.0));
    let newest_to_delete: Option<i64> = uploads
        .order(uploads::id.desc())
        .offset(limit)
        .select(uploads::id)
        .first(conn)
        .optional()?;
    if let Some(id) = newest_to_delete {
        diesel::delete(uploads.filter(uploads::id.le(id))).execute(conn)?;
    }
    Ok(())
}
