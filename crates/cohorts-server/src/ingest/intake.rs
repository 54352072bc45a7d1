//! Where requests that send events wait for their commit: those of one project that come while another commit is
//! under way are committed together, so a busy project pays for few commits and a quiet one waits for nobody.
//!
//! What waits is bounded by the budget that is lent to it. Nobody is told that something is kept before it is committed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use cohorts_api::Reservation;
use tokio::sync::oneshot;

use super::{Item, keep};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::store::{ProjectId, Store};

/// Commits under way at a time, each of another project; fewer than there are connections.
const WRITERS: usize = 4;
/// Items of a commit, unless one request has more.
const MOST_ITEMS: usize = 10_000;

/// The items of a request, and who waits for them to be kept.
struct Waiting {
    items: Vec<Item>,
    /// The memory that they take, given back when they are gone, whoever has hung up before.
    _lent: Arc<Reservation>,
    done: oneshot::Sender<Result<(), Error>>,
}

/// What a request is told in the end.
type Outcome = oneshot::Receiver<Result<(), Error>>;

#[derive(Default)]
struct Queues {
    waiting: HashMap<ProjectId, VecDeque<Waiting>>,
    /// Projects with something that waits and no commit under way, in the order in which they are served.
    ready: VecDeque<ProjectId>,
    busy: HashSet<ProjectId>,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    changed: Condvar,
}

/// Takes in what is to be kept.
#[derive(Clone, Default)]
pub struct Intake(Arc<Shared>);

impl Intake {
    /// Returns when the items are committed.
    pub async fn keep(
        &self,
        project: ProjectId,
        items: Vec<Item>,
        lent: Arc<Reservation>,
    ) -> Result<(), Error> {
        let outcome = self.push(project, items, lent)?;
        outcome.await.map_err(|_| Error::Unavailable)?
    }

    fn push(
        &self,
        project: ProjectId,
        items: Vec<Item>,
        lent: Arc<Reservation>,
    ) -> Result<Outcome, Error> {
        let (done, outcome) = oneshot::channel();
        let queues = &mut *self.queues();
        if queues.is_closed {
            return Err(Error::Unavailable);
        }
        let waiting = queues.waiting.entry(project).or_default();
        waiting.push_back(Waiting {
            items,
            _lent: lent,
            done,
        });
        if waiting.len() == 1 && !queues.busy.contains(&project) {
            queues.ready.push_back(project);
            self.0.changed.notify_one();
        }
        Ok(outcome)
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        let queues = self.0.queues.lock();
        queues.expect("nothing panics while it holds the queues")
    }

    /// What is to be committed next, when there is something; nothing after the end.
    fn next(&self) -> Option<(ProjectId, Vec<Waiting>)> {
        let mut queues = self.queues();
        loop {
            if let Some(project) = queues.ready.pop_front() {
                let taken = queues.take(project);
                return Some((project, taken));
            }
            if queues.is_closed {
                return None;
            }
            let woken = self.0.changed.wait(queues);
            queues = woken.expect("nothing panics while it holds the queues");
        }
    }

    fn finish(&self, project: ProjectId) {
        let mut queues = self.queues();
        queues.busy.remove(&project);
        if queues.waiting.contains_key(&project) {
            queues.ready.push_back(project);
            self.0.changed.notify_one();
        }
    }

    fn write(&self, store: &Store, metrics: &Metrics) {
        while let Some((project, waiting)) = self.next() {
            let work = AssertUnwindSafe(|| commit(store, metrics, project, waiting));
            if catch_unwind(work).is_err() {
                log::error!("project {}: a commit ended in a panic", project.0);
            }
            self.finish(project);
        }
    }
}

impl Queues {
    /// The requests of the next commit of a project, which is busy from now on.
    fn take(&mut self, project: ProjectId) -> Vec<Waiting> {
        self.busy.insert(project);
        let Some(waiting) = self.waiting.get_mut(&project) else {
            return Vec::new();
        };
        let mut items = 0;
        let fits = |one: &&Waiting| {
            items += one.items.len();
            items <= MOST_ITEMS
        };
        let count = waiting.iter().take_while(fits).count().max(1);
        let taken = waiting.drain(..count.min(waiting.len())).collect();
        if waiting.is_empty() {
            self.waiting.remove(&project);
        }
        taken
    }
}

/// Keeps the items of all together; if that fails by what one of them sent, each by itself.
fn commit(store: &Store, metrics: &Metrics, project: ProjectId, mut waiting: Vec<Waiting>) {
    let mut all = Vec::with_capacity(waiting.iter().map(|one| one.items.len()).sum());
    let mut lengths = Vec::with_capacity(waiting.len());
    for one in &mut waiting {
        lengths.push(one.items.len());
        all.append(&mut one.items);
    }
    let outcome = keep(store, project, &all);
    let is_ours = matches!(outcome, Err(Error::Internal(_)));
    if is_ours && waiting.len() > 1 {
        let mut rest = &all[..];
        for (one, length) in waiting.into_iter().zip(lengths) {
            let (items, others) = rest.split_at(length);
            rest = others;
            let kept = keep(store, project, items).map(|kept| metrics.kept(&kept));
            // Whoever has hung up needs no answer.
            let _ = one.done.send(kept);
        }
        return;
    }
    if let Ok(kept) = &outcome {
        metrics.kept(kept);
    }
    for one in waiting {
        let answer = match &outcome {
            Ok(_) => Ok(()),
            Err(Error::Internal(cause)) => Err(anyhow::anyhow!("{cause:#}").into()),
            Err(Error::TimedOut) => Err(Error::TimedOut),
            // To a sender it is all one: it may send again.
            Err(_) => Err(Error::Unavailable),
        };
        let _ = one.done.send(answer);
    }
}

/// The threads that commit.
pub struct Writers {
    intake: Intake,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    pub fn start(store: &Store, metrics: &Metrics, intake: Intake) -> std::io::Result<Self> {
        let start = |_| {
            let (store, metrics, intake) = (store.clone(), metrics.clone(), intake.clone());
            thread::Builder::new()
                .name("intake".to_owned())
                .spawn(move || intake.write(&store, &metrics))
        };
        let threads = (0..WRITERS).map(start).collect::<Result<_, _>>()?;
        Ok(Self { intake, threads })
    }

    /// Commits what waits still, and ends.
    pub fn stop(self) {
        self.intake.queues().is_closed = true;
        self.intake.0.changed.notify_all();
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a thread that commits had ended in a panic");
            }
        }
    }
}
