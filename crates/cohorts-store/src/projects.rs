//! Projects: a name, a time zone, a capture token, and how long events are kept.
//!
//! These functions ignore a project after its deletion has begun. [`crate::project_deletion`] finds it.

use chrono::{DateTime, Days, Utc};
use diesel::prelude::*;

use crate::schema::projects;
use crate::{Conn, ProjectId, Result, StoreError, event_segments, transaction};

/// A row of `projects`.
#[derive(Clone, Debug, Queryable, Selectable)]
pub struct Project {
    /// The id; see [`Project::id`].
    pub id: i64,
    /// The name; several projects may have the same.
    pub name: String,
    /// The IANA name of the time zone.
    pub time_zone: String,
    /// The capture token, `phc_…`. It is public: browsers send it.
    pub token: String,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// Events older than this number of days are deleted; `None` keeps all events.
    pub event_retention_days: Option<i32>,
    /// How often `event_retention_days` was changed.
    pub retention_changes: i64,
}

impl Project {
    /// The typed id.
    pub fn id(&self) -> ProjectId {
        ProjectId(self.id)
    }

    /// The time before which events are deleted, at `now`; `None` if all events are kept.
    pub fn oldest_event(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        oldest_event(self.event_retention_days, now)
    }
}

/// The time before which events are deleted, at `now`, by a retention of `days`; `None` if all events are kept.
pub fn oldest_event(days: Option<i32>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    now.checked_sub_days(Days::new(days?.try_into().ok()?))
}

/// The projects that exist.
#[diesel::dsl::auto_type]
fn live() -> _ {
    projects::table.filter(projects::deletion_started_at.is_null())
}

/// Creates a project. The caller has checked that `time_zone` is an IANA name.
///
/// # Errors
///
/// Fails if the database fails, or if a project has the token.
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

/// Sets the retention of events in days; `None` keeps all events. Returns false if there is no such project.
///
/// # Errors
///
/// Fails if the database fails, or if `days` is not above 0.
pub fn set_retention(conn: &mut Conn, id: ProjectId, days: Option<i32>) -> Result<bool> {
    transaction(conn, |conn| {
        let row = projects::table
            .find(id.0)
            .filter(projects::deletion_started_at.is_null());
        let changed = diesel::update(row)
            .set((
                projects::event_retention_days.eq(days),
                projects::retention_changes.eq(projects::retention_changes + 1),
            ))
            .execute(conn)?;
        // Segments may contain events that were deleted, or that the new retention deletes.
        event_segments::drop_all(conn, id.shard_key())?;
        Ok(changed == 1)
    })
}

/// The ids of all projects, sorted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn all(conn: &mut Conn) -> Result<Vec<ProjectId>> {
    let ids = live().order(projects::id).select(projects::id);
    Ok(ids.load(conn)?.into_iter().map(ProjectId).collect())
}

/// The projects that delete old events, sorted by id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn with_retention(conn: &mut Conn) -> Result<Vec<Project>> {
    Ok(live()
        .filter(projects::event_retention_days.is_not_null())
        .order(projects::id)
        .select(Project::as_select())
        .load(conn)?)
}

/// The project with this id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find(conn: &mut Conn, id: ProjectId) -> Result<Option<Project>> {
    Ok(live()
        .filter(projects::id.eq(id.0))
        .select(Project::as_select())
        .first(conn)
        .optional()?)
}

/// The project with this capture token. [`crate::Store::project_of_token`] caches the result.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find_by_token(conn: &mut Conn, token: &str) -> Result<Option<Project>> {
    Ok(live()
        .filter(projects::token.eq(token))
        .select(Project::as_select())
        .first(conn)
        .optional()?)
}

/// The oldest project with this name.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find_by_name(conn: &mut Conn, name: &str) -> Result<Option<Project>> {
    Ok(live()
        .filter(projects::name.eq(name))
        .order(projects::id)
        .select(Project::as_select())
        .first(conn)
        .optional()?)
}

/// A page of the projects `ids`, or of all projects, sorted by id, and the number of all of them.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(
    conn: &mut Conn,
    ids: Option<&[ProjectId]>,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Project>, i64)> {
    let projects = || {
        let all = live().into_boxed();
        match ids {
            None => all,
            Some(ids) => all.filter(projects::id.eq_any(ids.iter().map(|id| id.0))),
        }
    };
    let rows = projects()
        .order(projects::id)
        .limit(limit)
        .offset(offset)
        .select(Project::as_select())
        .load(conn)?;
    Ok((rows, projects().count().get_result(conn)?))
}

/// Whether the project exists.
pub(crate) fn is_live(conn: &mut Conn, id: ProjectId) -> Result<bool> {
    let row = live().filter(projects::id.eq(id.0));
    let id: Option<i64> = row.select(projects::id).first(conn).optional()?;
    Ok(id.is_some())
}

/// Locks a project until the transaction ends. A change that spans cohorts or persons of a project takes this lock
/// before any other lock, so that two such changes run in order.
///
/// # Errors
///
/// [`StoreError::ProjectGone`] if the project is deleted; fails if the database fails.
pub fn lock(conn: &mut Conn, id: ProjectId) -> Result<()> {
    live()
        .filter(projects::id.eq(id.0))
        .select(projects::id)
        .for_no_key_update()
        .first::<i64>(conn)
        .optional()?
        .ok_or(StoreError::ProjectGone)?;
    Ok(())
}

/// Keeps the row of a project until the transaction ends. Changes of the row may continue.
///
/// # Errors
///
/// [`StoreError::ProjectGone`] if the project is deleted; fails if the database fails.
pub(crate) fn hold(conn: &mut Conn, id: ProjectId) -> Result<()> {
    live()
        .filter(projects::id.eq(id.0))
        .select(projects::id)
        .for_key_share()
        .first::<i64>(conn)
        .optional()?
        .ok_or(StoreError::ProjectGone)?;
    Ok(())
}
