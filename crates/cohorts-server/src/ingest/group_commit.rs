//! Group commit: requests of one project that arrive during its commit are committed together next.
//!
//! A busy project needs few commits, and a request of an idle project is committed at once. A commit is bounded in bytes:
//! the rest of its requests waits for the next commit of the project, after the other projects with requests. The memory
//! of the waiting items is reserved from the caller's budget. A request is acknowledged only after all of its items are
//! committed.

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use cohorts_store::outages::Outages;
use cohorts_store::persons::MAX_IDS;
use cohorts_store::{Error, Lane, ProjectId};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::person_state::MAX_PROPERTIES_BYTES;
use super::{Attempt, Committed, Item, commit_part, next_limit};
use crate::index::IndexedStore;
use crate::metrics::Metrics;

/// Concurrent commits, each of another project. There are more connections than that.
const WRITERS: usize = 4;
/// Concurrent commits on one worker of Citus: it may not respond, and then holds their threads.
const WRITERS_PER_NODE: usize = WRITERS - 1;
/// The most items of a commit.
const MAX_ITEMS: usize = 4_000;
/// The most bytes of the items of a commit, unless the first item is larger.
const MAX_BYTES: usize = 4 << 20;

/// The reserved memory of a request, whatever its type. Dropping it releases the reservation.
pub type HeldMemory = Arc<dyn Any + Send + Sync>;

/// Why a request was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("too many events of the project wait for their commit")]
    TooManyWaiting,
}

/// The bytes of the waiting items of each project.
type WaitingBytes = Arc<Mutex<HashMap<ProjectId, usize>>>;

/// A part of the bytes that a project may have waiting. Dropping it returns them.
struct ProjectShare {
    waiting: WaitingBytes,
    project: ProjectId,
    bytes: usize,
}

impl ProjectShare {
    /// Takes `bytes`; `None` if the project would have more than `limit`. A project without waiting items may have a
    /// larger request.
    fn take(
        waiting: &WaitingBytes,
        project: ProjectId,
        bytes: usize,
        limit: usize,
    ) -> Option<Self> {
        let mut projects = waiting.lock();
        let current = projects.get(&project).copied().unwrap_or(0);
        if current > 0 && current + bytes > limit {
            return None;
        }
        projects.insert(project, current + bytes);
        Some(Self {
            waiting: Arc::clone(waiting),
            project,
            bytes,
        })
    }
}

impl Drop for ProjectShare {
    fn drop(&mut self) {
        let mut projects = self.waiting.lock();
        if let Some(bytes) = projects.get_mut(&self.project) {
            *bytes -= self.bytes;
            if *bytes == 0 {
                projects.remove(&self.project);
            }
        }
    }
}

/// The items of a request, and the channel on which it waits.
struct PendingRequest {
    items: Vec<Item>,
    /// How many of the items are committed.
    committed: usize,
    /// Whether a commit of items that are not committed has failed, so its outcome may be unknown.
    may_be_written: bool,
    /// The most items of the next commit, if the one before was limited by the size of its persons.
    limit: Option<usize>,
    /// The reserved memory of the items. It is released with them, also if the client has disconnected.
    _memory: HeldMemory,
    _share: ProjectShare,
    done: oneshot::Sender<Result<(), Error>>,
}

impl PendingRequest {
    fn rest(&self) -> &[Item] {
        &self.items[self.committed..]
    }

    /// Answers the request. A client that has disconnected does not receive this.
    fn answer(self, result: Result<(), Error>) {
        let _ = self.done.send(result);
    }
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
#[derive(Clone)]
pub struct GroupCommit {
    shared: Arc<SharedQueues>,
    waiting: WaitingBytes,
    /// The most bytes that one project may have waiting.
    project_limit: usize,
}

impl GroupCommit {
    /// One project may have items of `project_limit` bytes waiting, or one larger request.
    pub fn new(project_limit: usize) -> Self {
        Self {
            shared: Arc::default(),
            waiting: WaitingBytes::default(),
            project_limit,
        }
    }

    /// Returns when the items are committed.
    pub async fn commit(
        &self,
        project: ProjectId,
        items: Vec<Item>,
        memory: HeldMemory,
    ) -> Result<(), CommitError> {
        let acknowledgement = self.push(project, items, memory)?;
        Ok(acknowledgement.await.map_err(|_| stopping())??)
    }

    /// As [`Self::commit`], on a thread that may block.
    pub fn commit_blocking(
        &self,
        project: ProjectId,
        items: Vec<Item>,
        memory: HeldMemory,
    ) -> Result<(), CommitError> {
        let acknowledgement = self.push(project, items, memory)?;
        Ok(acknowledgement.blocking_recv().map_err(|_| stopping())??)
    }

    /// Whether the queues take no more requests, because the service is stopping.
    pub fn is_closed(&self) -> bool {
        self.shared.queues.lock().is_closed
    }

    fn push(
        &self,
        project: ProjectId,
        items: Vec<Item>,
        memory: HeldMemory,
    ) -> Result<Acknowledgement, CommitError> {
        let bytes = items.iter().map(Item::memory).sum();
        let share = ProjectShare::take(&self.waiting, project, bytes, self.project_limit)
            .ok_or(CommitError::TooManyWaiting)?;
        let (done, acknowledgement) = oneshot::channel();
        let queues = &mut *self.shared.queues.lock();
        if queues.is_closed {
            return Err(stopping().into());
        }
        let pending = queues.pending.entry(project).or_default();
        pending.push_back(PendingRequest {
            items,
            committed: 0,
            may_be_written: false,
            limit: None,
            _memory: memory,
            _share: share,
            done,
        });
        if pending.len() == 1 && !queues.busy.contains(&project) {
            queues.ready.push_back(project);
            self.shared.changed.notify_one();
        }
        Ok(acknowledgement)
    }

    /// Waits for the requests of the next commit; `None` after the queues are closed and empty.
    fn next(&self, outages: &Outages) -> Option<(ProjectId, CommitTurn)> {
        let mut queues = self.shared.queues.lock();
        loop {
            if let Some(project) = queues.next_ready(outages) {
                let turn = queues.take(project);
                return Some((project, turn));
            }
            if queues.is_closed && queues.ready.is_empty() {
                return None;
            }
            self.shared.changed.wait(&mut queues);
        }
    }

    /// Ends the commit of a project. `rest` waits for the next one, before the requests that arrived meanwhile.
    fn finish(&self, project: ProjectId, rest: Vec<PendingRequest>) {
        let mut queues = self.shared.queues.lock();
        queues.busy.remove(&project);
        if !rest.is_empty() {
            let pending = queues.pending.entry(project).or_default();
            rest.into_iter()
                .rev()
                .for_each(|request| pending.push_front(request));
        }
        if queues.pending.contains_key(&project) {
            queues.ready.push_back(project);
        }
        // Another project of the same node may have waited for this commit.
        self.shared.changed.notify_all();
    }

    fn write(&self, store: &IndexedStore, metrics: &Metrics) {
        while let Some((project, turn)) = self.next(&store.outages) {
            let work = AssertUnwindSafe(|| commit_turn(store, metrics, project, turn));
            let rest = catch_unwind(work).unwrap_or_else(|_| {
                log::error!("project {}: a commit panicked", project.0);
                Vec::new()
            });
            self.finish(project, rest);
        }
    }
}

fn stopping() -> Error {
    Error::Unavailable("the service is stopping".to_owned())
}

/// The requests of one commit. The commit has the first `items` of their items.
struct CommitTurn {
    requests: Vec<PendingRequest>,
    items: usize,
}

impl CommitTurn {
    /// One request, as far as its items fit.
    fn of(request: PendingRequest) -> Self {
        Self {
            items: fitting_items(std::slice::from_ref(&request)),
            requests: vec![request],
        }
    }

    fn items(&self) -> impl Iterator<Item = &Item> {
        let all = self.requests.iter().flat_map(|request| request.rest());
        all.take(self.items)
    }

    /// Answers the requests that are committed completely, and returns the others.
    fn finish(self, committed: usize) -> Vec<PendingRequest> {
        let limit = (committed < self.items).then(|| next_limit(self.items, committed));
        let (mut rest, mut left) = (Vec::new(), committed);
        for mut request in self.requests {
            let length = request.rest().len();
            if left >= length {
                request.answer(Ok(()));
            } else {
                request.committed += left;
                request.limit = limit;
                rest.push(request);
            }
            left = left.saturating_sub(length);
        }
        rest
    }
}

/// How many items of the requests are in their next commit: at least one.
fn fitting_items<'a>(requests: impl IntoIterator<Item = &'a PendingRequest>) -> usize {
    let mut requests = requests.into_iter().peekable();
    let limit = requests.peek().and_then(|request| request.limit);
    let mut bytes = 0;
    requests
        .flat_map(PendingRequest::rest)
        .take(limit.unwrap_or(MAX_ITEMS).clamp(1, MAX_ITEMS))
        .take_while(|item| {
            bytes += item.memory();
            bytes <= MAX_BYTES
        })
        .count()
        .max(1)
}

impl Queues {
    /// Removes and returns the first ready project on a node with a writer left.
    fn next_ready(&mut self, outages: &Outages) -> Option<ProjectId> {
        let is_free = |project: &ProjectId| {
            let Some(node) = outages.worker_of(*project) else {
                return true;
            };
            let of_node = |busy: &&ProjectId| outages.worker_of(**busy).as_ref() == Some(&node);
            self.busy.iter().filter(of_node).count() < WRITERS_PER_NODE
        };
        let position = self.ready.iter().position(is_free)?;
        self.ready.remove(position)
    }

    /// Takes the requests of the next commit of a project, and marks the project as busy.
    fn take(&mut self, project: ProjectId) -> CommitTurn {
        self.busy.insert(project);
        let pending = self.pending.entry(project).or_default();
        let items = fitting_items(pending.iter());
        let mut before = 0;
        let count = pending.iter().take_while(|request| {
            let is_first_part = before < items;
            before += request.rest().len();
            is_first_part
        });
        let count = count.count();
        let requests = pending.drain(..count).collect();
        if pending.is_empty() {
            self.pending.remove(&project);
        }
        CommitTurn { requests, items }
    }
}

/// Commits items of the requests together, and returns the requests with further items. If that fails because of one
/// request's items, each request is committed alone.
fn commit_turn(
    store: &IndexedStore,
    metrics: &Metrics,
    project: ProjectId,
    turn: CommitTurn,
) -> Vec<PendingRequest> {
    let attempt = Attempt {
        is_first: !turn.requests.iter().any(|request| request.may_be_written),
        ..Attempt::default()
    };
    // A commit on a worker that does not respond would hold one of the few writers.
    let result = (store.outages.check(project))
        .and_then(|()| commit_part(store, project, &mut || turn.items(), attempt));
    match result {
        Ok(part) => {
            count(metrics, project, &part.committed);
            turn.finish(part.items)
        }
        Err(Error::Other(_)) if turn.requests.len() > 1 => {
            let alone = turn.requests.into_iter().map(|mut request| {
                request.may_be_written = true;
                CommitTurn::of(request)
            });
            alone
                .flat_map(|turn| commit_turn(store, metrics, project, turn))
                .collect()
        }
        Err(cause) => {
            store.uncertain.record(project, &cause);
            fail(turn.requests, &cause);
            Vec::new()
        }
    }
}

fn fail(requests: Vec<PendingRequest>, cause: &Error) {
    for request in requests {
        request.answer(Err(match cause {
            Error::Other(cause) => anyhow::anyhow!("{cause:#}").into(),
            Error::TimedOut => Error::TimedOut,
            Error::ProjectGone => Error::ProjectGone,
            Error::Locked => Error::Locked,
            Error::Busy(lane) => Error::Busy(*lane),
            // In all other cases the client may send again.
            cause => Error::Unavailable(cause.to_string()),
        }));
    }
}

fn count(metrics: &Metrics, project: ProjectId, committed: &Committed) {
    let denied = committed.denied;
    let reasons = [
        ("merge_of_identified", denied.merges),
        ("too_many_properties", denied.properties),
        ("too_many_distinct_ids", denied.distinct_ids),
    ];
    metrics.committed(committed.added, &reasons);
    if denied.properties > 0 {
        log::warn!(
            "project {}: {} changes of persons denied: their properties would exceed {} KiB",
            project.0,
            denied.properties,
            MAX_PROPERTIES_BYTES >> 10
        );
    }
    if denied.distinct_ids > 0 {
        log::warn!(
            "project {}: {} distinct ids or merges denied: a person has at most {MAX_IDS} distinct ids",
            project.0,
            denied.distinct_ids
        );
    }
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

    /// The queues of these threads.
    pub fn group_commit(&self) -> GroupCommit {
        self.group_commit.clone()
    }

    /// Commits the pending requests, and ends the threads.
    pub fn stop(self) {
        self.group_commit.shared.queues.lock().is_closed = true;
        self.group_commit.shared.changed.notify_all();
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a group-commit thread had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Arrival;

    fn items(count: usize, text: &str) -> Vec<Item> {
        let text =
            format!(r#"{{"event": "x", "distinct_id": "a", "properties": {{"t": "{text}"}}}}"#);
        let item = || Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap();
        (0..count).map(|_| item()).collect()
    }

    fn push(
        queues: &GroupCommit,
        project: i64,
        items: Vec<Item>,
    ) -> Result<Acknowledgement, CommitError> {
        queues.push(ProjectId(project), items, Arc::new(()))
    }

    #[test]
    fn a_request_is_acknowledged_after_its_last_item() {
        let queues = GroupCommit::new(usize::MAX);
        let mut first = push(&queues, 1, items(3, "")).unwrap();
        let mut second = push(&queues, 1, items(4, "")).unwrap();
        let (project, turn) = queues.next(&Outages::default()).unwrap();
        assert_eq!((turn.items, turn.items().count()), (7, 7));
        let rest = turn.finish(5);
        assert_eq!(rest.len(), 1);
        assert!(first.try_recv().unwrap().is_ok());
        assert!(second.try_recv().is_err());
        // The next commit is no longer than twice the last, because the persons were large.
        let mut third = push(&queues, 1, items(20, "")).unwrap();
        queues.finish(project, rest);
        let (project, turn) = queues.next(&Outages::default()).unwrap();
        assert_eq!((turn.items, turn.requests.len()), (10, 2));
        queues.finish(project, turn.finish(2));
        assert!(second.try_recv().unwrap().is_ok());
        assert!(third.try_recv().is_err());
    }

    #[test]
    fn one_node_of_citus_does_not_get_all_writers() {
        let queues = GroupCommit::new(usize::MAX);
        let outages = Outages::default();
        let places = (1..=5).map(|id| (ProjectId(id), if id < 5 { "a:1" } else { "b:1" }.into()));
        outages.place(places);
        let requests: Vec<_> = (1..=5).map(|id| push(&queues, id, items(1, ""))).collect();
        let order = [(); 4].map(|()| queues.next(&outages).unwrap().0.0);
        assert_eq!(order, [1, 2, 3, 5]);
        queues.finish(ProjectId(2), Vec::new());
        assert_eq!(queues.next(&outages).unwrap().0, ProjectId(4));
        drop(requests);
    }

    #[test]
    fn the_rest_of_a_large_request_waits_for_other_projects() {
        let queues = GroupCommit::new(usize::MAX);
        let text = "a".repeat(1 << 20 >> 1);
        let _large = push(&queues, 1, items(20, &text)).unwrap();
        let (project, turn) = queues.next(&Outages::default()).unwrap();
        assert!((5..10).contains(&turn.items), "{}", turn.items);
        let _other = push(&queues, 2, items(1, "")).unwrap();
        let fitting = turn.items;
        queues.finish(project, turn.finish(fitting));
        let order = [(); 2].map(|()| queues.next(&Outages::default()).unwrap().0.0);
        assert_eq!(order, [2, 1]);
    }

    #[test]
    fn a_project_does_not_take_the_memory_of_others() {
        let request = || items(10, "text");
        let bytes: usize = request().iter().map(Item::memory).sum();
        let queues = GroupCommit::new(bytes * 2);
        let _first = push(&queues, 1, request()).unwrap();
        let _second = push(&queues, 1, request()).unwrap();
        let third = push(&queues, 1, request());
        assert!(matches!(third, Err(CommitError::TooManyWaiting)));
        // Another project is not affected, and may have one larger request.
        let _other = push(&queues, 2, items(50, "text")).unwrap();
        let (_, turn) = queues.next(&Outages::default()).unwrap();
        turn.finish(20);
        assert!(push(&queues, 1, request()).is_ok());
    }
}
