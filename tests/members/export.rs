//! Members as CSV and as NDJSON.

use std::io::Write;
use std::net::TcpStream;

use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, assert_invalid, id_of, person, request, send};

fn cohort_of_all(project: &Project) -> i64 {
    let id =
        project.cohort(json!({"filters": any_of(json!([person("nothing", "is_not_set", "")]))}));
    project.settle(id);
    id
}

#[test]
fn csv_begins_with_a_byte_order_mark_on_request() {
    let project = Project::new();
    project.persons([("d1", json!({"name": "Zoë", "plan": "=1"}))]);
    let id = cohort_of_all(&project);
    for rest in ["persons/", &format!("cohorts/{id}/persons/")] {
        let plain = project.get(&format!("{rest}?format=csv"));
        assert!(!plain.text.starts_with('\u{feff}'), "{}", plain.text);
        let path = project.path(&format!("{rest}?format=csv&bom=true"));
        let call = request(Method::GET, &path).bearer_auth(&project.key);
        let bytes = call
            .send()
            .and_then(|response| response.bytes())
            .expect("a file");
        assert_eq!(bytes, [b"\xef\xbb\xbf", plain.text.as_bytes()].concat());
        let copy = project.upload(None, bytes, &[]);
        assert_eq!(copy.status, 201, "{}", copy.text);
        assert_eq!(project.members(id_of(&copy)), ["d1"]);
        for query in ["format=ndjson&bom=true", "bom=true", "format=csv&bom=false"] {
            let other = project.get(&format!("{rest}?{query}"));
            assert_eq!(other.status, 200, "{}", other.text);
            assert!(!other.text.starts_with('\u{feff}'), "{}", other.text);
        }
    }
    let suffix = project.get(&format!("cohorts/{id}/persons.csv?bom=1"));
    assert_eq!(suffix.status, 200, "{}", suffix.text);
    let wrong = project.get("persons/?format=csv&bom=perhaps");
    assert_invalid(&wrong, Some("bom"), "Must be a valid boolean.");
    let nobody = project.get("persons/?format=csv&bom=true&search=nobody");
    assert_eq!((nobody.status, nobody.text.as_str()), (200, ""));
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

/// Conformance case 88.
#[test]
fn csv_is_served_by_suffix_format_and_accept_with_sorted_columns() {
    let project = Project::new();
    project.persons([("d1", json!({"email": "ann@x.io", "plan": "pro"}))]);
    let id = cohort_of_all(&project);
    let path = project.path(&format!("cohorts/{id}/persons/"));
    let call = request(Method::GET, &path).bearer_auth(&project.key);
    for answer in [
        project.get(&format!("cohorts/{id}/persons.csv")),
        project.get(&format!("cohorts/{id}/persons/?format=csv")),
        send(&Method::GET, call.header(ACCEPT, "text/csv")),
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

#[test]
fn csv_of_format_and_of_accept_are_equal() {
    let project = Project::new();
    project.persons([
        ("d1", json!({"email": "a,b@x.io", "addr": {"city": "Rome"}})),
        ("d2", json!({"plan": "pro"})),
    ]);
    let id = cohort_of_all(&project);
    let by_format = project.get(&format!("cohorts/{id}/persons/?format=csv"));
    let call = request(
        Method::GET,
        &project.path(&format!("cohorts/{id}/persons/")),
    )
    .bearer_auth(&project.key);
    let by_accept = send(&Method::GET, call.header(ACCEPT, "text/csv"));
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
fn format_of_the_path_precedes_the_query_which_precedes_accept() {
    let project = Project::new();
    project.persons([("d1", json!({}))]);
    let id = cohort_of_all(&project);
    let (json, csv, ndjson) = ("application/json", "text/csv", "application/x-ndjson");
    for rest in ["persons", &format!("cohorts/{id}/persons")] {
        for (end, accept, expected) in [
            ("/", "", json),
            ("/?format=", "", json),
            ("/?format=", csv, csv),
            ("/?format=json", csv, json),
            (".json", csv, json),
            ("/?format=csv", json, csv),
            ("/?format=csv&format=ndjson", csv, ndjson),
            (".csv", json, csv),
            (".csv", "image/png", csv),
            (".csv/?format=json", ndjson, csv),
            (".ndjson/", "*/*", ndjson),
            ("", "text/*;q=0.5, application/json", csv),
            ("", "image/png, application/x-ndjson", ndjson),
            ("", "*/*, text/csv", json),
        ] {
            let path = project.path(&format!("{rest}{end}"));
            let call = request(Method::GET, &path).bearer_auth(&project.key);
            let answer = send(&Method::GET, call.header(ACCEPT, accept));
            assert_eq!(answer.status, 200, "{path} {accept}: {}", answer.text);
            let kind = answer.header("content-type").unwrap_or_default();
            assert!(kind.starts_with(expected), "{path} {accept}: {kind}");
        }
        let unknown = project.get(&format!("{rest}/?format=CSV"));
        unknown.is_error(404, "not_found", None);
        let call = request(Method::GET, &project.path(rest)).bearer_auth(&project.key);
        let refused = send(&Method::GET, call.header(ACCEPT, "image/png"));
        refused.is_error(406, "not_acceptable", None);
    }
}

#[test]
fn csv_has_all_members_unless_limited() {
    let project = Project::new();
    let events =
        (0..2_500).map(|number| json!({"event": "x", "distinct_id": format!("p{number}")}));
    project.capture(events.collect());
    let id = cohort_of_all(&project);
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
fn ndjson_has_one_line_per_person_without_a_limit() {
    let project = with_even_persons(260);
    let path = format!("cohorts/{}/persons", cohort_of_even(&project));
    let page = project.get(&format!("{path}/?limit=1000")).json();
    let call = request(Method::GET, &project.path(&path)).bearer_auth(&project.key);
    for answer in [
        project.get(&format!("{path}/?format=ndjson")),
        project.get(&format!("{path}.ndjson")),
        send(&Method::GET, call.header(ACCEPT, "application/x-ndjson")),
    ] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let lines = answer
            .text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        assert_eq!(page["results"], Value::Array(lines.collect()));
    }
    let part = project.get(&format!("{path}/?format=ndjson&limit=2&offset=1"));
    assert_eq!(part.text.lines().count(), 2);
}

#[test]
fn stalled_export_readers_do_not_block_other_requests() {
    let project = Project::new();
    let long = "x".repeat(2_000);
    for start in (0..6_000).step_by(2_000) {
        let events = (start..start + 2_000)
            .map(|number| json!({"event": "x", "distinct_id": format!("p{number}"), "properties": {"$set": {"text": long}}}));
        project.capture(events.collect());
    }
    let id = cohort_of_all(&project);
    let address = project.server.url().replace("http://", "");
    let path = project.path(&format!("cohorts/{id}/persons.ndjson"));
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
    // The permits are free as soon as the service notices that the clients have gone.
    let export = loop {
        let export = project.get(&format!("cohorts/{id}/persons.csv"));
        if export.status != 429 {
            break export;
        }
        let detail = export.is_error(429, "busy", None).detail();
        assert!(
            detail.contains("Too many exports of this project"),
            "{detail}"
        );
    };
    assert_eq!(export.text.lines().count(), 6_001);
}
