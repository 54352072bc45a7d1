//! API keys and teammates. A key acts for a teammate.
//!
//! Only hashes of keys are stored, and only while the key is accepted. A key has scopes, and reaches every project or a
//! list of projects.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{self, Array, BigInt, Bytea, Integer, Nullable, Text, Timestamptz};
use uuid::Uuid;

use crate::projects::Project;
use crate::schema::{key_projects, keys, teammates};
use crate::{Conn, ProjectId, Result, hints, transaction};

/// A row of `keys`, without its hash.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = keys)]
pub struct ApiKey {
    /// The id of the key; it is no secret.
    pub id: i64,
    /// The name that the operator gave.
    pub label: String,
    /// The scopes, such as `cohort:read`.
    pub scopes: Vec<String>,
    /// Whether the key reaches every project, and not a list of projects.
    pub every_project: bool,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The time of the revocation; `None` if the key is not revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The time after which the key is refused; `None` if it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
    /// The time of the last use, exact to about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A row of `teammates`: the owner of keys and the author of changes.
#[derive(Clone, Debug, Queryable, Selectable)]
pub struct Teammate {
    /// The id of the teammate.
    pub id: i64,
    /// The id in responses.
    pub uuid: Uuid,
    /// The e-mail address, which identifies the teammate.
    pub email: String,
    /// The first name; may be empty.
    pub first_name: String,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
}

/// A key to create.
pub struct NewKey<'a> {
    /// The hash of the key.
    pub hash: &'a [u8],
    /// A name for the operator.
    pub label: &'a str,
    /// The scopes, such as `cohort:read`.
    pub scopes: &'a [String],
    /// The projects that the key reaches; `None` for every project.
    pub projects: Option<&'a [ProjectId]>,
    /// The time after which the key is refused; `None` if it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The teammate with this e-mail address, who is created if missing. `first_name` replaces an empty stored name.
///
/// # Errors
///
/// Fails if the database fails.
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

/// Creates a key of a teammate.
///
/// # Errors
///
/// Fails if the database fails, or if a key has the hash.
pub fn create(conn: &mut Conn, owner: &Teammate, new: &NewKey<'_>) -> Result<ApiKey> {
    let key = diesel::insert_into(keys::table)
        .values((
            keys::hash.eq(new.hash),
            keys::label.eq(new.label),
            keys::teammate_id.eq(owner.id),
            keys::scopes.eq(new.scopes),
            keys::every_project.eq(new.projects.is_none()),
            keys::expires_at.eq(new.expires_at),
        ))
        .returning(ApiKey::as_returning())
        .get_result(conn)?;
    let projects: Vec<_> = new
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
        .values(&projects)
        .execute(conn)?;
    Ok(key)
}

/// A live key with its teammate and projects.
#[derive(Debug, Queryable)]
pub struct KeyAccess {
    /// The id of the key.
    pub key: i64,
    /// The time of the last use, exact to about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The time after which the key is refused; `None` if it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
    /// The scopes, such as `cohort:read`.
    pub scopes: Vec<String>,
    /// The ids of the projects that the key reaches, sorted; `None` for every project.
    pub restricted_to: Option<Vec<i64>>,
    /// The teammate for which the key acts.
    pub teammate: Teammate,
    /// The requested project, which the key may not reach; without a request, the first project that the key reaches.
    pub project: Option<Project>,
}

/// The live key with this hash. Every request runs this, so it is a prepared statement, which `sql_query` does not make.
pub(crate) struct AccessQuery<'a> {
    pub(crate) hash: &'a [u8],
    pub(crate) project: Option<i64>,
}

impl QueryId for AccessQuery<'_> {
    type QueryId = AccessQuery<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

type ProjectColumns = (
    BigInt,
    Text,
    Text,
    Text,
    Timestamptz,
    Nullable<Integer>,
    BigInt,
);

impl Query for AccessQuery<'_> {
    type SqlType = (
        BigInt,
        Nullable<Timestamptz>,
        Nullable<Timestamptz>,
        Array<Text>,
        Nullable<Array<BigInt>>,
        (BigInt, sql_types::Uuid, Text, Text, Timestamptz),
        Nullable<ProjectColumns>,
    );
}

impl RunQueryDsl<Conn> for AccessQuery<'_> {}

impl QueryFragment<Pg> for AccessQuery<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "select k.id, k.last_used_at, k.expires_at, k.scopes, r.ids, t.id, t.uuid, t.email, t.first_name, t.created_at, \
                p.id, p.name, p.time_zone, p.token, p.created_at, p.event_retention_days, p.retention_changes \
             from keys k join teammates t on t.id = k.teammate_id \
             cross join lateral (select case when k.every_project then null else \
                array(select kp.project_id from key_projects kp where kp.key_id = k.id order by 1) end as ids) r \
             left join projects p on p.deletion_started_at is null and p.id = coalesce(",
        );
        out.push_bind_param::<Nullable<BigInt>, _>(&self.project)?;
        out.push_sql(
            ", case when k.every_project then (select min(id) from projects where deletion_started_at is null) else r.ids[1] end) \
             where k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) and k.hash = ",
        );
        out.push_bind_param::<Bytea, _>(&self.hash)
    }
}

/// The live key with this hash, and the project with the id `project`, or else the first project that the key reaches.
///
/// # Errors
///
/// Fails if the database fails.
pub fn access(conn: &mut Conn, hash: &[u8], project: Option<i64>) -> Result<Option<KeyAccess>> {
    Ok(AccessQuery { hash, project }.get_result(conn).optional()?)
}

/// Sets the time of a key's last use to now, unless it is `since` or later.
///
/// # Errors
///
/// Fails if the database fails.
pub fn record_use(conn: &mut Conn, key: i64, since: DateTime<Utc>) -> Result<()> {
    let last = keys::last_used_at;
    let stale = keys::table
        .filter(keys::id.eq(key))
        .filter(last.is_null().or(last.lt(since)));
    diesel::update(stale)
        .set(keys::last_used_at.eq(Utc::now()))
        .execute(conn)?;
    Ok(())
}

/// The projects that a key is restricted to, sorted; empty for a key that reaches every project.
///
/// # Errors
///
/// Fails if the database fails.
pub fn projects_of(conn: &mut Conn, key: i64) -> Result<Vec<ProjectId>> {
    let ids = key_projects::table
        .filter(key_projects::key_id.eq(key))
        .order(key_projects::project_id)
        .select(key_projects::project_id)
        .load(conn)?;
    Ok(ids.into_iter().map(ProjectId).collect())
}

/// All keys with their teammates, the oldest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn list(conn: &mut Conn) -> Result<Vec<(ApiKey, Teammate)>> {
    Ok(keys::table
        .inner_join(teammates::table)
        .order(keys::id)
        .select((ApiKey::as_select(), Teammate::as_select()))
        .load(conn)?)
}

diesel::define_sql_function! {
    /// The number of bytes.
    fn octet_length(bytes: Bytea) -> Integer;
}

/// The length of a SHA-256 hash in bytes.
const HASH_LENGTH: i32 = 32;

/// The text in place of the hash of a key that is not accepted any more. It has another length than a hash, so no key
/// has it. A program that ignores `expires_at` or `revoked_at`, or a clock that is set back, cannot make the key valid.
fn void_hash(id: i64) -> Vec<u8> {
    format!("void {id}").into_bytes()
}

/// Revokes a key with immediate effect, removes its hash, and tells all services to forget it. Returns false if there is no
/// such key, or it is revoked already.
///
/// # Errors
///
/// Fails if the database fails.
pub fn revoke(conn: &mut Conn, id: i64) -> Result<bool> {
    transaction(conn, |conn| {
        let changed = diesel::update(keys::table)
            .filter(keys::id.eq(id).and(keys::revoked_at.is_null()))
            .set((
                keys::revoked_at.eq(Utc::now()),
                keys::hash.eq(void_hash(id)),
            ))
            .execute(conn)?;
        hints::send(conn, hints::KEYS_CHANGED)?;
        Ok(changed == 1)
    })
}

/// Removes the hashes of keys that have expired by the clock of the database, or that an older program has revoked.
/// Returns the ids of these keys.
///
/// # Errors
///
/// Fails if the database fails.
pub fn void_expired(conn: &mut Conn) -> Result<Vec<i64>> {
    let ids: Vec<i64> = keys::table
        .filter(octet_length(keys::hash).eq(HASH_LENGTH))
        .filter(
            keys::revoked_at
                .is_not_null()
                .or(keys::expires_at.le(diesel::dsl::now)),
        )
        .order(keys::id)
        .select(keys::id)
        .load(conn)?;
    for id in &ids {
        diesel::update(keys::table.find(id))
            .set(keys::hash.eq(void_hash(*id)))
            .execute(conn)?;
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::testing::TestDatabase;

    /// Creates a key, and returns its id.
    fn add(conn: &mut Conn, hash: [u8; 32], expires_at: Option<DateTime<Utc>>) -> i64 {
        let owner = teammate(conn, "a@x.io", "").unwrap();
        let new = NewKey {
            hash: &hash,
            label: "",
            scopes: &["*".to_owned()],
            projects: None,
            expires_at,
        };
        create(conn, &owner, &new).unwrap().id
    }

    #[test]
    fn expired_and_revoked_keys_stay_invalid_without_expiry_and_revocation() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let (past, future) = (
            Utc::now() - TimeDelta::seconds(1),
            Utc::now() + TimeDelta::days(1),
        );
        let hashes = [[1; 32], [2; 32], [3; 32], [4; 32], [5; 32]];
        let [expired, revoked, revoked_before, _, _] = [
            (hashes[0], Some(past)),
            (hashes[1], None),
            (hashes[2], Some(future)),
            (hashes[3], Some(future)),
            (hashes[4], None),
        ]
        .map(|(hash, expires_at)| add(conn, hash, expires_at));
        assert!(revoke(conn, revoked).unwrap() && !revoke(conn, revoked).unwrap());
        // A program without this function revoked the key.
        diesel::update(keys::table.find(revoked_before))
            .set(keys::revoked_at.eq(past))
            .execute(conn)
            .unwrap();
        assert_eq!(void_expired(conn).unwrap(), [expired, revoked_before]);
        assert!(void_expired(conn).unwrap().is_empty());
        diesel::update(keys::table)
            .set((
                keys::expires_at.eq(None::<DateTime<Utc>>),
                keys::revoked_at.eq(None::<DateTime<Utc>>),
            ))
            .execute(conn)
            .unwrap();
        let is_valid = hashes.map(|hash| access(conn, &hash, None).unwrap().is_some());
        assert_eq!(is_valid, [false, false, false, true, true]);
    }
}
