//! The change log, each test in a new database.

mod histories;
mod large;

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

/// A project with static cohorts.
struct Fixture {
    store: Store,
    project: ProjectId,
    cohorts: Vec<Cohort>,
    _database: TestDatabase,
}

impl Fixture {
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
        transaction(&mut *self.conn(), edit).unwrap();
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
        transaction(&mut *self.conn(), |conn| {
            let Some(base) = queue::lock_claimed(conn, claimed)? else {
                return Ok(None);
            };
            let before = members::read(conn, shard_key, claimed.id(), base)?;
            let key = (base, claimed.attempt);
            let staged = stage(conn, shard_key, claimed.id(), key, &before, after)?;
            Ok::<_, StoreError>(Some(staged))
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
        let cohorts = transaction(&mut *self.conn(), |conn| {
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
        heads(&mut *self.conn(), &[self.project]).unwrap().remove(0)
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
        check(&mut *self.conn(), self.project).unwrap()
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
    let fixture = Fixture::new(2);
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
    let fixture = Fixture::new(1);
    for (nth, cause) in (0_u32..).zip(causes) {
        fixture.edit(0, cause, |members| members | set([nth]));
    }
    let rows = fixture.rows();
    let written: Vec<&str> = rows.iter().map(|row| row.cause.as_str()).collect();
    assert_eq!(written, expected);
}

#[test]
fn an_abandoned_attempt_is_never_seen_and_the_next_writer_deletes_it() {
    let fixture = Fixture::new(1);
    fixture.add(0, &[1]);
    let count = |fixture: &Fixture, table: &str| {
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
    let fixture = Fixture::new(2);
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
    let of_other = snapshot(conn, fixture.project, fixture.cohorts[1].id())
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
    assert_eq!(fixture.findings(), []);
}

#[test]
fn a_deleted_person_leaves_all_cohorts_and_all_versions_of_chunks() {
    let fixture = Fixture::new(3);
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
    let fixture = Fixture::new(2);
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
fn old_changes_are_deleted_and_readers_of_them_begin_again() {
    let fixture = Fixture::new(1);
    for person in 1..=5 {
        fixture.add(0, &[person]);
    }
    fixture.execute("update member_changes set published_at = published_at - interval '9 days' where number <= 3");
    let conn = &mut *fixture.conn();
    let delete = |conn: &mut Conn, days, limit| {
        let time = Utc::now() - TimeDelta::days(days);
        retention::delete_oldest(conn, &fixture.head(), time, limit).unwrap()
    };
    assert_eq!(
        [delete(conn, 8, 2), delete(conn, 8, 2), delete(conn, 8, 2)],
        [2, 1, 0]
    );
    assert_eq!(delete(conn, 10, 9), 0);
    let read = |conn: &mut Conn, number| {
        let position = FeedPosition::after(number);
        let page = feed(conn, fixture.project, None, position, 9).unwrap();
        page.map(|page| page.changes.len())
    };
    assert_eq!(
        [2, 3, 4, 5].map(|number| read(conn, number)),
        [None, Some(2), Some(1), Some(0)]
    );
    let partly = FeedPosition {
        number: 3,
        after: Some(1),
    };
    assert!(
        feed(conn, fixture.project, None, partly, 9)
            .unwrap()
            .is_none()
    );
    let as_of = |conn: &mut Conn, hours| {
        let time = Utc::now() - TimeDelta::hours(hours);
        as_of(conn, fixture.project, fixture.cohorts[0].id(), time).unwrap()
    };
    assert_eq!(
        (as_of(conn, 300), as_of(conn, 1)),
        (None, Some(set([1, 2, 3])))
    );
    assert_eq!(as_of(conn, 0), Some(set(1..=5)));
    fixture.check();
    // The sizes stay.
    assert!(!sizes_of(&fixture).is_empty());
}

fn sizes_of(fixture: &Fixture) -> Vec<sizes::CohortSize> {
    let conn = &mut *fixture.conn();
    let (from, to) = (
        chrono::DateTime::UNIX_EPOCH,
        Utc::now() + TimeDelta::days(1),
    );
    sizes::read(conn, fixture.project, fixture.cohorts[0].id(), from, to).unwrap()
}

#[test]
fn compacted_rows_have_the_final_state_of_each_person_of_a_minute_and_then_of_an_hour() {
    let fixture = Fixture::new(2);
    for (cause, members) in [
        (Cause::Manual, set([1, 2])),
        (Cause::Manual, set([2, 3])),
        (Cause::Upload, set([1, 2])),
        (Cause::Upload, set([2, 4])),
    ] {
        fixture.edit(0, cause, |_| members);
    }
    fixture.add(1, &[9]);
    // Two minutes of one hour, 25 hours ago.
    let hour = Utc::now() - TimeDelta::hours(27);
    let hour = sizes::start_of_span(hour, 3_600).to_rfc3339();
    for (numbers, second) in [("1, 2", 70), ("3, 4, 5", 130)] {
        fixture.execute(&format!(
            "update member_changes set published_at = '{hour}'::timestamptz + interval '{second} seconds' \
             where number in ({numbers})"
        ));
    }
    let conn = &mut *fixture.conn();
    let mut compact = || compact::compact_next(conn, &fixture.head(), Utc::now()).unwrap();
    let steps = [compact(), compact()];
    let described = |fixture: &Fixture| -> Vec<_> {
        let page = fixture.feed(Some(&[fixture.cohorts[0].id]), FeedPosition::default(), 99);
        let row = |(row, persons): (ChangeRow, Vec<MemberChange>)| {
            let persons = persons
                .iter()
                .map(|person| (person.ordinal, person.has_entered));
            (
                row.number,
                row.base_version,
                row.cause,
                persons.collect::<Vec<_>>(),
            )
        };
        page.changes.into_iter().map(row).collect()
    };
    assert_eq!(steps, [Some(1), Some(1)]);
    let (manual, upload, mixed) = ("manual".to_owned(), "upload".to_owned(), MIXED.to_owned());
    let first = vec![(1, false), (2, true), (3, true)];
    let second = vec![(1, false), (3, false), (4, true)];
    let by_minute = vec![(2, 0, manual, first), (4, 2, upload, second)];
    assert_eq!(described(&fixture), by_minute);
    fixture.check();
    assert_eq!([compact(), compact()], [Some(1), None]);
    let all = vec![(1, false), (2, true), (3, false), (4, true)];
    assert_eq!(described(&fixture), [(4, 0, mixed, all)]);
    fixture.check();
    // A reader in the middle of a row that was merged continues with the merged row.
    let middle = FeedPosition {
        number: 2,
        after: Some(2),
    };
    let page = fixture.feed(None, middle, 99);
    assert_eq!(
        page.changes
            .iter()
            .map(|(row, _)| row.number)
            .collect::<Vec<_>>(),
        [4, 5]
    );
}

#[test]
fn the_difference_since_a_version_is_in_the_log() {
    let fixture = Fixture::new(1);
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
fn sizes_are_added_up_to_hours_and_days() {
    let fixture = Fixture::new(1);
    fixture.add(0, &[1, 2, 3]);
    fixture.edit(0, Cause::Manual, |members| members - set([1]));
    let sizes = sizes_of(&fixture);
    let totals = |sizes: &[sizes::CohortSize]| {
        let sum = |value: fn(&sizes::CohortSize) -> i64| sizes.iter().map(value).sum::<i64>();
        (
            sizes.last().unwrap().count,
            sum(|size| size.entered),
            sum(|size| size.left),
        )
    };
    assert!(sizes.iter().all(|size| size.seconds == 60));
    assert_eq!(totals(&sizes), (2, 3, 1));
    // The changes of one hour, in three minutes.
    let hour = sizes::start_of_span(Utc::now() - TimeDelta::hours(30), 3_600);
    fixture.execute("delete from cohort_sizes");
    for (minute, count, entered) in [(0, 5, 5), (10, 7, 4), (59, 6, 0)] {
        fixture.execute(&format!(
            "insert into cohort_sizes select {}, {}, '{}'::timestamptz + interval '{minute} minutes', 60, {count}, {entered}, 2",
            fixture.project.shard_key().0, fixture.cohorts[0].id, hour.to_rfc3339()
        ));
    }
    let conn = &mut *fixture.conn();
    let mut roll_up =
        |days| sizes::roll_up(conn, fixture.project, Utc::now() + TimeDelta::days(days)).unwrap();
    assert_eq!([roll_up(-1), roll_up(0), roll_up(0)], [0, 3, 0]);
    let described = |fixture: &Fixture| {
        let sizes = sizes_of(fixture);
        sizes
            .iter()
            .map(|size| (size.at, size.seconds, size.count, size.entered, size.left))
            .collect::<Vec<_>>()
    };
    assert_eq!(described(&fixture), [(hour, 3_600, 6, 9, 6)]);
    assert_eq!([roll_up(80), roll_up(95), roll_up(95)], [0, 1, 0]);
    let day = sizes::start_of_span(hour, 86_400);
    assert_eq!(described(&fixture), [(day, 86_400, 6, 9, 6)]);
    let conn = &mut *fixture.conn();
    let last = sizes::last_before(conn, fixture.project, fixture.cohorts[0].id(), Utc::now());
    assert_eq!(last.unwrap().unwrap().count, 6);
}

#[test]
fn members_that_differ_from_the_log_are_found_and_the_log_begins_again() {
    let fixture = Fixture::new(1);
    fixture.add(0, &[1, 2]);
    fixture.edit(0, Cause::Manual, |members| (members - set([1])) | set([3]));
    fixture.check();
    let problem = |fixture: &Fixture| {
        let findings = fixture.findings();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].cohort, fixture.cohorts[0].id);
        findings[0].problem.clone()
    };
    let shard_key = fixture.project.shard_key();
    let write = |persons: &[u32]| {
        let bytes = cohorts_engine::chunks::encode(&RoaringBitmap::from_iter(persons));
        let update = diesel::sql_query("update member_chunks set members = $1 where version = 2");
        let update = update.bind::<diesel::sql_types::Bytea, _>(bytes);
        assert_eq!(update.execute(&mut *fixture.conn()).unwrap(), 1);
    };
    write(&[2, 3, 4]);
    assert_eq!(
        problem(&fixture),
        "version 2 has 3 members, and 2 in the log"
    );
    write(&[2, 4]);
    assert_eq!(
        problem(&fixture),
        "version 2 has other members than its log"
    );
    write(&[2, 3]);
    fixture.check();
    // A program without the log has written members.
    let gaps = |fixture: &Fixture| gaps(&mut *fixture.conn(), fixture.project).unwrap();
    assert_eq!(gaps(&fixture), [0; 0]);
    fixture.execute("update cohorts set count = 3");
    assert_eq!(gaps(&fixture), [fixture.cohorts[0].id]);
    fixture.execute("update cohorts set member_version = 3, count = 2");
    assert_eq!(gaps(&fixture), [fixture.cohorts[0].id]);
    let gap = "version 3 follows a version that is not in the log, after version 2";
    assert_eq!(problem(&fixture), gap);
    fixture.execute("update cohorts set member_version = 2");
    fixture.execute("delete from member_changes where number = 1");
    let missing = "the log does not have the changes up to version 1";
    assert_eq!(problem(&fixture), missing);

    let conn = &mut *fixture.conn();
    let position = FeedPosition::after(fixture.head().number);
    restart(conn, fixture.project).unwrap();
    assert_eq!(fixture.findings(), []);
    assert!(
        feed(conn, fixture.project, None, position, 9)
            .unwrap()
            .is_none()
    );
    let again = snapshot(conn, fixture.project, fixture.cohorts[0].id())
        .unwrap()
        .unwrap();
    assert_eq!(again.members, set([2, 3]));
    fixture.add(0, &[8]);
    let page = fixture.feed(None, again.position, 9);
    assert_eq!((page.changes.len(), fixture.findings()), (1, vec![]));
    let slices = format!(
        "delete from member_change_slices where shard_key = {} and version = 3",
        shard_key.0
    );
    assert_eq!(fixture.execute(&slices), 1);
    assert_eq!(
        problem(&fixture),
        "the change to version 3 lacks some of its persons"
    );
}
