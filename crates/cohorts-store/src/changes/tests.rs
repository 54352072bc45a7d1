//! The change log, each test in a new database.

mod entered;
mod histories;
mod large;
mod moved;
mod past;
mod upkeep;

use chrono::{TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use roaring::RoaringBitmap;

use super::*;
use crate::cohorts::{self, Cohort};
use crate::definition::Definition;
use crate::queue::{self, Evaluated, PublishedMembers};
use crate::testing::TestDatabase;
use crate::{Conn, ProjectId, Result, Store, StoreError, keys, members, projects, transaction};

/// All members in one part.
const ALL: (u32, usize) = (0, 1_000_000);

/// A project with static cohorts.
struct LoggedProject {
    store: Store,
    project: ProjectId,
    cohorts: Vec<Cohort>,
    _database: TestDatabase,
}

impl LoggedProject {
    fn new(cohorts: usize) -> Self {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        definition.is_static = true;
        let create = |_| cohorts::create(conn, project, &owner, &definition).unwrap();
        Self {
            cohorts: (0..cohorts).map(create).collect(),
            project,
            store: store.clone(),
            _database: database,
        }
    }

    fn conn(&self) -> crate::PooledConn {
        self.store.connection().unwrap()
    }

    fn row(&self, nth: usize) -> Cohort {
        let conn = &mut *self.conn();
        let cohort = cohorts::find(conn, self.project, self.cohorts[nth].id());
        cohort.unwrap().unwrap().0
    }

    /// The members that readers see.
    fn members(&self, nth: usize) -> RoaringBitmap {
        let row = self.row(nth);
        let conn = &mut *self.conn();
        members::read(conn, self.project.shard_key(), row.id(), row.member_version).unwrap()
    }

    fn edit(&self, nth: usize, cause: Cause, change: impl FnOnce(RoaringBitmap) -> RoaringBitmap) {
        let cohort = StaticCohort::from(&self.cohorts[nth]);
        let edit = |conn: &mut Conn| edit(conn, &cohort, cause, |members| Ok(change(members)));
        transaction(&mut self.conn(), edit).unwrap();
    }

    fn add(&self, nth: usize, persons: &[u32]) {
        let persons = RoaringBitmap::from_iter(persons);
        self.edit(nth, Cause::Manual, |members| members | persons);
    }

    fn claim(&self, nth: usize) -> Cohort {
        let conn = &mut *self.conn();
        queue::set_fill_pending_criteria(conn, self.cohorts[nth].id(), false).unwrap();
        let lease = TimeDelta::seconds(15);
        queue::claim(conn, self.project, lease, 1)
            .unwrap()
            .remove(0)
    }

    /// The first commit of a calculation.
    fn stage(&self, claimed: &Cohort, after: &RoaringBitmap) -> Option<StagedMembers> {
        let shard_key = self.project.shard_key();
        transaction(&mut self.conn(), |conn| {
            let Some(base) = queue::lock_claimed(conn, claimed)? else {
                return Ok(None);
            };
            let before = members::read(conn, shard_key, claimed.id(), base)?;
            let new = NewMembers {
                cohort: claimed.id(),
                base,
                attempt: claimed.attempt,
                before: &before,
                after,
            };
            Ok::<_, StoreError>(stage(conn, shard_key, &[new])?.pop())
        })
        .unwrap()
    }

    /// The second commit of a calculation; returns whether it published.
    fn publish(&self, claimed: &Cohort, staged: &StagedMembers, cause: Cause) -> bool {
        let evaluated = Evaluated {
            at: Utc::now(),
            due_at: None,
            seen_seq: 0,
        };
        let publish = |conn: &mut Conn, current: i64| -> Result<Option<PublishedMembers>> {
            if current != staged.base {
                return Ok(None);
            }
            publish(conn, self.project.shard_key(), &[(staged, cause)])?;
            let (version, count) = (staged.version, staged.count);
            Ok(Some(PublishedMembers { version, count }))
        };
        let conn = &mut *self.conn();
        let published = queue::publish(conn, claimed, Utc::now(), evaluated, publish);
        published.unwrap().is_some()
    }

    fn remove(&self, persons: &[u32]) -> Vec<i64> {
        let persons = RoaringBitmap::from_iter(persons);
        let cohorts = transaction(&mut self.conn(), |conn| {
            let locked = cohorts::lock_all(conn, self.project)?;
            remove_persons(conn, self.project.shard_key(), &locked, &persons)
        });
        cohorts.unwrap().into_iter().collect()
    }

    fn execute(&self, statement: &str) -> usize {
        let conn = &mut *self.conn();
        diesel::sql_query(statement).execute(conn).unwrap()
    }

    /// Moves all changes into one minute of the past.
    fn move_into_one_minute(&self, interval: &str) {
        self.execute(&format!(
            "update member_changes set published_at = date_trunc('minute', now()) - interval '{interval}'"
        ));
    }

    /// Moves all changes into the past.
    fn age(&self, interval: &str) {
        self.execute(&format!(
            "update member_changes set published_at = published_at - interval '{interval}'"
        ));
    }

    fn head(&self) -> ChangeHead {
        heads(&mut self.conn(), &[self.project]).unwrap().remove(0)
    }

    /// Compacts everything that is old enough, and returns the number of merged rows.
    fn compact_all(&self) -> usize {
        let mut merged = 0;
        let conn = &mut *self.conn();
        while let Some(rows) = compact::compact_next(conn, &self.head(), Utc::now()).unwrap() {
            merged += rows;
        }
        merged
    }

    fn feed(&self, cohorts: Option<&[i64]>, position: FeedPosition, limit: usize) -> FeedPage {
        let conn = &mut *self.conn();
        let page = feed(conn, self.project, cohorts, position, limit);
        page.unwrap().expect("a valid position")
    }

    /// The rows of the log.
    fn rows(&self) -> Vec<ChangeRow> {
        let position = FeedPosition::after(self.head().expired_through);
        let page = self.feed(None, position, 10_000_000);
        page.changes.into_iter().map(|(row, _)| row).collect()
    }

    fn findings(&self) -> Vec<LogFinding> {
        check(&mut self.conn(), self.project).unwrap()
    }

    /// The log agrees with the members, and the bytes of the head with the rows.
    fn check(&self) {
        assert_eq!(self.findings(), []);
        let bytes: i64 = self.rows().iter().map(|row| row.bytes).sum();
        assert_eq!(self.head().bytes, bytes);
    }
}

fn set(persons: impl IntoIterator<Item = u32>) -> RoaringBitmap {
    persons.into_iter().collect()
}

#[test]
fn each_change_has_a_row_with_version_cause_time_attempt_and_persons() {
    let fixture = LoggedProject::new(2);
    let start = Utc::now();
    fixture.add(0, &[1, 2, 70_000]);
    fixture.edit(1, Cause::Upload, |members| members | set([5]));
    fixture.edit(0, Cause::Merge, |members| (members - set([2])) | set([3]));
    // Without a change there is no row and no new version.
    fixture.add(0, &[1]);
    let claimed = fixture.claim(1);
    let staged = fixture.stage(&claimed, &set([5, 6])).unwrap();
    assert!(fixture.publish(&claimed, &staged, Cause::Query));
    let page = fixture.feed(None, FeedPosition::default(), 100);
    let ids = [fixture.cohorts[0].id, fixture.cohorts[1].id];
    let change = |ordinal, has_entered| MemberChange {
        ordinal,
        has_entered,
    };
    let described = page.changes.iter().map(|(row, persons)| {
        let key = (row.number, row.cohort_id, row.base_version, row.version);
        (key, row.cause.as_str(), row.count, persons.clone())
    });
    let expected = [
        (
            (1, ids[0], 0, 1),
            "manual",
            3,
            vec![change(1, true), change(2, true), change(70_000, true)],
        ),
        ((2, ids[1], 0, 1), "upload", 1, vec![change(5, true)]),
        (
            (3, ids[0], 1, 2),
            "merge",
            3,
            vec![change(2, false), change(3, true)],
        ),
        ((4, ids[1], 1, 2), "query", 2, vec![change(6, true)]),
    ];
    assert_eq!(described.collect::<Vec<_>>(), expected);
    assert_eq!(
        (page.position, page.has_more),
        (FeedPosition::after(4), false)
    );
    assert_eq!(page.changes[3].0.attempt, claimed.attempt);
    let times: Vec<_> = page
        .changes
        .iter()
        .map(|(row, _)| row.published_at)
        .collect();
    assert!(start <= times[0] && times.is_sorted() && times[3] <= Utc::now());
    fixture.check();
}

#[test]
fn every_cause_has_its_name() {
    let causes = [
        Cause::Data,
        Cause::Time,
        Cause::Criteria,
        Cause::Upload,
        Cause::Manual,
        Cause::Query,
        Cause::Merge,
        Cause::PersonDeleted,
    ];
    let names = causes.map(Cause::name);
    let expected = [
        "data",
        "time",
        "criteria",
        "upload",
        "manual",
        "query",
        "merge",
        "person_deleted",
    ];
    assert_eq!(names, expected);
    let fixture = LoggedProject::new(1);
    for (nth, cause) in (0_u32..).zip(causes) {
        fixture.edit(0, cause, |members| members | set([nth]));
    }
    let rows = fixture.rows();
    let written: Vec<&str> = rows.iter().map(|row| row.cause.as_str()).collect();
    assert_eq!(written, expected);
    // The chunk of the version before stays for its readers, and older ones are deleted.
    let chunks = diesel::sql_query("select count(*) as count from member_chunks");
    let chunks: CountOfRows = chunks.get_result(&mut *fixture.conn()).unwrap();
    assert_eq!(chunks.count, 2);
}

#[test]
fn an_abandoned_attempt_is_never_seen_and_the_next_writer_deletes_it() {
    let fixture = LoggedProject::new(1);
    fixture.add(0, &[1]);
    let count = |fixture: &LoggedProject, table: &str| {
        let rows = format!("select count(*) as count from {table}");
        let row: CountOfRows = diesel::sql_query(rows)
            .get_result(&mut *fixture.conn())
            .unwrap();
        row.count
    };
    let dead = fixture.claim(0);
    fixture.stage(&dead, &set([1, 2, 70_000])).unwrap();
    assert_eq!((fixture.members(0), fixture.rows().len()), (set([1]), 1));
    assert_eq!(count(&fixture, "member_change_slices"), 2);

    // An edit deletes what is staged, and the worker notices.
    let staged = fixture.stage(&dead, &set([1, 2])).unwrap();
    fixture.add(0, &[9]);
    assert!(!fixture.publish(&dead, &staged, Cause::Criteria));
    assert_eq!((fixture.members(0), fixture.rows().len()), (set([1, 9]), 2));
    fixture.stage(&dead, &set([1, 2, 70_000])).unwrap();

    // The next attempt deletes it too, and the dead worker writes nothing more.
    fixture.execute("update cohorts set lease_until = now() - interval '1 second'");
    let next = fixture.claim(0);
    let staged = fixture.stage(&next, &set([1, 9, 3])).unwrap();
    assert!(fixture.stage(&dead, &set([4])).is_none());
    assert!(!fixture.publish(&dead, &staged, Cause::Criteria));
    assert!(fixture.publish(&next, &staged, Cause::Criteria));
    assert_eq!(
        (fixture.members(0), fixture.rows().len()),
        (set([1, 3, 9]), 3)
    );
    assert_eq!(count(&fixture, "member_change_slices"), 3);
    assert_eq!(count(&fixture, "member_chunks where chunk = 1"), 0);
    fixture.check();
}

#[derive(QueryableByName)]
struct CountOfRows {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// As on a distributed Postgres, where the node of the members commits first.
#[test]
fn the_feed_stops_before_a_change_that_is_not_published_and_skips_it_when_it_was_lost() {
    let fixture = LoggedProject::new(2);
    fixture.add(0, &[1]);
    fixture.add(1, &[2]);
    fixture.add(1, &[3]);
    fixture.add(0, &[4]);
    let lost =
        "update cohorts set member_version = member_version - 1, count = count - 1 where id = ";
    fixture.execute(&format!("{lost}{}", fixture.cohorts[1].id));
    let numbers = |page: &FeedPage| {
        page.changes
            .iter()
            .map(|(row, _)| row.number)
            .collect::<Vec<_>>()
    };
    let page = fixture.feed(None, FeedPosition::default(), 100);
    assert_eq!(
        (numbers(&page), page.position),
        (vec![1, 2], FeedPosition::after(2))
    );
    // A snapshot of the cohort continues before the change.
    let conn = &mut *fixture.conn();
    let of_other = snapshot(conn, fixture.project, fixture.cohorts[1].id(), ALL)
        .unwrap()
        .unwrap();
    assert_eq!(
        (of_other.members, of_other.position),
        (set([2]), FeedPosition::after(2))
    );

    fixture.age("2 minutes");
    let page = fixture.feed(None, FeedPosition::default(), 100);
    assert_eq!(
        (numbers(&page), page.position),
        (vec![1, 2, 4], FeedPosition::after(4))
    );
    // The next writer deletes the lost change.
    fixture.add(1, &[5]);
    let page = fixture.feed(None, page.position, 100);
    assert_eq!((numbers(&page), fixture.members(1)), (vec![5], set([2, 5])));
    fixture.check();
}

#[test]
fn a_deleted_person_leaves_all_cohorts_and_all_versions_of_chunks() {
    let fixture = LoggedProject::new(3);
    fixture.add(0, &[1, 2, 70_000]);
    fixture.add(1, &[2]);
    fixture.add(2, &[3]);
    fixture.add(0, &[5]);
    let claimed = fixture.claim(2);
    let staged = fixture.stage(&claimed, &set([2, 3])).unwrap();
    let ids: Vec<i64> = fixture.cohorts.iter().map(|cohort| cohort.id).collect();
    assert_eq!(fixture.remove(&[2, 70_000]), ids[..2]);
    assert_eq!(
        [0, 1, 2].map(|nth| fixture.members(nth)),
        [set([1, 5]), set([]), set([3])]
    );
    assert_eq!(
        [0, 1, 2].map(|nth| fixture.row(nth).count),
        [Some(2), Some(0), Some(1)]
    );
    let conn = &mut *fixture.conn();
    let older = members::read(
        conn,
        fixture.project.shard_key(),
        fixture.cohorts[0].id(),
        1,
    );
    assert_eq!(older.unwrap(), set([1]));
    // A member version of a cohort without the person stays, so its calculation continues.
    assert!(fixture.publish(&claimed, &staged, Cause::Criteria));
    let rows = fixture.rows();
    let removals = rows.iter().filter(|row| row.cause == "person_deleted");
    let removals: Vec<_> = removals
        .map(|row| (row.cohort_id, row.left, row.count))
        .collect();
    assert_eq!(removals, [(ids[0], 2, 2), (ids[1], 1, 0)]);
}

#[test]
fn pages_of_any_size_have_every_person_once_in_order() {
    let fixture = LoggedProject::new(2);
    fixture.add(0, &[1, 2, 3, 200_000]);
    fixture.add(1, &[7, 8]);
    fixture.edit(0, Cause::Manual, |members| members - set([1, 2]));
    let other = [fixture.cohorts[1].id];
    let all = fixture.feed(None, FeedPosition::default(), 100).changes;
    let flat = |changes: &[(ChangeRow, Vec<MemberChange>)]| -> Vec<(i64, u32, bool)> {
        let persons = changes.iter().flat_map(|(row, persons)| {
            persons
                .iter()
                .map(|person| (row.number, person.ordinal, person.has_entered))
        });
        persons.collect()
    };
    for cohorts in [None, Some(&other[..])] {
        let expected: Vec<_> = flat(&all)
            .into_iter()
            .filter(|(number, ..)| cohorts.is_none() || *number == 2)
            .collect();
        for limit in 1..=9 {
            let (mut read, mut position) = (Vec::new(), FeedPosition::default());
            for _ in 0..=expected.len() {
                let page = fixture.feed(cohorts, position, limit);
                let persons = flat(&page.changes);
                assert!(persons.len() <= limit && (!persons.is_empty() || !page.has_more));
                read.extend(persons);
                position = page.position;
                if !page.has_more {
                    break;
                }
            }
            assert_eq!(
                (&read, position),
                (&expected, FeedPosition::after(3)),
                "limit {limit}"
            );
        }
    }
    let expired = |position| {
        let conn = &mut *fixture.conn();
        feed(conn, fixture.project, None, position, 9)
            .unwrap()
            .is_none()
    };
    assert!(expired(FeedPosition::after(4)) && !expired(FeedPosition::after(3)));
}

#[test]
fn the_difference_since_a_version_is_in_the_log() {
    let fixture = LoggedProject::new(1);
    for persons in [set([1]), set([1, 2]), set([2, 3])] {
        fixture.edit(0, Cause::Manual, |_| persons);
    }
    let conn = &mut *fixture.conn();
    let mut since =
        |version| delta_since(conn, fixture.project, fixture.cohorts[0].id(), version).unwrap();
    let states = [set([]), set([1]), set([1, 2]), set([2, 3])];
    for (version, before) in (0..).zip(&states) {
        let delta = since(version).unwrap();
        let mut after = states[3].clone();
        delta.undo(&mut after);
        assert_eq!(&after, before, "version {version}");
    }
    assert_eq!(since(4), None);
}

#[test]
fn a_change_that_commits_late_has_a_number_above_all_that_were_read() {
    let fixture = LoggedProject::new(2);
    let shard_key = fixture.project.shard_key();
    let late = |conn: &mut Conn, nth: usize| {
        let cohort = StaticCohort::from(&fixture.cohorts[nth]);
        edit(conn, &cohort, Cause::Manual, |members| {
            Ok(members | set([1]))
        })
    };
    let waiting = "select count(*) as count from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    let position = std::thread::scope(|scope| {
        let first = transaction(&mut fixture.conn(), |conn| {
            late(conn, 0)?;
            // The other writer waits for the number, although its cohort is free.
            let other = scope.spawn(|| transaction(&mut fixture.conn(), |conn| late(conn, 1)));
            let is_waiting = |conn: &mut Conn| {
                let row: CountOfRows = diesel::sql_query(waiting).get_result(conn).unwrap();
                row.count == 1
            };
            while !is_waiting(&mut fixture.conn()) {
                assert!(!other.is_finished());
                std::thread::yield_now();
            }
            assert_eq!(heads::head(&mut fixture.conn(), shard_key)?, None);
            Ok::<_, StoreError>(fixture.feed(None, FeedPosition::default(), 9).position)
        });
        first.unwrap()
    });
    assert_eq!(position, FeedPosition::default());
    let rows = fixture.rows();
    let ids: Vec<i64> = rows.iter().map(|row| row.cohort_id).collect();
    assert_eq!(ids, [fixture.cohorts[0].id, fixture.cohorts[1].id]);
    fixture.check();
}

#[test]
fn several_cohorts_are_staged_and_published_together() {
    let fixture = LoggedProject::new(3);
    fixture.add(1, &[4]);
    let (none, four) = (set([]), set([4]));
    let after = [set([1]), set([4]), set([2, 70_000])];
    let before = [&none, &four, &none];
    let new = |nth: usize| NewMembers {
        cohort: fixture.cohorts[nth].id(),
        base: before[nth].len() as i64,
        attempt: 7,
        before: before[nth],
        after: &after[nth],
    };
    let shard_key = fixture.project.shard_key();
    let staged = transaction(&mut fixture.conn(), |conn| {
        stage(conn, shard_key, &[new(0), new(1), new(2)])
    });
    let staged = staged.unwrap();
    assert_eq!(
        staged
            .iter()
            .map(|staged| staged.version)
            .collect::<Vec<_>>(),
        [1, 1, 1]
    );
    transaction(&mut fixture.conn(), |conn| {
        let changes: Vec<_> = staged.iter().map(|staged| (staged, Cause::Time)).collect();
        publish(conn, shard_key, &changes)?;
        for staged in &staged {
            queue::publish_edit(conn, staged.cohort(), staged.version, staged.count)?;
        }
        Ok::<_, StoreError>(())
    })
    .unwrap();
    // The cohort without a change has no row.
    let rows = fixture.rows();
    let numbers: Vec<_> = rows.iter().map(|row| (row.number, row.cohort_id)).collect();
    let ids: Vec<i64> = fixture.cohorts.iter().map(|cohort| cohort.id).collect();
    assert_eq!(numbers, [(1, ids[1]), (2, ids[0]), (3, ids[2])]);
    assert_eq!([0, 1, 2].map(|nth| fixture.members(nth)), after);
    fixture.check();
}
