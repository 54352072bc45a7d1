//! Pages of members: order, size, links, cursors, filters.

use std::collections::{BTreeSet, HashSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, any_of, first_ids, id_of, only, person, request, rows, send, upload,
};

/// A calculated cohort of all persons of the project.
fn cohort_of_all(project: &Project) -> i64 {
    let filters = only(person("nothing", "is_not_set", ""));
    let id = project.cohort(json!({"filters": filters}));
    project.settle(id);
    id
}

fn page(project: &Project, cohort: i64, query: &str) -> Value {
    let page = project.get(&format!("cohorts/{cohort}/persons/{query}"));
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()
}

/// Persons `p00`, `p01` and so on. Higher numbers are created earlier. Even numbers have the property `even`.
fn with_even_persons(count: usize) -> Project {
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

fn cohort_of_even(project: &Project) -> i64 {
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

fn next_page(project: &Project, link: &Value) -> Option<Answer> {
    let path = link.as_str()?.strip_prefix(&project.server.url())?;
    let call = request(Method::GET, path).bearer_auth(&project.key);
    Some(send(&Method::GET, call))
}

/// All ids on a page and on the pages that its links lead to.
fn all(project: &Project, first: &str) -> Vec<String> {
    let mut page = project.get(first).json();
    let mut actual = ids(&page);
    while let Some(next) = next_page(project, &page["next"]) {
        assert_eq!(next.status, 200, "{}", next.text);
        page = next.json();
        actual.extend(ids(&page));
    }
    actual
}

/// Conformance case 85.
#[test]
fn person_has_the_documented_fields() {
    let project = Project::new();
    project.persons([("d1", json!({"email": "ann@x.io"}))]);
    let shown = page(&project, cohort_of_all(&project), "");
    assert_eq!(shown.get("count"), None);
    let ann = &shown["results"][0];
    let keys = ann.as_object().expect("a person").keys();
    let mut keys: Vec<&str> = keys.map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "created_at",
        "distinct_ids",
        "id",
        "is_identified",
        "last_seen_at",
        "matched_recordings",
        "name",
        "properties",
        "type",
        "uuid",
        "value_at_data_point",
    ];
    assert_eq!(keys, expected);
    assert_eq!(ann["type"], "person");
    assert_eq!(ann["id"], project.person("d1"));
    assert_eq!(ann["uuid"], ann["id"]);
    assert_eq!(ann["matched_recordings"], json!([]));
    assert_eq!(ann["value_at_data_point"], Value::Null);
}

#[test]
fn person_fields_have_the_captured_values() {
    let project = Project::new();
    project.capture(
        json!([{"event": "x", "distinct_id": "d1", "timestamp": "2026-01-02T03:04:05Z",
        "properties": {"$set": {"email": "ann@x.io", "seats": 3}}}]),
    );
    let page = project
        .get(&format!("cohorts/{}/persons/", cohort_of_all(&project)))
        .json();
    assert!(page.get("count").is_none());
    let ann = &page["results"][0];
    assert_eq!(ann["id"], ann["uuid"]);
    let expected = json!({
        "type": "person", "name": "ann@x.io", "distinct_ids": ["d1"], "properties": {"email": "ann@x.io", "seats": 3},
        "created_at": "2026-01-02T03:04:05Z", "is_identified": false, "matched_recordings": [], "value_at_data_point": null,
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(ann[key], *value, "{key}");
    }
}

#[test]
fn person_name_is_the_best_available_property() {
    let project = Project::new();
    project.persons([
        ("a", json!({"name": "Ann", "username": "u"})),
        ("b", json!({"email": "", "username": "u"})),
        ("c", json!({"email": 5})),
        ("d", json!({})),
    ]);
    let page = project
        .get(&format!("cohorts/{}/persons/", cohort_of_all(&project)))
        .json();
    let mut names: Vec<&str> = page["results"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["5", "Ann", "d", "u"]);
}

/// Conformance case 86.
#[test]
fn person_shows_at_most_ten_distinct_ids() {
    let project = Project::new();
    let identify = |number: u32| {
        let properties = json!({"$anon_distinct_id": format!("d{number}")});
        json!({"event": "$identify", "distinct_id": "d0", "properties": properties})
    };
    project.capture((1..97).map(identify).collect());
    let shown = page(&project, cohort_of_all(&project), "");
    assert_eq!(rows(&shown).len(), 1);
    let ann = &shown["results"][0];
    assert_eq!(ann["id"], project.person("d96"));
    let ids = ann["distinct_ids"].as_array().map(Vec::len);
    assert!(ids.is_some_and(|count| count <= 10), "{ann}");
}

/// Conformance case 84.
#[test]
fn persons_of_other_projects_are_not_members() {
    let (project, other) = (Project::new(), Project::new());
    other.persons([("d1", json!({}))]);
    project.persons([("d1", json!({})), ("d2", json!({}))]);
    let id = id_of(&upload(&project, None, "d1\nd2\n"));
    let shown = page(&project, id, "");
    let ids = rows(&shown).iter().filter_map(|row| row["id"].as_str());
    let ids: HashSet<String> = ids.map(str::to_owned).collect();
    let expected = ["d1", "d2"].map(|id| project.person(id));
    assert_eq!((rows(&shown).len(), ids), (2, HashSet::from(expected)));
}

#[test]
fn equal_distinct_id_in_another_project_is_not_a_member() {
    let (project, other) = (Project::new(), Project::new());
    project.persons([("d1", json!({"mine": true}))]);
    other.persons([("d1", json!({"mine": false})), ("d2", json!({}))]);
    let page = project
        .get(&format!("cohorts/{}/persons/", cohort_of_all(&project)))
        .json();
    assert_eq!(page["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(page["results"][0]["properties"], json!({"mine": true}));
}

#[test]
fn pages_are_ordered_by_creation_time_newest_first() {
    let project = Project::new();
    let event = |id: u32, day: u32| json!({"event": "x", "distinct_id": id.to_string(), "timestamp": format!("2026-01-{day:02}T00:00:00Z")});
    project.capture(json!([event(1, 5), event(2, 9), event(3, 1), event(4, 9)]));
    let id = cohort_of_all(&project);
    let path = |query: &str| format!("cohorts/{id}/persons/{query}");
    let ids = |page: &Value| -> Vec<String> {
        page["results"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| row["distinct_ids"][0].as_str().expect("an id").to_owned())
            .collect()
    };
    let first = project.get(&path("?limit=2")).json();
    assert_eq!(ids(&first), ["4", "2"]);
    let base = format!("{}{}", project.server.url(), project.path(&path("")));
    assert_eq!(
        (&first["next"], &first["previous"]),
        (&json!(format!("{base}?limit=2&offset=2")), &Value::Null)
    );
    let second = project.get(&path("?limit=2&offset=2")).json();
    assert_eq!(ids(&second), ["1", "3"]);
    // A full page has a link to the next page, even if that page is empty.
    assert_eq!(second["next"], format!("{base}?limit=2&offset=4"));
    assert_eq!(second["previous"], format!("{base}?limit=2&offset=0"));
    let third = project.get(&path("?limit=2&offset=4")).json();
    assert_eq!((ids(&third).len(), &third["next"]), (0, &Value::Null));
}

/// Conformance case 82.
#[test]
fn first_page_has_100_members_and_the_next_the_rest() {
    let project = Project::new();
    let events = (0..150).map(|number| json!({"event": "x", "distinct_id": format!("p{number}")}));
    project.capture(events.collect());
    let first = page(&project, cohort_of_all(&project), "");
    assert_eq!(rows(&first).len(), 100);
    let second = project.follow(&first["next"]);
    assert_eq!((rows(&second).len(), &second["next"]), (50, &Value::Null));
    let both = rows(&first).iter().chain(rows(&second));
    let ids: HashSet<&str> = both.filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids.len(), 150);
}

/// Conformance case 87.
#[test]
fn full_last_page_is_followed_by_an_empty_page() {
    let project = Project::new();
    project.persons([("d1", json!({})), ("d2", json!({}))]);
    let full = page(&project, cohort_of_all(&project), "?limit=2");
    assert_eq!((rows(&full).len(), &full["previous"]), (2, &Value::Null));
    assert_eq!(project.follow(&full["next"])["results"], json!([]));
}

#[test]
fn page_size_defaults_to_100_and_follows_the_limit() {
    let project = Project::new();
    let events = (0..120).map(|number| json!({"event": "x", "distinct_id": format!("p{number}")}));
    project.capture(events.collect());
    let id = cohort_of_all(&project);
    for (query, expected) in [
        ("", 100),
        ("?limit=0", 100),
        ("?limit=110", 110),
        ("?offset=100", 20),
    ] {
        let page = project.get(&format!("cohorts/{id}/persons/{query}")).json();
        assert_eq!(
            page["results"].as_array().map(Vec::len),
            Some(expected),
            "{query}"
        );
    }
}

#[test]
fn non_numeric_limit_or_offset_is_rejected() {
    let project = Project::new();
    let id = project.cohort(json!({}));
    for (query, attr) in [
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("offset=x", "offset"),
    ] {
        let answer = project.get(&format!("cohorts/{id}/persons/?{query}"));
        answer.is_error(400, "invalid_input", Some(attr));
    }
}

/// Conformance case 83.
#[test]
fn members_are_filtered_by_a_property_without_an_operator() {
    let project = Project::new();
    project.persons([
        ("in1", json!({"browser": "Safari"})),
        ("in2", json!({"browser": "Chrome"})),
        ("out", json!({"browser": "Safari"})),
    ]);
    let id = id_of(&upload(&project, None, "in1\nin2\n"));
    let properties = r#"[{"key":"browser","value":"Safari","type":"person"}]"#;
    let actual = page(&project, id, &format!("?properties={properties}"));
    assert_eq!(first_ids(&actual["results"]), ["in1"]);
}

#[test]
fn members_are_filtered_by_properties_and_search() {
    let project = Project::new();
    project.persons([
        (
            "d1",
            json!({"browser": "Safari", "email": "ann@x.io", "age": 30}),
        ),
        ("d2", json!({"browser": "Chrome", "name": "Ann_B"})),
        ("out", json!({"browser": "Safari", "outside": true})),
    ]);
    let id =
        project.cohort(json!({"filters": any_of(json!([person("outside", "is_not_set", "")]))}));
    project.settle(id);
    let actual = |query: &str| {
        let page = project.get(&format!("cohorts/{id}/persons/?{query}"));
        assert_eq!(page.status, 200, "{}", page.text);
        crate::harness::first_ids(&page.json()["results"])
    };
    let safari = r#"properties=[{"key":"browser","value":"Safari","type":"person"}]"#;
    assert_eq!(actual(safari), ["d1"]);
    let older = r#"properties=[{"key":"age","value":20,"operator":"gt"},{"key":"browser","value":"Safari"}]"#;
    assert_eq!(actual(older), ["d1"]);
    assert_eq!(actual("properties=[]"), ["d1", "d2"]);
    assert_eq!(actual("search=ANN"), ["d1", "d2"]);
    assert_eq!(actual("search=n_b"), ["d2"]);
    assert_eq!(actual("search=d1%00"), ["d1"]);
    assert_eq!(actual("search=D1&limit=1"), ["d1"]);
    assert_eq!(
        project
            .get(&format!("cohorts/{id}/persons/?format=csv&{safari}"))
            .text
            .lines()
            .count(),
        2
    );
    for wrong in [
        "{",
        "5",
        "[5]",
        r#"[{"key":"a","operator":"sounds_like","value":1}]"#,
    ] {
        let answer = project.get(&format!("cohorts/{id}/persons/?properties={wrong}"));
        answer.is_error(400, "invalid_input", Some("properties"));
    }
}

#[test]
fn suffixes_and_the_legacy_path_return_the_same_members() {
    let project = Project::new();
    project.persons([("d1", json!({}))]);
    let id = cohort_of_all(&project);
    let csv = project.get(&format!("cohorts/{id}/persons/?format=csv"));
    assert_eq!(
        project.get(&format!("cohorts/{id}/persons.csv")).text,
        csv.text
    );
    let page = project.get(&format!("cohorts/{id}/persons/")).json();
    assert_eq!(
        project.get(&format!("cohorts/{id}/persons.json")).json(),
        page
    );
    let legacy =
        request(Method::GET, &format!("/api/cohort/{id}/persons")).bearer_auth(&project.key);
    assert_eq!(
        send(&Method::GET, legacy).json()["results"],
        page["results"]
    );
    let listed = request(Method::GET, "/api/cohort/").bearer_auth(&project.key);
    assert_eq!(send(&Method::GET, listed).json()["count"], 1);
}

#[test]
fn cursor_and_offset_pages_have_the_same_order() {
    let project = with_even_persons(20);
    let path = format!("cohorts/{}/persons/", cohort_of_even(&project));
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
fn cursor_neither_skips_nor_repeats_while_members_change() {
    let project = with_even_persons(30);
    let id = cohort_of_even(&project);
    let before: BTreeSet<String> = project.members(id).into_iter().collect();
    let mut page = project
        .get(&format!("cohorts/{id}/persons/?cursor=&limit=4"))
        .json();
    let mut seen = ids(&page);
    let mut round = 0;
    while let Some(next) = next_page(&project, &page["next"]) {
        // A listed member leaves, and others join before and after the cursor.
        let leaver = seen[round].clone();
        project.persons([(&leaver, json!({"even": false}))]);
        let odd = format!("p{:02}", 2 * round + 1);
        project.persons([(&odd, json!({"even": true}))]);
        project.persons([(&format!("new{round}"), json!({"even": true}))]);
        project.patch(&format!("cohorts/{id}/"), json!({}));
        project.settle(id);
        page = next.json();
        seen.extend(ids(&page));
        round += 1;
    }
    assert!(round >= 3, "only {round} changes");
    let once: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(once.len(), seen.len(), "a member occurs twice: {seen:?}");
    let missed: Vec<&String> = before.difference(&once).collect();
    assert_eq!(missed, Vec::<&String>::new());
}

#[test]
fn cursor_stays_valid_after_its_person_is_deleted() {
    let project = with_even_persons(6);
    let path = format!("cohorts/{}/persons/", cohort_of_even(&project));
    let first = project.get(&format!("{path}?cursor=&limit=1")).json();
    let leaver = first["results"][0]["id"].as_str().expect("an id");
    let deleted = project.ask(Method::DELETE, &format!("persons/{leaver}/"), None);
    assert_eq!(deleted.status, 204);
    let rest = next_page(&project, &first["next"]).expect("a page").json();
    assert_eq!(ids(&rest).len(), 1);
    assert_ne!(ids(&rest), ids(&first));
    project
        .get(&format!("{path}?cursor=zz"))
        .is_error(400, "invalid_input", Some("cursor"));
}
