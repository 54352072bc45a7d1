//! Retention, compaction, sizes, and the comparison of members with the log.

use chrono::{TimeDelta, Utc};
use diesel::prelude::*;
use roaring::RoaringBitmap;

use super::super::*;
use super::{ALL, LoggedProject, set};
use crate::Conn;

#[test]
fn old_changes_are_deleted_and_readers_of_them_begin_again() {
    let fixture = LoggedProject::new(1);
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

fn sizes_of(fixture: &LoggedProject) -> Vec<sizes::CohortSize> {
    let conn = &mut *fixture.conn();
    let (from, to) = (
        chrono::DateTime::UNIX_EPOCH,
        Utc::now() + TimeDelta::days(1),
    );
    sizes::read(conn, fixture.project, fixture.cohorts[0].id(), from, to).unwrap()
}

#[test]
fn compacted_rows_have_the_final_state_of_each_person_of_a_minute_and_then_of_an_hour() {
    let fixture = LoggedProject::new(2);
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
    let described = |fixture: &LoggedProject| -> Vec<_> {
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
fn sizes_are_added_up_to_hours_and_days() {
    let fixture = LoggedProject::new(1);
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
    let described = |fixture: &LoggedProject| {
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
    let fixture = LoggedProject::new(1);
    fixture.add(0, &[1, 2]);
    fixture.edit(0, Cause::Manual, |members| (members - set([1])) | set([3]));
    fixture.check();
    let problem = |fixture: &LoggedProject| {
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
    let gaps = |fixture: &LoggedProject| gaps(&mut fixture.conn(), fixture.project).unwrap();
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
    let again = snapshot(conn, fixture.project, fixture.cohorts[0].id(), ALL)
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
