//! Admission of work: each kind has a bound, and each project its share of it.
//!
//! Handlers reach the database only through [`Service::read`], [`Service::transaction`] and [`Service::snapshot`], so no
//! project can hold all connections. A permit is held until its work has ended, also if the client disconnects before.

use std::pin::pin;
use std::time::{Duration, Instant};

use cohorts_api::{BodyMemory, MemoryBudget};
use cohorts_store::outages::Outages;
use cohorts_store::{Conn, Error as StoreError, ProjectId};
use tokio::time::timeout;

use super::responses::ResponseShares;
use super::{Service, once};
use crate::blocking;
use crate::error::Error;
use crate::kill_points::KillPoint;
use crate::shares::{Permit, ShareLimits, ShareOwner, Shares};

/// A body of at most this many bytes is decoded in a moment.
const SMALL_BODY: usize = 64 << 10;
/// How long a request waits for a permit, or for memory.
pub(super) const WAIT: Duration = Duration::from_secs(30);
/// How long a request waits for a worker of Citus that does not respond: as long as for its statement.
pub(super) const OUTAGE_WAIT: Duration = Duration::from_secs(30);
/// How often a waiting request looks for an outage.
const OUTAGE_TICK: Duration = Duration::from_secs(1);

mod bodies;
mod disk;
mod preview_turns;

pub use bodies::OwnerBudgets;
pub use disk::UploadDisk;
pub use preview_turns::PreviewTurns;

/// The permits of all kinds of work.
#[derive(Clone)]
pub struct WorkShares {
    /// Requests with a connection. There are at least as many connections.
    requests: Shares,
    /// Evaluations of filters for a request.
    pub previews: Shares,
    /// The running previews of each key.
    pub preview_turns: PreviewTurns,
    /// Files that are written for clients, at the speed of the client.
    pub exports: Shares,
    /// Pages that are too large for one piece, at the speed of the client.
    pub pages: Shares,
    /// Open streams of changes of a key.
    pub key_streams: Shares,
    /// Open streams of changes of a project.
    pub streams: Shares,
    /// Uploads, from the first byte of the file to its last row.
    pub uploads: Shares,
    /// Test messages of webhooks, which a slow receiver delays.
    pub webhook_tests: Shares,
    /// Bodies of events that are decoded. Their project is not known yet, so the owner is a peer.
    large_bodies: Shares,
    /// As `large_bodies`, for bodies that are decoded in a moment. Large ones of the same peer never delay them.
    small_bodies: Shares,
    /// The turns of bodies of events that take much memory while they are decoded, one at a time.
    pub large_decoding: Shares,
}

impl Default for WorkShares {
    fn default() -> Self {
        let shares = |work, total, per_owner, waiting| {
            Shares::new(ShareLimits {
                work,
                total,
                per_owner,
                per_node: total.div_ceil(3) * 2,
                waiting,
                wait: WAIT,
            })
        };
        // A stream does not end soon, so no request waits for one.
        let streams = |total, per_owner| {
            Shares::new(ShareLimits {
                work: "streams",
                total,
                per_owner,
                per_node: total,
                waiting: 0,
                wait: Duration::ZERO,
            })
        };
        Self {
            requests: shares("requests", 12, 4, 256),
            previews: shares("previews", 4, 2, 64),
            preview_turns: PreviewTurns::default(),
            exports: shares("exports", 8, 2, 64),
            pages: shares("large pages", 16, 4, 64),
            key_streams: streams(usize::MAX, 5),
            streams: streams(500, 20),
            uploads: shares("uploads", 8, 2, 64),
            webhook_tests: shares("tests of webhooks", 16, 2, 16),
            large_bodies: shares("capture requests", 3, 2, 4_096),
            small_bodies: shares("capture requests", 4, 4, 4_096),
            large_decoding: shares("large capture requests", 1, 1, 64),
        }
    }
}

impl WorkShares {
    /// The permits to decode a body of `bytes`.
    pub fn decoding(&self, bytes: usize) -> &Shares {
        if bytes <= SMALL_BODY {
            &self.small_bodies
        } else {
            &self.large_bodies
        }
    }
}

/// The memory of all requests, and its parts. A part never takes the whole, so the others always have some.
#[derive(Clone)]
pub struct RequestMemory {
    /// Bodies until they are parsed.
    pub bodies: MemoryBudget,
    /// Bodies beyond their first 64 KiB, by the project or the peer that sends them. The rest of `bodies` is a reserve for
    /// small bodies.
    pub large_bodies: OwnerBudgets,
    /// The values of large bodies with fields, until the request is answered.
    pub parsing: MemoryBudget,
    /// Events between their arrival and their commit.
    pub events: MemoryBudget,
    /// The part of `events` for bodies that are decoded in turns. The rest is a reserve for small bodies.
    pub large_events: MemoryBudget,
    /// Responses until their client has read them, with a share for each project.
    pub responses: ResponseShares,
}

impl RequestMemory {
    /// Divides `bytes`: at most 3/8 are for bodies, 2/8 for their values, 4/8 for events and 3/8 for responses.
    pub fn new(bytes: usize) -> Self {
        let whole = MemoryBudget::new(bytes);
        let bodies = whole.part(bytes / 8 * 3);
        let large = bodies.part(bodies.capacity() / 4 * 3);
        let events = whole.part(bytes / 8 * 4);
        Self {
            large_bodies: OwnerBudgets::new(large),
            parsing: whole.part(bytes / 4),
            bodies,
            large_events: events.part(events.capacity() / 4 * 3),
            events,
            responses: ResponseShares::new(whole.part(bytes / 8 * 3), bytes / 8 * 3),
        }
    }

    /// The memory for a body of the owner.
    pub fn of_body(&self, owner: ShareOwner) -> BodyMemory {
        BodyMemory {
            small: Some(self.bodies.clone()),
            large: Some(self.large_bodies.of(owner)),
            parsing: Some(self.parsing.clone()),
        }
    }
}

impl Service {
    /// Runs `work` on a connection of the project's share.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        project: ProjectId,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        // A request for a worker that does not respond would hold the permit for as long as its time limit.
        self.store.outages.check(project)?;
        let permit = self
            .shares
            .requests
            .acquire_on(
                ShareOwner::Project(project),
                self.store.outages.worker_of(project),
            )
            .await?;
        let work = blocking::read(&self.store, holding(permit, work));
        let result = until_outage(&self.store.outages, project, OUTAGE_WAIT, work).await;
        if matches!(result, Err(Error::Unavailable | Error::TimedOut)) {
            self.store.uncertain.add(project);
        }
        result
    }

    /// Runs `work` in one transaction on a connection of the project's share; an error rolls everything back. If the
    /// request has an `Idempotency-Key`, the transaction marks the key.
    pub(super) async fn transaction<T: Send + 'static>(
        &self,
        project: ProjectId,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let attempt = once::current();
        let work = move |conn: &mut Conn| {
            let result = cohorts_store::transaction(conn, |conn| {
                let result = work(conn)?;
                once::mark_committed(conn, attempt.as_ref())?;
                Ok::<_, Error>(result)
            })?;
            if attempt.is_some() {
                KillPoint::RequestCommitted.reached();
            }
            Ok(result)
        };
        self.write(project, work).await
    }

    /// Runs `work`, which commits, on a connection of the project's share, and signals the write. If the database does not
    /// answer, the outcome of a commit is unknown, so a failure is signalled too.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        project: ProjectId,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let result = self.read(project, work).await;
        self.store.signals.changed(project);
        self.store.signals.written(project);
        result
    }

    /// Runs `work` in a read-only transaction on a connection of the project's share. All of its statements see the data
    /// of one instant.
    pub(super) async fn snapshot<T: Send + 'static>(
        &self,
        project: ProjectId,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let work = move |conn: &mut Conn| cohorts_store::snapshot(conn, work);
        self.read(project, work).await
    }
}

/// Waits for `work`, but only for `limit` if the worker of the project does not respond. Citus may not be able to cancel
/// the statement then, so the work goes on, and its outcome is unknown.
pub(super) async fn until_outage<T, E: From<StoreError>>(
    outages: &Outages,
    project: ProjectId,
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let (started, mut work) = (Instant::now(), pin!(work));
    loop {
        if started.elapsed() >= limit {
            outages.check(project)?;
        }
        if let Ok(result) = timeout(OUTAGE_TICK, &mut work).await {
            return result;
        }
    }
}

/// `work`, which holds the permit until it has ended.
pub(super) fn holding<T>(
    permit: Permit,
    work: impl FnOnce(&mut Conn) -> Result<T, Error>,
) -> impl FnOnce(&mut Conn) -> Result<T, Error> {
    move |conn| {
        let _permit = permit;
        work(conn)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_request_does_not_wait_for_a_worker_that_does_not_respond() {
        let (outages, project) = (Outages::default(), ProjectId(1));
        let done = ready(Ok::<_, StoreError>(5));
        let result = until_outage(&outages, project, Duration::ZERO, done).await;
        assert_eq!(result.unwrap(), 5);
        outages.set_for_test(&[project]);
        let stuck = pending::<Result<(), StoreError>>();
        let result = until_outage(&outages, project, Duration::ZERO, stuck).await;
        assert!(matches!(result, Err(StoreError::Unavailable(_))));
    }
}
