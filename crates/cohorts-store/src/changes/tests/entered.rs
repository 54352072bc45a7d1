//! When and why a person became a member.

use super::super::*;
use super::{LoggedProject, set};

#[test]
fn the_last_entry_of_a_person_is_found_with_its_cause() {
    let fixture = LoggedProject::new(1);
    let far = 70_000_000;
    fixture.edit(0, Cause::Upload, |_| set([1, 2, far]));
    fixture.edit(0, Cause::Manual, |members| members - set([1]));
    fixture.edit(0, Cause::Query, |members| members | set([1, 3]));
    fixture.edit(0, Cause::Manual, |members| members - set([2]));
    let rows = fixture.rows();
    let conn = &mut *fixture.conn();
    let version = fixture.row(0).member_version;
    let mut entered = |version: i64, person: u32| {
        let id = fixture.row(0).id();
        last_entered(conn, fixture.project, id, version, person).unwrap()
    };
    let of_row = |nth: usize| {
        Some(Entered {
            at: rows[nth].published_at,
            cause: rows[nth].cause.clone(),
        })
    };
    assert_eq!(entered(version, 1), of_row(2));
    assert_eq!(entered(version, 2), None);
    assert_eq!(entered(version, 3), of_row(2));
    assert_eq!(entered(version, far), of_row(0));
    assert_eq!(entered(version, 4), None);
    assert_eq!(entered(rows[0].version, 1), of_row(0));
    assert_eq!(entered(rows[0].version, 3), None);
}

#[test]
fn an_entry_before_many_changes_is_unknown() {
    let fixture = LoggedProject::new(1);
    fixture.add(0, &[1]);
    fixture.add(0, &[2]);
    let row = fixture.row(0);
    // The changes of other versions have no slices.
    let copies = "insert into member_changes select shard_key, number + n, cohort_id, base_version, version, attempt, \
        cause, published_at, entered, \"left\", count, bytes from member_changes, generate_series(10, 600) n where number = 2";
    fixture.execute(copies);
    fixture.execute("update member_changes set version = 0 where number > 2");
    let conn = &mut *fixture.conn();
    let version = row.member_version;
    let entered = last_entered(conn, fixture.project, row.id(), version, 1).unwrap();
    assert_eq!(entered, None);
}
