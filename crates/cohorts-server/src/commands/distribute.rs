//! `cohorts distribute`: moves the person tables to the workers of a Citus cluster.
//!
//! It may be interrupted and repeated, and is run again after an upgrade that has added tables.

use anyhow::{Context, ensure};
use cohorts_store::distribution;

use super::output::{counted, print};
use crate::Data;

/// Checks the cluster, distributes the person tables, and prints each of them.
///
/// # Errors
///
/// Fails if the database has no Citus or the cluster is not suitable, or the database is not available.
pub fn run(data: &Data) -> anyhow::Result<()> {
    let conn = &mut *data.store.connection()?;
    ensure!(
        distribution::is_possible(conn)?,
        "Citus is missing: the database has no extension `citus`. Install Citus on all nodes, run `create extension citus` \
         in this database on each of them, and add the workers on the coordinator"
    );
    let obstacles = distribution::obstacles(conn)?;
    for obstacle in &obstacles {
        print(format!("WRONG {obstacle}"))?;
    }
    ensure!(
        obstacles.is_empty(),
        "the cluster is not suitable: {}",
        counted(obstacles.len() as u64, "problem")
    );
    let mut nth = 0;
    let all = distribution::local_tables(conn)?.len();
    let count = distribution::distribute(conn, |table| {
        nth += 1;
        print(format!("distributing {table} ({nth} of {all})"))?;
        Ok(())
    });
    match count.context("the tables stay as they were; run the command again")? {
        0 => print("all person tables are distributed already"),
        count => print(format!("distributed {}", counted(count as u64, "table"))),
    }
}

#[cfg(test)]
mod tests {
    use cohorts_store::testing::TestDatabase;

    use super::*;
    use crate::config::Database;

    #[test]
    fn plain_postgres_is_refused_with_a_remedy() {
        let database = TestDatabase::create();
        let data = Data::open(&Database::Url(database.url())).unwrap();
        let refusal = run(&data).unwrap_err().to_string();
        assert!(
            refusal.contains("Citus is missing") && refusal.contains("create extension citus"),
            "{refusal}"
        );
    }
}
