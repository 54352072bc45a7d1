//! Projects: a name, a time zone, a token for capture.

use chrono::{DateTime, Days, Utc};
use diesel::prelude::*;

use crate::schema::projects;
use crate::{Conn, ProjectId, Result, segments, transaction};

/// A row of `projects`.
#[derive(Clone, Debug, Queryable, Selectable)]
pub struct Project {
    pub id: i64,
    pub name: String,
    /// An IANA name.
    pub time_zone: String,
    /// `phc_…`; it is no secret, browsers carry it.
    pub token: String,
    pub created_at: DateTime<Utc>,
    /// Events that happened longer ago are deleted; all are kept where it is absent.
    pub event_retention_days: Option<i32>,
    /// How often that was changed.
    pub retention_changes: i64,
}

impl Project {
    pub fn id(&self) -> ProjectId {
        ProjectId(self.id)
    }

    /// What happened before that is not kept.
    pub fn oldest_event(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        oldest_event(self.event_retention_days, now)
    }
}

/// What happened before that is not kept, where events are kept so many days.
pub fn oldest_event(days: Option<i32>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    now.checked_sub_days(Days::new(days?.try_into().ok()?))
}

/// Makes a project. `time_zone` must be an IANA name already checked.
pub fn create(conn: &mut Conn, name: &str, time_zone: &str, token: &str) -> Result<Project> {
    Ok(diesel::insert_into(projects::table)
        .values((
            projects::name.eq(name),
            projects::time_zone.eq(time_zone),
            projects::token.eq(token),
        ))
        .returning(Project::as_returning())
        .get_result(conn)?)
}

/// Sets how long events are kept, or that all are; tells whether there is such a project.
pub fn set_retention(conn: &mut Conn, id: ProjectId, days: Option<i32>) -> Result<bool> {
    transaction(conn, |conn| {
        let changed = diesel::update(projects::table.find(id.0))
            .set((
                projects::event_retention_days.eq(days),
                projects::retention_changes.eq(projects::retention_changes + 1),
            ))
            .execute(conn)?;
        // Blocks may hold events that were, or will be, deleted.
        segments::drop_all(conn, id.shard_key())?;
        Ok(changed == 1)
    })
}

/// All projects.
pub fn all(conn: &mut Conn) -> Result<Vec<ProjectId>> {
    let ids = projects::table.order(projects::id).select(projects::id);
    Ok(ids.load(conn)?.into_iter().map(ProjectId).collect())
}

/// The projects of which not all events are kept.
pub fn with_retention(conn: &mut Conn) -> Result<Vec<Project>> {
    Ok(projects::table
        .filter(projects::event_retention_days.is_not_null())
        .order(projects::id)
        .select(Project::as_select())
        .load(conn)?)
}

pub fn find(conn: &mut Conn, id: ProjectId) -> Result<Option<Project>> {
    Ok(projects::table
        .find(id.0)
        .select(Project::as_select())
        .first(conn)
        .optional()?)
}

pub fn find_by_token(conn: &mut Conn, token: &str) -> Result<Option<Project>> {
    Ok(projects::table
        .filter(projects::token.eq(token))
        .select(Project::as_select())
        .first(conn)
        .optional()?)
}

pub fn find_by_name(conn: &mut Conn, name: &str) -> Result<Option<Project>> {
    Ok(projects::table
        .filter(projects::name.eq(name))
        .order(projects::id)
        .select(Project::as_select())
        .first(conn)
        .optional()?)
}

/// Some of these projects, or of all if none are named, lowest number first; and how many there are.
pub fn page(
    conn: &mut Conn,
    among: Option<&[ProjectId]>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Project>, i64)> {
    let wanted = || {
        let all = projects::table.into_boxed();
        match among {
            None => all,
            Some(ids) => all.filter(projects::id.eq_any(ids.iter().map(|id| id.0))),
        }
    };
    let rows = wanted()
        .order(projects::id)
        .limit(limit)
        .offset(offset)
        .select(Project::as_select())
        .load(conn)?;
    Ok((rows, wanted().count().get_result(conn)?))
}

/// Makes changes that span a project's cohorts or people wait for each other, until the transaction ends.
/// It is the first thing that such a transaction locks.
pub fn lock(conn: &mut Conn, id: ProjectId) -> Result<()> {
    projects::table
        .find(id.0)
        .select(projects::id)
        .for_no_key_update()
        .first::<i64>(conn)?;
    Ok(())
}
