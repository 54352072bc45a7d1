//! The people of a cohort.

use std::io::Write;
use std::net::TcpStream;

use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, person, request, send};

fn everyone(project: &Project) -> i64 {
    let id =
        project.cohort(json!({"filters": any_of(json!([person("nothing", "is_not_set", "")]))}));
    project.settle(id);
    id
}

#[test]
fn a_person_is_shown_with_these_fields() {
    let project = Project::new();
    project.capture(
        json!([{"event": "x", "distinct_id": "d1", "timestamp": "2026-01-02T03:04:05Z",
        "properties": {"$set": {"email": "ann@x.io", "seats": 3}}}]),
    );
    let page = project
        .get(&format!("cohorts/{}/persons/", everyone(&project)))
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
fn a_person_is_called_by_the_best_name_there_is() {
    let project = Project::new();
    project.people([
        ("a", json!({"name": "Ann", "username": "u"})),
        ("b", json!({"email": "", "username": "u"})),
        ("c", json!({"email": 5})),
        ("d", json!({})),
    ]);
    let page = project
        .get(&format!("cohorts/{}/persons/", everyone(&project)))
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

#[test]
fn the_person_created_last_comes_first_over_all_pages() {
    let project = Project::new();
    let event = |id: u32, day: u32| json!({"event": "x", "distinct_id": id.to_string(), "timestamp": format!("2026-01-{day:02}T00:00:00Z")});
    project.capture(json!([event(1, 5), event(2, 9), event(3, 1), event(4, 9)]));
    let id = everyone(&project);
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
    // A full page has a next one, even if that is empty.
    assert_eq!(second["next"], format!("{base}?limit=2&offset=4"));
    assert_eq!(second["previous"], format!("{base}?limit=2&offset=0"));
    let third = project.get(&path("?limit=2&offset=4")).json();
    assert_eq!((ids(&third).len(), &third["next"]), (0, &Value::Null));
}

#[test]
fn at_most_ten_distinct_ids_and_a_hundred_people_are_on_a_page() {
    let project = Project::new();
    let events = (0..120).map(|number| json!({"event": "x", "distinct_id": format!("p{number}")}));
    project.capture(events.collect());
    let id = everyone(&project);
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
fn a_limit_that_is_no_number_is_refused() {
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

#[test]
fn people_of_another_project_are_never_among_them() {
    let (project, other) = (Project::new(), Project::new());
    project.people([("d1", json!({"mine": true}))]);
    other.people([("d1", json!({"mine": false})), ("d2", json!({}))]);
    let page = project
        .get(&format!("cohorts/{}/persons/", everyone(&project)))
        .json();
    assert_eq!(page["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(page["results"][0]["properties"], json!({"mine": true}));
}

#[test]
fn csv_is_had_by_format_or_by_accept() {
    let project = Project::new();
    project.people([
        ("d1", json!({"email": "a,b@x.io", "addr": {"city": "Rome"}})),
        ("d2", json!({"plan": "pro"})),
    ]);
    let id = everyone(&project);
    let by_format = project.get(&format!("cohorts/{id}/persons/?format=csv"));
    let asked = request(
        Method::GET,
        &project.path(&format!("cohorts/{id}/persons/")),
    )
    .bearer_auth(&project.key);
    let by_accept = send(&Method::GET, asked.header(ACCEPT, "text/csv"));
    assert_eq!(by_format.text, by_accept.text);
    let mut lines = by_format.text.split("\r\n");
    let header =
        "created_at,distinct_ids.0,email,id,last_seen_at,name,properties.addr.city,properties.plan";
    assert_eq!(lines.next(), Some(header));
    assert!(
        by_format.text.contains(r#",d1,"a,b@x.io","#),
        "{}",
        by_format.text
    );
    assert_eq!(lines.filter(|line| !line.is_empty()).count(), 2);
    project
        .get(&format!("cohorts/{id}/persons/?format=xml"))
        .is_error(404, "not_found", None);
}

#[test]
fn csv_has_everybody_unless_a_limit_is_given() {
    let project = Project::new();
    let events =
        (0..2_500).map(|number| json!({"event": "x", "distinct_id": format!("p{number}")}));
    project.capture(events.collect());
    let id = everyone(&project);
    for (query, rows) in [
        ("", 2_500),
        ("&limit=30", 30),
        ("&offset=2490", 10),
        ("&offset=9999", 0),
    ] {
        let answer = project.get(&format!("cohorts/{id}/persons/?format=csv{query}"));
        let lines = answer.text.lines().count();
        assert_eq!(lines, if rows == 0 { 0 } else { rows + 1 }, "{query}");
    }
    let unknown = project.get("cohorts/999999999/persons/?format=csv");
    unknown.is_error(404, "not_found", None);
}

#[test]
fn a_suffix_and_the_legacy_path_lead_to_the_same_people() {
    let project = Project::new();
    project.people([("d1", json!({}))]);
    let id = everyone(&project);
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
fn people_are_narrowed_down_by_properties_and_by_search() {
    let project = Project::new();
    project.people([
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
    let found = |query: &str| {
        let page = project.get(&format!("cohorts/{id}/persons/?{query}"));
        assert_eq!(page.status, 200, "{}", page.text);
        crate::harness::first_ids(&page.json()["results"])
    };
    let safari = r#"properties=[{"key":"browser","value":"Safari","type":"person"}]"#;
    assert_eq!(found(safari), ["d1"]);
    let older = r#"properties=[{"key":"age","value":20,"operator":"gt"},{"key":"browser","value":"Safari"}]"#;
    assert_eq!(found(older), ["d1"]);
    assert_eq!(found("properties=[]"), ["d1", "d2"]);
    assert_eq!(found("search=ANN"), ["d1", "d2"]);
    assert_eq!(found("search=n_b"), ["d2"]);
    assert_eq!(found("search=d1%00"), ["d1"]);
    assert_eq!(found("search=D1&limit=1"), ["d1"]);
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
fn readers_that_stop_reading_an_export_keep_nobody_else_from_an_answer() {
    let project = Project::new();
    let long = "x".repeat(2_000);
    for start in (0..6_000).step_by(2_000) {
        let events = (start..start + 2_000)
            .map(|number| json!({"event": "x", "distinct_id": format!("p{number}"), "properties": {"$set": {"text": long}}}));
        project.capture(events.collect());
    }
    let id = everyone(&project);
    let address = project.server.url().replace("http://", "");
    let path = project.path(&format!("cohorts/{id}/persons.csv"));
    let slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).expect("a connection");
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n",
                project.key
            );
            stream.write_all(head.as_bytes()).expect("a request");
            stream
        })
        .collect();
    assert_eq!(project.get(&format!("cohorts/{id}/")).status, 200);
    drop(slow);
    let whole = project.get(&format!("cohorts/{id}/persons.csv"));
    assert_eq!(whole.text.lines().count(), 6_001);
}
