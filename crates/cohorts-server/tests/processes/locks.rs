//! Locks that other sessions hold: requests end in time, and readiness, capture and other requests continue.

use std::thread;

use cohorts_server::postgres::Postgres;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Access, Location, Service, ask, database, event, options, sent, until, well};

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// The number of sessions that wait for a lock, with a statement like `statement`.
fn waiting_with(conn: &mut PgConnection, statement: &str) -> i64 {
    let count =
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like $1";
    let count = diesel::sql_query(count).bind::<Text, _>(statement);
    count.get_result::<CountRow>(conn).unwrap().count
}

/// The number of sessions that wait for a lock on the cohorts.
fn waiting(conn: &mut PgConnection) -> i64 {
    let statement =
        "select count(*) from pg_locks where not granted and relation = 'cohorts'::regclass";
    let row: CountRow = diesel::sql_query(statement).get_result(conn).unwrap();
    row.count
}

/// The statement that finds the project of a token.
const LOOK_UP: &str = r#"%"projects"."token" = $1%"#;

#[test]
fn look_ups_of_unknown_tokens_of_one_client_take_one_connection() {
    let url = database();
    let at = Location::Url(url.clone());
    let access = at.project();
    let service = Service::start(&at, &[]);
    let service_url = service.url.as_str();
    let send = |path: &str, token: String| {
        let body = json!({"api_key": token, "event": "x", "distinct_id": "d"});
        ask(service_url, &access, Method::POST, path, Some(&body)).map(|(status, _)| status)
    };
    // The token is in the query, or in the body.
    let unknown = |nth: usize| {
        let token = format!("phc_{nth}");
        match nth % 2 {
            0 => send(&format!("/i/v0/e/?token={token}"), token),
            _ => send("/i/v0/e/", token),
        }
    };
    for nth in 0..122 {
        assert_eq!(unknown(nth), Some(401));
    }
    let mut holder = PgConnection::establish(&url).unwrap();
    let mut observer = PgConnection::establish(&url).unwrap();
    holder
        .batch_execute("begin; lock table projects in access exclusive mode")
        .unwrap();
    let most = thread::scope(|scope| {
        let requests: Vec<_> = (0..12)
            .map(|nth| scope.spawn(move || unknown(nth)))
            .collect();
        let mut most = 0;
        while requests.iter().any(|request| !request.is_finished()) {
            most = most.max(waiting_with(&mut observer, LOOK_UP));
        }
        for request in requests {
            assert_eq!(request.join().unwrap(), Some(503));
        }
        most
    });
    assert!((1..=2).contains(&most), "{most} connections");
    holder.batch_execute("rollback").unwrap();
    assert_eq!(unknown(0), Some(401));
    assert!(sent(service_url, &access, &json!([event("a", 1)])));
}

#[test]
fn readiness_and_capture_continue_while_all_connections_of_requests_wait() {
    let url = database();
    let at = Location::Url(url.clone());
    // One project has a third of the connections.
    let projects = [at.project(), at.project(), at.project()];
    let service = Service::start(&at, &[]);
    let service_url = service.url.as_str();
    let mut holder = PgConnection::establish(&url).unwrap();
    let mut observer = PgConnection::establish(&url).unwrap();
    holder
        .batch_execute("begin; lock table cohorts in access exclusive mode")
        .unwrap();
    let list = |access: &Access| {
        let path = format!("/api/projects/{}/cohorts/", access.project);
        ask(service_url, access, Method::GET, &path, None).unwrap()
    };
    thread::scope(|scope| {
        let lists: Vec<_> = (0..18)
            .map(|nth| {
                scope.spawn({
                    let access = &projects[nth % 3];
                    move || list(access)
                })
            })
            .collect();
        until("the lane is in full use", || waiting(&mut observer) >= 12);
        let access = &projects[0];
        let ready = ask(service_url, access, Method::GET, "/_readyz", None).unwrap();
        assert_eq!(
            ready,
            (
                200,
                json!("ok\nthe waiting cohorts cannot be counted now\n")
            )
        );
        assert!(sent(service_url, access, &json!([event("a", 1)])));
        for list in lists {
            let (status, answer) = list.join().unwrap();
            let code = &answer["code"];
            assert_eq!((status, code), (503, &json!("timeout")), "{answer}");
        }
    });
    holder.batch_execute("commit").unwrap();
    well(service_url, &projects[0], Method::GET, "cohorts/", None);
}

#[test]
fn a_lock_that_is_not_released_is_recognised_in_every_language() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let access = at.project();
    let german = [("LANGUAGE", "de"), ("LC_ALL", "C.UTF-8")];
    let service = Service::start_with(&at, &[], &german);
    let postgres = Postgres::start(&options(directory.path())).unwrap();
    assert!(postgres.is_joined());
    let mut holder = PgConnection::establish(&postgres.url()).unwrap();
    holder
        .batch_execute("begin; lock table cohorts in access exclusive mode")
        .unwrap();
    let path = format!("/api/projects/{}/cohorts/", access.project);
    let (status, answer) = ask(&service.url, &access, Method::GET, &path, None).unwrap();
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!("timeout")),
        "{answer}"
    );
    assert!(
        answer["detail"]
            .as_str()
            .unwrap()
            .starts_with("Another change of the same data"),
        "{answer}"
    );
    drop((holder, postgres));
    assert!(service.stop());
}
