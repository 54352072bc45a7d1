//! A read transaction of one project, with the time and the memory that its reader may take.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cohorts_store::{Conn, ProjectId, ShardKey, events, projects, scan};

use super::memory::{MemoryUse, Reservation};
use super::stop::StopFlag;
use super::{IndexError, IndexResult};

/// The time and the memory that a reader may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The latest instant at which everything must be read.
    pub deadline: Instant,
    /// The most bytes that all reads together may reserve.
    pub memory: u64,
}

/// The retention of a project's events. An index of another retention may contain deleted events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionState {
    /// The number of days; `None` keeps all events.
    pub days: Option<i32>,
    /// How often the number of days was changed.
    pub changes: i64,
}

impl RetentionState {
    /// The retention of a project; `None` if the project does not exist.
    pub fn of(conn: &mut Conn, project: ProjectId) -> Result<Option<Self>, cohorts_store::Error> {
        let row = projects::find(conn, project)?;
        Ok(row.map(|row| Self {
            days: row.event_retention_days,
            changes: row.retention_changes,
        }))
    }
}

/// A read transaction: all of its statements see the data of one instant. Clones share the connection.
#[derive(Clone)]
pub struct ReadTx<'a> {
    shared: Rc<TxConn<'a>>,
    pub project: ProjectId,
    pub limits: Limits,
    /// Stops the reader at its next interruption point.
    stop: Option<StopFlag>,
}

struct TxConn<'a> {
    conn: RefCell<&'a mut Conn>,
    /// The time limit of statements that the database knows.
    statement_limit: Cell<Duration>,
    reservation: Reservation,
    /// Whether memory may have grown since the last [`ReadTx::take_has_grown`].
    has_grown: Cell<bool>,
    /// Counts the rows of loaded blocks.
    rows_read: RowCount,
}

/// A count of rows that another thread can watch.
pub type RowCount = Arc<AtomicU64>;

impl<'a> ReadTx<'a> {
    /// Runs `work`, which loads no blocks, in a read transaction.
    pub fn run<T, E: From<cohorts_store::Error>>(
        conn: &mut Conn,
        project: ProjectId,
        limits: Limits,
        work: impl FnOnce(ReadTx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (memory, rows_read) = (Arc::default(), Arc::default());
        Self::run_with(conn, project, limits, &memory, &rows_read, work)
    }

    /// Runs `work` in a read transaction, which reserves its memory from `memory`, and counts the rows of loaded blocks in
    /// `rows_read`.
    pub fn run_with<T, E: From<cohorts_store::Error>>(
        conn: &mut Conn,
        project: ProjectId,
        limits: Limits,
        memory: &Arc<MemoryUse>,
        rows_read: &RowCount,
        work: impl FnOnce(ReadTx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        cohorts_store::snapshot(conn, |conn| {
            work(ReadTx {
                shared: Rc::new(TxConn {
                    conn: RefCell::new(conn),
                    statement_limit: Cell::new(Duration::ZERO),
                    reservation: Reservation::new(memory),
                    has_grown: Cell::new(false),
                    rows_read: Arc::clone(rows_read),
                }),
                project,
                limits,
                stop: None,
            })
        })
    }

    /// The same transaction for a reader with other limits.
    pub fn with_limits(&self, limits: Limits) -> ReadTx<'a> {
        ReadTx {
            limits,
            ..self.clone()
        }
    }

    /// The same transaction for a reader that a flag can stop.
    pub fn with_stop(&self, stop: &StopFlag) -> ReadTx<'a> {
        ReadTx {
            stop: Some(stop.clone()),
            ..self.clone()
        }
    }

    /// Records that there is more in memory than before, although nothing was read.
    pub fn set_has_grown(&self) {
        self.shared.has_grown.set(true);
    }

    /// Whether memory may have grown since the last call.
    pub fn take_has_grown(&self) -> bool {
        self.shared.has_grown.take()
    }

    /// Counts rows of a block that is being loaded.
    pub fn count_rows(&self, rows: usize) {
        (self.shared.rows_read).fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Reserves memory for a block that is being loaded. Fails if all reads together exceed the memory limit.
    pub fn check_memory(&self, bytes: usize) -> IndexResult<()> {
        let reservation = &self.shared.reservation;
        self.check_limit(|limit| reservation.set_loading(bytes as u64, limit))
    }

    /// Counts memory of a step of the index. The step is bounded, so it takes the memory in any case, and blocks are evicted.
    pub fn count_memory(&self, bytes: usize) {
        self.shared.reservation.set_loading(bytes as u64, u64::MAX);
    }

    /// Reserves memory for what an evaluation keeps. Fails if all reads together exceed the memory limit.
    pub fn hold_memory(&self, bytes: usize) -> IndexResult<()> {
        let reservation = &self.shared.reservation;
        self.check_limit(|limit| reservation.hold(bytes as u64, limit))
    }

    /// Work without a limit is small, and reserves no memory.
    fn check_limit(&self, reserve: impl FnOnce(u64) -> bool) -> IndexResult<()> {
        let limit = self.limits.memory;
        if limit == u64::MAX || reserve(limit) {
            Ok(())
        } else {
            Err(IndexError::OverBudget)
        }
    }

    /// Releases the memory of a block that has been loaded.
    pub fn release_loading(&self) {
        self.shared.reservation.release_loading();
    }

    /// Releases all reserved memory.
    pub fn release_memory(&self) {
        self.shared.reservation.release();
    }

    /// Fails if the deadline has passed, or if the reader is stopped.
    pub fn check_time(&self) -> IndexResult<()> {
        if self.stop.as_ref().is_some_and(StopFlag::is_set) {
            return Err(IndexError::Stopped);
        }
        if Instant::now() < self.limits.deadline {
            Ok(())
        } else {
            Err(IndexError::TimedOut)
        }
    }

    /// Runs `read` on the connection, with the time that is left.
    pub fn with_conn<T, E: Into<IndexError>>(
        &self,
        read: impl FnOnce(&mut Conn) -> Result<T, E>,
    ) -> IndexResult<T> {
        self.try_with_conn(|conn| read(conn).map_err(Into::into))
    }

    /// As [`Self::with_conn`], for work with errors of its own.
    pub fn try_with_conn<T, E: From<IndexError>>(
        &self,
        read: impl FnOnce(&mut Conn) -> Result<T, E>,
    ) -> Result<T, E> {
        let left = (self.limits.deadline).saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(IndexError::TimedOut.into());
        }
        self.try_with_conn_for(left, read)
    }

    /// As [`Self::try_with_conn`], with `limit` for each statement.
    pub fn try_with_conn_for<T, E: From<IndexError>>(
        &self,
        limit: Duration,
        read: impl FnOnce(&mut Conn) -> Result<T, E>,
    ) -> Result<T, E> {
        self.set_has_grown();
        let mut conn = self.shared.conn.borrow_mut();
        let known = self.shared.statement_limit.get();
        // A limit that was set a moment ago is close enough.
        if limit > known || limit < known / 10 * 9 {
            scan::set_statement_timeout(&mut conn, limit).map_err(IndexError::from)?;
            self.shared.statement_limit.set(limit);
        }
        read(&mut conn)
    }

    pub fn shard_key(&self) -> ShardKey {
        self.project.shard_key()
    }

    /// The last sequence number of the log that the transaction sees.
    pub fn log_head(&self) -> IndexResult<i64> {
        self.with_conn(|conn| events::log_head(conn, self.shard_key()))
    }

    pub fn retention(&self) -> IndexResult<RetentionState> {
        let retention = self.with_conn(|conn| RetentionState::of(conn, self.project))?;
        retention.ok_or(IndexError::ProjectNotFound)
    }
}
