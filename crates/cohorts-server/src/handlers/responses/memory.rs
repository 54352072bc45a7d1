//! The memory of responses: each project has a share of it, so slow clients of one project never hold the memory of all.

use std::collections::HashMap;
use std::sync::Arc;

use cohorts_api::{MemoryBudget, Reservation};
use cohorts_store::ProjectId;
use parking_lot::Mutex;

use crate::error::Error;
use crate::handlers::Service;
use crate::handlers::admission::WAIT;
use crate::shares::{ShareFull, ShareOwner};

/// Of the memory of responses, one project may take one part in this number.
const SHARES: usize = 3;
/// Projects with an unused share are forgotten beyond this number.
const PROJECTS: usize = 1_000;

/// The shares of all projects in the memory of responses. Clones share everything.
#[derive(Clone)]
pub struct ResponseShares {
    whole: MemoryBudget,
    share: usize,
    projects: Arc<Mutex<HashMap<ProjectId, MemoryBudget>>>,
}

impl ResponseShares {
    /// Divides `whole`, a budget of `bytes`.
    pub fn new(whole: MemoryBudget, bytes: usize) -> Self {
        Self {
            whole,
            share: bytes / SHARES,
            projects: Arc::default(),
        }
    }

    fn of(&self, project: ProjectId) -> MemoryBudget {
        let mut projects = self.projects.lock();
        if projects.len() >= PROJECTS {
            projects.retain(|_, share| share.used() > 0);
        }
        let share = projects
            .entry(project)
            .or_insert_with(|| self.whole.part(self.share));
        share.clone()
    }
}

impl Service {
    /// Reserves memory for a part of a response, and waits for it. More than the share of a project is never needed: a
    /// part that is larger takes the whole share.
    ///
    /// # Errors
    ///
    /// Fails if the memory does not become free in time.
    pub(in crate::handlers) async fn response_memory(
        &self,
        project: ProjectId,
        bytes: usize,
    ) -> Result<Reservation, Error> {
        let shares = &self.memory.responses;
        let (share, bytes) = (shares.of(project), bytes.min(shares.share));
        let reservation = share.reserve_within(bytes, WAIT).await;
        reservation.ok_or_else(|| {
            let is_own = share.used() + bytes > shares.share;
            Error::from(ShareFull {
                work: "large responses",
                owner: is_own.then_some(ShareOwner::Project(project)),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_project_never_takes_the_memory_of_all() {
        let shares = ResponseShares::new(MemoryBudget::new(9 << 10), 9 << 10);
        let (first, second) = (shares.of(ProjectId(1)), shares.of(ProjectId(2)));
        let held = first.reserve(3 << 10);
        assert!(held.is_some());
        assert!(shares.of(ProjectId(1)).reserve(1).is_none());
        assert!(second.reserve(3 << 10).is_some());
    }
}
