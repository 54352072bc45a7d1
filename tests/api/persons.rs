//! Cases 82 to 88: the members of a cohort are shown.

use std::collections::HashSet;

use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};

use super::{follow, id_of, only, rows, upload};
use crate::harness::{Project, first_ids, person, request, send};

/// A calculated cohort of everybody in the project.
fn everyone(project: &Project) -> i64 {
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

#[test]
fn case_082_a_page_has_a_hundred_people_and_the_next_one_the_rest() {
    let project = Project::new();
    let events = (0..150).map(|number| json!({"event": "x", "distinct_id": format!("p{number}")}));
    project.capture(events.collect());
    let first = page(&project, everyone(&project), "");
    assert_eq!(rows(&first).len(), 100);
    let second = follow(&project, &first["next"]);
    assert_eq!((rows(&second).len(), &second["next"]), (50, &Value::Null));
    let both = rows(&first).iter().chain(rows(&second));
    let ids: HashSet<&str> = both.filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids.len(), 150);
}

#[test]
fn case_083_members_are_narrowed_down_by_a_property_without_an_operator() {
    let project = Project::new();
    project.people([
        ("in1", json!({"browser": "Safari"})),
        ("in2", json!({"browser": "Chrome"})),
        ("out", json!({"browser": "Safari"})),
    ]);
    let id = id_of(&upload(&project, None, "in1\nin2\n"));
    let properties = r#"[{"key":"browser","value":"Safari","type":"person"}]"#;
    let found = page(&project, id, &format!("?properties={properties}"));
    assert_eq!(first_ids(&found["results"]), ["in1"]);
}

#[test]
fn case_084_somebody_in_another_project_is_not_among_the_members() {
    let (project, other) = (Project::new(), Project::new());
    other.people([("d1", json!({}))]);
    project.people([("d1", json!({})), ("d2", json!({}))]);
    let id = id_of(&upload(&project, None, "d1\nd2\n"));
    let shown = page(&project, id, "");
    let ids = rows(&shown).iter().filter_map(|row| row["id"].as_str());
    let ids: HashSet<String> = ids.map(str::to_owned).collect();
    let own = ["d1", "d2"].map(|id| project.person(id));
    assert_eq!((rows(&shown).len(), ids), (2, HashSet::from(own)));
}

#[test]
fn case_085_a_person_is_shown_with_these_fields() {
    let project = Project::new();
    project.people([("d1", json!({"email": "ann@x.io"}))]);
    let shown = page(&project, everyone(&project), "");
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
fn case_086_a_person_is_shown_with_ten_distinct_ids_at_most() {
    let project = Project::new();
    let one_more = |number: u32| {
        let properties = json!({"$anon_distinct_id": format!("d{number}")});
        json!({"event": "$identify", "distinct_id": "d0", "properties": properties})
    };
    project.capture((1..97).map(one_more).collect());
    let shown = page(&project, everyone(&project), "");
    assert_eq!(rows(&shown).len(), 1);
    let ann = &shown["results"][0];
    assert_eq!(ann["id"], project.person("d96"));
    let ids = ann["distinct_ids"].as_array().map(Vec::len);
    assert!(ids.is_some_and(|count| count <= 10), "{ann}");
}

#[test]
fn case_087_a_full_last_page_is_followed_by_an_empty_one() {
    let project = Project::new();
    project.people([("d1", json!({})), ("d2", json!({}))]);
    let full = page(&project, everyone(&project), "?limit=2");
    assert_eq!((rows(&full).len(), &full["previous"]), (2, &Value::Null));
    assert_eq!(follow(&project, &full["next"])["results"], json!([]));
}

#[test]
fn case_088_csv_is_had_in_three_ways_with_columns_by_name() {
    let project = Project::new();
    project.people([("d1", json!({"email": "ann@x.io", "plan": "pro"}))]);
    let id = everyone(&project);
    let path = project.path(&format!("cohorts/{id}/persons/"));
    let asked = request(Method::GET, &path).bearer_auth(&project.key);
    for answer in [
        project.get(&format!("cohorts/{id}/persons.csv")),
        project.get(&format!("cohorts/{id}/persons/?format=csv")),
        send(&Method::GET, asked.header(ACCEPT, "text/csv")),
    ] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/csv"), "{kind}");
        let header = answer.text.lines().next().expect("a header");
        let columns: Vec<&str> = header.split(',').collect();
        assert!(columns.is_sorted(), "{header}");
        for (column, there) in [
            ("email", true),
            ("properties.email", false),
            ("uuid", false),
        ] {
            assert_eq!(columns.contains(&column), there, "{header}");
        }
    }
}
