//! Citus: the person tables on several workers, by their shard key. The control tables stay on the coordinator.
//!
//! On plain Postgres, [`is_possible`] returns false, and nothing else here may be called. Statements in other modules do not
//! depend on the distribution, but a write in halves asks at each write, because Citus may come while the service runs.

use std::fmt;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Text};

use crate::{Conn, ProjectId, Result, ShardKey, StoreError, projects, scan, transaction};

/// The person tables; the others follow the first.
pub const TABLES: [&str; 21] = [
    "persons",
    "distinct_ids",
    "ordinal_counters",
    "tombstones",
    "events",
    "log_heads",
    "member_chunks",
    "member_changes",
    "member_change_slices",
    "change_heads",
    "cohort_sizes",
    "segments",
    "segment_heads",
    "person_checkpoints",
    "property_checkpoints",
    "rankings",
    "ranking_buckets",
    "erasures",
    "definitions",
    "definition_heads",
    "definition_checks",
];

/// How long a question to all workers may take.
const WORKER_LIMIT: Duration = Duration::from_secs(2);
/// The longest interval after which Citus ends transactions that were left prepared, in milliseconds.
const LONGEST_RECOVERY_INTERVAL: i64 = 5_000;
/// The setting that ends connections to a worker that cannot be reached.
const WORKER_TIMEOUT: &str = "tcp_user_timeout";
/// The fewest prepared transactions that a worker must accept.
const FEWEST_PREPARED: i64 = 100;

pub(crate) const HAS_CITUS: &str =
    "select exists (select from pg_extension where extname = 'citus') as is_true";
pub(crate) const LOCAL_TABLES: &str = "\
    select c.relname::text as name from unnest($1) with ordinality as t(name, nth) \
        join pg_class c on c.relname = t.name and c.relnamespace = 'public'::regnamespace \
    where not exists (select from pg_dist_partition p where p.logicalrelid = c.oid) order by t.nth";
/// Tables on workers with rows that are still on the coordinator too.
pub(crate) const TABLES_WITH_LOCAL_ROWS: &str = "\
    select c.relname::text as name from unnest($1) with ordinality as t(name, nth) \
        join pg_class c on c.relname = t.name and c.relnamespace = 'public'::regnamespace \
        join pg_dist_partition p on p.logicalrelid = c.oid \
    where pg_relation_size(c.oid) > 0 order by t.nth";
pub(crate) const WORKERS: &str = "\
    select nodename::text as host, nodeport as port from pg_dist_node \
    where groupid <> 0 and isactive and noderole = 'primary' order by nodename, nodeport";
/// Citus opens a new connection for each question, so the time limit also ends it if the worker cannot be reached.
pub(crate) const ASK_WORKER: &str = "\
    select success as is_available, coalesce(result, '') as response \
    from master_run_on_worker(array[$1], array[$2], array[$3], false)";
pub(crate) const PLACEMENTS: &str = "\
    select key as shard_key, p.nodename::text as host, p.nodeport::int as port from unnest($1) as key \
    join pg_dist_shard_placement p on p.shardid = get_shard_id_for_distribution_column('persons', key)";
pub(crate) const RECOVERY_INTERVAL: &str =
    "select setting::bigint as number from pg_settings where name = 'citus.recover_2pc_interval'";
/// The bytes of distributed tables on all workers.
pub(crate) const BYTES: &str = "\
    select coalesce(sum(citus_total_relation_size(p.logicalrelid)), 0)::bigint as number from pg_dist_partition p";
pub(crate) const NODE_CONNINFO: &str = "select current_setting('citus.node_conninfo') as name";
/// A coordinator without workers has group 0 too; `citus_is_coordinator` is false for it.
pub(crate) const IS_WORKER: &str =
    "select exists (select from pg_dist_local_group where groupid <> 0) as is_true";
pub(crate) const SEQUENTIAL: &str = "set local citus.multi_shard_modify_mode = 'sequential'";
pub(crate) const NO_LIMIT: &str = "set local statement_timeout = 0";
pub(crate) const DISTRIBUTE_FIRST: &str = "\
    select create_distributed_table('persons', 'shard_key', colocate_with => 'none', shard_count => 32)";
pub(crate) const DISTRIBUTE: &str =
    "select create_distributed_table($1::regclass, 'shard_key', colocate_with => 'persons')";
pub(crate) const TRUNCATE_LOCAL: &str =
    "select truncate_local_data_after_distributing_table($1::regclass)";
pub(crate) const EXTENSION_OF_WORKER: &str =
    "select extversion from pg_extension where extname = 'citus'";
pub(crate) const PREPARED_OF_WORKER: &str = "select current_setting('max_prepared_transactions')";
/// Transactions that Citus has prepared and not ended for longer than the recovery takes.
pub(crate) const HANGING_OF_WORKER: &str = "\
    select count(*) from pg_prepared_xacts where gid like 'citus\\_%' and database = current_database() \
        and prepared < now() - interval '1 minute'";

#[derive(QueryableByName)]
struct Truth {
    #[diesel(sql_type = Bool)]
    is_true: bool,
}

#[derive(QueryableByName)]
struct TableName {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The address of a worker.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Address {
    #[diesel(sql_type = Text)]
    host: String,
    #[diesel(sql_type = Integer)]
    port: i32,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[derive(QueryableByName)]
struct Placement {
    #[diesel(sql_type = BigInt)]
    shard_key: i64,
    #[diesel(embed)]
    address: Address,
}

#[derive(QueryableByName)]
struct Response {
    #[diesel(sql_type = Bool)]
    is_available: bool,
    #[diesel(sql_type = Text)]
    response: String,
}

/// The response of a worker to a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Host and port.
    pub address: Address,
    /// Whether it responded.
    pub is_available: bool,
    /// The first value of the result, or the error.
    pub response: String,
}

impl Worker {
    /// A worker for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn of_test(is_available: bool, response: &str) -> Self {
        let host = "w".to_owned();
        Self {
            address: Address { host, port: 5432 },
            is_available,
            response: response.to_owned(),
        }
    }
}

/// Whether the database has the extension `citus`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn is_possible(conn: &mut Conn) -> Result<bool> {
    let row: Truth = diesel::sql_query(HAS_CITUS).get_result(conn)?;
    Ok(row.is_true)
}

/// Whether the database is on a worker of Citus.
pub(crate) fn is_worker(conn: &mut Conn) -> Result<bool> {
    if !is_possible(conn)? {
        return Ok(false);
    }
    let row: Truth = diesel::sql_query(IS_WORKER).get_result(conn)?;
    Ok(row.is_true)
}

fn names(conn: &mut Conn, statement: &str) -> Result<Vec<&'static str>> {
    let rows: Vec<TableName> = diesel::sql_query(statement)
        .bind::<Array<Text>, _>(TABLES.to_vec())
        .load(conn)?;
    let known = |row: &TableName| TABLES.into_iter().find(|table| *table == row.name);
    Ok(rows.iter().filter_map(known).collect())
}

/// The person tables that are on the coordinator only, in the order in which they are distributed.
///
/// # Errors
///
/// Fails if the database fails or has no Citus.
pub fn local_tables(conn: &mut Conn) -> Result<Vec<&'static str>> {
    names(conn, LOCAL_TABLES)
}

/// The bytes of the distributed tables on all workers.
///
/// # Errors
///
/// Fails if the database fails or has no Citus, or if a worker does not respond within two seconds.
pub(crate) fn bytes(conn: &mut Conn) -> Result<i64> {
    let row: Number = transaction(conn, |conn| {
        scan::set_statement_timeout(conn, WORKER_LIMIT)?;
        Ok::<_, StoreError>(diesel::sql_query(BYTES).get_result(conn)?)
    })?;
    Ok(row.number)
}

/// Asks each worker by itself, so that the time limit tells which of them does not respond.
fn ask_workers(conn: &mut Conn, statement: &str) -> Result<Vec<Worker>> {
    let addresses: Vec<Address> = diesel::sql_query(WORKERS).load(conn)?;
    let workers = addresses.into_iter().map(|address| {
        let asked = ask_worker(conn, &address, statement);
        let Response {
            is_available,
            response,
        } = match asked {
            Err(StoreError::TimedOut) => Response {
                is_available: false,
                response: format!("no response within {} s", WORKER_LIMIT.as_secs()),
            },
            asked => asked?,
        };
        Ok(Worker {
            address,
            is_available,
            response,
        })
    });
    workers.collect()
}

fn ask_worker(conn: &mut Conn, address: &Address, statement: &str) -> Result<Response> {
    transaction(conn, |conn| {
        scan::set_statement_timeout(conn, WORKER_LIMIT)?;
        Ok(diesel::sql_query(ASK_WORKER)
            .bind::<Text, _>(&address.host)
            .bind::<Integer, _>(address.port)
            .bind::<Text, _>(statement)
            .get_result(conn)?)
    })
}

/// The worker of each project; none before the person tables are distributed.
///
/// # Errors
///
/// Fails if the database fails or has no Citus.
pub fn workers_of_projects(conn: &mut Conn) -> Result<Vec<(ProjectId, Address)>> {
    if local_tables(conn)?.contains(&TABLES[0]) {
        return Ok(Vec::new());
    }
    let projects = projects::all(conn)?.into_iter();
    let keys: Vec<i64> = projects.map(|project| project.shard_key().0).collect();
    let rows: Vec<Placement> = diesel::sql_query(PLACEMENTS)
        .bind::<Array<BigInt>, _>(keys)
        .load(conn)?;
    let project = |row: Placement| (ShardKey(row.shard_key).project(), row.address);
    Ok(rows.into_iter().map(project).collect())
}

/// The workers, each with its number of hanging prepared transactions as the response.
///
/// # Errors
///
/// Fails if the database fails or has no Citus. A worker that does not respond within two seconds is not available.
pub fn workers(conn: &mut Conn) -> Result<Vec<Worker>> {
    ask_workers(conn, HANGING_OF_WORKER)
}

/// Why this cluster cannot have the person tables, each with a remedy.
///
/// # Errors
///
/// Fails if the database fails or has no Citus.
pub fn obstacles(conn: &mut Conn) -> Result<Vec<String>> {
    let mut obstacles = Vec::new();
    let interval: Number = diesel::sql_query(RECOVERY_INTERVAL).get_result(conn)?;
    if !(0..=LONGEST_RECOVERY_INTERVAL).contains(&interval.number) {
        obstacles.push(format!(
            "citus.recover_2pc_interval of the coordinator is {} ms, so a crash may lock rows for that long; set it to 5s",
            interval.number
        ));
    }
    let settings: TableName = diesel::sql_query(NODE_CONNINFO).get_result(conn)?;
    if !settings.name.contains(WORKER_TIMEOUT) {
        obstacles.push(format!(
            "citus.node_conninfo of the coordinator has no {WORKER_TIMEOUT}, so a worker that cannot be reached holds \
             connections for minutes; add `{WORKER_TIMEOUT}=10000 keepalives_idle=5 keepalives_interval=2 keepalives_count=3`"
        ));
    }
    let workers = ask_workers(conn, EXTENSION_OF_WORKER)?;
    if workers.is_empty() {
        obstacles.push("there are no workers; add them with `select citus_add_node(…)`".to_owned());
    }
    for worker in &workers {
        let Worker {
            address, response, ..
        } = worker;
        if !worker.is_available {
            obstacles.push(format!("worker {address} does not respond: {response}"));
        } else if response.is_empty() {
            obstacles.push(format!(
                "worker {address} has no Citus in this database; run `create extension citus` there"
            ));
        }
    }
    let prepared = ask_workers(conn, PREPARED_OF_WORKER)?;
    let few = prepared.iter().filter(|worker| worker.is_available);
    let few = few.filter(|worker| worker.response.parse().unwrap_or(0) < FEWEST_PREPARED);
    obstacles.extend(few.map(|worker| {
        let Worker {
            address, response, ..
        } = worker;
        format!(
            "max_prepared_transactions of worker {address} is {response}; set it to at least {FEWEST_PREPARED}, and restart the \
             worker"
        )
    }));
    Ok(obstacles)
}

/// Distributes the person tables that are not distributed yet, and then deletes their rows on the coordinator. Calls
/// `each` with the name of each table before it is copied.
///
/// All tables are distributed in one transaction, so an interrupted run leaves them as they were. Other sessions wait for
/// the tables meanwhile. It may be repeated.
///
/// # Errors
///
/// Returns the error of `each`, and fails if the database fails or has no Citus.
pub fn distribute(conn: &mut Conn, mut each: impl FnMut(&str) -> Result<()>) -> Result<usize> {
    let local = local_tables(conn)?;
    transaction(conn, |conn| {
        diesel::sql_query(NO_LIMIT).execute(conn)?;
        diesel::sql_query(SEQUENTIAL).execute(conn)?;
        for table in &local {
            each(table)?;
            if *table == TABLES[0] {
                diesel::sql_query(DISTRIBUTE_FIRST).execute(conn)?;
            } else {
                let statement = diesel::sql_query(DISTRIBUTE);
                statement.bind::<Text, _>(*table).execute(conn)?;
            }
        }
        Ok::<_, StoreError>(())
    })?;
    for table in names(conn, TABLES_WITH_LOCAL_ROWS)? {
        transaction(conn, |conn| {
            diesel::sql_query(NO_LIMIT).execute(conn)?;
            let statement = diesel::sql_query(TRUNCATE_LOCAL);
            statement.bind::<Text, _>(table).execute(conn)?;
            Ok::<_, StoreError>(())
        })?;
    }
    Ok(local.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema_rules::PERSON;
    use crate::testing::TestDatabase;

    #[test]
    fn every_person_table_is_distributed() {
        let mut tables = TABLES;
        tables.sort_unstable();
        assert_eq!(tables, PERSON);
    }

    #[test]
    fn plain_postgres_has_no_citus() {
        let database = TestDatabase::create();
        let store = database.open();
        assert!(!is_possible(&mut store.connection().unwrap()).unwrap());
    }
}
