//! Signals between the threads of this process: what was written, and which members have changed.
//!
//! A signal is a hint for speed. It may come without a change, and a change in another process may come without a signal
//! for some seconds, so a receiver always compares with what the database has.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cohorts_store::ProjectId;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::looks::Looks;

/// The signals of this process. Clones share them.
#[derive(Clone, Default)]
pub struct Signals {
    /// The members of cohorts have changed, and the change is committed.
    pub changes: ChangeSignal,
    /// Events, persons, cohorts or what they refer to were written, and the write is committed.
    pub writes: WriteSignal,
    /// What the other processes are to be told.
    pub hints: Hints,
    /// When threads look for other work.
    pub looks: Looks,
    /// What the catalogue does not have yet.
    pub names: Hints,
    /// How many changes of members were signalled, by project.
    change_counts: Arc<Mutex<HashMap<ProjectId, u64>>>,
}

impl Signals {
    /// Signals a committed write of a project by this process.
    pub fn written(&self, project: ProjectId) {
        self.wake(project);
        self.hints.add(project);
    }

    /// Signals a write of a project by another process.
    pub fn written_elsewhere(&self, project: ProjectId) {
        self.wake(project);
    }

    fn wake(&self, project: ProjectId) {
        self.writes.notify(project);
        self.names.add(project);
        self.looks.soon();
    }

    /// Signals a committed change of members by this process.
    pub fn changed(&self, project: ProjectId) {
        self.changed_elsewhere(project);
        self.hints.add(project);
        self.looks.soon();
    }

    /// Signals a committed change of members by another process.
    pub fn changed_elsewhere(&self, project: ProjectId) {
        *self.change_counts.lock().entry(project).or_default() += 1;
        self.changes.notify(project);
    }

    /// How many changes of members of a project were signalled. A reader asks this first, and then reads the members.
    pub fn changes_of(&self, project: ProjectId) -> u64 {
        let counts = self.change_counts.lock();
        counts.get(&project).copied().unwrap_or_default()
    }
}

/// The projects that were written since the last [`Self::take`].
#[derive(Clone, Default)]
pub struct Hints(Arc<Mutex<BTreeSet<ProjectId>>>);

impl Hints {
    fn add(&self, project: ProjectId) {
        self.0.lock().insert(project);
    }

    /// Removes and returns all projects.
    pub fn take(&self) -> BTreeSet<ProjectId> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// Tells waiting readers that the members of a project's cohorts have changed.
#[derive(Clone, Default)]
pub struct ChangeSignal(Arc<Mutex<HashMap<ProjectId, watch::Sender<u64>>>>);

impl ChangeSignal {
    /// Wakes the receivers of a project. Call it after the commit.
    pub fn notify(&self, project: ProjectId) {
        let mut senders = self.0.lock();
        if let Some(sender) = senders.get(&project) {
            if sender.is_closed() {
                senders.remove(&project);
            } else {
                sender.send_modify(|count| *count += 1);
            }
        }
    }

    /// A receiver that sees a change of its value after each later [`Self::notify`] of the project. A reader subscribes
    /// first, and then reads what has changed before.
    pub fn subscribe(&self, project: ProjectId) -> watch::Receiver<u64> {
        let mut senders = self.0.lock();
        senders
            .entry(project)
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }
}

/// The projects that wait for a pass, or are in one. Without a thread that calls [`Self::next`], writes are not recorded.
#[derive(Clone, Default)]
pub struct WriteSignal(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    projects: HashMap<ProjectId, WaitingProject>,
    is_open: bool,
}

#[derive(Default)]
struct WaitingProject {
    /// When the first write was signalled that no pass has seen.
    written: Option<Instant>,
    /// When the next pass begins without a write.
    due: Option<Instant>,
    /// When a write may start a pass again.
    rested: Option<Instant>,
    is_running: bool,
}

impl WaitingProject {
    /// When the next pass begins if a write waits for `delay`.
    fn start(&self, delay: Duration) -> Option<Instant> {
        let written = self.written.map(|written| written + delay);
        let written = written.and_then(|start| self.rested.max(Some(start)));
        let starts = written.into_iter().chain(self.due);
        starts.min().filter(|_| !self.is_running)
    }
}

/// The reason for a pass.
#[derive(Clone, Copy, Debug)]
pub struct Wake {
    pub project: ProjectId,
    /// When the first write was signalled; `None` if time has passed only.
    pub written: Option<Instant>,
}

impl WriteSignal {
    /// Records a committed write of a project.
    pub fn notify(&self, project: ProjectId) {
        let mut waiting = self.0.waiting.lock();
        if waiting.is_open {
            let entry = waiting.projects.entry(project).or_default();
            entry.written.get_or_insert_with(Instant::now);
            self.0.changed.notify_all();
        }
    }

    /// Records writes from now on.
    pub fn open(&self) {
        self.0.waiting.lock().is_open = true;
    }

    /// Ends all calls of [`Self::next`].
    pub fn close(&self) {
        *self.0.waiting.lock() = Waiting::default();
        self.0.changed.notify_all();
    }

    /// Waits for a project with a pass that is due, and marks it as running. A write waits for `delay`. Returns `None` after
    /// [`Self::close`].
    pub fn next(&self, delay: Duration) -> Option<Wake> {
        let mut waiting = self.0.waiting.lock();
        loop {
            if !waiting.is_open {
                return None;
            }
            let starts = waiting.projects.iter();
            let starts = starts.filter_map(|(id, project)| Some((project.start(delay)?, *id)));
            match starts.min() {
                Some((start, project)) if start <= Instant::now() => {
                    let entry = waiting.projects.entry(project).or_default();
                    entry.is_running = true;
                    entry.due = None;
                    let written = entry.written.take();
                    return Some(Wake { project, written });
                }
                Some((start, _)) => drop(self.0.changed.wait_until(&mut waiting, start)),
                None => self.0.changed.wait(&mut waiting),
            }
        }
    }

    /// Whether a write of the project waits.
    pub fn is_written(&self, project: ProjectId) -> bool {
        let waiting = self.0.waiting.lock();
        let entry = waiting.projects.get(&project);
        entry.is_some_and(|entry| entry.written.is_some())
    }

    /// Whether no write of the project waits, and no pass is running.
    pub fn is_idle(&self, project: ProjectId) -> bool {
        let waiting = self.0.waiting.lock();
        let entry = waiting.projects.get(&project);
        entry.is_none_or(|entry| entry.written.is_none() && !entry.is_running)
    }

    /// Ends a pass. The next one begins at `due`, or at a write, but because of a write not within `rest`.
    pub fn finish(&self, project: ProjectId, due: Option<Instant>, rest: Duration) {
        let mut waiting = self.0.waiting.lock();
        if waiting.is_open {
            let entry = waiting.projects.entry(project).or_default();
            entry.is_running = false;
            entry.due = due;
            entry.rested = Some(Instant::now() + rest);
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_receiver_sees_the_changes_of_its_project_only() {
        let signal = ChangeSignal::default();
        let (one, other) = (ProjectId(1), ProjectId(2));
        signal.notify(one);
        let mut receiver = signal.subscribe(one);
        signal.notify(other);
        assert!(!receiver.has_changed().unwrap());
        signal.notify(one);
        assert!(receiver.has_changed().unwrap());
        receiver.borrow_and_update();
        assert!(!receiver.has_changed().unwrap());
        drop(receiver);
        signal.notify(one);
        assert!(signal.0.lock().is_empty(), "without receivers");
    }

    #[test]
    fn a_write_waits_for_the_delay_and_an_instant_does_not() {
        let (written, delay) = (Instant::now(), Duration::from_secs(60));
        let mut project = WaitingProject::default();
        assert_eq!(project.start(delay), None);
        project.written = Some(written);
        assert_eq!(project.start(delay), Some(written + delay));
        project.due = Some(written + delay / 2);
        assert_eq!(project.start(delay), project.due);
        project.is_running = true;
        assert_eq!(project.start(delay), None);
    }

    #[test]
    fn a_write_waits_until_the_last_pass_has_rested() {
        let (now, rest) = (Instant::now(), Duration::from_secs(60));
        let (signal, project) = (WriteSignal::default(), ProjectId(1));
        signal.open();
        signal.notify(project);
        signal.next(NOW).unwrap();
        signal.finish(project, None, rest);
        signal.notify(project);
        let start = |delay| {
            signal.0.waiting.lock().projects[&project]
                .start(delay)
                .unwrap()
        };
        assert!(start(NOW) >= now + rest);
        assert!(start(rest * 2) >= now + rest * 2, "the delay is longer");
        // Time alone does not wait.
        signal.finish(project, Some(now), rest);
        assert_eq!(start(NOW), now);
    }

    #[test]
    fn a_write_during_a_pass_starts_the_next_pass() {
        let signal = WriteSignal::default();
        let project = ProjectId(1);
        signal.notify(project);
        assert!(signal.next(NOW).is_none(), "no thread makes passes");
        signal.open();
        signal.notify(project);
        assert!(signal.next(NOW).unwrap().written.is_some());
        assert!(!signal.is_written(project));
        signal.notify(project);
        signal.notify(ProjectId(2));
        assert_eq!(signal.next(NOW).unwrap().project, ProjectId(2));
        signal.finish(project, None, NOW);
        assert_eq!(signal.next(NOW).unwrap().project, project);
        signal.finish(project, Some(Instant::now()), NOW);
        let wake = signal.next(NOW).unwrap();
        assert_eq!((wake.project, wake.written), (project, None));
        signal.close();
        assert!(signal.next(NOW).is_none());
    }
}
