//! Tests of claims, positions and deliveries of webhooks.

use chrono::{TimeDelta, Utc};

use super::deliveries::{self, DeliveryOutcome};
use super::queue::{self, AfterAttempt, OpenMessage, PauseReason};
use super::*;
use crate::keys::{self, NewKey};
use crate::projects;
use crate::testing::TestDatabase;

const LEASE: TimeDelta = TimeDelta::seconds(5);

fn fields() -> WebhookFields {
    WebhookFields {
        url: "https://a.example/x".to_owned(),
        cohort_ids: None,
        description: "d".to_owned(),
        enabled: true,
    }
}

/// A project, a key, and a webhook of it.
fn add(conn: &mut Conn) -> (ProjectId, i64, i64) {
    let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
    let owner = keys::teammate(conn, "a@x.io", "").unwrap();
    let key = NewKey {
        hash: &[1; 32],
        label: "",
        scopes: &["*".to_owned()],
        projects: None,
        expires_at: None,
    };
    let key = keys::create(conn, &owner, &key).unwrap().id;
    let new = NewWebhook {
        creator: &owner,
        key,
        fields: &fields(),
        secret: b"secret",
        position: &at(0),
    };
    let webhook = create(conn, project, &new).unwrap().id;
    (project, key, webhook)
}

fn at(position: i64) -> LogPosition {
    LogPosition {
        cursor: format!("cursor {position}"),
        position,
    }
}

fn message(number: i64) -> OpenMessage {
    OpenMessage {
        id: format!("msg_{number}"),
        rows: number,
        digest: String::new(),
    }
}

#[test]
fn one_process_at_a_time_claims_a_webhook() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (_, _, id) = add(conn);
    let first = queue::claim(conn, id, LEASE).unwrap().unwrap();
    assert!(queue::claim(conn, id, LEASE).unwrap().is_none());
    assert!(queue::free(conn, Utc::now()).unwrap().is_empty());
    // The lease of a dead process ends.
    assert_eq!(queue::free(conn, Utc::now() + LEASE).unwrap().len(), 1);
    assert!(queue::renew(conn, &first, -LEASE).unwrap().is_some());
    let second = queue::claim(conn, id, LEASE).unwrap().unwrap();
    // The first process has lost its claim, so it changes nothing.
    assert!(queue::renew(conn, &first, LEASE).unwrap().is_none());
    assert!(!queue::open_message(conn, &first, &message(7)).unwrap());
    assert!(!queue::advance(conn, &first, &at(7)).unwrap());
    let next = AfterAttempt::Continue(at(7));
    let lost = queue::finish(conn, &first, &DeliveryOutcome::of_test("a"), &next);
    assert!(lost.unwrap().is_none());
    queue::release(conn, &first).unwrap();
    assert!(queue::free(conn, Utc::now()).unwrap().is_empty());
    queue::release(conn, &second).unwrap();
    assert_eq!(queue::free(conn, Utc::now()).unwrap().len(), 1);
}

#[test]
fn a_message_keeps_its_id_and_its_end_until_it_is_accepted() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (project, _, id) = add(conn);
    let claimed = queue::claim(conn, id, LEASE).unwrap().unwrap();
    assert_eq!(claimed.message(), None);
    assert!(queue::open_message(conn, &claimed, &message(4)).unwrap());
    let outcome = DeliveryOutcome::of_test("msg_4");
    let later = Utc::now() + TimeDelta::seconds(8);
    let retry = AfterAttempt::Retry(later);
    queue::finish(conn, &claimed, &outcome, &retry)
        .unwrap()
        .unwrap();
    let lease = queue::next_time(conn, Utc::now()).unwrap();
    assert!(
        lease.is_some_and(|lease| lease < later),
        "the claim ends first"
    );
    queue::release(conn, &claimed).unwrap();
    assert!(queue::free(conn, Utc::now()).unwrap().is_empty());
    let attempt = queue::next_time(conn, Utc::now()).unwrap().unwrap();
    // The database has microseconds.
    assert_eq!(attempt.timestamp_micros(), later.timestamp_micros());
    assert_eq!(queue::next_time(conn, later).unwrap(), None);
    let free = queue::free(conn, later + TimeDelta::seconds(1)).unwrap();
    assert!(free[0].has_changes(0));
    let again = queue::claim(conn, id, LEASE).unwrap().unwrap();
    assert_eq!(again.message(), Some(message(4)));
    assert_eq!((again.attempts, again.position.position), (1, 0));
    let next = AfterAttempt::Continue(at(4));
    queue::finish(conn, &again, &outcome, &next)
        .unwrap()
        .unwrap();
    let (webhook, _) = find(conn, project, id).unwrap().unwrap();
    assert_eq!(
        (webhook.failing_since, webhook.next_attempt_at),
        (None, None)
    );
    let renewed = queue::renew(conn, &again, LEASE).unwrap().unwrap();
    assert_eq!((renewed.message(), renewed.position), (None, at(4)));
    assert_eq!(deliveries::page(conn, project, id, 10, 0).unwrap().count, 2);
}

#[test]
fn another_position_ends_the_claim_and_the_message() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (project, _, id) = add(conn);
    let claimed = queue::claim(conn, id, LEASE).unwrap().unwrap();
    queue::open_message(conn, &claimed, &message(4)).unwrap();
    assert_eq!(lock(conn, project, id).unwrap(), Some(at(0)));
    set_position(conn, id, &at(3)).unwrap();
    assert!(!queue::advance(conn, &claimed, &at(4)).unwrap());
    let claimed = queue::claim(conn, id, LEASE).unwrap().unwrap();
    assert_eq!((claimed.message(), claimed.position), (None, at(3)));
    set_position(conn, id, &at(3)).unwrap();
    // Another description does not end it.
    let claimed = queue::claim(conn, id, LEASE).unwrap().unwrap();
    let described = WebhookFields {
        description: "e".to_owned(),
        ..fields()
    };
    update(conn, id, &described).unwrap();
    assert!(queue::open_message(conn, &claimed, &message(4)).unwrap());
    assert!(delete(conn, project, id).unwrap() && !delete(conn, project, id).unwrap());
    let next = AfterAttempt::Continue(at(4));
    let deleted = queue::finish(conn, &claimed, &DeliveryOutcome::of_test("a"), &next);
    assert!(deleted.unwrap().is_none());
}

#[test]
fn a_paused_webhook_is_not_claimed_and_continues_with_the_key_that_enables_it() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (project, key, id) = add(conn);
    let claimed = queue::claim(conn, id, LEASE).unwrap().unwrap();
    let reason = PauseReason {
        name: "failing",
        detail: "because".to_owned(),
    };
    let next = AfterAttempt::Pause(reason);
    let outcome = DeliveryOutcome::of_test("a");
    queue::finish(conn, &claimed, &outcome, &next)
        .unwrap()
        .unwrap();
    queue::release(conn, &claimed).unwrap();
    assert!(queue::claim(conn, id, LEASE).unwrap().is_none());
    let (webhook, _) = find(conn, project, id).unwrap().unwrap();
    assert_eq!(webhook.paused_reason.as_deref(), Some("failing"));
    assert!(!webhook.fields.enabled && webhook.failing_since.is_some());
    assert_eq!(activity::page(conn, project, 10, 0).unwrap().count, 1);
    update(conn, id, &fields()).unwrap();
    resume(conn, id, key).unwrap();
    assert!(queue::claim(conn, id, LEASE).unwrap().is_some());
    let free = |conn: &mut Conn| queue::free(conn, Utc::now() + LEASE).unwrap().remove(0);
    assert!(!free(conn).has_lost_key(Utc::now()));
    keys::revoke(conn, key).unwrap();
    assert!(free(conn).has_lost_key(Utc::now()));
}

#[test]
fn the_last_thousand_deliveries_are_kept() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (project, _, id) = add(conn);
    for nth in 0..1_003 {
        let outcome = DeliveryOutcome::of_test(&format!("msg_{nth}"));
        deliveries::record(conn, id, &outcome).unwrap();
    }
    let page = deliveries::page(conn, project, id, 1, 999).unwrap();
    assert_eq!(page.count, 1_000);
    let oldest = deliveries::by_ids(conn, project, id, &page.ids).unwrap();
    assert_eq!(oldest[0].outcome.message_id, "msg_3");
    assert!(
        deliveries::record(conn, id + 1, &oldest[0].outcome)
            .unwrap()
            .is_none()
    );
    assert_eq!(
        deliveries::page(conn, ProjectId(99), id, 1, 0)
            .unwrap()
            .count,
        0
    );
}

#[test]
fn a_rotated_secret_is_kept_until_its_time() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (project, _, id) = add(conn);
    let until = Utc::now() + TimeDelta::days(1);
    rotate(conn, id, b"new", until).unwrap();
    let stored = secrets(conn, project, id).unwrap().unwrap();
    assert_eq!(
        (stored.secret, stored.old_secret),
        (b"new".to_vec(), Some(b"secret".to_vec()))
    );
    assert!(stored.old_secret_until.is_some());
    assert_eq!(all_secrets(conn).unwrap().len(), 1);
}
