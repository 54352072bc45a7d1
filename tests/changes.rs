//! The feed of changes: who entered and left cohorts, as pages and as streams.

mod expiry;
mod following;
mod formats;
mod persons;
mod snapshot;
mod stream;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Project, request, rows, send};

pub use expiry::expired;

/// The persons of a feed's rows, applied to those before: each is a cohort and the `uuid` of a person.
type Members = BTreeSet<(i64, String)>;

/// Adds those who entered, and removes those who left.
fn apply(members: &mut Members, rows: &[Value]) {
    for row in rows {
        let uuid = row["person"]["uuid"].as_str().expect("a uuid").to_owned();
        let member = (row["cohort_id"].as_i64().expect("a cohort"), uuid);
        match row["change"].as_str() {
            Some("entered") => members.insert(member),
            Some("left") => members.remove(&member),
            other => panic!("{other:?}"),
        };
    }
}

/// A page of the feed at `path`, which must succeed.
fn page(project: &Project, path: &str, query: &str) -> Value {
    let answer = project.get(&format!("{path}?{query}"));
    assert_eq!(answer.status, 200, "{path}?{query}: {}", answer.text);
    answer.json()
}

/// The cursor of a page, as a parameter.
fn cursor(page: &Value) -> String {
    format!("cursor={}", page["cursor"].as_str().expect("a cursor"))
}

/// Reads pages from a position to the end. Returns all rows, and the position after them.
fn read_all(project: &Project, path: &str, from: &str, limit: usize) -> (Vec<Value>, String) {
    let (mut all, mut from) = (Vec::new(), from.to_owned());
    let cohorts = path.split_once('?').map_or("", |(_, query)| query);
    let path = path.split('?').next().expect("a path");
    for _ in 0..1_000 {
        let page = page(project, path, &format!("{cohorts}&{from}&limit={limit}"));
        assert!(rows(&page).len() <= limit, "{page}");
        all.extend_from_slice(rows(&page));
        from = cursor(&page);
        if page["has_more"] == false {
            return (all, from);
        }
    }
    panic!("the feed does not end");
}

/// The first distinct id of each row with its change, such as `+d1`, in order.
fn summary(rows: &[Value]) -> Vec<String> {
    let short = |row: &Value| {
        let sign = if row["change"] == "entered" { '+' } else { '-' };
        let id = &row["person"]["distinct_ids"][0];
        format!("{sign}{}", id.as_str().unwrap_or("?"))
    };
    rows.iter().map(short).collect()
}

/// The members of a cohort, as a feed ends with.
fn members(project: &Project, cohort: i64) -> Members {
    let page = project.get(&format!("cohorts/{cohort}/persons/?limit=10000"));
    let uuid = |person: &Value| person["uuid"].as_str().expect("a uuid").to_owned();
    let page = page.json();
    let uuids = rows(&page).iter().map(uuid);
    uuids.map(|uuid| (cohort, uuid)).collect()
}

/// A static cohort without members.
fn static_cohort(project: &Project) -> i64 {
    project.cohort(json!({"is_static": true}))
}

/// Adds persons to a static cohort in one change.
fn add(project: &Project, cohort: i64, ids: &[&str]) {
    let persons: Vec<String> = ids.iter().map(|id| project.person(id)).collect();
    let path = format!("cohorts/{cohort}/add_persons_to_static_cohort/");
    let answer = project.patch(&path, json!({"person_ids": persons}));
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// Removes a person from a static cohort.
fn remove(project: &Project, cohort: i64, id: &str) {
    let path = format!("cohorts/{cohort}/remove_person_from_static_cohort/");
    let answer = project.patch(&path, json!({"person_id": project.person(id)}));
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// A project with persons `d0`, `d1` and so on.
fn with_persons(count: usize) -> Project {
    let project = Project::new();
    let set = |number: usize| {
        let properties = json!({"$set": {"number": number}});
        json!({"event": "$set", "distinct_id": format!("d{number}"), "properties": properties})
    };
    project.capture((0..count).map(set).collect());
    project
}

fn feed_of(cohort: i64) -> String {
    format!("cohorts/{cohort}/changes/")
}

/// Asks with other headers than those of [`Project::get`].
fn get_with(project: &Project, path: &str, headers: &[(&str, &str)]) -> Answer {
    let call = request(Method::GET, &project.path(path));
    let call = headers
        .iter()
        .fold(call, |call, (name, value)| call.header(*name, *value));
    send(&Method::GET, call)
}
