//! Admission of work: each kind has a bound, and each project its share of it.
//!
//! Handlers reach the database only through [`Service::read`], [`Service::transaction`] and [`Service::snapshot`], so no
//! project can hold all connections. A permit is held until its work has ended, also if the client disconnects before.

use std::time::Duration;

use cohorts_api::MemoryBudget;
use cohorts_store::{Conn, ProjectId};

use super::Service;
use crate::blocking;
use crate::error::Error;
use crate::shares::{Owner, Permit, ShareLimits, Shares};

/// How long a request waits for a permit.
const WAIT: Duration = Duration::from_secs(30);

/// The permits of all kinds of work.
#[derive(Clone)]
pub struct WorkShares {
    /// Requests with a connection. There are at least as many connections.
    requests: Shares,
    /// Evaluations of filters for a request.
    pub previews: Shares,
    /// Files that are written for clients, at the speed of the client.
    pub exports: Shares,
    /// Uploads, from the first byte of the file to its last row.
    pub uploads: Shares,
    /// Bodies of events that are decoded. Their project is not known yet, so the owner is a peer.
    pub decoding: Shares,
}

impl Default for WorkShares {
    fn default() -> Self {
        let shares = |work, total, per_owner, waiting| {
            Shares::new(ShareLimits {
                work,
                total,
                per_owner,
                waiting,
                wait: WAIT,
            })
        };
        Self {
            requests: shares("requests", 12, 6, 256),
            previews: shares("previews", 4, 2, 64),
            exports: shares("exports", 8, 2, 64),
            uploads: shares("uploads", 8, 2, 64),
            decoding: shares("capture requests", 4, 3, 4_096),
        }
    }
}

/// The memory of all requests, and its parts. A part never takes the whole, so the others always have some.
#[derive(Clone)]
pub struct RequestMemory {
    /// Bodies until they are parsed.
    pub bodies: MemoryBudget,
    /// Events between their arrival and their commit.
    pub events: MemoryBudget,
    /// Responses until their client has read them.
    pub responses: MemoryBudget,
}

impl RequestMemory {
    /// Divides `bytes`: at most 3/8 are for bodies, 4/8 for events and 3/8 for responses.
    pub fn new(bytes: usize) -> Self {
        let whole = MemoryBudget::new(bytes);
        Self {
            bodies: whole.part(bytes / 8 * 3),
            events: whole.part(bytes / 8 * 4),
            responses: whole.part(bytes / 8 * 3),
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
        let permit = self.request_permit(project).await?;
        blocking::read(&self.store, holding(permit, work)).await
    }

    /// Runs `work` in one transaction on a connection of the project's share; an error rolls everything back.
    pub(super) async fn transaction<T: Send + 'static>(
        &self,
        project: ProjectId,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.request_permit(project).await?;
        blocking::transaction(&self.store, holding(permit, work)).await
    }

    /// Runs `work` in a read-only transaction on a connection of the project's share. All of its statements see the data
    /// of one instant.
    pub(super) async fn snapshot<T: Send + 'static>(
        &self,
        project: ProjectId,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.request_permit(project).await?;
        blocking::snapshot(&self.store, holding(permit, work)).await
    }

    async fn request_permit(&self, project: ProjectId) -> Result<Permit, Error> {
        Ok(self
            .shares
            .requests
            .acquire(Owner::Project(project))
            .await?)
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
