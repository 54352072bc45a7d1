//! Actions: named lists of event matchers that filters can refer to.
//!
//! The store does not read the steps of an action: it takes and returns them as JSON text.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::keys::Teammate;
use crate::pages::{PageIds, RowSize, octet_length};
use crate::schema::{actions, teammates};
use crate::{Conn, JsonText, ProjectId, Result};

/// A row of `actions`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = actions)]
pub struct Action {
    /// The id, unique among all projects.
    pub id: i64,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The columns that callers decide.
    #[diesel(embed)]
    pub fields: ActionFields,
}

/// The columns of an action that callers decide.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = actions, treat_none_as_null = true)]
pub struct ActionFields {
    /// The name; `None` if the caller gave none.
    pub name: Option<String>,
    /// The description; empty if the caller gave none.
    pub description: String,
    /// A JSON list of steps that the caller has validated. An event matches the action if it matches any step.
    pub steps: JsonText,
    /// Whether the action is deleted.
    pub deleted: bool,
}

/// An action and the teammate who created it.
pub type ActionWithCreator = (Action, Option<Teammate>);

/// Creates an action of the project.
///
/// # Errors
///
/// Fails if the database fails.
pub fn create(
    conn: &mut Conn,
    project: ProjectId,
    creator: &Teammate,
    fields: &ActionFields,
) -> Result<Action> {
    Ok(diesel::insert_into(actions::table)
        .values((
            actions::project_id.eq(project.0),
            actions::created_by.eq(creator.id),
            actions::created_at.eq(Utc::now()),
            fields,
        ))
        .returning(Action::as_returning())
        .get_result(conn)?)
}

/// The action of the project with this id, also if it is deleted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find(conn: &mut Conn, project: ProjectId, id: i64) -> Result<Option<ActionWithCreator>> {
    Ok(actions::table
        .left_join(teammates::table)
        .filter(actions::project_id.eq(project.0).and(actions::id.eq(id)))
        .select((Action::as_select(), Option::<Teammate>::as_select()))
        .first(conn)
        .optional()?)
}

/// Whether a live action of the project, other than `except`, has this name.
///
/// # Errors
///
/// Fails if the database fails.
pub fn has_name(
    conn: &mut Conn,
    project: ProjectId,
    name: &str,
    except: Option<i64>,
) -> Result<bool> {
    let namesakes = actions::table
        .filter(actions::project_id.eq(project.0))
        .filter(actions::name.eq(name))
        .filter(diesel::dsl::not(actions::deleted))
        .filter(actions::id.ne(except.unwrap_or_default()));
    Ok(diesel::select(diesel::dsl::exists(namesakes)).get_result(conn)?)
}

/// Replaces the fields of an action.
///
/// # Errors
///
/// Fails if the database fails.
pub fn update(conn: &mut Conn, id: i64, fields: &ActionFields) -> Result<()> {
    diesel::update(actions::table.find(id))
        .set(fields)
        .execute(conn)?;
    Ok(())
}

/// The page of the project's live actions, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(conn: &mut Conn, project: ProjectId, limit: i64, offset: i64) -> Result<PageIds> {
    let live = || {
        actions::table
            .filter(actions::project_id.eq(project.0))
            .filter(diesel::dsl::not(actions::deleted))
    };
    let ids = live()
        .order(actions::id.desc())
        .limit(limit)
        .offset(offset)
        .select(actions::id)
        .load(conn)?;
    let count = live().count().get_result(conn)?;
    Ok(PageIds { ids, count })
}

/// The sizes of the project's actions `ids`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn sizes(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<Vec<RowSize>> {
    type Row = (i64, Option<i32>, Option<i32>, Option<i32>);
    let rows: Vec<Row> = actions::table
        .filter(actions::project_id.eq(project.0))
        .filter(actions::id.eq_any(ids))
        .select((
            actions::id,
            octet_length(actions::steps.cast::<Text>().nullable()),
            octet_length(actions::name),
            octet_length(actions::description.nullable()),
        ))
        .load(conn)?;
    let sizes = rows
        .into_iter()
        .map(|(id, steps, name, description)| RowSize::new(id, [steps, name, description]));
    Ok(sizes.collect())
}

/// The project's actions `ids`, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn by_ids(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<Vec<ActionWithCreator>> {
    Ok(actions::table
        .left_join(teammates::table)
        .filter(actions::project_id.eq(project.0))
        .filter(actions::id.eq_any(ids))
        .order(actions::id.desc())
        .select((Action::as_select(), Option::<Teammate>::as_select()))
        .load(conn)?)
}

/// The ids among `ids` that are live actions of the project.
///
/// # Errors
///
/// Fails if the database fails.
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
