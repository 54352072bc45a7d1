//! Pages of people by cursor and by offset, and all of them as NDJSON.

use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};

use crate::harness::{Answer, Project, any_of, person, request, send};

/// People `p00` and on, the later ones created earlier, of whom those with an even number are `even`.
fn with_people(count: usize) -> Project {
    let project = Project::new();
    let event = |number: usize| {
        let day = 1 + (count - number) / 3;
        json!({"event": "x", "distinct_id": format!("p{number:02}"),
            "timestamp": format!("2026-01-{day:02}T00:00:00Z"),
            "properties": {"$set": {"even": number.is_multiple_of(2)}}})
    };
    project.capture((0..count).map(event).collect());
    project
}

fn of_even(project: &Project) -> i64 {
    let criteria = any_of(json!([person("even", "exact", true)]));
    let id = project.cohort(json!({"filters": criteria}));
    project.settle(id);
    id
}

fn ids(page: &Value) -> Vec<String> {
    let rows = page["results"].as_array().expect("rows");
    let id = |row: &Value| row["distinct_ids"][0].as_str().expect("an id").to_owned();
    rows.iter().map(id).collect()
}

fn follow(project: &Project, link: &Value) -> Option<Answer> {
    let path = link.as_str()?.strip_prefix(&project.server.url())?;
    let asked = request(Method::GET, path).bearer_auth(&project.key);
    Some(send(&Method::GET, asked))
}

/// All ids on a page and those that its links lead to.
fn all(project: &Project, first: &str) -> Vec<String> {
    let mut page = project.get(first).json();
    let mut found = ids(&page);
    while let Some(next) = follow(project, &page["next"]) {
        assert_eq!(next.status, 200, "{}", next.text);
        page = next.json();
        found.extend(ids(&page));
    }
    found
}

#[test]
fn cursors_and_offsets_give_the_same_people_in_the_same_order() {
    let project = with_people(20);
    let path = format!("cohorts/{}/persons/", of_even(&project));
    let by_offset = all(&project, &format!("{path}?limit=3"));
    assert_eq!(by_offset.len(), 10);
    for limit in [1, 3, 5, 10, 100] {
        let by_cursor = all(&project, &format!("{path}?cursor=&limit={limit}"));
        assert_eq!(by_cursor, by_offset, "{limit}");
    }
    let last = project.get(&format!("{path}?cursor=&limit=10")).json();
    assert_eq!(
        (&last["next"], &last["previous"]),
        (&Value::Null, &Value::Null)
    );
    let beyond = project.get(&format!("{path}?limit=3&offset=99")).json();
    assert_eq!((ids(&beyond).len(), &beyond["next"]), (0, &Value::Null));
}

#[test]
fn a_cursor_neither_skips_nor_repeats_while_the_cohort_changes() {
    let project = with_people(30);
    let id = of_even(&project);
    let before: BTreeSet<String> = project.members(id).into_iter().collect();
    let mut page = project
        .get(&format!("cohorts/{id}/persons/?cursor=&limit=4"))
        .json();
    let mut seen = ids(&page);
    let mut round = 0;
    while let Some(next) = follow(&project, &page["next"]) {
        // Somebody who was shown leaves, and others come before and behind.
        let gone = seen[round].clone();
        project.people([(&gone, json!({"even": false}))]);
        let odd = format!("p{:02}", 2 * round + 1);
        project.people([(&odd, json!({"even": true}))]);
        project.people([(&format!("new{round}"), json!({"even": true}))]);
        project.patch(&format!("cohorts/{id}/"), json!({}));
        project.settle(id);
        page = next.json();
        seen.extend(ids(&page));
        round += 1;
    }
    assert!(round >= 3, "only {round} changes");
    let once: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(once.len(), seen.len(), "somebody is there twice: {seen:?}");
    let missed: Vec<&String> = before.difference(&once).collect();
    assert_eq!(missed, Vec::<&String>::new());
}

#[test]
fn a_cursor_survives_that_its_person_is_deleted() {
    let project = with_people(6);
    let path = format!("cohorts/{}/persons/", of_even(&project));
    let first = project.get(&format!("{path}?cursor=&limit=1")).json();
    let gone = first["results"][0]["id"].as_str().expect("an id");
    let deleted = project.ask(Method::DELETE, &format!("persons/{gone}/"), None);
    assert_eq!(deleted.status, 204);
    let rest = follow(&project, &first["next"]).expect("a page").json();
    assert_eq!(ids(&rest).len(), 1);
    assert_ne!(ids(&rest), ids(&first));
    project
        .get(&format!("{path}?cursor=zz"))
        .is_error(400, "invalid_input", Some("cursor"));
}

#[test]
fn ndjson_holds_a_line_for_each_person_without_a_ceiling() {
    let project = with_people(260);
    let path = format!("cohorts/{}/persons", of_even(&project));
    let page = project.get(&format!("{path}/?limit=1000")).json();
    let asked = request(Method::GET, &project.path(&path)).bearer_auth(&project.key);
    for answer in [
        project.get(&format!("{path}/?format=ndjson")),
        project.get(&format!("{path}.ndjson")),
        send(&Method::GET, asked.header(ACCEPT, "application/x-ndjson")),
    ] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let lines = answer
            .text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        assert_eq!(page["results"], Value::Array(lines.collect()));
    }
    let some = project.get(&format!("{path}/?format=ndjson&limit=2&offset=1"));
    assert_eq!(some.text.lines().count(), 2);
}
