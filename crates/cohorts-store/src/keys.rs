//! Personal keys and the members of the team for whom they act. Keys are stored as hashes only.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{self, Array, BigInt, Bytea, Integer, Nullable, Text, Timestamptz};
use uuid::Uuid;

use crate::projects::Project;

use crate::schema::{key_projects, keys, teammates};
use crate::{Conn, ProjectId, Result};

/// A row of `keys`, without its hash.
#[derive(Clone, Debug, Queryable, Selectable)]
pub struct Key {
    pub id: i64,
    pub label: String,
    pub scopes: Vec<String>,
    pub every_project: bool,
    pub created_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    /// To the minute or so.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A row of `teammates`: somebody for whom keys act.
#[derive(Clone, Debug, Queryable, Selectable)]
pub struct Teammate {
    pub id: i64,
    pub uuid: Uuid,
    pub email: String,
    pub first_name: String,
    pub created_at: DateTime<Utc>,
}

/// What a new key is given.
pub struct NewKey<'a> {
    pub hash: &'a [u8],
    pub label: &'a str,
    pub scopes: &'a [String],
    /// None is every project.
    pub projects: Option<&'a [ProjectId]>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// The teammate with this e-mail address, made on first use. A first name that is given replaces an empty one.
pub fn teammate(conn: &mut Conn, email: &str, first_name: &str) -> Result<Teammate> {
    diesel::insert_into(teammates::table)
        .values((
            teammates::uuid.eq(Uuid::now_v7()),
            teammates::email.eq(email),
            teammates::first_name.eq(first_name),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    if !first_name.is_empty() {
        diesel::update(teammates::table)
            .filter(teammates::email.eq(email).and(teammates::first_name.eq("")))
            .set(teammates::first_name.eq(first_name))
            .execute(conn)?;
    }
    Ok(teammates::table
        .filter(teammates::email.eq(email))
        .select(Teammate::as_select())
        .first(conn)?)
}

pub fn create(conn: &mut Conn, owner: &Teammate, new: &NewKey<'_>) -> Result<Key> {
    let key = diesel::insert_into(keys::table)
        .values((
            keys::hash.eq(new.hash),
            keys::label.eq(new.label),
            keys::teammate_id.eq(owner.id),
            keys::scopes.eq(new.scopes),
            keys::every_project.eq(new.projects.is_none()),
            keys::expires_at.eq(new.expires_at),
        ))
        .returning(Key::as_returning())
        .get_result(conn)?;
    let reached: Vec<_> = new
        .projects
        .unwrap_or_default()
        .iter()
        .map(|project| {
            (
                key_projects::key_id.eq(key.id),
                key_projects::project_id.eq(project.0),
            )
        })
        .collect();
    diesel::insert_into(key_projects::table)
        .values(&reached)
        .execute(conn)?;
    Ok(key)
}

/// A live key with whom it acts for and what it reaches.
#[derive(Debug, Queryable)]
pub struct Reach {
    pub key: i64,
    pub last_used_at: Option<DateTime<Utc>>,
    pub scopes: Vec<String>,
    /// The projects that the key is restricted to, lowest number first; nothing for a key that reaches every project.
    pub restricted_to: Option<Vec<i64>>,
    pub teammate: Teammate,
    /// The project that was asked for, else the first that the key reaches, whether or not it may be reached.
    pub project: Option<Project>,
}

/// The live key with this hash, in one statement. A diesel query of its own, as those made of text are not prepared.
struct ByHash<'a> {
    hash: &'a [u8],
    project: Option<i64>,
}

impl QueryId for ByHash<'_> {
    type QueryId = ByHash<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

type ProjectRow = (
    BigInt,
    Text,
    Text,
    Text,
    Timestamptz,
    Nullable<Integer>,
    BigInt,
);

impl Query for ByHash<'_> {
    type SqlType = (
        BigInt,
        Nullable<Timestamptz>,
        Array<Text>,
        Nullable<Array<BigInt>>,
        (BigInt, sql_types::Uuid, Text, Text, Timestamptz),
        Nullable<ProjectRow>,
    );
}

impl RunQueryDsl<Conn> for ByHash<'_> {}

impl QueryFragment<Pg> for ByHash<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "select k.id, k.last_used_at, k.scopes, r.ids, t.id, t.uuid, t.email, t.first_name, t.created_at, \
                p.id, p.name, p.time_zone, p.token, p.created_at, p.event_retention_days, p.retention_changes \
             from keys k join teammates t on t.id = k.teammate_id \
             cross join lateral (select case when k.every_project then null else \
                array(select kp.project_id from key_projects kp where kp.key_id = k.id order by 1) end as ids) r \
             left join projects p on p.id = coalesce(",
        );
        out.push_bind_param::<Nullable<BigInt>, _>(&self.project)?;
        out.push_sql(
            ", case when k.every_project then (select min(id) from projects) else r.ids[1] end) \
             where k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) and k.hash = ",
        );
        out.push_bind_param::<Bytea, _>(&self.hash)
    }
}

/// The live key with this hash, and the project with that number, else the key's first one.
pub fn reach(conn: &mut Conn, hash: &[u8], project: Option<i64>) -> Result<Option<Reach>> {
    Ok(ByHash { hash, project }.get_result(conn).optional()?)
}

/// Writes down that a key is used, unless that was done since a time.
pub fn used(conn: &mut Conn, key: i64, since: DateTime<Utc>) -> Result<()> {
    let last = keys::last_used_at;
    let stale = keys::table
        .filter(keys::id.eq(key))
        .filter(last.is_null().or(last.lt(since)));
    diesel::update(stale)
        .set(keys::last_used_at.eq(Utc::now()))
        .execute(conn)?;
    Ok(())
}

/// The projects that a key is restricted to, lowest number first; empty for a key that reaches every project.
pub fn projects_of(conn: &mut Conn, key: i64) -> Result<Vec<ProjectId>> {
    let ids = key_projects::table
        .filter(key_projects::key_id.eq(key))
        .order(key_projects::project_id)
        .select(key_projects::project_id)
        .load(conn)?;
    Ok(ids.into_iter().map(ProjectId).collect())
}

/// All keys, oldest first, with whom they act for.
pub fn list(conn: &mut Conn) -> Result<Vec<(Key, Teammate)>> {
    Ok(keys::table
        .inner_join(teammates::table)
        .order(keys::id)
        .select((Key::as_select(), Teammate::as_select()))
        .load(conn)?)
}

/// Revokes a key at once. False where there is no such live key.
pub fn revoke(conn: &mut Conn, id: i64) -> Result<bool> {
    let changed = diesel::update(keys::table)
        .filter(keys::id.eq(id).and(keys::revoked_at.is_null()))
        .set(keys::revoked_at.eq(Utc::now()))
        .execute(conn)?;
    Ok(changed == 1)
}
