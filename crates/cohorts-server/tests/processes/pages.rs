//! The memory of pages and exports of large rows, and what they hold in the database.

use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::harness::{Access, Location, Service, database, sent, until, well};

/// The memory of the index, in MiB; see `--memory`.
const MEMORY: usize = 64;
/// What the service may take in addition, in MiB.
const MARGIN: usize = 512;
const PERSONS: usize = 600;
const PERSON_BYTES: usize = 400 << 10;

/// The most memory that the service has taken, in MiB.
fn high_water_mark(service: &Service) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: usize = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kilobytes / 1_024
}

fn service(at: &Location) -> Service {
    Service::start(at, &["--memory", &MEMORY.to_string()])
}

/// The response to a GET. Only its headers are read.
fn get(service: &Service, access: &Access, path: &str) -> Response {
    let client = Client::builder()
        .timeout(Duration::from_secs(300))
        .build()
        .unwrap();
    let url = format!("{}/api/projects/{}/{path}", service.url, access.project);
    client.get(url).bearer_auth(&access.key).send().unwrap()
}

fn capture_large_persons(service: &Service, access: &Access, count: usize, bytes: usize) {
    let text = "x".repeat(bytes);
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(20) {
        let event = |number: &usize| json!({"event": "x", "distinct_id": format!("p{number}"), "properties": {"$set": {"text": text}}});
        let batch: Value = chunk.iter().map(event).collect();
        assert!(sent(&service.url, access, &batch));
    }
}

#[derive(Deserialize)]
struct Page {
    results: Vec<IgnoredAny>,
}

/// The number of rows in the JSON of a page.
fn row_count(response: Response) -> usize {
    assert_eq!(response.status().as_u16(), 200);
    let text = response.bytes().unwrap();
    let page: Page = serde_json::from_slice(&text).unwrap();
    page.results.len()
}

fn line_count(response: Response) -> usize {
    assert_eq!(response.status().as_u16(), 200);
    let lines = BufReader::with_capacity(1 << 20, response).split(b'\n');
    lines.inspect(|line| assert!(line.is_ok())).count()
}

#[test]
fn pages_and_exports_of_large_persons_take_little_memory() {
    let at = Location::Url(database());
    let (access, other) = (at.project(), at.project());
    let loading = service(&at);
    capture_large_persons(&loading, &access, PERSONS, PERSON_BYTES);
    assert!(loading.stop());
    // Another process, because loading takes memory too.
    let service = service(&at);
    let get = |path| get(&service, &access, path);
    thread::scope(|scope| {
        let pages: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| row_count(get("persons/?limit=10000"))))
            .collect();
        let ndjson = scope.spawn(|| line_count(get("persons.ndjson")));
        let csv = scope.spawn(|| line_count(get("persons.csv?limit=10000")));
        for _ in 0..20 {
            let page = well(&service.url, &other, Method::GET, "persons/", None);
            assert_eq!(page["results"], json!([]));
        }
        for page in pages {
            assert_eq!(page.join().unwrap(), PERSONS);
        }
        assert_eq!(ndjson.join().unwrap(), PERSONS);
        assert_eq!(csv.join().unwrap(), PERSONS + 1);
    });
    let peak = high_water_mark(&service);
    assert!(peak < MEMORY + MARGIN, "{peak} MiB");
}

#[test]
fn activity_with_large_changes_takes_little_memory() {
    const CHANGES: usize = 30;
    let at = Location::Url(database());
    let access = at.project();
    let loading = service(&at);
    let cohort = well(
        &loading.url,
        &access,
        Method::POST,
        "cohorts/",
        Some(&json!({"name": "A"})),
    );
    let path = format!("cohorts/{}/", cohort["id"]);
    for nth in 0..CHANGES {
        let letter = ["a", "b"][nth % 2];
        let leaf = json!({"type": "person", "key": "k", "operator": "exact", "value": letter.repeat(3_500_000)});
        let body = json!({"filters": {"properties": {"type": "AND", "values": [leaf]}}});
        well(&loading.url, &access, Method::PATCH, &path, Some(&body));
    }
    assert!(loading.stop());
    let service = service(&at);
    thread::scope(|scope| {
        let pages: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| row_count(get(&service, &access, "cohorts/activity/?limit=1000000")))
            })
            .collect();
        for page in pages {
            assert_eq!(page.join().unwrap(), CHANGES + 1);
        }
    });
    let peak = high_water_mark(&service);
    assert!(peak < MEMORY + MARGIN, "{peak} MiB");
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[test]
fn export_of_a_stalled_client_holds_nothing_in_the_database() {
    let url = database();
    let at = Location::Url(url.clone());
    let access = at.project();
    let service = service(&at);
    capture_large_persons(&service, &access, 100, 200 << 10);
    let mut conn = PgConnection::establish(&url).unwrap();
    // A person may be larger than a piece, if an earlier version stored it.
    let enlarge = "update persons set properties = jsonb_build_object('text', repeat('x', 3000000)) where ordinal = \
        (select min(ordinal) + 50 from persons)";
    assert_eq!(diesel::sql_query(enlarge).execute(&mut conn).unwrap(), 1);
    let stalled = [
        get(&service, &access, "persons.ndjson"),
        get(&service, &access, "persons.csv"),
        get(&service, &access, "persons/?limit=10000"),
    ];
    assert!(
        stalled
            .iter()
            .all(|response| response.status().is_success())
    );
    let in_transactions = "select count(*) as count from pg_stat_activity where datname = current_database() \
        and pid <> pg_backend_pid() and xact_start is not null and backend_type = 'client backend'";
    until("no transaction is open", || {
        let counts: Vec<Count> = diesel::sql_query(in_transactions).load(&mut conn).unwrap();
        counts[0].count == 0
    });
    // The lock waits for short transactions of other work and for autovacuum. A transaction of a stalled response would
    // outlast the limit.
    let locked = conn.transaction(|conn| {
        diesel::sql_query("set local lock_timeout = '20s'").execute(conn)?;
        diesel::sql_query("lock table persons in access exclusive mode").execute(conn)
    });
    locked.unwrap();
    let [ndjson, csv, page] = stalled;
    assert_eq!(line_count(ndjson), 100);
    assert_eq!(line_count(csv), 101);
    assert_eq!(row_count(page), 100);
}
