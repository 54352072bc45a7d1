//! Retries with an `Idempotency-Key` after a process was killed, after failures of the database, and after a day.

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Access, Location, Service, database, sent, until, well};

/// A service on a database that the test also changes.
struct Fixture {
    url: String,
    at: Location,
    access: Access,
    kill_points: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let url = database();
        let at = Location::Url(url.clone());
        Self {
            access: at.project(),
            url,
            at,
            kill_points: TempDir::new().unwrap(),
        }
    }

    fn start(&self) -> Service {
        let folder = self.kill_points.path().to_str().unwrap();
        let key = "01".repeat(32);
        let variables = [
            ("COHORTS_KILL_POINTS", folder),
            ("COHORTS_SECRET_KEY", &key),
        ];
        Service::start_with(&self.at, &[], &variables)
    }

    fn execute(&self, statement: &str) {
        let mut conn = PgConnection::establish(&self.url).unwrap();
        conn.batch_execute(statement).unwrap();
    }

    /// Sends a POST with the `Idempotency-Key` `a`; `None` without a response.
    fn post(&self, service: &Service, path: &str, body: &Value) -> Option<(u16, Value)> {
        let url = format!(
            "{}/api/projects/{}/{path}",
            service.url, self.access.project
        );
        let request = Client::new().post(url).bearer_auth(&self.access.key);
        let answer = request.header("Idempotency-Key", "a").json(body).send();
        let answer = answer.ok()?;
        Some((answer.status().as_u16(), answer.json().ok()?))
    }

    fn create(&self, service: &Service) -> Option<(u16, Value)> {
        self.post(service, "cohorts/", &json!({"name": "A"}))
    }

    fn cohorts(&self, service: &Service) -> Value {
        let list = well(&service.url, &self.access, Method::GET, "cohorts/", None);
        list["count"].clone()
    }
}

#[test]
fn a_request_is_not_carried_out_again_if_the_process_was_killed_after_its_commit() {
    let fixture = Fixture::new();
    let mut service = fixture.start();
    let order = fixture.kill_points.path().join("order");
    fs::write(order, "RequestCommitted service").unwrap();
    assert_eq!(fixture.create(&service), None);
    until("the service is killed", || service.has_ended());
    let service = fixture.start();
    let code = |answer: Option<(u16, Value)>| {
        let (status, body) = answer.unwrap();
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    let running = code(fixture.create(&service));
    assert_eq!(running, (409, "request_running".to_owned()));
    fixture.execute("update idempotency_keys set lease_until = now()");
    let lost = code(fixture.create(&service));
    assert_eq!(lost, (409, "response_not_stored".to_owned()));
    assert_eq!(fixture.cohorts(&service), 1);
}

#[test]
fn a_retry_deletes_the_persons_that_an_interrupted_deletion_has_left() {
    let fixture = Fixture::new();
    let mut service = fixture.start();
    // The service deletes 50 persons at once.
    let ids: Vec<String> = (0..60).map(|nth| format!("p{nth}")).collect();
    let batch: Vec<Value> = ids
        .iter()
        .map(|id| json!({"event": "x", "distinct_id": id}))
        .collect();
    assert!(sent(&service.url, &fixture.access, &json!(batch)));
    let body = json!({"distinct_ids": ids});
    let delete = |service: &Service| fixture.post(service, "persons/bulk_delete/", &body);
    let order = fixture.kill_points.path().join("order");
    fs::write(order, "DeletionCommitted service").unwrap();
    assert_eq!(delete(&service), None);
    until("the service is killed", || service.has_ended());
    let service = fixture.start();
    fixture.execute("update idempotency_keys set lease_until = now()");
    assert_eq!(persons(&fixture, &service).len(), 10);
    let (status, deleted) = delete(&service).unwrap();
    assert_eq!((status, &deleted["persons_deleted"]), (202, &json!(10)));
    assert!(persons(&fixture, &service).is_empty());
    assert_eq!(delete(&service), Some((202, deleted)));
}

/// The distinct ids of all persons of a project.
fn persons(fixture: &Fixture, service: &Service) -> Vec<String> {
    let list = well(&service.url, &fixture.access, Method::GET, "persons/", None);
    let persons = list["results"].as_array().unwrap().iter();
    let ids = persons.map(|person| person["distinct_ids"][0].as_str().unwrap().to_owned());
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids
}

#[test]
fn a_deletion_of_persons_is_not_carried_out_again_if_the_process_was_killed_after_its_commit() {
    let fixture = Fixture::new();
    for (point, is_deleted) in [
        ("DeletionBetweenCommits", false),
        ("DeletionWritten", false),
        ("DeletionCommitted", true),
        ("RequestCommitted", true),
    ] {
        let mut service = fixture.start();
        fixture.execute("delete from idempotency_keys");
        let capture = |service: &Service, ids: [&str; 2]| {
            let batch = ids.map(|id| json!({"event": "x", "distinct_id": id}));
            assert!(sent(&service.url, &fixture.access, &json!(batch)));
        };
        capture(&service, ["a", "b"]);
        let delete = |service: &Service| {
            fixture.post(
                service,
                "persons/bulk_delete/",
                &json!({"distinct_ids": ["a", "b"]}),
            )
        };
        let order = fixture.kill_points.path().join("order");
        fs::write(order, format!("{point} service")).unwrap();
        assert_eq!(delete(&service), None, "{point}");
        until("the service is killed", || service.has_ended());
        let service = fixture.start();
        fixture.execute("update idempotency_keys set lease_until = now()");
        if is_deleted {
            // A retry deletes no person that came after the deletion.
            assert!(persons(&fixture, &service).is_empty(), "{point}");
            capture(&service, ["b", "c"]);
            let (status, lost) = delete(&service).unwrap();
            assert_eq!(
                (status, &lost["code"]),
                (409, &json!("response_not_stored")),
                "{point}"
            );
            assert_eq!(persons(&fixture, &service), ["b", "c"], "{point}");
            let others = json!({"distinct_ids": ["b", "c"]});
            well(
                &service.url,
                &fixture.access,
                Method::POST,
                "persons/bulk_delete/",
                Some(&others),
            );
        } else {
            assert_eq!(persons(&fixture, &service), ["a", "b"], "{point}");
            let (status, deleted) = delete(&service).unwrap();
            assert_eq!(
                (status, &deleted["persons_deleted"]),
                (202, &json!(2)),
                "{point}"
            );
            assert_eq!(delete(&service), Some((202, deleted)), "{point}");
        }
        assert!(persons(&fixture, &service).is_empty(), "{point}");
    }
}

#[test]
fn a_request_without_an_effect_is_carried_out_when_the_lease_of_a_killed_process_ends() {
    let fixture = Fixture::new();
    let service = fixture.start();
    // A transaction that holds the project makes the request wait before its commit.
    let mut conn = PgConnection::establish(&fixture.url).unwrap();
    conn.batch_execute("begin; lock table cohorts in exclusive mode")
        .unwrap();
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.create(&service));
        let mut other = PgConnection::establish(&fixture.url).unwrap();
        until("the request has a row", || {
            let row = "do $$ begin if not exists (select from idempotency_keys) then raise 'none'; end if; end $$";
            other.batch_execute(row).is_ok()
        });
        crate::harness::signal("KILL", service.pid());
        waiting.join().unwrap()
    });
    assert_eq!(waiting, None);
    conn.batch_execute("rollback").unwrap();
    let service = fixture.start();
    fixture.execute("update idempotency_keys set lease_until = now()");
    let (status, created) = fixture.create(&service).unwrap();
    assert_eq!((status, &created["name"]), (201, &json!("A")));
    assert_eq!(fixture.create(&service), Some((201, created)));
    assert_eq!(fixture.cohorts(&service), 1);
}

#[test]
fn failures_of_the_service_are_not_stored() {
    let fixture = Fixture::new();
    let service = fixture.start();
    fixture.execute("alter table activities rename to no_activities");
    let (status, _) = fixture.create(&service).unwrap();
    assert_eq!(status, 500);
    fixture.execute("alter table no_activities rename to activities");
    let (status, created) = fixture.create(&service).unwrap();
    assert_eq!(status, 201, "{created}");
    assert_eq!(fixture.cohorts(&service), 1);
}

#[test]
fn a_request_is_remembered_for_a_day_and_its_secret_is_encrypted() {
    let fixture = Fixture::new();
    let service = fixture.start();
    let body = json!({"url": "https://example.com/"});
    let create = || fixture.post(&service, "webhooks/", &body).unwrap();
    let (status, first) = create();
    assert_eq!(status, 201, "{first}");
    fixture.execute(
        "do $$ begin if exists (select from idempotency_keys where position('whsec_'::bytea in body) > 0) \
         then raise 'plain'; end if; end $$",
    );
    fixture
        .execute("update idempotency_keys set created_at = now() - interval '23 hours 59 minutes'");
    assert_eq!(create(), (201, first.clone()));
    fixture.execute("update idempotency_keys set created_at = now() - interval '24 hours'");
    let (status, second) = create();
    assert_eq!(status, 201);
    assert_ne!(second["id"], first["id"]);
}

#[test]
fn a_request_goes_on_if_its_client_disconnects() {
    let fixture = Fixture::new();
    let service = fixture.start();
    let address = service.url.strip_prefix("http://").unwrap();
    let body = json!({"name": "A"}).to_string();
    let head = format!(
        "POST /api/projects/{}/cohorts/ HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nIdempotency-Key: a\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        fixture.access.project,
        fixture.access.key,
        body.len()
    );
    let mut conn = PgConnection::establish(&fixture.url).unwrap();
    conn.batch_execute("begin; lock table cohorts in exclusive mode")
        .unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all((head + &body).as_bytes()).unwrap();
    let mut other = PgConnection::establish(&fixture.url).unwrap();
    until("the request has a row", || {
        let row = "do $$ begin if not exists (select from idempotency_keys) then raise 'none'; end if; end $$";
        other.batch_execute(row).is_ok()
    });
    drop(client);
    let (status, running) = fixture.create(&service).unwrap();
    assert_eq!((status, &running["code"]), (409, &json!("request_running")));
    conn.batch_execute("rollback").unwrap();
    let mut last = None;
    until("the first request has ended", || {
        last = fixture.create(&service);
        last.as_ref().is_some_and(|(status, _)| *status != 409)
    });
    let (status, created) = last.unwrap();
    assert_eq!((status, &created["name"]), (201, &json!("A")));
    assert_eq!(fixture.cohorts(&service), 1);
}
