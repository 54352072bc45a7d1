//! Lanes: one pool of connections for each kind of work, so that no kind takes the connections of another.
//!
//! A lane opens connections when it needs them. Each lane has its own time limits, which are set when a connection is
//! opened; a transaction may set other limits for itself.

use std::sync::Arc;
use std::time::Duration;

use diesel::r2d2::{Pool, State};
use prometheus::IntCounter;
use scheduled_thread_pool::ScheduledThreadPool;

use crate::pool::{Manager, PooledConn, TimeLimits};
use crate::{ConnectionCounts, Result, StoreError};

/// Threads that open and close the connections of all lanes.
const POOL_THREADS: usize = 3;

/// A kind of work, which has connections of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Requests of identified callers.
    Requests,
    /// Look-ups of keys and of capture tokens.
    Authorization,
    /// Commits of captured and imported events.
    Writers,
    /// Calculations, their heartbeats, upkeep, and the commands of the program.
    Background,
    /// Readiness checks.
    Readiness,
    /// Questions to the workers of a distributed Postgres, which may not respond.
    Workers,
}

impl Lane {
    /// All lanes, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::Requests,
        Self::Authorization,
        Self::Writers,
        Self::Background,
        Self::Readiness,
        Self::Workers,
    ];

    /// The name in messages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Authorization => "authorization",
            Self::Writers => "writers",
            Self::Background => "background",
            Self::Readiness => "readiness",
            Self::Workers => "workers",
        }
    }

    /// The most connections of the lane.
    pub const fn size(self) -> u32 {
        match self {
            Self::Requests => 12,
            Self::Authorization => 4,
            // Each of 4 group-commit threads needs one. An import needs three for each commit.
            Self::Writers => 12,
            // Each of 4 calculations needs one to read and one to publish. The rest is for 2 passes, leases, heartbeats and
            // upkeep.
            Self::Background => 14,
            Self::Readiness | Self::Workers => 1,
        }
    }

    /// How long a caller waits for a free connection.
    const fn wait(self) -> Duration {
        Duration::from_secs(match self {
            Self::Requests | Self::Authorization => 5,
            Self::Writers | Self::Background => 30,
            Self::Readiness | Self::Workers => 2,
        })
    }

    /// The time limits of the lane's connections.
    const fn time_limits(self) -> TimeLimits {
        let (statement, lock, idle_transaction) = match self {
            Self::Requests => (30, 5, 60),
            Self::Authorization => (5, 2, 10),
            // One connection of an import waits in its transaction while two others write.
            Self::Writers => (120, 30, 300),
            // A calculation holds its snapshot while it evaluates.
            Self::Background => (300, 30, 600),
            Self::Readiness => (2, 1, 5),
            // Each question has a shorter limit of its own.
            Self::Workers => (10, 1, 30),
        };
        TimeLimits {
            statement: Duration::from_secs(statement),
            lock: Duration::from_secs(lock),
            idle_transaction: Duration::from_secs(idle_transaction),
        }
    }
}

/// The most connections that one process opens: those of all lanes, and one that receives notifications.
pub const MAX_CONNECTIONS: u32 = {
    let (mut sum, mut nth) = (1, 0);
    while nth < Lane::ALL.len() {
        sum += Lane::ALL[nth].size();
        nth += 1;
    }
    sum
};

/// The pools of all lanes. Clones share them.
#[derive(Clone)]
pub(crate) struct Lanes(Arc<[Pool<Manager>; Lane::ALL.len()]>);

impl Lanes {
    /// Creates the pools, and opens one connection of `first`, so that an unreachable database is found at once.
    pub(crate) fn open(url: &str, statements: &IntCounter, first: Lane) -> anyhow::Result<Self> {
        let threads = Arc::new(ScheduledThreadPool::new(POOL_THREADS));
        let lanes = Self(Arc::new(Lane::ALL.map(|lane| {
            let manager = Manager {
                url: url.to_owned(),
                limits: lane.time_limits(),
                statements: statements.clone(),
            };
            Pool::builder()
                .max_size(lane.size())
                .min_idle(Some(0))
                .connection_timeout(lane.wait())
                .thread_pool(Arc::clone(&threads))
                .build_unchecked(manager)
        })));
        lanes.connection(first)?;
        Ok(lanes)
    }

    fn pool(&self, lane: Lane) -> &Pool<Manager> {
        &self.0[lane as usize]
    }

    /// Takes a connection of a lane, or waits for a free one.
    pub(crate) fn connection(&self, lane: Lane) -> Result<PooledConn> {
        let pool = self.pool(lane);
        pool.get().map(PooledConn).map_err(|cause| {
            if pool.state().connections >= lane.size() {
                StoreError::Busy(lane)
            } else {
                StoreError::Unavailable(format!("no connection for {}: {cause}", lane.name()))
            }
        })
    }

    pub(crate) fn counts(&self, lane: Lane) -> ConnectionCounts {
        let State {
            connections,
            idle_connections,
            ..
        } = self.pool(lane).state();
        ConnectionCounts {
            in_use: connections - idle_connections,
            open: connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::*;
    use crate::health;
    use crate::testing::TestDatabase;

    #[test]
    fn a_lane_in_full_use_leaves_the_connections_of_the_others() {
        let database = TestDatabase::create();
        let store = database.open().in_lane(Lane::Readiness);
        let held = store.connection().unwrap();
        let full = store.connection().err().unwrap();
        assert!(matches!(full, StoreError::Busy(Lane::Readiness)), "{full}");
        assert!(full.is_transient());
        for lane in [Lane::Requests, Lane::Authorization, Lane::Writers] {
            let other = store.in_lane(lane);
            diesel::sql_query("select 1")
                .execute(&mut *other.connection().unwrap())
                .unwrap();
        }
        drop(held);
        store.connection().unwrap();
    }

    #[test]
    fn each_connection_has_the_time_limits_of_its_lane_and_errors_in_english() {
        let database = TestDatabase::create();
        let store = database.open();
        for lane in Lane::ALL {
            let conn = &mut *store.in_lane(lane).connection().unwrap();
            let limits = lane.time_limits();
            for (name, limit) in [
                ("statement_timeout", limits.statement),
                ("lock_timeout", limits.lock),
                (
                    "idle_in_transaction_session_timeout",
                    limits.idle_transaction,
                ),
            ] {
                let millis = health::setting_in_milliseconds(conn, name).unwrap();
                assert_eq!(u128::from(millis), limit.as_millis(), "{lane:?}: {name}");
            }
            assert_eq!(health::setting(conn, "lc_messages").unwrap(), "C");
        }
    }

    #[test]
    fn an_idle_store_has_one_connection() {
        let database = TestDatabase::create();
        let store = database.open();
        let open = Lane::ALL.map(|lane| store.connections(lane).open);
        assert_eq!(open.iter().sum::<u32>(), 1);
    }
}
