//! What happens to persons and cohorts between the snapshot of a pass and its second commit.

use super::*;

/// A cohort with the member 0. The next pass adds 1.
fn with_new_member() -> (LiveTest, CohortId) {
    let test = LiveTest::start();
    test.capture("paid", "a", json!({}));
    let cohort = test.cohort(&did("paid", 7));
    test.lease(Utc::now());
    test.pass();
    test.capture("paid", "b", json!({}));
    (test, cohort)
}

#[test]
fn a_person_who_is_deleted_between_the_commits_is_no_member() {
    for deleted in [0, 1] {
        let (test, cohort) = with_new_member();
        let outcome = test.pass_with(Utc::now(), || test.delete(deleted));
        assert!(outcome.changed.is_empty() && outcome.is_partial);
        test.pass();
        let left = if deleted == 0 { 1 } else { 0 };
        assert_eq!(test.members(cohort), [left]);
    }
}

#[test]
fn a_person_who_is_merged_between_the_commits_counts_once() {
    let (test, cohort) = with_new_member();
    test.pass_with(Utc::now(), || {
        test.capture("$merge_dangerously", "d", json!({"alias": "b"}));
    });
    test.pass();
    let members = test.members(cohort);
    assert_eq!(members.len(), 2);
    assert!(
        !members.contains(&1) || !members.contains(&3),
        "{members:?}"
    );
}

#[test]
fn a_cohort_that_the_queue_claims_between_the_commits_is_left_to_it() {
    let (test, cohort) = with_new_member();
    let lease = TimeDelta::seconds(15);
    let outcome = test.pass_with(Utc::now(), || {
        let conn = &mut *test.store.connection().unwrap();
        queue::request_calculation(conn, cohort).unwrap();
        queue::claim(conn, test.project, lease, 1).unwrap();
    });
    assert!(outcome.changed.is_empty() && outcome.is_partial);
    assert_eq!(test.members(cohort), [0]);
    let conn = &mut *test.store.connection().unwrap();
    let row = test.row(cohort);
    queue::give_back(conn, &row).unwrap();
    test.calculate();
    assert_eq!(test.members(cohort), [0, 1]);
    test.capture("paid", "c", json!({}));
    assert_eq!(test.pass().changed, [cohort.0]);
    assert_eq!(test.members(cohort), [0, 1, 2]);
}

#[test]
fn a_deletion_between_two_passes_leaves_the_cohort_live() {
    let (test, cohort) = with_new_member();
    test.delete(0);
    assert_eq!(test.pass().changed, [cohort.0]);
    assert_eq!(test.members(cohort), [1]);
    assert_eq!(test.row(cohort).version, Some(1), "no calculation");
}
