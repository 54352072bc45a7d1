//! The change log: each operation that changes members records its cause, and the members equal the log afterwards.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use reqwest::Method;
use reqwest::blocking::{Client, multipart};
use serde_json::{Value, json};

use crate::harness::{Access, Location, Service, database, event, often, sent, until, well};

#[derive(QueryableByName)]
struct LoggedChange {
    #[diesel(sql_type = Text)]
    cause: String,
    #[diesel(sql_type = BigInt)]
    entered: i64,
    #[diesel(sql_type = BigInt)]
    left: i64,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// The changes of a cohort: cause, persons who entered and left, and the number of members.
fn changes(conn: &mut PgConnection, cohort: &Value) -> Vec<(String, i64, i64, i64)> {
    let statement = "select cause, entered, \"left\", count from member_changes where cohort_id = $1 order by number";
    let rows: Vec<LoggedChange> = diesel::sql_query(statement)
        .bind::<BigInt, _>(cohort.as_i64().unwrap())
        .load(conn)
        .unwrap();
    let described = |row: LoggedChange| (row.cause, row.entered, row.left, row.count);
    rows.into_iter().map(described).collect()
}

fn expected(changes: &[(&str, i64, i64, i64)]) -> Vec<(String, i64, i64, i64)> {
    let owned = |(cause, entered, left, count): &(&str, i64, i64, i64)| {
        ((*cause).to_owned(), *entered, *left, *count)
    };
    changes.iter().map(owned).collect()
}

/// Adds the persons of a file to a static cohort.
fn upload(service: &Service, access: &Access, cohort: &Value, text: &str) {
    let file = multipart::Part::text(text.to_owned()).file_name("persons.csv");
    let form = multipart::Form::new().part("csv", file);
    let url = format!(
        "{}/api/projects/{}/cohorts/{cohort}/",
        service.url, access.project
    );
    let request = Client::new()
        .patch(url)
        .bearer_auth(&access.key)
        .multipart(form);
    let response = request.send().unwrap();
    assert!(response.status().is_success(), "{:?}", response.text());
}

#[test]
fn every_operation_on_members_has_its_cause_in_the_log() {
    let at = Location::Url(database());
    let Location::Url(address) = &at else {
        unreachable!()
    };
    let conn = &mut PgConnection::establish(address).unwrap();
    let access = at.project();
    let service = Service::start(&at, &["--freshness", "1"]);
    let url = service.url.as_str();
    let of_project =
        |method, path: &str, body: Option<&Value>| well(url, &access, method, path, body);
    let create = |body: Value| of_project(Method::POST, "cohorts/", Some(&body))["id"].clone();
    let batch = (0..6)
        .map(|nth| event(&format!("p{nth}"), nth))
        .collect::<Value>();
    assert!(sent(url, &access, &batch));
    let person = |id: &str| {
        let persons = of_project(Method::GET, &format!("persons/?distinct_id={id}"), None);
        persons["results"][0]["uuid"].clone()
    };
    let filled = |cohort: &Value, count: i64| {
        until("the cohort is calculated", || {
            of_project(Method::GET, &format!("cohorts/{cohort}/"), None)["count"] == count
        });
    };

    let listed = create(json!({"name": "listed", "is_static": true,
        "_create_static_person_ids": [person("p0"), person("p1")]}));
    let add = json!({"person_ids": [person("p2")]});
    let path = format!("cohorts/{listed}/add_persons_to_static_cohort/");
    of_project(Method::PATCH, &path, Some(&add));
    let remove = json!({"person_id": person("p0")});
    let path = format!("cohorts/{listed}/remove_person_from_static_cohort/");
    of_project(Method::PATCH, &path, Some(&remove));
    upload(&service, &access, &listed, "distinct_id\np3\np4\n");

    let queried = json!({"kind": "HogQLQuery", "query": "SELECT id FROM persons"});
    let queried = create(json!({"name": "queried", "is_static": true, "query": queried}));
    filled(&queried, 6);
    let criteria = create(json!({"name": "criteria", "is_static": true, "filters": often(1)}));
    filled(&criteria, 6);
    let dynamic = create(json!({"name": "dynamic", "filters": often(1)}));
    filled(&dynamic, 6);
    let path = format!("cohorts/{dynamic}/duplicate_as_static_cohort/");
    let copy = of_project(Method::GET, &path, None)["id"].clone();
    // An edit, and then new data.
    let path = format!("cohorts/{dynamic}/");
    of_project(Method::PATCH, &path, Some(&json!({"filters": often(2)})));
    filled(&dynamic, 0);
    assert!(sent(url, &access, &json!([event("p0", 10)])));
    filled(&dynamic, 1);

    let merge =
        json!({"event": "$merge_dangerously", "distinct_id": "p2", "properties": {"alias": "p1"}});
    assert!(sent(url, &access, &json!([merge])));
    let uuid = person("p3");
    let path = format!("persons/{}/", uuid.as_str().unwrap());
    of_project(Method::DELETE, &path, None);

    let listed_changes = [
        ("manual", 2, 0, 2),
        ("manual", 1, 0, 3),
        ("manual", 0, 1, 2),
        ("upload", 2, 0, 4),
        ("merge", 0, 1, 3),
        ("person_deleted", 0, 1, 2),
    ];
    assert_eq!(changes(conn, &listed), expected(&listed_changes));
    let rest = [("merge", 0, 1, 5), ("person_deleted", 0, 1, 4)];
    for (cohort, cause) in [(queried, "query"), (criteria, "criteria"), (copy, "manual")] {
        let all = [&[(cause, 6, 0, 6)][..], &rest].concat();
        assert_eq!(changes(conn, &cohort), expected(&all));
    }
    let dynamic_changes = [
        ("criteria", 6, 0, 6),
        ("criteria", 0, 6, 0),
        ("data", 1, 0, 1),
    ];
    assert_eq!(changes(conn, &dynamic)[..3], expected(&dynamic_changes));
    assert!(service.stop());
    assert_log_is_right(&at);
}

/// The doctor finds that all members equal the log.
pub fn assert_log_is_right(at: &Location) {
    let output = at.command(&["doctor"]).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    let is_right =
        |line: &str| line.starts_with("ok        changes      all members equal the change log");
    assert!(report.lines().any(is_right), "{report}");
}

#[test]
fn the_age_of_changes_is_limited_by_a_flag() {
    let at = Location::Url(database());
    let Location::Url(address) = &at else {
        unreachable!()
    };
    let conn = &mut PgConnection::establish(address).unwrap();
    let access = at.project();
    let service = Service::start(&at, &[]);
    assert!(sent(&service.url, &access, &json!([event("p0", 0)])));
    let body = json!({"name": "all", "filters": often(1)});
    let cohort = well(&service.url, &access, Method::POST, "cohorts/", Some(&body))["id"].clone();
    until("the change is in the log", || {
        changes(conn, &cohort).len() == 1
    });
    assert!(service.stop());
    let aged = "update member_changes set published_at = published_at - interval '10 days'";
    assert_eq!(diesel::sql_query(aged).execute(conn).unwrap(), 1);
    for (retention, expected) in [("all", 1), ("11d", 1), ("9d", 0)] {
        let service = Service::start(&at, &["--change-retention", retention]);
        let metric = "cohorts_change_log_limit_bytes";
        until("the upkeep has run", || {
            let text = Client::new().get(format!("{}/metrics", service.url)).send();
            let text = text.unwrap().text().unwrap();
            text.lines()
                .any(|line| line.starts_with(metric) && !line.ends_with(" 0"))
        });
        assert_eq!(changes(conn, &cohort).len(), expected, "{retention}");
        assert!(service.stop());
    }
}
