//! Actions: named sets of events.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::keys::Teammate;
use crate::schema::{actions, teammates};
use crate::{Conn, JsonText, ProjectId, Result};

/// A row of `actions`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = actions)]
pub struct Action {
    pub id: i64,
    pub created_at: DateTime<Utc>,
    #[diesel(embed)]
    pub fields: Fields,
}

/// What of an action can be changed.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = actions, treat_none_as_null = true)]
pub struct Fields {
    pub name: Option<String>,
    pub description: String,
    /// A list of steps that can be read.
    pub steps: JsonText,
    pub deleted: bool,
}

/// An action and whose it is.
pub type WithTeammate = (Action, Option<Teammate>);

pub fn create(
    conn: &mut Conn,
    project: ProjectId,
    teammate: &Teammate,
    fields: &Fields,
) -> Result<Action> {
    Ok(diesel::insert_into(actions::table)
        .values((
            actions::project_id.eq(project.0),
            actions::created_by.eq(teammate.id),
            actions::created_at.eq(Utc::now()),
            fields,
        ))
        .returning(Action::as_returning())
        .get_result(conn)?)
}

/// An action of the project, deleted or not.
pub fn find(conn: &mut Conn, project: ProjectId, id: i64) -> Result<Option<WithTeammate>> {
    Ok(actions::table
        .left_join(teammates::table)
        .filter(actions::project_id.eq(project.0).and(actions::id.eq(id)))
        .select((Action::as_select(), Option::<Teammate>::as_select()))
        .first(conn)
        .optional()?)
}

/// Whether another action of the project, not deleted, has that name.
pub fn has_name(conn: &mut Conn, project: ProjectId, name: &str, but: Option<i64>) -> Result<bool> {
    let same = actions::table
        .filter(actions::project_id.eq(project.0))
        .filter(actions::name.eq(name))
        .filter(diesel::dsl::not(actions::deleted))
        .filter(actions::id.ne(but.unwrap_or_default()));
    Ok(diesel::select(diesel::dsl::exists(same)).get_result(conn)?)
}

pub fn update(conn: &mut Conn, id: i64, fields: &Fields) -> Result<()> {
    diesel::update(actions::table.find(id))
        .set(fields)
        .execute(conn)?;
    Ok(())
}

/// Some actions of the project that are not deleted, newest first, and how many there are.
pub fn page(
    conn: &mut Conn,
    project: ProjectId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<WithTeammate>, i64)> {
    let own = || {
        actions::table
            .filter(actions::project_id.eq(project.0))
            .filter(diesel::dsl::not(actions::deleted))
    };
    let rows = own()
        .left_join(teammates::table)
        .order(actions::id.desc())
        .limit(limit)
        .offset(offset)
        .select((Action::as_select(), Option::<Teammate>::as_select()))
        .load(conn)?;
    Ok((rows, own().count().get_result(conn)?))
}

/// Those of these actions that the project has, and has not deleted.
pub fn live(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<HashSet<i64>> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<i64> = actions::table
        .filter(actions::project_id.eq(project.0))
        .filter(actions::id.eq_any(ids))
        .filter(diesel::dsl::not(actions::deleted))
        .select(actions::id)
        .load(conn)?;
    Ok(ids.into_iter().collect())
}
