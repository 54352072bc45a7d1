//! Tests of attempts: one at a time, at most one effect, and what is remembered for how long.

use super::*;
use crate::keys::{self, NewKey};
use crate::testing::TestDatabase;

const LEASE: TimeDelta = TimeDelta::seconds(60);

/// A database with a key.
struct KeyFixture {
    database: TestDatabase,
    key: i64,
}

impl KeyFixture {
    fn new() -> Self {
        let database = TestDatabase::create();
        let conn = &mut *database.open().connection().unwrap();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let new = NewKey {
            hash: &[1; 32],
            label: "",
            scopes: &["*".to_owned()],
            projects: None,
            expires_at: None,
        };
        let key = keys::create(conn, &owner, &new).unwrap().id;
        Self { database, key }
    }

    fn conn(&self) -> crate::PooledConn {
        self.database.open().connection().unwrap()
    }

    fn request(&self, hash: u8, fingerprint: u8) -> KeyedRequest {
        KeyedRequest {
            key: self.key,
            hash: vec![hash; 32],
            project: ProjectId(1),
            is_read: false,
            fingerprint: vec![fingerprint; 32],
        }
    }
}

fn granted(claim: Claim) -> RequestAttempt {
    match claim {
        Claim::Granted(attempt) => attempt,
        other => panic!("{other:?}"),
    }
}

fn response(body: &[u8]) -> StoredResponse {
    StoredResponse {
        status: 201,
        headers: JsonText("[]".to_owned()),
        body: body.to_vec(),
        is_sealed: false,
    }
}

/// Lets the leases of all attempts end, and makes all requests older.
fn make_older(conn: &mut Conn, by: TimeDelta) {
    diesel::update(idempotency_keys::table)
        .set((
            idempotency_keys::created_at.eq(Utc::now() - by),
            idempotency_keys::lease_until.eq(Utc::now()),
        ))
        .execute(conn)
        .unwrap();
}

#[test]
fn a_request_has_one_attempt_at_a_time_and_one_response() {
    let fixture = KeyFixture::new();
    let conn = &mut *fixture.conn();
    let request = fixture.request(1, 1);
    let first = granted(claim(conn, &request, LEASE).unwrap());
    assert_eq!(claim(conn, &request, LEASE).unwrap(), Claim::Running);
    let other = fixture.request(1, 2);
    assert_eq!(claim(conn, &other, LEASE).unwrap(), Claim::OtherRequest);
    granted(claim(conn, &fixture.request(2, 2), LEASE).unwrap());
    finish(conn, &first, &response(b"a")).unwrap();
    let done = claim(conn, &request, LEASE).unwrap();
    assert_eq!(done, Claim::Done(first.clone(), response(b"a")));
    assert_eq!(claim(conn, &other, LEASE).unwrap(), Claim::OtherRequest);
    // The attempt has ended, so nothing changes its response.
    finish(conn, &first, &response(b"b")).unwrap();
    release(conn, &first).unwrap();
    assert_eq!(claim(conn, &request, LEASE).unwrap(), done);
}

#[test]
fn the_next_attempt_fences_off_the_effect_of_the_one_before() {
    let fixture = KeyFixture::new();
    let conn = &mut *fixture.conn();
    let request = fixture.request(1, 1);
    let first = granted(claim(conn, &request, TimeDelta::zero()).unwrap());
    let second = granted(claim(conn, &request, LEASE).unwrap());
    assert_eq!((second.request, second.number), (first.request, 2));
    assert!(!mark_committed(conn, &first).unwrap());
    assert!(!renew(conn, &first, LEASE).unwrap());
    assert!(renew(conn, &second, LEASE).unwrap());
    assert!(mark_committed(conn, &second).unwrap());
}

#[test]
fn an_effect_without_a_response_is_not_repeated() {
    let fixture = KeyFixture::new();
    let conn = &mut *fixture.conn();
    let request = fixture.request(1, 1);
    let first = granted(claim(conn, &request, LEASE).unwrap());
    release(conn, &first).unwrap();
    assert!(!mark_committed(conn, &first).unwrap(), "it was released");
    let second = granted(claim(conn, &request, LEASE).unwrap());
    assert!(mark_committed(conn, &second).unwrap());
    assert_eq!(claim(conn, &request, LEASE).unwrap(), Claim::Running);
    release(conn, &second).unwrap();
    let retry = claim(conn, &request, LEASE).unwrap();
    assert_eq!(retry, Claim::DoneWithoutResponse);
}

#[test]
fn a_request_is_remembered_for_a_day() {
    let fixture = KeyFixture::new();
    let conn = &mut *fixture.conn();
    let request = fixture.request(1, 1);
    let first = granted(claim(conn, &request, LEASE).unwrap());
    finish(conn, &first, &response(b"a")).unwrap();
    make_older(conn, LIFETIME - TimeDelta::minutes(1));
    assert_eq!(delete_expired(conn, 10).unwrap(), 0);
    let done = claim(conn, &request, LEASE).unwrap();
    assert_eq!(done, Claim::Done(first.clone(), response(b"a")));
    make_older(conn, LIFETIME);
    let second = granted(claim(conn, &fixture.request(1, 2), LEASE).unwrap());
    assert_ne!(second.request, first.request);
    finish(conn, &second, &response(b"b")).unwrap();
    make_older(conn, LIFETIME);
    assert_eq!(delete_expired(conn, 10).unwrap(), 1);
}

#[test]
fn the_oldest_responses_of_a_key_are_deleted_first() {
    let fixture = KeyFixture::new();
    let conn = &mut *fixture.conn();
    for nth in 1..=6 {
        let attempt = granted(claim(conn, &fixture.request(nth, 0), LEASE).unwrap());
        if nth < 6 {
            finish(conn, &attempt, &response(&[nth; 10])).unwrap();
        }
    }
    let delete = |conn: &mut Conn, responses, bytes| {
        delete_excess(conn, StoredLimits { responses, bytes }, 100).unwrap()
    };
    let remaining = |conn: &mut Conn| -> Vec<Vec<u8>> {
        let hashes = idempotency_keys::table.select(idempotency_keys::hash);
        let hashes = hashes.order(idempotency_keys::hash).load(conn).unwrap();
        hashes
            .into_iter()
            .map(|hash: Vec<u8>| hash[..1].to_vec())
            .collect()
    };
    assert_eq!(delete(conn, 5, 50), 0);
    assert_eq!(delete(conn, 4, 50), 1);
    assert_eq!(remaining(conn), [[2], [3], [4], [5], [6]]);
    assert_eq!(delete(conn, 4, 29), 2);
    // The last one is running.
    assert_eq!(remaining(conn), [[4], [5], [6]]);
}

#[test]
fn responses_that_may_show_persons_are_forgotten_with_them() {
    let fixture = KeyFixture::new();
    let conn = &mut *fixture.conn();
    let read = KeyedRequest {
        is_read: true,
        ..fixture.request(1, 1)
    };
    for request in [&read, &fixture.request(2, 2)] {
        let attempt = granted(claim(conn, request, LEASE).unwrap());
        finish(conn, &attempt, &response(b"a")).unwrap();
    }
    assert_eq!(forget_reads(conn, ProjectId(2)).unwrap(), 0);
    assert_eq!(forget_reads(conn, ProjectId(1)).unwrap(), 1);
    assert_eq!(delete_of_project(conn, ProjectId(1)).unwrap(), 1);
}
