//! Bounds on concurrent work that are shared fairly: each owner has a share, and waiting owners take turns.
//!
//! An owner is a project, or the address of a peer before its project is known. A full share never delays another owner.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cohorts_store::ProjectId;
use cohorts_store::outages::WorkerName;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The caller to which work is attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShareOwner {
    /// A project.
    Project(ProjectId),
    /// The key with this id.
    Key(i64),
    /// The address of a client without a known project.
    Peer(IpAddr),
}

/// The limits of one kind of work.
#[derive(Clone, Copy, Debug)]
pub struct ShareLimits {
    /// The kind of work in the plural, for messages.
    pub work: &'static str,
    /// Permits of all owners.
    pub total: usize,
    /// Permits of one owner.
    pub per_owner: usize,
    /// Permits of all owners on one worker of Citus: it may not respond, and then holds them.
    pub per_node: usize,
    /// Requests of one owner that may wait for a permit.
    pub waiting: usize,
    /// How long a request waits.
    pub wait: Duration,
}

/// Why a permit was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareFull {
    /// The kind of work in the plural.
    pub work: &'static str,
    /// The owner with a share that is used up; `None` if the permits of all owners are.
    pub owner: Option<ShareOwner>,
}

/// The permits of one kind of work. Clones share them.
#[derive(Clone)]
pub struct Shares(Arc<Pool>);

struct Pool {
    limits: ShareLimits,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    used: usize,
    owners: HashMap<ShareOwner, OwnerShare>,
    /// The used permits of each worker of Citus.
    nodes: HashMap<WorkerName, usize>,
    /// Owners with waiting requests, in the order of their turns.
    turns: VecDeque<ShareOwner>,
}

#[derive(Default)]
struct OwnerShare {
    used: usize,
    node: Option<WorkerName>,
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

/// The right to do one piece of work. Dropping it passes the right on.
pub struct Permit {
    pool: Option<Arc<Pool>>,
    owner: ShareOwner,
    node: Option<WorkerName>,
}

impl Shares {
    pub fn new(limits: ShareLimits) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Pool { limits, state }))
    }

    /// Waits for a permit. The request gives up its turn if this future is dropped.
    ///
    /// # Errors
    ///
    /// Fails if too many requests of `owner` wait already, or no permit becomes free in time.
    pub async fn acquire(&self, owner: ShareOwner) -> Result<Permit, ShareFull> {
        self.acquire_on(owner, None).await
    }

    /// As [`Self::acquire`], for work on a worker of Citus.
    pub async fn acquire_on(
        &self,
        owner: ShareOwner,
        node: Option<WorkerName>,
    ) -> Result<Permit, ShareFull> {
        let receiver = {
            let mut state = self.0.state.lock();
            state.owners.entry(owner).or_default().node = node;
            if state.is_free(owner, &self.0.limits) {
                return Ok(state.grant(&self.0, owner));
            }
            let entry = state.owners.entry(owner).or_default();
            // Requests of clients that have gone do not count.
            entry.waiting.retain(|sender| !sender.is_closed());
            if entry.waiting.len() >= self.0.limits.waiting {
                return Err(self.full(&state, owner));
            }
            let (sender, receiver) = oneshot::channel();
            entry.waiting.push_back(sender);
            if !state.turns.contains(&owner) {
                state.turns.push_back(owner);
            }
            receiver
        };
        match timeout(self.0.limits.wait, receiver).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(self.full(&self.0.state.lock(), owner)),
        }
    }

    fn full(&self, state: &PoolState, owner: ShareOwner) -> ShareFull {
        let own = state.owners.get(&owner).map_or(0, |entry| entry.used);
        let is_own = own >= self.0.limits.per_owner;
        ShareFull {
            work: self.0.limits.work,
            owner: is_own.then_some(owner),
        }
    }
}

impl PoolState {
    fn is_free(&self, owner: ShareOwner, limits: &ShareLimits) -> bool {
        let entry = self.owners.get(&owner);
        let own = entry.map_or(0, |entry| entry.used);
        let node = entry.and_then(|entry| entry.node.as_ref());
        let of_node = node.and_then(|node| self.nodes.get(node)).unwrap_or(&0);
        self.used < limits.total && own < limits.per_owner && *of_node < limits.per_node
    }

    fn grant(&mut self, pool: &Arc<Pool>, owner: ShareOwner) -> Permit {
        self.used += 1;
        let entry = self.owners.entry(owner).or_default();
        entry.used += 1;
        let node = entry.node.clone();
        if let Some(node) = &node {
            *self.nodes.entry(node.clone()).or_default() += 1;
        }
        let pool = Some(Arc::clone(pool));
        Permit { pool, owner, node }
    }

    fn take_back(&mut self, owner: ShareOwner, node: Option<&WorkerName>) {
        self.used -= 1;
        if let Some(node) = node
            && let Some(used) = self.nodes.get_mut(node)
        {
            *used -= 1;
            if *used == 0 {
                self.nodes.remove(node);
            }
        }
        if let Some(entry) = self.owners.get_mut(&owner) {
            entry.used -= 1;
            if entry.used == 0 && entry.waiting.is_empty() {
                self.owners.remove(&owner);
            }
        }
    }

    /// Gives free permits to the waiting owners in turn.
    fn pass_on(&mut self, pool: &Arc<Pool>) {
        let mut skipped = 0;
        while skipped < self.turns.len() && self.used < pool.limits.total {
            let Some(owner) = self.turns.pop_front() else {
                return;
            };
            let next = if self.is_free(owner, &pool.limits) {
                self.next_of(owner)
            } else {
                None
            };
            if self
                .owners
                .get(&owner)
                .is_some_and(|entry| !entry.waiting.is_empty())
            {
                self.turns.push_back(owner);
            }
            let Some(sender) = next else {
                skipped += 1;
                continue;
            };
            skipped = 0;
            if let Err(mut permit) = sender.send(self.grant(pool, owner)) {
                // The client has gone. Its permit must not lock the state again.
                permit.pool = None;
                self.take_back(owner, permit.node.as_ref());
            }
        }
    }

    /// The longest waiting request of an owner.
    fn next_of(&mut self, owner: ShareOwner) -> Option<oneshot::Sender<Permit>> {
        let entry = self.owners.get_mut(&owner)?;
        let next = entry.waiting.pop_front();
        if entry.used == 0 && entry.waiting.is_empty() {
            self.owners.remove(&owner);
        }
        next
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            let mut state = pool.state.lock();
            state.take_back(self.owner, self.node.as_ref());
            state.pass_on(&pool);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn shares(total: usize, per_owner: usize, waiting: usize) -> Shares {
        Shares::new(ShareLimits {
            work: "exports",
            total,
            per_owner,
            per_node: 2,
            waiting,
            wait: Duration::from_secs(3_600),
        })
    }

    fn project(id: i64) -> ShareOwner {
        ShareOwner::Project(ProjectId(id))
    }

    #[tokio::test]
    async fn one_owner_never_takes_the_share_of_another() {
        let shares = shares(3, 2, 0);
        let first = shares.acquire(project(1)).await.ok();
        let second = shares.acquire(project(1)).await.ok();
        let refused = shares.acquire(project(1)).await.err();
        let owner = Some(project(1));
        assert_eq!(
            refused,
            Some(ShareFull {
                work: "exports",
                owner
            })
        );
        let other = shares.acquire(project(2)).await.ok();
        assert!(first.is_some() && second.is_some() && other.is_some());
        let refused = shares.acquire(project(2)).await.err();
        assert_eq!(
            refused,
            Some(ShareFull {
                work: "exports",
                owner: None
            })
        );
        drop(first);
        assert!(shares.acquire(project(3)).await.is_ok());
    }

    #[tokio::test]
    async fn one_node_of_citus_does_not_get_all_permits() {
        let shares = shares(3, 2, 9);
        let acquire = |id, node: &str| Box::pin(shares.acquire_on(project(id), Some(node.into())));
        let first = acquire(1, "a:1").await.ok().unwrap();
        let second = acquire(2, "a:1").await.ok().unwrap();
        let mut third = acquire(3, "a:1");
        assert!((&mut third).now_or_never().is_none());
        let other = acquire(4, "b:1").await.ok().unwrap();
        drop(other);
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        drop((third.await.ok().unwrap(), second));
        assert!(shares.0.state.lock().nodes.is_empty());
    }

    #[tokio::test]
    async fn waiting_owners_take_turns() {
        let shares = shares(1, 1, 9);
        let held = shares.acquire(project(1)).await.ok();
        let owners = [1, 1, 1, 2, 3];
        let mut waiting: Vec<_> = owners
            .iter()
            .map(|id| Box::pin(shares.acquire(project(*id))))
            .collect();
        for request in &mut waiting {
            assert!(request.now_or_never().is_none());
        }
        drop(held);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            let ready = waiting
                .iter_mut()
                .enumerate()
                .find_map(|(at, request)| Some((at, request.now_or_never()?)));
            let (at, permit) = ready.unwrap();
            order.push(permit.unwrap().owner);
            drop(waiting.remove(at));
        }
        assert_eq!(order, [1, 2, 3, 1, 1].map(project));
    }

    #[tokio::test]
    async fn a_request_that_has_gone_does_not_keep_its_turn() {
        let shares = shares(1, 1, 1);
        let held = shares.acquire(project(1)).await.ok();
        let mut gone = Box::pin(shares.acquire(project(1)));
        assert!((&mut gone).now_or_never().is_none());
        drop(gone);
        let mut second = Box::pin(shares.acquire(project(1)));
        assert!((&mut second).now_or_never().is_none());
        drop(held);
        assert!(second.await.is_ok());
        assert!(shares.acquire(project(2)).await.is_ok());
        assert!(shares.0.state.lock().owners.is_empty());
    }
}
