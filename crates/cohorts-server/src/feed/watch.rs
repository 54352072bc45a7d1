//! Wakes readers that wait for changes of a project. A waiting reader holds no thread and no connection.
//!
//! Changes of this process come with a signal. For those of other processes, one task compares the heads of the logs that
//! readers wait for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cohorts_store::{Conn, ProjectId, Store, changes};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use crate::blocking;
use crate::signals::ChangeSignal;

/// How often the heads are compared.
const POLL: Duration = Duration::from_secs(2);
/// The shortest time between two wakes of a reader.
const INTERVAL: Duration = Duration::from_millis(50);

/// The projects with readers that wait. Clones share everything.
#[derive(Clone)]
pub struct ChangeWatch {
    signal: ChangeSignal,
    projects: Arc<Mutex<HashMap<ProjectId, WatchedProject>>>,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct WatchedProject {
    readers: usize,
    /// The number of the last change; `None` if it is not known yet.
    number: Option<i64>,
}

/// Why a reader wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// The log may have changed.
    Changed,
    TimedOut,
    /// The service stops.
    Stopped,
}

impl ChangeWatch {
    pub fn new(signal: ChangeSignal) -> Self {
        Self {
            signal,
            projects: Arc::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// Ends all waiting, now and later.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// A reader of a project. It subscribes first, and then reads what has changed before.
    pub fn subscribe(&self, project: ProjectId) -> ChangeReader {
        self.projects.lock().entry(project).or_default().readers += 1;
        ChangeReader {
            watch: self.clone(),
            project,
            changes: self.signal.subscribe(project),
            stop: self.stop.subscribe(),
            woken: None,
        }
    }

    /// Compares the heads of the logs, until the service stops.
    pub async fn poll(self, store: Store) {
        let mut stop = self.stop.subscribe();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stops| *stops) => return,
                () = sleep(POLL) => {}
            }
            let watched: Vec<ProjectId> = self.projects.lock().keys().copied().collect();
            // A worker of Citus that does not respond must not delay the other projects.
            let watched = watched.into_iter();
            let watched: Vec<_> = watched
                .filter(|project| store.outages.check(*project).is_ok())
                .collect();
            if watched.is_empty() {
                continue;
            }
            let read = move |conn: &mut Conn| Ok(changes::heads(conn, &watched)?);
            match blocking::read(&store, read).await {
                Ok(heads) => heads
                    .iter()
                    .for_each(|head| self.compare(head.project(), head.number)),
                Err(cause) => log::warn!("cannot read the heads of the change logs: {cause}"),
            }
        }
    }

    /// Wakes the readers of a project if the number of its last change is new.
    fn compare(&self, project: ProjectId, number: i64) {
        let mut projects = self.projects.lock();
        let Some(watched) = projects.get_mut(&project) else {
            return;
        };
        if watched.number.replace(number) != Some(number) {
            drop(projects);
            self.signal.notify(project);
        }
    }
}

/// A reader that waits for changes of a project.
pub struct ChangeReader {
    watch: ChangeWatch,
    project: ProjectId,
    changes: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    woken: Option<Instant>,
}

impl ChangeReader {
    /// Waits for a change, at most until `end`.
    pub async fn next(&mut self, end: Instant) -> WaitEnd {
        let wake = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stops| *stops) => WaitEnd::Stopped,
            Ok(()) = self.changes.changed() => WaitEnd::Changed,
            () = sleep_until(end.into()) => WaitEnd::TimedOut,
        };
        if wake == WaitEnd::Changed
            && let Some(woken) = self.woken
        {
            // The changes of a busy project are read together.
            sleep_until((woken + INTERVAL).into()).await;
            self.changes.mark_unchanged();
        }
        self.woken = Some(Instant::now());
        wake
    }

    /// Returns when the service stops.
    pub async fn stopped(&mut self) {
        // The watch has the sender.
        let _ = self.stop.wait_for(|stops| *stops).await;
    }
}

impl Drop for ChangeReader {
    fn drop(&mut self) {
        let mut projects = self.watch.projects.lock();
        if let Some(watched) = projects.get_mut(&self.project) {
            watched.readers -= 1;
            if watched.readers == 0 {
                projects.remove(&self.project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: ProjectId = ProjectId(1);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(600)
    }

    #[tokio::test]
    async fn a_reader_wakes_at_changes_of_this_process_and_of_others() {
        let watch = ChangeWatch::new(ChangeSignal::default());
        let mut reader = watch.subscribe(PROJECT);
        watch.signal.notify(PROJECT);
        assert_eq!(reader.next(soon()).await, WaitEnd::Changed);
        // The first number may be that of a change since the subscription.
        watch.compare(PROJECT, 7);
        assert_eq!(reader.next(soon()).await, WaitEnd::Changed);
        watch.compare(PROJECT, 7);
        assert_eq!(reader.next(Instant::now()).await, WaitEnd::TimedOut);
        watch.compare(PROJECT, 8);
        assert_eq!(reader.next(soon()).await, WaitEnd::Changed);
        watch.compare(ProjectId(2), 8);
        assert_eq!(reader.next(Instant::now()).await, WaitEnd::TimedOut);
    }

    #[tokio::test]
    async fn all_readers_wake_when_the_service_stops() {
        let watch = ChangeWatch::new(ChangeSignal::default());
        let mut reader = watch.subscribe(PROJECT);
        watch.stop();
        assert_eq!(reader.next(soon()).await, WaitEnd::Stopped);
        assert_eq!(
            watch.subscribe(PROJECT).next(soon()).await,
            WaitEnd::Stopped
        );
        drop(reader);
        assert!(watch.projects.lock().is_empty());
    }
}
