//! Keeps the change log small: merges old changes, deletes those that are too old or too many, and adds up sizes.
//!
//! Several processes may do this at the same time. Each run does a bounded part, and a project that fails delays no other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_store::changes::{self, ChangeHead, compact, retention, sizes};
use cohorts_store::{Conn, Error, ProjectId, Store, health, projects};

use crate::metrics::Metrics;

/// Minutes and hours of a project that one run compacts.
const SPANS: usize = 30;
/// Changes that one commit deletes.
const STEP: i64 = 1_000;
/// The most commits of one run for the same rows.
const MAX_STEPS: usize = 20;
/// The pause of a project without anything to compact.
const COMPACTION_PAUSE: Duration = Duration::from_secs(30);
/// The pause between two sweeps over old changes and sizes.
const SWEEP_PAUSE: Duration = Duration::from_secs(600);

/// How much of the change log is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChangeLimits {
    /// The greatest age of a change; `None` for any age.
    pub age: Option<TimeDelta>,
    /// The most bytes of the log; `None` for [`health::change_limit`].
    pub bytes: Option<u64>,
}

/// Remembers when each part of the work is due.
pub struct ChangeKeeper {
    limits: ChangeLimits,
    /// When a project is compacted next. A project without an entry is due.
    compaction: HashMap<ProjectId, Instant>,
    next_sweep: Option<Instant>,
    /// The limit in bytes, as of the last sweep at which it was known.
    limit: u64,
}

impl ChangeKeeper {
    pub fn new(limits: ChangeLimits) -> Self {
        Self {
            limits,
            compaction: HashMap::new(),
            next_sweep: None,
            limit: u64::MAX,
        }
    }

    /// Does what is due for all projects without an outage, and sets the metrics.
    pub fn keep(&mut self, store: &Store, metrics: &Metrics) -> Result<(), Error> {
        let conn = &mut *store.connection()?;
        let now = Utc::now();
        let mut projects = projects::all(conn)?;
        projects.retain(|project| !store.outages.affect(*project));
        let heads = changes::heads(conn, &projects)?;
        for head in &heads {
            report(head, self.compact(conn, head, now));
        }
        if self.next_sweep.is_none_or(|time| time <= Instant::now()) {
            let limit = match self.limits.bytes {
                Some(bytes) => Some(bytes),
                None => health::change_limit(conn, &store.outages)?,
            };
            self.limit = limit.unwrap_or(self.limit);
            for head in &heads {
                report(head, self.sweep(conn, head, now));
            }
            self.next_sweep = Some(Instant::now() + SWEEP_PAUSE);
        }
        let mut heads = changes::heads(conn, &projects)?;
        shorten(conn, &mut heads, self.limit)?;
        metrics.change_log(changes::total_bytes(&heads), self.limit);
        Ok(())
    }

    /// Compacts some spans of a project.
    fn compact(
        &mut self,
        conn: &mut Conn,
        head: &ChangeHead,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let project = head.project();
        let is_paused = self
            .compaction
            .get(&project)
            .is_some_and(|time| *time > Instant::now());
        if is_paused || head.by_hour_through == head.number {
            return Ok(());
        }
        let mut head = head.clone();
        for _ in 0..SPANS {
            if compact::compact_next(conn, &head, now)?.is_none() {
                let next = Instant::now() + COMPACTION_PAUSE;
                self.compaction.insert(project, next);
                break;
            }
            match changes::heads(conn, &[project])?.pop() {
                Some(current) => head = current,
                None => break,
            }
        }
        Ok(())
    }

    /// Deletes changes of a project that are too old, and adds up its old sizes. A log with gaps begins again.
    fn sweep(&self, conn: &mut Conn, head: &ChangeHead, now: DateTime<Utc>) -> Result<(), Error> {
        let project = head.project();
        let gaps = cohorts_store::snapshot(conn, |conn| changes::gaps(conn, project))?;
        if !gaps.is_empty() {
            let (project, count) = (project.0, gaps.len());
            log::warn!(
                "project {project}: the change log begins again, because an earlier version of this program has changed the \
                 members of {count} cohorts"
            );
            changes::restart(conn, head.project())?;
        }
        for _ in 0..MAX_STEPS {
            if sizes::roll_up(conn, head.project(), now)? == 0 {
                break;
            }
        }
        if let Some(age) = self.limits.age {
            delete_before(conn, head, now - age, MAX_STEPS)?;
        }
        Ok(())
    }
}

fn report(head: &ChangeHead, result: Result<(), Error>) {
    if let Err(cause) = result {
        let project = head.project().0;
        log::warn!("project {project}: the change log was not shortened, will retry: {cause}");
    }
}

/// Deletes the changes of a project from before a time, in a limited number of steps.
fn delete_before(
    conn: &mut Conn,
    head: &ChangeHead,
    time: DateTime<Utc>,
    steps: usize,
) -> Result<(), Error> {
    let mut head = head.clone();
    for _ in 0..steps {
        let deleted = retention::delete_oldest(conn, &head, time, STEP)?;
        if deleted < STEP as usize {
            break;
        }
        match changes::heads(conn, &[head.project()])?.pop() {
            Some(current) => head = current,
            None => break,
        }
    }
    Ok(())
}

/// Deletes the oldest changes of the largest logs while all together exceed the limit.
fn shorten(conn: &mut Conn, heads: &mut [ChangeHead], limit: u64) -> Result<(), Error> {
    for _ in 0..MAX_STEPS {
        let bytes = changes::total_bytes(heads);
        let Some(largest) = heads.iter_mut().max_by_key(|head| head.bytes) else {
            break;
        };
        if bytes <= limit {
            break;
        }
        let project = largest.project();
        if retention::delete_oldest(conn, largest, DateTime::<Utc>::MAX_UTC, STEP)? == 0 {
            break;
        }
        log::warn!(
            "project {}: old changes were deleted, because the change log has {bytes} bytes and its limit is {limit}; \
             --change-limit sets another limit",
            project.0
        );
        if let Some(current) = changes::heads(conn, &[project])?.pop() {
            *largest = current;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cohorts_store::changes::{Cause, FeedPosition, StaticCohort};
    use cohorts_store::cohorts::Cohort;
    use cohorts_store::definition::Definition;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{cohorts, keys, transaction};
    use diesel::prelude::*;
    use roaring::RoaringBitmap;

    use super::*;

    /// A static cohort in a project of its own.
    fn cohort(conn: &mut Conn, token: &str) -> Cohort {
        let project = projects::create(conn, "P", "UTC", token).unwrap().id();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        definition.is_static = true;
        cohorts::create(conn, project, &owner, &definition).unwrap()
    }

    fn add(conn: &mut Conn, cohort: &Cohort, persons: std::ops::Range<u32>) {
        for person in persons {
            transaction(conn, |conn| {
                changes::edit(
                    conn,
                    &StaticCohort::from(cohort),
                    Cause::Manual,
                    |members| Ok(members | RoaringBitmap::from_iter([person])),
                )
            })
            .unwrap();
        }
    }

    fn age(conn: &mut Conn, cohort: &Cohort, interval: &str) {
        let statement = format!(
            "update member_changes set published_at = published_at - interval '{interval}' where cohort_id = {}",
            cohort.id
        );
        assert!(diesel::sql_query(statement).execute(conn).unwrap() > 0);
    }

    /// The numbers of the changes that are left.
    fn numbers(conn: &mut Conn, cohort: &Cohort) -> Vec<i64> {
        let head = changes::heads(conn, &[cohort.project()]).unwrap().remove(0);
        let position = FeedPosition::after(head.expired_through);
        let page = changes::feed(conn, cohort.project(), None, position, 99).unwrap();
        let rows = page.unwrap().changes.into_iter();
        rows.map(|(row, _)| row.number).collect()
    }

    fn value(metrics: &Metrics, name: &str) -> u64 {
        let connections = |_| cohorts_store::ConnectionCounts { in_use: 0, open: 0 };
        let index = crate::metrics::IndexFigures {
            bytes: 0,
            segment_bytes_read: 0,
            builds: 0,
        };
        let text = metrics.text(connections, index).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn old_changes_are_compacted_and_deleted_by_age_and_by_bytes() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let metrics = Metrics::new(&store.statements).unwrap();
        let [old, new] = ["a", "b"].map(|token| cohort(conn, token));
        add(conn, &old, 0..6);
        add(conn, &new, 0..4);
        age(conn, &old, "2 hours");
        let mut keeper = ChangeKeeper::new(ChangeLimits {
            age: Some(TimeDelta::days(90)),
            bytes: None,
        });
        keeper.keep(&store, &metrics).unwrap();
        let merged = numbers(conn, &old);
        assert!(merged.len() <= 2 && merged.ends_with(&[6]), "{merged:?}");
        assert_eq!(numbers(conn, &new), [1, 2, 3, 4]);
        let heads = changes::heads(conn, &[old.project(), new.project()]).unwrap();
        let bytes = value(&metrics, "cohorts_change_log_bytes");
        assert_eq!(bytes, changes::total_bytes(&heads));
        assert!(value(&metrics, "cohorts_change_log_limit_bytes") >= 256 << 20);

        age(conn, &old, "91 days");
        keeper.next_sweep = None;
        keeper.keep(&store, &metrics).unwrap();
        assert_eq!(
            (numbers(conn, &old).len(), numbers(conn, &new).len()),
            (0, 4)
        );

        add(conn, &old, 10..11);
        let mut keeper = ChangeKeeper::new(ChangeLimits {
            age: None,
            bytes: Some(500),
        });
        keeper.keep(&store, &metrics).unwrap();
        assert_eq!(
            (numbers(conn, &old), numbers(conn, &new)),
            (vec![7], vec![])
        );
        // A program without the log has changed a cohort.
        let position =
            FeedPosition::after(changes::heads(conn, &[old.project()]).unwrap()[0].number);
        let statement = "update cohorts set member_version = member_version + 1 where id = ";
        let updated = diesel::sql_query(format!("{statement}{}", old.id)).execute(conn);
        assert_eq!(updated.unwrap(), 1);
        keeper.next_sweep = None;
        keeper.keep(&store, &metrics).unwrap();
        let page = changes::feed(conn, old.project(), None, position, 9).unwrap();
        assert_eq!((numbers(conn, &old), page), (vec![], None));
        let logged = [old, new].map(|cohort| changes::check(conn, cohort.project()).unwrap());
        assert_eq!(logged, [vec![], vec![]]);
    }
    #[test]
    fn the_log_of_a_project_waits_for_its_worker() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let metrics = Metrics::new(&store.statements).unwrap();
        let [silent, other] = ["a", "b"].map(|token| cohort(conn, token));
        for cohort in [&silent, &other] {
            add(conn, cohort, 0..2);
            age(conn, cohort, "91 days");
        }
        store.outages.set_for_test(&[silent.project()]);
        let mut keeper = ChangeKeeper::new(ChangeLimits {
            age: Some(TimeDelta::days(90)),
            bytes: None,
        });
        keeper.keep(&store, &metrics).unwrap();
        assert_eq!(
            (numbers(conn, &silent), numbers(conn, &other)),
            (vec![1, 2], vec![])
        );
        assert_eq!(
            keeper.limit,
            u64::MAX,
            "the data of the worker is not known"
        );
        store.outages.record(&[]);
        keeper.next_sweep = None;
        keeper.keep(&store, &metrics).unwrap();
        assert_eq!(numbers(conn, &silent), [0_i64; 0]);
        assert!(keeper.limit < u64::MAX);
    }
}
