//! The latest events of a person.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, rows};

const NOON: &str = "2026-03-01T12:00:00Z";

fn event(name: &str, distinct_id: &str, timestamp: &str) -> Value {
    json!({"event": name, "distinct_id": distinct_id, "timestamp": timestamp})
}

fn uuid(number: usize) -> String {
    format!("0190a1b2-c3d4-7e5f-8a9b-{number:012}")
}

fn page(project: &Project, query: &str) -> Value {
    let answer = project.get(&format!("events/?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer.json()
}

fn texts(page: &Value, field: &str) -> Vec<String> {
    let text = |row: &Value| row[field].as_str().expect("a text").to_owned();
    rows(page).iter().map(text).collect()
}

fn names(project: &Project, query: &str) -> Vec<String> {
    texts(&page(project, query), "event")
}

/// The ids of the events of all pages, and the numbers of events on them.
fn pages(project: &Project, query: &str) -> (Vec<String>, Vec<usize>) {
    let (mut ids, mut sizes) = (Vec::new(), Vec::new());
    let mut page = page(project, query);
    loop {
        sizes.push(rows(&page).len());
        assert!(sizes.len() < 50, "the pages do not end: {ids:?}");
        ids.extend(texts(&page, "id"));
        if page["next"].is_null() {
            return (ids, sizes);
        }
        page = project.follow(&page["next"]);
    }
}

#[test]
fn events_are_listed_newest_first_by_both_selectors() {
    let project = Project::new();
    project.capture(json!([
        event("first", "ann", "2019-07-04T23:59:59.999999Z"),
        event("last", "ann", "2026-03-02T00:00:00Z"),
        event("future", "ann", "9999-12-31T00:00:00Z"),
        event("other", "bob", NOON),
        event("middle", "ann", "2026-03-01T23:59:59.5Z"),
    ]));
    let expected = ["future", "last", "middle", "first"];
    let by_id = page(&project, "distinct_id=ann");
    assert_eq!(texts(&by_id, "event"), expected);
    assert_eq!(by_id["next"], Value::Null);
    let times = texts(&by_id, "timestamp");
    assert_eq!(
        times[2..],
        ["2026-03-01T23:59:59.500Z", "2019-07-04T23:59:59.999999Z"]
    );
    let ann = project.person("ann");
    assert_eq!(page(&project, &format!("person_id={ann}")), by_id);
    // An event that is committed is listed at once.
    project.capture(json!([event("new", "ann", "2026-03-03T00:00:00Z")]));
    let expected = ["future", "new", "last", "middle", "first"];
    assert_eq!(names(&project, "distinct_id=ann"), expected);
}

#[test]
fn an_event_has_all_fields_and_its_properties_unchanged() {
    let project = Project::new();
    let properties = json!({"amount": 49.50, "large": 12_345_678_901_234_567_890_u64, "list": [1, null, {"a": "é\"\\"}],
        "empty": "", "none": null, "$set": {"email": "ann@x.io", "name": "Ann", "plan": "pro"}, "": true});
    let mut sent = event("paid", "ann", NOON);
    sent["properties"] = properties.clone();
    sent["uuid"] = json!(uuid(1));
    project.capture(json!([sent]));
    let person = json!({"is_identified": false, "distinct_ids": ["ann"],
        "properties": {"email": "ann@x.io", "name": "Ann"}});
    let expected = json!({"id": uuid(1), "distinct_id": "ann", "properties": properties, "event": "paid",
        "timestamp": NOON, "person": person});
    assert_eq!(
        page(&project, "distinct_id=ann")["results"],
        json!([expected])
    );
    let text = project.get("events/?distinct_id=ann").text;
    assert!(text.contains("12345678901234567890"), "{text}");
}

#[test]
fn events_of_merged_persons_are_those_of_the_survivor() {
    let project = Project::new();
    project.capture(json!([
        event("by ann", "ann", "2026-03-01T10:00:00Z"),
        event("by anon", "anon", "2026-03-01T11:00:00Z"),
        event("by ann again", "ann", NOON),
    ]));
    let (ann, anon) = (project.person("ann"), project.person("anon"));
    project.capture(
        json!([{"event": "$identify", "distinct_id": "ann", "timestamp": "2026-03-01T13:00:00Z",
        "properties": {"$anon_distinct_id": "anon"}}]),
    );
    let expected = ["$identify", "by ann again", "by anon", "by ann"];
    for query in [
        "distinct_id=ann".to_owned(),
        "distinct_id=anon".to_owned(),
        format!("person_id={ann}"),
    ] {
        let page = page(&project, &query);
        assert_eq!(texts(&page, "event"), expected, "{query}");
        assert_eq!(texts(&page, "distinct_id"), ["ann", "ann", "anon", "ann"]);
        assert_eq!(rows(&page)[2]["person"]["is_identified"], true);
    }
    let merged = project.get(&format!("events/?person_id={anon}"));
    merged.is_error(404, "not_found", None);
}

#[test]
fn deleted_and_unknown_persons_and_those_of_other_projects_have_no_events() {
    let (project, other) = (Project::new(), Project::new());
    for owner in [&project, &other] {
        owner.capture(json!([event("paid", "ann", NOON)]));
    }
    let (ann, theirs) = (project.person("ann"), other.person("ann"));
    let queries = |ann: &str| {
        [
            format!("events/?person_id={ann}"),
            "events/?distinct_id=ann".to_owned(),
        ]
    };
    let unknown = project.get(&format!("events/?person_id={theirs}"));
    unknown.is_error(404, "not_found", None);
    project
        .get("events/?distinct_id=bob")
        .is_error(404, "not_found", None);
    let deleted = project.ask(Method::DELETE, &format!("persons/{ann}/"), None);
    assert_eq!(deleted.status, 204);
    for query in queries(&ann) {
        project.get(&query).is_error(404, "not_found", None);
    }
    for query in queries(&theirs) {
        assert_eq!(rows(&other.get(&query).json()).len(), 1);
    }
    // A new person with the distinct id has none of the deleted events.
    project.capture(json!([event("seen", "ann", NOON)]));
    assert_eq!(names(&project, "distinct_id=ann"), ["seen"]);
}

#[test]
fn pages_are_exact_with_equal_times() {
    let project = Project::new();
    let sent = |number: usize| {
        let time = if number < 7 {
            NOON
        } else {
            "2026-02-27T00:00:00Z"
        };
        let mut sent = event("paid", "ann", time);
        sent["uuid"] = json!(uuid(number));
        sent
    };
    let mut batch: Vec<Value> = (0..9).map(sent).collect();
    // Events with the same uuid and time are different by their names.
    batch.push(sent(3));
    batch[9]["event"] = json!("seen");
    project.capture(json!(batch));
    let mut expected: Vec<String> = [6, 5, 4, 3, 3, 2, 1, 0, 8, 7].map(uuid).to_vec();
    for limit in 1..=10 {
        let (ids, sizes) = pages(&project, &format!("distinct_id=ann&limit={limit}"));
        assert_eq!(ids, expected, "{limit}");
        let (last, others) = sizes.split_last().expect("a page");
        assert!(others.iter().all(|size| *size == limit), "{sizes:?}");
        assert!((1..=limit).contains(last), "{sizes:?}");
    }
    // The other parameters stay.
    let query =
        "distinct_id=ann&limit=2&event=paid&before=2026-03-01T12:00:00Z&after=2026-02-01T00:00:00Z";
    assert_eq!(pages(&project, query), (vec![uuid(8), uuid(7)], vec![2]));
    // An event that arrives between two pages moves no other one.
    let first = page(&project, "distinct_id=ann&limit=4");
    let mut new = sent(6);
    new["event"] = json!("new");
    new["timestamp"] = json!("2026-03-02T00:00:00Z");
    project.capture(json!([new]));
    let second = project.follow(&first["next"]);
    assert_eq!(
        texts(&second, "id"),
        expected.drain(4..8).collect::<Vec<_>>()
    );
}

#[test]
fn events_are_selected_by_name_and_time() {
    let project = Project::new();
    project.capture(json!([
        event("paid", "ann", "2026-03-01T10:00:00Z"),
        event("seen", "ann", "2026-03-01T11:00:00Z"),
        event("paid", "ann", NOON),
    ]));
    let times = |query: &str| {
        let page = page(&project, &format!("distinct_id=ann&{query}"));
        let hour = |time: &String| time[11..13].to_owned();
        texts(&page, "timestamp")
            .iter()
            .map(hour)
            .collect::<Vec<_>>()
    };
    assert_eq!(times("event=paid"), ["12", "10"]);
    assert_eq!(times("event="), ["12", "11", "10"]);
    assert_eq!(times("event=other"), [""; 0]);
    assert_eq!(times("before=2026-03-01T12:00:00Z"), ["11", "10"]);
    assert_eq!(
        times("before=2026-03-01T12:00:00.000001Z"),
        ["12", "11", "10"]
    );
    assert_eq!(times("after=2026-03-01T10:00:00Z"), ["12", "11"]);
    assert_eq!(
        times("after=2026-03-01T09:59:59.999999Z"),
        ["12", "11", "10"]
    );
    assert_eq!(times("after=2026-03-01T11:00:00%2B01:00"), ["12", "11"]);
    let both = "after=2026-03-01T10:00:00Z&before=2026-03-01T12:00:00Z";
    assert_eq!(times(both), ["11"]);
    assert_eq!(times(&format!("{both}&event=paid")), [""; 0]);
    assert_eq!(times("before=0001-01-01T00:00:00Z"), [""; 0]);
    assert_eq!(times("after=9999-12-31T23:59:59Z"), [""; 0]);
}

#[test]
fn a_page_has_at_most_100_events() {
    let project = Project::new();
    let sent = (0..103).map(|number| {
        let mut sent = event("paid", "ann", NOON);
        sent["uuid"] = json!(uuid(number));
        sent
    });
    project.capture(sent.collect());
    for query in ["", "&limit=100", "&limit=101", "&limit=99999"] {
        let (ids, sizes) = pages(&project, &format!("distinct_id=ann{query}"));
        assert_eq!((ids.len(), sizes), (103, vec![100, 3]), "{query}");
    }
    let (ids, sizes) = pages(&project, "distinct_id=ann&limit=103&event=paid");
    assert_eq!((&ids[0], sizes), (&uuid(102), vec![100, 3]));
    assert_eq!(rows(&page(&project, "distinct_id=ann&limit=1")).len(), 1);
}

#[test]
fn large_properties_end_a_page_early() {
    let project = Project::new();
    for number in 0..6 {
        let mut sent = event("paid", "ann", NOON);
        sent["uuid"] = json!(uuid(number));
        sent["properties"] = json!({"text": "x".repeat(900_000)});
        project.capture(json!([sent]));
    }
    let (ids, sizes) = pages(&project, "distinct_id=ann");
    assert_eq!((ids.len(), sizes), (6, vec![4, 2]));
}

#[test]
fn invalid_parameters_of_events_are_errors() {
    let project = Project::new();
    project.capture(json!([event("paid", "ann", NOON)]));
    let ann = project.person("ann");
    let both = format!("distinct_id=ann&person_id={ann}");
    let before_dates = format!("distinct_id=ann&cursor=fd0f7cc1411fa000{}", "f".repeat(48));
    for (query, attr) in [
        ("", "person_id"),
        ("event=paid", "person_id"),
        (both.as_str(), "distinct_id"),
        ("person_id=ann", "person_id"),
        ("distinct_id=ann&limit=0", "limit"),
        ("distinct_id=ann&limit=-1", "limit"),
        ("distinct_id=ann&limit=x", "limit"),
        ("distinct_id=ann&before=yesterday", "before"),
        ("distinct_id=ann&after=-7d", "after"),
        ("distinct_id=ann&cursor=x", "cursor"),
        ("distinct_id=ann&cursor=00", "cursor"),
        (before_dates.as_str(), "cursor"),
        ("distinct_id=ann&offset=10", "offset"),
        ("distinct_id=ann&properties=[{}]", "properties"),
        ("distinct_id=ann&orderBy=timestamp", "orderBy"),
    ] {
        let answer = project.get(&format!("events/?{query}"));
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        assert_eq!(answer.json()["attr"], attr, "{query}: {}", answer.text);
    }
    let harmless = "distinct_id=ann&cursor=&offset=0&orderBy=-timestamp";
    assert_eq!(names(&project, harmless), ["paid"]);
}
