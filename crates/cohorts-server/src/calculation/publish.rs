//! Writes the members of a calculated cohort in two commits: first the changed chunks, then the version by which readers
//! see them.
//!
//! Persons may be merged or deleted, and a static cohort may be edited, at any moment of this. The claim stays valid: the
//! chunks are written again with the new state.

use cohorts_store::changes::{self, Cause, NewMembers, StagedMembers};
use cohorts_store::cohorts::Cohort;
use cohorts_store::queue::{self, Evaluated, PublishedMembers};
use cohorts_store::{Conn, Error, events, live, members, tombstones, transaction};
use roaring::RoaringBitmap;

use super::claimed::Started;
use crate::index::IndexedStore;
use crate::kill_points::KillPoint;

/// How often the chunks are written before chunks and version become one commit, which no change can precede.
const SEPARATE_COMMITS: usize = 5;

/// The sets of members in memory at the same time: evaluated, published, and those to write.
const COPIES: usize = 3;

/// Publishes the members of a claimed cohort. Does nothing if the claim is lost.
pub fn publish(
    store: &IndexedStore,
    cohort: &Cohort,
    started: Started,
    members: RoaringBitmap,
    evaluated: Evaluated,
    evaluation: Option<String>,
) -> Result<(), Error> {
    let _memory = (store.caches.index).reserve(COPIES * members.serialized_size());
    let conn = &mut *store.connection()?;
    let publication = Publication {
        cohort,
        started,
        members,
        evaluated,
        evaluation,
    };
    if let Some(staged) = publication.publish(conn, || ())? {
        KillPoint::CalculationPublished.reached();
        let shard_key = cohort.project().shard_key();
        store.signals.changed(cohort.project());
        store.signals.written(cohort.project());
        changes::prune(conn, shard_key, cohort.id(), &staged.chunks, staged.base)?;
        log::info!("cohort {}: {} members", cohort.id, staged.count);
    }
    Ok(())
}

/// Why the members of a calculation differ from those before. An evaluation at a later moment that read new data may
/// differ for both reasons; then it is the data.
fn cause(cohort: &Cohort, evaluated: Evaluated) -> Cause {
    if cohort.definition.is_static && cohort.fill_pending_query {
        Cause::Query
    } else if cohort.definition.is_static || cohort.criteria_changed {
        Cause::Criteria
    } else if evaluated.seen_seq > cohort.seen_seq {
        Cause::Data
    } else {
        Cause::Time
    }
}

/// A claimed cohort with its evaluated members.
struct Publication<'a> {
    cohort: &'a Cohort,
    started: Started,
    members: RoaringBitmap,
    evaluated: Evaluated,
    /// What a pass needs to advance the members, as JSON text.
    evaluation: Option<String>,
}

/// Members with written chunks.
struct WrittenMembers {
    members: RoaringBitmap,
    staged: StagedMembers,
    /// The log head when the chunks were written.
    log_head: i64,
}

impl Publication<'_> {
    /// Returns what was published, or `None` if the claim is lost. Calls `between` between the two commits.
    fn publish(&self, conn: &mut Conn, between: impl Fn()) -> Result<Option<StagedMembers>, Error> {
        for _ in 0..SEPARATE_COMMITS {
            let Some(written) = self.write_chunks(conn)? else {
                return Ok(None);
            };
            between();
            KillPoint::CalculationBetweenCommits.reached();
            let is_current = |conn: &mut Conn| self.is_current(conn, &written);
            if self.publish_version(conn, &written, is_current)? {
                return Ok(Some(written.staged));
            }
        }
        transaction(conn, |conn| {
            let Some(written) = self.write_chunks(conn)? else {
                return Ok(None);
            };
            let is_published = self.publish_version(conn, &written, |_| Ok(true))?;
            Ok(is_published.then_some(written.staged))
        })
    }

    /// Writes the chunks that differ from the published ones; returns `None` if the claim is lost. A static cohort keeps
    /// its published members.
    fn write_chunks(&self, conn: &mut Conn) -> Result<Option<WrittenMembers>, Error> {
        let cohort = self.cohort;
        let shard_key = cohort.project().shard_key();
        transaction(conn, |conn| {
            let Some(base) = queue::lock_claimed(conn, cohort)? else {
                return Ok(None);
            };
            let log_head = events::log_head(conn, shard_key)?;
            let published = members::read(conn, shard_key, cohort.id(), base)?;
            let mut members = self.members.clone();
            if cohort.definition.is_static {
                members |= &published;
            }
            // Persons that were deleted or merged since the snapshot must not come back.
            let tombstones = tombstones::since(conn, shard_key, self.evaluated.seen_seq)?;
            let members = tombstones.resolved(&members);
            let new = NewMembers {
                cohort: cohort.id(),
                base,
                attempt: cohort.attempt,
                before: &published,
                after: &members,
            };
            let staged = changes::stage(conn, shard_key, &[new])?.pop();
            KillPoint::CalculationStaged.reached();
            Ok(staged.map(|staged| WrittenMembers {
                members,
                staged,
                log_head,
            }))
        })
    }

    /// Whether no merge or deletion has changed the members since their chunks were written.
    fn is_current(&self, conn: &mut Conn, written: &WrittenMembers) -> Result<bool, Error> {
        let shard_key = self.cohort.project().shard_key();
        let retired = tombstones::since(conn, shard_key, written.log_head)?.retired;
        Ok(retired.is_disjoint(&written.members))
    }

    /// Publishes the written chunks if the members were not edited meanwhile and `is_current` returns true while the cohort
    /// is locked. Returns whether they are published.
    fn publish_version(
        &self,
        conn: &mut Conn,
        written: &WrittenMembers,
        is_current: impl FnOnce(&mut Conn) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let shard_key = self.cohort.project().shard_key();
        let staged = &written.staged;
        let cause = cause(self.cohort, self.evaluated);
        let publish = |conn: &mut Conn, current: i64| {
            if current != staged.base || !is_current(conn)? {
                return Ok(None);
            }
            live::record_evaluation(conn, self.cohort.id, self.evaluation.clone())?;
            changes::publish(conn, shard_key, &[(staged, cause)])?;
            KillPoint::CalculationNumbered.reached();
            let (version, count) = (staged.version, staged.count);
            Ok(Some(PublishedMembers { version, count }))
        };
        let (cohort, started) = (self.cohort, self.started.time);
        let count = queue::publish(conn, cohort, started, self.evaluated, publish)?;
        Ok(count.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use chrono::{TimeDelta, Utc};
    use cohorts_store::changes::StaticCohort;
    use cohorts_store::definition::Definition;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{CohortId, ProjectId, Store, cohorts, history, keys, persons, projects};

    use super::*;
    use crate::ingest::{Arrival, Item, commit};

    /// Deletes a person as the operation does.
    fn delete(store: &Store, project: ProjectId, ordinal: i64) {
        let conn = &mut *store.connection().unwrap();
        let shard_key = project.shard_key();
        transaction(conn, |conn| {
            let locked = cohorts::lock_all(conn, project)?;
            let seq = events::begin_write(conn, shard_key)?;
            persons::delete(conn, shard_key, seq, ordinal)?;
            let persons = [ordinal as u32].into_iter().collect();
            changes::remove_persons(conn, shard_key, &locked, &persons)
        })
        .unwrap();
    }

    /// A claimed cohort of a project with the persons `a` to `d`; the first three were evaluated as members.
    struct ClaimedCohort {
        store: IndexedStore,
        project: ProjectId,
        claimed: Cohort,
        seen_seq: i64,
        _database: TestDatabase,
    }

    impl ClaimedCohort {
        fn start(is_static: bool) -> Self {
            let database = TestDatabase::create();
            let store = IndexedStore::new(database.open());
            let conn = &mut *store.connection().unwrap();
            let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
            let owner = keys::teammate(conn, "a@x.io", "").unwrap();
            let item = |id: &str| {
                let text = format!(r#"{{"event": "x", "distinct_id": "{id}"}}"#);
                Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
            };
            commit(&store, project, &["a", "b", "c", "d"].map(item)).unwrap();
            let mut definition = Definition::default();
            definition.is_static = is_static;
            let created = cohorts::create(conn, project, &owner, &definition).unwrap();
            if is_static {
                queue::set_fill_pending_criteria(conn, created.id(), false).unwrap();
            } else {
                queue::request_calculation(conn, created.id()).unwrap();
            }
            let lease = TimeDelta::seconds(15);
            let claimed = queue::claim(conn, project, lease, 1).unwrap().remove(0);
            let seen_seq = events::log_head(conn, project.shard_key()).unwrap();
            Self {
                store: store.clone(),
                project,
                claimed,
                seen_seq,
                _database: database,
            }
        }

        /// Publishes the members 0 to 2, with `between` between the two commits.
        fn publish(&self, between: impl Fn()) -> Option<i64> {
            let publication = Publication {
                cohort: &self.claimed,
                started: Started::now(),
                members: RoaringBitmap::from_iter(0..3_u32),
                evaluated: Evaluated {
                    at: Utc::now(),
                    due_at: None,
                    seen_seq: self.seen_seq,
                },
                evaluation: None,
            };
            let conn = &mut *self.store.connection().unwrap();
            let published = publication.publish(conn, between).unwrap();
            published.map(|staged| staged.count)
        }

        fn delete(&self, ordinal: i64) {
            delete(&self.store, self.project, ordinal);
        }

        /// Merges the person of a distinct id into that of another.
        fn merge(&self, from: &str, into: &str) {
            let text = format!(
                r#"{{"event": "$merge_dangerously", "distinct_id": "{into}", "properties": {{"alias": "{from}"}}}}"#
            );
            let item = Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap();
            commit(&self.store, self.project, &[item]).unwrap();
        }

        /// Changes the members of the static cohort as an upload does.
        fn edit(&self, change: impl FnOnce(RoaringBitmap) -> RoaringBitmap) {
            let conn = &mut *self.store.connection().unwrap();
            transaction(conn, |conn| {
                let row = cohorts::lock(conn, self.project, self.claimed.id())?.unwrap();
                let cohort = StaticCohort::from(&row);
                changes::edit(conn, &cohort, Cause::Upload, |members| Ok(change(members)))
            })
            .unwrap();
        }

        fn row(&self) -> Cohort {
            let conn = &mut *self.store.connection().unwrap();
            let id = CohortId(self.claimed.id);
            cohorts::find(conn, self.project, id).unwrap().unwrap().0
        }

        /// The members that readers see, and the count.
        fn members(&self) -> (Vec<u32>, Option<i64>) {
            let row = self.row();
            let conn = &mut *self.store.connection().unwrap();
            let shard_key = self.project.shard_key();
            let members = members::read(conn, shard_key, row.id(), row.member_version).unwrap();
            (members.iter().collect(), row.count)
        }

        /// The number of history entries, all of them finished.
        fn finished_entries(&self) -> i64 {
            let conn = &mut *self.store.connection().unwrap();
            let page = history::page(conn, self.project, self.claimed.id(), 9, 0).unwrap();
            let entries =
                history::by_ids(conn, self.project, self.claimed.id(), &page.ids).unwrap();
            assert!(entries.iter().all(|entry| entry.finished_at.is_some()));
            page.count
        }
    }

    #[test]
    fn the_cause_of_a_calculation_is_what_changed_since_the_last_one() {
        let evaluated = |seen_seq| Evaluated {
            at: Utc::now(),
            due_at: None,
            seen_seq,
        };
        for (is_static, expected) in [(false, Cause::Time), (true, Cause::Criteria)] {
            let calculation = ClaimedCohort::start(is_static);
            let mut cohort = calculation.claimed.clone();
            assert_eq!(
                cause(&cohort, evaluated(9)),
                Cause::Criteria,
                "the first calculation"
            );
            calculation.publish(|| ());
            cohort = calculation.row();
            assert!(!cohort.criteria_changed && cohort.seen_seq == calculation.seen_seq);
            let same = evaluated(cohort.seen_seq);
            assert_eq!(cause(&cohort, same), expected);
            if !is_static {
                let later = evaluated(cohort.seen_seq + 1);
                assert_eq!(cause(&cohort, later), Cause::Data);
                let conn = &mut *calculation.store.connection().unwrap();
                queue::request_if_idle(conn, &[cohort.id]).unwrap();
                assert_eq!(cause(&calculation.row(), later), Cause::Data);
                queue::request_calculation(conn, cohort.id()).unwrap();
                assert_eq!(cause(&calculation.row(), later), Cause::Criteria);
            }
            cohort.fill_pending_query = true;
            let with_query = if is_static { Cause::Query } else { expected };
            assert_eq!(cause(&cohort, same), with_query);
        }
    }

    const BEFORE: &str = "before the chunks are written";
    const BETWEEN: &str = "before the version is published";
    const AFTER: &str = "after the version is published";

    /// Publishes, and runs `change` once at a moment.
    fn publish_with(calculation: &ClaimedCohort, moment: &str, change: impl Fn()) {
        if moment == BEFORE {
            change();
        }
        let is_changed = Cell::new(false);
        let published = calculation.publish(|| {
            if moment == BETWEEN && !is_changed.replace(true) {
                change();
            }
        });
        assert!(published.is_some(), "{moment}");
        if moment == AFTER {
            change();
        }
    }

    #[test]
    fn a_person_deleted_at_any_moment_of_a_calculation_is_no_member_and_not_counted() {
        for moment in [BEFORE, BETWEEN, AFTER] {
            let calculation = ClaimedCohort::start(false);
            publish_with(&calculation, moment, || calculation.delete(1));
            assert_eq!(calculation.members(), (vec![0, 2], Some(2)), "{moment}");
        }
    }

    #[test]
    fn a_merge_at_any_moment_of_a_calculation_leaves_one_attempt_with_the_survivors() {
        for (is_static, moments) in [
            (false, &[BEFORE, BETWEEN][..]),
            (true, &[BEFORE, BETWEEN, AFTER]),
        ] {
            for moment in moments {
                let calculation = ClaimedCohort::start(is_static);
                // One merged member has a survivor among the members, and one has not.
                publish_with(&calculation, moment, || {
                    calculation.merge("b", "a");
                    calculation.merge("c", "d");
                });
                let case = format!("static: {is_static}, {moment}");
                assert_eq!(calculation.members(), (vec![0, 3], Some(2)), "{case}");
                assert!(!calculation.row().is_calculating, "{case}");
                assert_eq!(calculation.finished_entries(), 1, "{case}");
            }
        }
    }

    #[test]
    fn edits_during_the_calculation_of_a_static_cohort_are_kept() {
        for moment in [BEFORE, BETWEEN, AFTER] {
            let calculation = ClaimedCohort::start(true);
            publish_with(&calculation, moment, || {
                calculation.edit(|members| members | RoaringBitmap::from_iter([3_u32, 70_000]));
                calculation.edit(|members| members - RoaringBitmap::from_iter([70_000_u32]));
            });
            let all = (vec![0, 1, 2, 3], Some(4));
            assert_eq!(calculation.members(), all, "{moment}");
            assert_eq!(calculation.finished_entries(), 1, "{moment}");
        }
    }

    #[test]
    fn steady_changes_between_the_commits_do_not_keep_a_calculation_from_its_end() {
        let calculation = ClaimedCohort::start(true);
        let next = Cell::new(100_u32);
        let published = calculation.publish(|| {
            let person = next.replace(next.get() + 1);
            calculation.edit(|members| members | RoaringBitmap::from_iter([person]));
        });
        assert_eq!(published, Some(3 + i64::from(next.get() - 100)));
        assert_eq!(calculation.finished_entries(), 1);
    }
}
