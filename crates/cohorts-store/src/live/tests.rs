//! Rows of live cohorts and leases of projects.

use chrono::TimeDelta;
use uuid::Uuid;

use super::*;
use crate::definition::Definition;
use crate::testing::TestDatabase;
use crate::{CohortId, Store, events, keys, projects as project_rows, queue, transaction};

/// A project with a dynamic cohort that was never calculated.
fn new_cohort() -> (TestDatabase, Store, Cohort) {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let project = project_rows::create(conn, "P", "UTC", "phc_x")
        .unwrap()
        .id();
    let owner = keys::teammate(conn, "a@x.io", "").unwrap();
    let created = crate::cohorts::create(conn, project, &owner, &Definition::default()).unwrap();
    (database, store.clone(), created)
}

fn holder(semantics: i64) -> Holder {
    Holder {
        owner: Uuid::now_v7(),
        host: "h".to_owned(),
        process: "1 2".to_owned(),
        semantics,
    }
}

fn is_live(conn: &mut Conn, id: i64) -> bool {
    lock(conn, &[id]).unwrap()[&id].is_live
}

#[test]
fn only_one_of_two_processes_takes_a_lease_that_both_have_seen() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let (project, until) = (cohort.project(), Utc::now() + TimeDelta::seconds(15));
    let holders = [1, 1, 2].map(holder);
    let taken = take(conn, project, &holders[0], None, until)
        .unwrap()
        .unwrap();
    assert!(
        take(conn, project, &holders[1], None, until)
            .unwrap()
            .is_none()
    );
    let later = until + TimeDelta::seconds(1);
    let second = take(conn, project, &holders[1], Some(&taken), later).unwrap();
    assert_eq!(second.unwrap().owner, holders[1].owner);
    assert!(
        take(conn, project, &holders[2], Some(&taken), later)
            .unwrap()
            .is_none()
    );
    for (holder, has) in holders.iter().zip([false, true, false]) {
        assert_eq!(hold(conn, project, holder.owner).unwrap(), has);
    }
}

#[test]
fn a_renewal_moves_the_moment_forward_only_and_tells_which_leases_are_left() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let (project, until) = (cohort.project(), Utc::now());
    let holder = holder(1);
    take(conn, project, &holder, None, until).unwrap().unwrap();
    let at = |micros| DateTime::from_timestamp_micros(micros).unwrap();
    for (time, seq) in [(at(5_000_000), 7), (at(4_000_000), 6)] {
        let right = [(project, time, seq), (ProjectId(99), time, seq)];
        assert_eq!(renew(conn, holder.owner, until, &right).unwrap(), [project]);
        let row = projects(conn).unwrap().remove(0);
        assert_eq!((row.right_as_of, row.seq), (at(5_000_000), 7));
    }
    assert!(
        renew(conn, Uuid::now_v7(), until, &[(project, at(1), 1)])
            .unwrap()
            .is_empty()
    );
    release(conn, holder.owner).unwrap();
    assert!(projects(conn).unwrap()[0].lease_until < at(1));
}

#[test]
fn a_claim_takes_a_cohort_out_of_the_passes() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let now = Utc::now();
    assert_eq!(queue::due(conn, now, 9).unwrap(), [cohort.id]);
    join(conn, &[(cohort.id, cohort.attempt + 1)]).unwrap();
    assert!(!is_live(conn, cohort.id), "another attempt");
    join(conn, &[(cohort.id, cohort.attempt)]).unwrap();
    assert!(is_live(conn, cohort.id));
    assert!(queue::due(conn, now, 9).unwrap().is_empty());
    queue::request_calculation(conn, CohortId(cohort.id)).unwrap();
    leave(conn, cohort.id, now).unwrap();
    assert!(is_live(conn, cohort.id), "the queue has it");
    let claimed = queue::claim(conn, cohort.project(), TimeDelta::seconds(9), 9).unwrap();
    assert!(!claimed[0].is_live && !is_live(conn, cohort.id));
    join(conn, &[(cohort.id, claimed[0].attempt)]).unwrap();
    assert!(!is_live(conn, cohort.id), "it is being calculated");
}

#[test]
fn a_cohort_that_leaves_the_passes_is_due_at_its_time() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let now = Utc::now();
    join(conn, &[(cohort.id, cohort.attempt)]).unwrap();
    assert_eq!(counts(conn).unwrap(), LiveCounts { live: 1, behind: 0 });
    leave(conn, cohort.id, now + TimeDelta::seconds(10)).unwrap();
    assert_eq!(counts(conn).unwrap(), LiveCounts { live: 0, behind: 1 });
    assert!(queue::due(conn, now, 9).unwrap().is_empty());
    let later = now + TimeDelta::seconds(11);
    assert_eq!(queue::due(conn, later, 9).unwrap(), [cohort.id]);
}

#[test]
fn a_stamp_changes_with_each_write_of_the_project() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let project = cohort.project();
    let mut last = stamps(conn).unwrap();
    assert!(!last[0].1.is_calculated);
    let mut is_other = |conn: &mut Conn| {
        let next = stamps(conn).unwrap();
        let differs = next != last;
        last = next;
        differs
    };
    assert!(!is_other(conn));
    transaction(conn, |conn| events::begin_write(conn, project.shard_key())).unwrap();
    assert!(is_other(conn), "events");
    queue::request_calculation(conn, cohort.id()).unwrap();
    assert!(is_other(conn), "an edit");
    queue::claim(conn, project, TimeDelta::seconds(9), 9).unwrap();
    assert!(is_other(conn), "a claim");
    record_evaluation(conn, cohort.id, Some("{}".to_owned())).unwrap();
    assert!(is_other(conn), "a calculation");
    assert!(!is_other(conn));
}
