//! A project is deleted while a service runs on the same database, and the command is killed in the middle.

use std::process::Stdio;
use std::thread;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Access, Location, Service, ask, count, database, event, often, sent, until, well,
};

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

fn number(conn: &mut PgConnection, rows: &str) -> i64 {
    let statement = format!("select count(*) as number from {rows}");
    let row: Number = diesel::sql_query(statement).get_result(conn).unwrap();
    row.number
}

/// The number of rows of a project in all person tables, and in the control tables that name the project.
fn rows_of(conn: &mut PgConnection, project: i64) -> i64 {
    let person = [
        "events",
        "persons",
        "distinct_ids",
        "tombstones",
        "member_chunks",
        "member_changes",
        "member_change_slices",
        "change_heads",
        "cohort_sizes",
        "segments",
        "segment_heads",
        "person_checkpoints",
        "property_checkpoints",
        "erasures",
        "log_heads",
        "ordinal_counters",
    ];
    let control = ["cohorts", "activities", "actions", "key_projects"];
    let person = person.map(|table| format!("{table} where shard_key / 65536 = {project}"));
    let control = control.map(|table| format!("{table} where project_id = {project}"));
    let rows = person.iter().chain(&control);
    rows.map(|rows| number(conn, rows)).sum()
}

/// Sends events of persons, merges two of them, and creates a dynamic and a static cohort.
fn fill(url: &str, access: &Access) {
    let events: Vec<Value> = (0..40)
        .map(|nth| event(&format!("p{}", nth % 8), nth))
        .collect();
    assert!(sent(url, access, &json!(events)));
    let merge =
        json!({"event": "$merge_dangerously", "distinct_id": "p0", "properties": {"alias": "p1"}});
    assert!(sent(url, access, &json!([merge])));
    let dynamic = json!({"name": "D", "filters": often(1)});
    let created = well(url, access, Method::POST, "cohorts/", Some(&dynamic));
    well(
        url,
        access,
        Method::POST,
        "cohorts/",
        Some(&json!({"name": "S", "is_static": true})),
    );
    let path = format!("cohorts/{}/", created["id"]);
    until("the cohort is calculated", || {
        well(url, access, Method::GET, &path, None)["count"] == 7
    });
}

#[test]
fn deletion_of_a_project_survives_a_kill_and_no_writer_brings_rows_back() {
    let at = Location::Url(database());
    let Location::Url(address) = &at else {
        unreachable!()
    };
    let conn = &mut PgConnection::establish(address).unwrap();
    let [doomed, other] = [at.project(), at.project()];
    let service = Service::start(&at, &[]);
    let url = service.url.as_str();
    fill(url, &doomed);
    fill(url, &other);
    assert!(number(conn, "tombstones") > 0 && rows_of(conn, doomed.project) > 60);

    // A lock stops the command between the events and the persons.
    let blocker = &mut PgConnection::establish(address).unwrap();
    let lock = format!(
        "select from persons where shard_key = {} * 65536 for update",
        doomed.project
    );
    diesel::sql_query("begin").execute(blocker).unwrap();
    diesel::sql_query(lock).execute(blocker).unwrap();
    let id = doomed.project.to_string();
    let delete = ["project", "delete", &id, "--yes"];
    let mut command = at.command(&delete).stderr(Stdio::null()).spawn().unwrap();
    let events = format!("events where shard_key = {id} * 65536");
    until("the events are deleted", || number(conn, &events) == 0);

    // The service had the token in its cache. Capture and look-ups are refused, and the other project is served.
    let body = json!({"api_key": doomed.token, "batch": [event("new", 1_000)]});
    let capture = || ask(url, &doomed, Method::POST, "/batch/", Some(&body)).unwrap();
    let look_up = |access: &Access| {
        let path = format!("/api/projects/{id}/cohorts/");
        ask(url, access, Method::GET, &path, None).unwrap().0
    };
    let every_project = Access {
        key:
            crate::harness::printed(at.command(&["key", "create", "--all-scopes", "--json"]))["key"]
                .as_str()
                .unwrap()
                .to_owned(),
        ..doomed.clone()
    };
    assert_eq!(capture().0, 401);
    assert_eq!((look_up(&doomed), look_up(&every_project)), (401, 404));
    assert!(sent(url, &other, &json!([event("more", 2_000)])));
    assert_eq!(count(url, &other, &often(1)), 8);

    command.kill().unwrap();
    command.wait().unwrap();
    diesel::sql_query("rollback").execute(blocker).unwrap();
    let doctor = at.command(&["doctor"]).output().unwrap();
    let report = String::from_utf8(doctor.stdout).unwrap();
    let hint = format!(
        "ok        deletion     project {id} is partly deleted; `cohorts project delete {id}` continues"
    );
    assert!(report.lines().any(|line| line == hint), "{report}");
    assert_eq!((capture().0, look_up(&every_project)), (401, 404));

    // The second run continues, while clients with the old token do not stop.
    thread::scope(|scope| {
        let sender = scope.spawn(|| (0..20).all(|_| capture().0 == 401));
        let output = at.command(&delete).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(sender.join().unwrap());
    });
    assert_eq!(capture().0, 401);
    assert_eq!(look_up(&every_project), 404);
    assert_eq!(rows_of(conn, doomed.project), 0);
    assert_eq!(number(conn, &format!("projects where id = {id}")), 0);
    assert_eq!(count(url, &other, &often(1)), 8);
    assert_eq!(
        ask(url, &other, Method::GET, "/_readyz", None).unwrap().0,
        200
    );
    assert!(service.stop());
}

#[test]
fn a_deleted_person_is_erased_by_the_next_service_after_a_kill() {
    let at = Location::Url(database());
    let Location::Url(address) = &at else {
        unreachable!()
    };
    let conn = &mut PgConnection::establish(address).unwrap();
    let access = at.project();
    let service = Service::start(&at, &[]);
    fill(&service.url, &access);
    // A stored part of each property, which no program has written, may contain the person.
    let damaged = format!(
        "insert into property_checkpoints values ({} * 65536, 'plan', 0, 0, 'secret of p2')",
        access.project
    );
    diesel::sql_query(damaged).execute(conn).unwrap();
    let page = well(
        &service.url,
        &access,
        Method::GET,
        "persons/?distinct_id=p2",
        None,
    );
    let path = format!("persons/{}/", page["results"][0]["uuid"].as_str().unwrap());
    let url = format!("/api/projects/{}/{path}", access.project);
    let deleted = ask(&service.url, &access, Method::DELETE, &url, None).unwrap();
    assert!(deleted.0 < 300, "{deleted:?}");
    service.kill();

    let (first, second) = (Service::start(&at, &[]), Service::start(&at, &[]));
    assert_eq!(count(&first.url, &access, &often(1)), 6);
    until("the person is erased", || {
        let stored = "property_checkpoints where data = 'secret of p2'";
        number(conn, "erasures") == 0 && number(conn, stored) == 0
    });
    let doctor = at.command(&["doctor"]).output().unwrap();
    let report = String::from_utf8(doctor.stdout).unwrap();
    let line = "ok        erasure      checkpoints contain no deleted persons";
    assert!(report.lines().any(|found| found == line), "{report}");
    assert_eq!(count(&second.url, &access, &often(1)), 6);
    assert!(first.stop() && second.stop());
}
