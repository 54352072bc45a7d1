//! Group commit: requests of one project that arrive during its commit are committed together next.
//!
//! A busy project needs few commits, and a request of an idle project is committed at once. The memory of the waiting items is reserved from
//! the caller's budget. A request is acknowledged only after its commit.

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use cohorts_store::{Error, Lane, ProjectId};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{Committed, Item, commit};
use crate::index::IndexedStore;
use crate::metrics::Metrics;

/// Concurrent commits, each of another project. There are more connections than that.
const WRITERS: usize = 4;
/// The most items of a commit of several requests.
const MAX_ITEMS: usize = 10_000;

/// The reserved memory of a request, whatever its type. Dropping it releases the reservation.
pub type HeldMemory = Arc<dyn Any + Send + Sync>;

/// The items of a request, and the channel on which it waits.
struct PendingRequest {
    items: Vec<Item>,
    /// The reserved memory of the items. It is released with them, also if the client has disconnected.
    _memory: HeldMemory,
    done: oneshot::Sender<Result<(), Error>>,
}

type Acknowledgement = oneshot::Receiver<Result<(), Error>>;

#[derive(Default)]
struct Queues {
    pending: HashMap<ProjectId, VecDeque<PendingRequest>>,
    /// Projects with pending requests and no running commit, in the order in which they are served.
    ready: VecDeque<ProjectId>,
    /// Projects with a running commit.
    busy: HashSet<ProjectId>,
    is_closed: bool,
}

#[derive(Default)]
struct SharedQueues {
    queues: Mutex<Queues>,
    changed: Condvar,
}

/// The queues of requests that wait for their commit. Clones share them.
#[derive(Clone, Default)]
pub struct GroupCommit(Arc<SharedQueues>);

impl GroupCommit {
    /// Returns when the items are committed.
    pub async fn commit(
        &self,
        project: ProjectId,
        items: Vec<Item>,
        memory: HeldMemory,
    ) -> Result<(), Error> {
        let acknowledgement = self.push(project, items, memory)?;
        let closed = |_| Error::Unavailable("the service is stopping".to_owned());
        acknowledgement.await.map_err(closed)?
    }

    fn push(
        &self,
        project: ProjectId,
        items: Vec<Item>,
        memory: HeldMemory,
    ) -> Result<Acknowledgement, Error> {
        let (done, acknowledgement) = oneshot::channel();
        let queues = &mut *self.0.queues.lock();
        if queues.is_closed {
            return Err(Error::Unavailable("the service is stopping".to_owned()));
        }
        let pending = queues.pending.entry(project).or_default();
        pending.push_back(PendingRequest {
            items,
            _memory: memory,
            done,
        });
        if pending.len() == 1 && !queues.busy.contains(&project) {
            queues.ready.push_back(project);
            self.0.changed.notify_one();
        }
        Ok(acknowledgement)
    }

    /// Waits for the requests of the next commit; `None` after the queues are closed and empty.
    fn next(&self) -> Option<(ProjectId, Vec<PendingRequest>)> {
        let mut queues = self.0.queues.lock();
        loop {
            if let Some(project) = queues.ready.pop_front() {
                let requests = queues.take(project);
                return Some((project, requests));
            }
            if queues.is_closed {
                return None;
            }
            self.0.changed.wait(&mut queues);
        }
    }

    fn finish(&self, project: ProjectId) {
        let mut queues = self.0.queues.lock();
        queues.busy.remove(&project);
        if queues.pending.contains_key(&project) {
            queues.ready.push_back(project);
            self.0.changed.notify_one();
        }
    }

    fn write(&self, store: &IndexedStore, metrics: &Metrics) {
        while let Some((project, requests)) = self.next() {
            let work = AssertUnwindSafe(|| commit_requests(store, metrics, project, requests));
            if catch_unwind(work).is_err() {
                log::error!("project {}: a commit panicked", project.0);
            }
            self.finish(project);
        }
    }
}

impl Queues {
    /// Takes the requests of the next commit of a project, and marks the project as busy.
    fn take(&mut self, project: ProjectId) -> Vec<PendingRequest> {
        self.busy.insert(project);
        let Some(pending) = self.pending.get_mut(&project) else {
            return Vec::new();
        };
        let mut items = 0;
        let fits = |request: &&PendingRequest| {
            items += request.items.len();
            items <= MAX_ITEMS
        };
        let count = pending.iter().take_while(fits).count().max(1);
        let requests = pending.drain(..count.min(pending.len())).collect();
        if pending.is_empty() {
            self.pending.remove(&project);
        }
        requests
    }
}

/// Commits the items of all requests together. If that fails because of one request's items, each is committed alone.
fn commit_requests(
    store: &IndexedStore,
    metrics: &Metrics,
    project: ProjectId,
    mut requests: Vec<PendingRequest>,
) {
    let mut all = Vec::with_capacity(requests.iter().map(|request| request.items.len()).sum());
    let mut lengths = Vec::with_capacity(requests.len());
    for request in &mut requests {
        lengths.push(request.items.len());
        all.append(&mut request.items);
    }
    let result = commit(store, project, &all);
    if matches!(result, Err(Error::Other(_))) && requests.len() > 1 {
        let mut rest = &all[..];
        for (request, length) in requests.into_iter().zip(lengths) {
            let (items, others) = rest.split_at(length);
            rest = others;
            let result = commit(store, project, items);
            // A client that has disconnected does not receive this.
            let _ = request
                .done
                .send(result.map(|committed| count(metrics, &committed)));
        }
        return;
    }
    if let Ok(committed) = &result {
        count(metrics, committed);
    }
    for request in requests {
        let acknowledgement = match &result {
            Ok(_) => Ok(()),
            Err(Error::Other(cause)) => Err(anyhow::anyhow!("{cause:#}").into()),
            Err(Error::TimedOut) => Err(Error::TimedOut),
            Err(Error::ProjectGone) => Err(Error::ProjectGone),
            Err(Error::Locked) => Err(Error::Locked),
            Err(Error::Busy(lane)) => Err(Error::Busy(*lane)),
            // In all other cases the client may send again.
            Err(cause) => Err(Error::Unavailable(cause.to_string())),
        };
        let _ = request.done.send(acknowledgement);
    }
}

fn count(metrics: &Metrics, committed: &Committed) {
    let denied = committed.denied;
    metrics.committed(committed.added, denied.merges, denied.properties);
}

/// The threads that commit.
pub struct Writers {
    group_commit: GroupCommit,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub fn start(
        store: &IndexedStore,
        metrics: &Metrics,
        group_commit: GroupCommit,
    ) -> std::io::Result<Self> {
        let start = |_| {
            let (store, metrics) = (store.in_lane(Lane::Writers), metrics.clone());
            let group_commit = group_commit.clone();
            thread::Builder::new()
                .name("group-commit".to_owned())
                .spawn(move || group_commit.write(&store, &metrics))
        };
        let threads = (0..WRITERS).map(start).collect::<Result<_, _>>()?;
        Ok(Self {
            group_commit,
            threads,
        })
    }

    /// Commits the pending requests, and ends the threads.
    pub fn stop(self) {
        self.group_commit.0.queues.lock().is_closed = true;
        self.group_commit.0.changed.notify_all();
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a group-commit thread had panicked");
            }
        }
    }
}
