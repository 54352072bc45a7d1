//! Citus: the person tables on several workers, by their shard key. The control tables stay on the coordinator.
//!
//! On plain Postgres, [`is_possible`] returns false, and nothing else here may be called. A statement in another module
//! never depends on the distribution.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Text};

use crate::{Conn, Result, StoreError, scan, transaction};

/// The person tables; the others follow the first.
pub const TABLES: [&str; 15] = [
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
    "segment_manifests",
    "person_checkpoints",
    "property_checkpoints",
];

/// How long a question to all workers may take.
const WORKER_LIMIT: Duration = Duration::from_secs(2);
/// The longest interval after which Citus ends transactions that were left prepared, in milliseconds.
const LONGEST_RECOVERY_INTERVAL: i64 = 5_000;
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
pub(crate) const ASK_WORKERS: &str = "\
    select nodename || ':' || nodeport as name, success as is_available, coalesce(result, '') as response \
    from run_command_on_workers($1) order by 1";
pub(crate) const RECOVERY_INTERVAL: &str =
    "select setting::bigint as number from pg_settings where name = 'citus.recover_2pc_interval'";
/// The bytes of distributed tables on all workers.
pub(crate) const BYTES: &str = "\
    select coalesce(sum(citus_total_relation_size(p.logicalrelid)), 0)::bigint as number from pg_dist_partition p";
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

/// The response of a worker to a statement.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Worker {
    /// Host and port.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Whether it responded.
    #[diesel(sql_type = Bool)]
    pub is_available: bool,
    /// The first value of the result, or the error.
    #[diesel(sql_type = Text)]
    pub response: String,
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

fn ask_workers(conn: &mut Conn, statement: &str) -> Result<Vec<Worker>> {
    transaction(conn, |conn| {
        scan::set_statement_timeout(conn, WORKER_LIMIT)?;
        Ok(diesel::sql_query(ASK_WORKERS)
            .bind::<Text, _>(statement)
            .load(conn)?)
    })
}

/// The workers, each with its number of hanging prepared transactions as the response.
///
/// # Errors
///
/// Fails if the database fails or has no Citus, or if a worker does not respond within two seconds.
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
    let workers = ask_workers(conn, EXTENSION_OF_WORKER)?;
    if workers.is_empty() {
        obstacles.push("there are no workers; add them with `select citus_add_node(…)`".to_owned());
    }
    for worker in &workers {
        let Worker { name, response, .. } = worker;
        if !worker.is_available {
            obstacles.push(format!("worker {name} does not respond: {response}"));
        } else if response.is_empty() {
            obstacles.push(format!(
                "worker {name} has no Citus in this database; run `create extension citus` there"
            ));
        }
    }
    let prepared = ask_workers(conn, PREPARED_OF_WORKER)?;
    let few = prepared.iter().filter(|worker| worker.is_available);
    let few = few.filter(|worker| worker.response.parse().unwrap_or(0) < FEWEST_PREPARED);
    obstacles.extend(few.map(|worker| {
        let Worker { name, response, .. } = worker;
        format!(
            "max_prepared_transactions of worker {name} is {response}; set it to at least {FEWEST_PREPARED}, and restart the \
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
