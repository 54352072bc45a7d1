//! Members in the past, as persons of now, and the first record of sizes.

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::tombstones::{self, NewTombstone};

fn persons_at(fixture: &LoggedProject, time: DateTime<Utc>) -> Option<RoaringBitmap> {
    let conn = &mut *fixture.conn();
    persons_as_of(conn, fixture.project, fixture.cohorts[0].id(), time).unwrap()
}

#[test]
fn past_members_are_persons_of_now() {
    let fixture = LoggedProject::new(1);
    fixture.add(0, &[1, 2, 3, 4, 5]);
    fixture.age("2 hours");
    let retired = |ordinal, merged_into| NewTombstone {
        ordinal,
        uuid: None,
        merged_into,
    };
    // Person 1 is merged into 8 and then 9, person 2 into 3, and person 4 is deleted.
    let retired = [
        retired(1, Some(8)),
        retired(8, Some(9)),
        retired(2, Some(3)),
        retired(4, None),
    ];
    let shard_key = fixture.project.shard_key();
    tombstones::record(&mut fixture.conn(), shard_key, 1, &retired).unwrap();
    fixture.edit(0, Cause::Merge, |_| set([3, 5, 9]));
    assert_eq!(
        persons_at(&fixture, Utc::now() - TimeDelta::hours(1)),
        Some(set([3, 5, 9]))
    );
    let earlier = Utc::now() - TimeDelta::hours(3);
    assert_eq!(persons_at(&fixture, earlier), Some(set([])));
}

#[test]
fn members_from_before_the_log_are_unknown() {
    let fixture = LoggedProject::new(1);
    // An earlier program has written members without changes.
    fixture.add(0, &[1]);
    let shard_key = fixture.project.shard_key().0;
    for table in ["member_changes", "change_heads"] {
        fixture.execute(&format!(
            "delete from {table} where shard_key = {shard_key}"
        ));
    }
    assert_eq!(persons_at(&fixture, Utc::now()), None);
    fixture.add(0, &[2]);
    fixture.age("2 hours");
    fixture.add(0, &[3]);
    let hours_ago = |hours| Utc::now() - TimeDelta::hours(hours);
    assert_eq!(persons_at(&fixture, hours_ago(3)), None);
    assert_eq!(persons_at(&fixture, hours_ago(1)), Some(set([1, 2])));
    assert_eq!(persons_at(&fixture, hours_ago(0)), Some(set([1, 2, 3])));
}

#[test]
fn the_first_size_is_where_the_record_of_a_cohort_begins() {
    let fixture = LoggedProject::new(2);
    let first = |nth: usize| {
        let id = fixture.cohorts[nth].id();
        let size = sizes::first(&mut fixture.conn(), fixture.project, id).unwrap();
        size.map(|size| (size.count, size.entered))
    };
    assert_eq!(first(0), None);
    fixture.add(0, &[1, 2]);
    fixture.execute("update cohort_sizes set at = at - interval '1 hour'");
    fixture.add(0, &[3]);
    fixture.add(1, &[4]);
    assert_eq!((first(0), first(1)), (Some((2, 2)), Some((1, 1))));
}
