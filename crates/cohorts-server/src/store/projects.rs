//! Projects: a name, a time zone, a token for capture.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::schema::projects;
use super::{Conn, ProjectId};

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
}

impl Project {
    pub fn id(&self) -> ProjectId {
        ProjectId(self.id)
    }
}

/// Makes a project. `time_zone` must be an IANA name already checked.
pub fn create(conn: &mut Conn, name: &str, time_zone: &str, token: &str) -> QueryResult<Project> {
    diesel::insert_into(projects::table)
        .values((
            projects::name.eq(name),
            projects::time_zone.eq(time_zone),
            projects::token.eq(token),
        ))
        .returning(Project::as_returning())
        .get_result(conn)
}

pub fn find(conn: &mut Conn, id: ProjectId) -> QueryResult<Option<Project>> {
    projects::table
        .find(id.0)
        .select(Project::as_select())
        .first(conn)
        .optional()
}

pub fn find_by_token(conn: &mut Conn, token: &str) -> QueryResult<Option<Project>> {
    projects::table
        .filter(projects::token.eq(token))
        .select(Project::as_select())
        .first(conn)
        .optional()
}

pub fn find_by_name(conn: &mut Conn, name: &str) -> QueryResult<Option<Project>> {
    projects::table
        .filter(projects::name.eq(name))
        .order(projects::id)
        .select(Project::as_select())
        .first(conn)
        .optional()
}

/// The project with the lowest number.
pub fn first(conn: &mut Conn) -> QueryResult<Option<Project>> {
    projects::table
        .order(projects::id)
        .select(Project::as_select())
        .first(conn)
        .optional()
}
