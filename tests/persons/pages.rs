//! Pages and exports that are too large for one piece: they are complete, and follow deletions and merges.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, first_ids, id_of, request, rows, send, upload};

/// Persons `p00`, `p01` and so on, the newest first, with a property of `bytes` bytes.
fn with_large_persons(count: usize, bytes: usize) -> Project {
    let project = Project::new();
    let text = "x".repeat(bytes);
    let event = |number: usize| {
        let time = format!(
            "2026-01-01T{:02}:{:02}:00Z",
            23 - number / 60,
            59 - number % 60
        );
        json!({"event": "x", "distinct_id": format!("p{number:02}"), "timestamp": time,
            "properties": {"$set": {"text": text}}})
    };
    let numbers: Vec<usize> = (0..count).collect();
    for chunk in numbers.chunks(25) {
        project.capture(chunk.iter().copied().map(event).collect());
    }
    project
}

fn ids(page: &Value) -> Vec<String> {
    let id = |row: &Value| row["distinct_ids"][0].as_str().expect("an id").to_owned();
    rows(page).iter().map(id).collect()
}

#[test]
fn page_that_is_larger_than_a_piece_is_complete() {
    let project = with_large_persons(60, 100_000);
    let all: Vec<String> = (0..60).map(|number| format!("p{number:02}")).collect();
    let first = project.get("persons/?limit=50");
    assert_eq!(first.header("content-length"), None, "one piece");
    let first = first.json();
    assert_eq!(ids(&first), all[..50]);
    let fields: Vec<&String> = first.as_object().expect("a page").keys().collect();
    assert_eq!(fields, ["results", "next", "previous"]);
    let second = project.follow(&first["next"]);
    assert_eq!(ids(&second), all[50..]);
    assert_eq!(second["next"], Value::Null);
    let by_cursor = project.get("persons/?cursor=&limit=50").json();
    assert_eq!(ids(&by_cursor), all[..50]);
    let rest = project.follow(&by_cursor["next"]);
    assert_eq!(
        (ids(&rest), &rest["next"]),
        (all[50..].to_vec(), &Value::Null)
    );
    let one_piece = project.get("persons/?limit=5");
    assert!(one_piece.header("content-length").is_some());
    assert_eq!(ids(&one_piece.json()), all[..5]);
    let csv = project.get("persons.csv");
    assert_eq!(csv.text.lines().count(), 61);
    let ndjson = project.get("persons.ndjson");
    let lines: Vec<Value> = ndjson
        .text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[..50], *rows(&first));
    assert_eq!(lines.len(), 60);
}

#[test]
fn head_of_a_large_page_has_no_body() {
    let project = with_large_persons(30, 100_000);
    for rest in [
        "persons/",
        "persons/?limit=5",
        "persons.csv",
        "persons.ndjson",
    ] {
        let call = request(Method::HEAD, &project.path(rest)).bearer_auth(&project.key);
        let answer = call.send().expect("a response");
        assert_eq!(answer.status().as_u16(), 200, "{rest}");
        assert_eq!(answer.text().expect("a body"), "", "{rest}");
    }
}

#[test]
fn export_follows_deletions_and_merges() {
    let project = with_large_persons(100, 200_000);
    project.persons([("outside", json!({}))]);
    let list: String = (0..100).map(|number| format!("p{number:02}\n")).collect();
    let cohort = id_of(&upload(&project, None, list));
    let path = project.path(&format!("cohorts/{cohort}/persons.ndjson"));
    // The client has read the headers only, so the last persons are not read yet.
    let export = request(Method::GET, &path).bearer_auth(&project.key);
    let export = export.send().expect("a response");
    let deleted = project.person("p99");
    let deletion = project.ask(Method::DELETE, &format!("persons/{deleted}/"), None);
    assert_eq!(deletion.status, 204, "{}", deletion.text);
    let merge = |survivor: &str, merged: &str| json!({"event": "$merge_dangerously", "distinct_id": survivor, "properties": {"alias": merged}});
    project.capture(json!([merge("outside", "p98"), merge("p00", "p97")]));
    let text = export.text().expect("a whole file");
    let lines: Value = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .collect();
    let mut expected: Vec<String> = (0..97).map(|number| format!("p{number:02}")).collect();
    expected.push("outside".to_owned());
    expected.sort_unstable();
    let is_survivor = |line: &&Value| line["distinct_ids"] == json!(["outside", "p98"]);
    let persons = lines.as_array().expect("persons");
    assert_eq!(persons.iter().filter(is_survivor).count(), 1);
    assert_eq!(first_ids(&lines), expected);
}

#[test]
fn stalled_exports_of_one_project_do_not_refuse_those_of_another() {
    let (project, other) = (with_large_persons(100, 200_000), with_large_persons(2, 10));
    let path = project.path("persons.ndjson");
    let start = || {
        let call = request(Method::GET, &path).bearer_auth(&project.key);
        call.send().expect("a response")
    };
    let stalled: Vec<_> = (0..2).map(|_| start()).collect();
    assert!(
        stalled
            .iter()
            .all(|response| response.status().is_success())
    );
    let export = other.get("persons.ndjson");
    assert_eq!((export.status, export.text.lines().count()), (200, 2));
    let page = send(
        &Method::GET,
        request(Method::GET, &project.path("persons/?limit=1")).bearer_auth(&project.key),
    );
    assert_eq!(page.status, 200, "{}", page.text);
    for response in stalled {
        assert_eq!(response.text().expect("a whole file").lines().count(), 100);
    }
}
