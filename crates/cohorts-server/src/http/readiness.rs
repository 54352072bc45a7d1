//! The readiness check: whether the database responds.
//!
//! It has a connection and a thread of its own, so requests that wait for the database cannot delay it. Callers at about
//! the same time share one check, so they cannot overload the database.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use actix_web::rt::time::timeout;
use cohorts_store::outages::WorkerCounts;
use cohorts_store::{Conn, Error, Lane, Store, health, queue};
use tokio::sync::{Mutex, oneshot};

/// The longest time until a check has a result.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a result is used again.
const FRESHNESS: Duration = Duration::from_millis(250);

/// A line about the waiting cohorts, or the reason why the service is not ready.
pub type Outcome = Result<String, String>;

/// The readiness checks of a service.
pub struct Readiness {
    store: Store,
    last: Mutex<Option<(Instant, Outcome)>>,
}

impl Readiness {
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.in_lane(Lane::Readiness),
            last: Mutex::new(None),
        }
    }

    pub async fn check(&self) -> Outcome {
        let outcome = timeout(LIMIT, self.shared()).await;
        outcome.unwrap_or_else(|_| Err("the database does not respond".to_owned()))
    }

    async fn shared(&self) -> Outcome {
        let mut last = self.last.lock().await;
        if let Some((time, outcome)) = &*last
            && time.elapsed() < FRESHNESS
        {
            return outcome.clone();
        }
        let outcome = match self.start() {
            Ok(outcome) => outcome.await.unwrap_or(Err("the check failed".to_owned())),
            Err(cause) => Err(format!("the check cannot be started: {cause}")),
        };
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    fn start(&self) -> io::Result<oneshot::Receiver<Outcome>> {
        let (sender, receiver) = oneshot::channel();
        let store = self.store.clone();
        let check = move || {
            let backlog = store.connection().and_then(|mut conn| backlog(&mut conn));
            let outcome = backlog.map(|backlog| describe(backlog, store.outages.counts()));
            let outcome = outcome.map_err(|cause| {
                log::warn!("not ready: {cause}");
                // Callers have no key, so they do not see the cause.
                "the database is not available".to_owned()
            });
            // A caller that has disconnected does not receive this.
            let _ = sender.send(outcome);
        };
        thread::Builder::new()
            .name("readiness".to_owned())
            .spawn(check)?;
        Ok(receiver)
    }
}

/// Describes the backlog, and the workers of Citus if there are any. An unavailable worker leaves the service ready, because
/// the projects on other workers are served.
fn describe(backlog: String, workers: Option<WorkerCounts>) -> String {
    match workers {
        None => backlog,
        Some(WorkerCounts { responding, all }) => {
            format!("{backlog}\n{responding} of {all} workers respond")
        }
    }
}

/// Describes the backlog. Fails if the database does not respond.
fn backlog(conn: &mut Conn) -> Result<String, Error> {
    let now = health::clock(conn)?;
    match queue::backlog(conn, now) {
        Ok(backlog) => {
            let (count, since) = (backlog.count, backlog.waiting_since);
            let seconds = since.map_or(0, |since| (now - since).num_seconds().max(0));
            Ok(format!("{count} cohorts wait, the first for {seconds} s"))
        }
        // A migration, for example, has locked the table.
        Err(Error::Locked | Error::TimedOut) => {
            Ok("the waiting cohorts cannot be counted now".to_owned())
        }
        Err(cause) => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::rt::System;
    use cohorts_store::testing::TestDatabase;

    use super::*;

    #[test]
    fn workers_that_respond_are_counted() {
        let workers = WorkerCounts {
            responding: 2,
            all: 3,
        };
        let described = |workers| describe("0 cohorts wait".to_owned(), workers);
        assert_eq!(
            described(Some(workers)),
            "0 cohorts wait\n2 of 3 workers respond"
        );
        assert_eq!(described(None), "0 cohorts wait");
    }

    #[test]
    fn the_service_is_ready_while_all_other_connections_are_in_use() {
        let database = TestDatabase::create();
        let store = database.open();
        let others = Lane::ALL
            .into_iter()
            .filter(|lane| *lane != Lane::Readiness);
        let held: Vec<_> = others
            .flat_map(|lane| (0..lane.size()).map(move |_| lane))
            .map(|lane| store.in_lane(lane).connection().unwrap())
            .collect();
        let readiness = Readiness::new(&store);
        let outcome = System::new().block_on(readiness.check());
        assert_eq!(outcome.unwrap(), "0 cohorts wait, the first for 0 s");
        drop(held);
    }
}
