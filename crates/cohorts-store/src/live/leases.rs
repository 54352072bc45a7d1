//! Which process makes the passes of a project, and what tells another process that a project has changed.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::schema::live_projects;
use crate::{Conn, ProjectId, Result};

/// A process that can make passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// A number of this run of the program.
    pub owner: Uuid,
    /// The host, including its last start.
    pub host: String,
    /// The process, including its start.
    pub process: String,
    /// The semantics number of the program.
    pub semantics: i64,
}

/// The lease of a project.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = live_projects)]
pub struct ProjectLease {
    /// The id of the project.
    pub project_id: i64,
    /// [`Holder::owner`] of the process that makes the passes.
    pub owner: Uuid,
    /// [`Holder::host`] of it.
    pub host: String,
    /// [`Holder::process`] of it.
    pub process: String,
    /// [`Holder::semantics`] of it.
    pub semantics: i64,
    /// Until then, no other process with the same semantics takes the project.
    pub lease_until: DateTime<Utc>,
    /// The live cohorts are right as of this moment.
    pub right_as_of: DateTime<Utc>,
    /// The live cohorts are complete up to this sequence number of the log.
    pub seq: i64,
}

/// The leases of all projects that had one.
///
/// # Errors
///
/// Fails if the database fails.
pub fn projects(conn: &mut Conn) -> Result<Vec<ProjectLease>> {
    Ok(live_projects::table
        .order(live_projects::project_id)
        .select(ProjectLease::as_select())
        .load(conn)?)
}

/// Takes a project. `seen` is the lease that the caller wants to replace. Returns `None` if another process was first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn take(
    conn: &mut Conn,
    project: ProjectId,
    holder: &Holder,
    seen: Option<&ProjectLease>,
    until: DateTime<Utc>,
) -> Result<Option<ProjectLease>> {
    let owned = (
        live_projects::owner.eq(holder.owner),
        live_projects::host.eq(&holder.host),
        live_projects::process.eq(&holder.process),
        live_projects::semantics.eq(holder.semantics),
        live_projects::lease_until.eq(until),
    );
    let Some(seen) = seen else {
        let new = (
            owned,
            live_projects::project_id.eq(project.0),
            live_projects::right_as_of.eq(DateTime::UNIX_EPOCH),
            live_projects::seq.eq(0),
        );
        return Ok(diesel::insert_into(live_projects::table)
            .values(new)
            .on_conflict_do_nothing()
            .returning(ProjectLease::as_returning())
            .get_result(conn)
            .optional()?);
    };
    let row = live_projects::table
        .find(project.0)
        .filter(live_projects::owner.eq(seen.owner))
        .filter(live_projects::lease_until.eq(seen.lease_until));
    Ok(diesel::update(row)
        .set(owned)
        .returning(ProjectLease::as_returning())
        .get_result(conn)
        .optional()?)
}

pub(crate) const RENEW: &str = "\
    update live_projects l set lease_until = $1, right_as_of = greatest(l.right_as_of, keys.right_as_of), \
        seq = greatest(l.seq, keys.seq) \
    from unnest($3, $4, $5) as keys(project_id, right_as_of, seq) \
    where l.project_id = keys.project_id and l.owner = $2 returning l.project_id";

#[derive(QueryableByName)]
struct RenewedRow {
    #[diesel(sql_type = BigInt)]
    project_id: i64,
}

/// Extends the leases of an owner, and records up to which moment and sequence number the live cohorts of each project are
/// right. Returns the projects that the owner still has.
///
/// # Errors
///
/// Fails if the database fails.
pub fn renew(
    conn: &mut Conn,
    owner: Uuid,
    until: DateTime<Utc>,
    right: &[(ProjectId, DateTime<Utc>, i64)],
) -> Result<Vec<ProjectId>> {
    let ids: Vec<i64> = right.iter().map(|(project, ..)| project.0).collect();
    let times: Vec<DateTime<Utc>> = right.iter().map(|(_, time, _)| *time).collect();
    let seqs: Vec<i64> = right.iter().map(|(.., seq)| *seq).collect();
    let rows: Vec<RenewedRow> = diesel::sql_query(RENEW)
        .bind::<Timestamptz, _>(until)
        .bind::<SqlUuid, _>(owner)
        .bind::<Array<BigInt>, _>(ids)
        .bind::<Array<Timestamptz>, _>(times)
        .bind::<Array<BigInt>, _>(seqs)
        .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|row| ProjectId(row.project_id))
        .collect())
}

/// Whether an owner has a project. The project stays the owner's until the transaction ends.
///
/// # Errors
///
/// Fails if the database fails.
pub fn hold(conn: &mut Conn, project: ProjectId, owner: Uuid) -> Result<bool> {
    let row: Option<i64> = live_projects::table
        .find(project.0)
        .filter(live_projects::owner.eq(owner))
        .select(live_projects::project_id)
        .for_share()
        .first(conn)
        .optional()?;
    Ok(row.is_some())
}

/// Gives up all projects of an owner: another process may take them at once.
///
/// # Errors
///
/// Fails if the database fails.
pub fn release(conn: &mut Conn, owner: Uuid) -> Result<()> {
    diesel::update(live_projects::table.filter(live_projects::owner.eq(owner)))
        .set(live_projects::lease_until.eq(DateTime::UNIX_EPOCH))
        .execute(conn)?;
    Ok(())
}

/// Numbers of a project that change with its log and its cohorts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The log head.
    pub seq: i64,
    /// The sum of the numbers of all cohorts that rise with each of their changes.
    pub cohorts: i64,
    /// Whether a dynamic cohort was calculated, so that passes can include it.
    pub is_calculated: bool,
}

/// The sums of each project with cohorts.
pub(crate) const STAMPS: &str = "\
    select project_id, (sum(member_version + attempt + coalesce(pending_version, 0)) + count(*))::bigint as cohorts, \
        bool_or(evaluation is not null and not deleted and not is_static) as is_calculated \
    from cohorts group by project_id order by project_id";

#[derive(QueryableByName)]
struct StampRow {
    #[diesel(sql_type = BigInt)]
    project_id: i64,
    #[diesel(sql_type = BigInt)]
    cohorts: i64,
    #[diesel(sql_type = Bool)]
    is_calculated: bool,
}

/// The stamps of all projects with cohorts.
///
/// There are two statements, because a distributed Postgres does not join person tables with control tables.
///
/// # Errors
///
/// Fails if the database fails.
pub fn stamps(conn: &mut Conn) -> Result<Vec<(ProjectId, Stamp)>> {
    use crate::schema::log_heads;
    let rows: Vec<StampRow> = diesel::sql_query(STAMPS).load(conn)?;
    let shard_keys = rows.iter();
    let shard_keys = shard_keys.map(|row| ProjectId(row.project_id).shard_key().0);
    let heads: Vec<(i64, i64)> = log_heads::table
        .filter(log_heads::shard_key.eq_any(shard_keys))
        .select((log_heads::shard_key, log_heads::seq))
        .load(conn)?;
    let heads: HashMap<i64, i64> = heads.into_iter().collect();
    let seq_of = |project: ProjectId| heads.get(&project.shard_key().0).copied().unwrap_or(0);
    let stamp = |row: StampRow| {
        let project = ProjectId(row.project_id);
        let stamp = Stamp {
            seq: seq_of(project),
            cohorts: row.cohorts,
            is_calculated: row.is_calculated,
        };
        (project, stamp)
    };
    Ok(rows.into_iter().map(stamp).collect())
}
