//! Who changed what. An entry is written in the transaction of the change that it tells of.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::keys::Teammate;
use crate::schema::{activities, teammates};
use crate::{CohortId, Conn, JsonText, ProjectId, Result};

/// A row of `activities`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = activities)]
pub struct Entry {
    pub cohort_id: i64,
    pub activity: String,
    /// What the cohort is called after the change.
    pub name: Option<String>,
    pub changes: Option<JsonText>,
    pub created_at: DateTime<Utc>,
}

/// An entry and whose change it was.
pub type WithTeammate = (Entry, Option<Teammate>);

/// What is to be written down.
pub struct NewEntry<'a> {
    pub cohort: CohortId,
    pub activity: &'a str,
    pub name: Option<&'a str>,
    pub changes: Option<JsonText>,
}

pub fn record(
    conn: &mut Conn,
    project: ProjectId,
    teammate: &Teammate,
    entry: &NewEntry<'_>,
) -> Result<()> {
    diesel::insert_into(activities::table)
        .values((
            activities::project_id.eq(project.0),
            activities::cohort_id.eq(entry.cohort.0),
            activities::teammate_id.eq(teammate.id),
            activities::activity.eq(entry.activity),
            activities::name.eq(entry.name),
            activities::changes.eq(&entry.changes),
            activities::created_at.eq(Utc::now()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Some entries, newest first, and how many there are; of one cohort, or of all of the project.
pub fn page(
    conn: &mut Conn,
    project: ProjectId,
    cohort: Option<CohortId>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<WithTeammate>, i64)> {
    let wanted = || {
        let of_project = activities::table
            .left_join(teammates::table)
            .filter(activities::project_id.eq(project.0))
            .into_boxed();
        match cohort {
            Some(cohort) => of_project.filter(activities::cohort_id.eq(cohort.0)),
            None => of_project,
        }
    };
    let rows = wanted()
        .order(activities::id.desc())
        .limit(limit)
        .offset(offset)
        .select((Entry::as_select(), Option::<Teammate>::as_select()))
        .load(conn)?;
    Ok((rows, wanted().count().get_result(conn)?))
}
