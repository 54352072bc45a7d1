//! Events and people come in.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::harness::{Answer, Project, any_of, did, person, request, send};

fn batch(body: Vec<u8>, encoding: Option<&str>) -> Answer {
    let mut asked = request(Method::POST, "/batch/")
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    if let Some(encoding) = encoding {
        asked = asked.header(CONTENT_ENCODING, encoding);
    }
    send(&Method::POST, asked)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// The properties of the one person.
fn properties(project: &Project) -> Value {
    let body =
        json!({"filters": any_of(json!([person("nothing", "is_not_set", "")])), "sample": 2});
    let preview = project.post("cohorts/preview/", body).json();
    assert_eq!(preview["count"], 1, "{preview}");
    preview["sample"][0]["properties"].clone()
}

/// How often the event happened, by whoever did it.
fn has_done(project: &Project, event: &str, times: u32) -> bool {
    let counted = json!({"type": "behavioral", "key": event, "value": "performed_event_multiple", "event_type": "events",
        "time_value": 30, "time_interval": "day", "operator": "exact", "operator_value": times});
    project
        .post(
            "cohorts/preview/",
            json!({"filters": any_of(json!([counted]))}),
        )
        .json()["count"]
        == 1
}

#[test]
fn a_batch_is_taken_plain_and_compressed() {
    let project = Project::new();
    let text = |id: &str| {
        json!({"api_key": project.token, "batch": [{"event": "x", "distinct_id": id}]}).to_string()
    };
    for (body, encoding) in [
        (text("plain").into_bytes(), None),
        (gzip(&text("declared")), Some("gzip")),
        (gzip(&text("undeclared")), None),
    ] {
        let answer = batch(body, encoding);
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"status": "Ok"}))
        );
    }
    let id = project.cohort(json!({"filters": any_of(json!([did("x", 1)]))}));
    project.settle(id);
    assert_eq!(project.members(id), ["declared", "plain", "undeclared"]);
}

#[test]
fn the_token_may_stand_in_several_places() {
    let project = Project::new();
    let token = &project.token;
    for body in [
        json!({"token": token, "batch": []}),
        json!({"batch": [{"event": "x", "distinct_id": "a", "token": token}]}),
        json!({"batch": [{"event": "x", "distinct_id": "a", "properties": {"token": token}}]}),
    ] {
        assert_eq!(
            batch(body.to_string().into_bytes(), None).status,
            200,
            "{body}"
        );
    }
}

#[test]
fn a_wrong_or_missing_token_is_refused() {
    let wrong = batch(br#"{"api_key": "phc_no", "batch": []}"#.to_vec(), None);
    wrong.is_error(401, "invalid_api_key", None);
    let missing = batch(br#"{"batch": []}"#.to_vec(), None);
    missing.is_error(401, "not_authenticated", None);
    let project = Project::new();
    let personal = json!({"api_key": project.key, "batch": []}).to_string();
    batch(personal.into_bytes(), None).is_error(401, "invalid_api_key", None);
}

#[test]
fn a_body_that_cannot_be_unpacked_is_refused() {
    let project = Project::new();
    let good = gzip(&json!({"api_key": project.token, "batch": []}).to_string());
    batch(good[..good.len() - 4].to_vec(), Some("gzip")).is_error(400, "parse_error", None);
    batch(b"{}".to_vec(), Some("br")).is_error(400, "parse_error", None);
    batch(b"\xff\xfe".to_vec(), None).is_error(400, "parse_error", None);
    batch(b"[]".to_vec(), None).is_error(400, "parse_error", None);
}

#[test]
fn a_small_body_that_unpacks_without_end_is_refused() {
    let bomb = gzip(&" ".repeat(65 << 20));
    assert!(bomb.len() < 1 << 20);
    batch(bomb, Some("gzip")).is_error(413, "request_too_large", None);
}

#[test]
fn set_replaces_and_set_once_only_adds() {
    let project = Project::new();
    let event =
        |properties: Value| json!({"event": "x", "distinct_id": "ann", "properties": properties});
    project.capture(json!([
        event(json!({"$set": {"plan": "free", "a": 1}, "$set_once": {"plan": "never", "source": "letter"}})),
        event(json!({"$set": {"plan": "pro"}})),
    ]));
    project.capture(json!([
        event(json!({"$set_once": {"source": "poster", "late": true}})),
        {"event": "y", "distinct_id": "ann", "$set": {"a": [2]}},
    ]));
    let expected = json!({"plan": "pro", "a": [2], "source": "letter", "late": true});
    assert_eq!(properties(&project), expected);
}

#[test]
fn the_same_uuid_sent_again_counts_once() {
    let project = Project::new();
    let event = json!({"event": "x", "distinct_id": "ann", "uuid": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "timestamp": chrono::Utc::now().to_rfc3339()});
    project.capture(json!([event, event]));
    project.capture(json!([event]));
    assert!(has_done(&project, "x", 1));
    project.capture(json!([{"event": "x", "distinct_id": "ann"}]));
    assert!(has_done(&project, "x", 2));
}

#[test]
fn bad_items_are_refused_one_by_one_and_good_ones_kept() {
    let project = Project::new();
    project.capture(json!([
        5, {}, {"event": "x"}, {"event": "", "distinct_id": "a"}, {"event": "x", "distinct_id": " "},
        {"event": "x", "distinct_id": {"a": 1}}, {"event": "x", "distinct_id": "a", "properties": 7},
        {"event": "x", "distinct_id": "a", "properties": {"text": "a".repeat(2 << 20)}},
        {"event": "x", "distinct_id": 17},
    ]));
    let id = project.cohort(json!({"filters": any_of(json!([did("x", 1)]))}));
    assert_eq!(project.settle(id)["count"], 1);
    assert_eq!(project.members(id), ["17"]);
    let metrics = send(&Method::GET, request(Method::GET, "/metrics")).text;
    for reason in [
        "no_event",
        "no_distinct_id",
        "not_an_object",
        "properties_not_an_object",
        "too_large",
    ] {
        assert!(
            metrics.contains(&format!(
                r#"cohorts_events_refused_total{{reason="{reason}"}}"#
            )),
            "{metrics}"
        );
    }
}

#[test]
fn text_that_the_database_cannot_hold_is_made_to_fit() {
    let project = Project::new();
    project.capture(json!([{"event": "a\u{0}b", "distinct_id": "x\u{0}y", "properties": {"$set": {"k\u{0}": "v\u{0}"}}}]));
    assert_eq!(properties(&project), json!({"k\u{fffd}": "v\u{fffd}"}));
}

#[test]
fn numbers_come_back_as_they_were_sent() {
    let project = Project::new();
    let sent = json!({"large": 9007199254740993_i64, "small": -0.25, "whole": 5.0, "text": "5"});
    project.people([("ann", sent.clone())]);
    assert_eq!(properties(&project), sent);
}

#[test]
fn people_who_come_in_at_the_same_time_are_made_once() {
    let project = Project::new();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let project = &project;
            scope.spawn(move || {
                for round in 0..5 {
                    let event = |id: i64| json!({"event": "x", "distinct_id": format!("p{id}"), "properties": {"$set": {format!("k{thread}"): round}}});
                    project.capture((0..20).map(event).collect());
                }
            });
        }
    });
    let id = project.cohort(json!({"filters": any_of(json!([did("x", 1)]))}));
    assert_eq!(project.settle(id)["count"], 20);
    let page = project.get(&format!("cohorts/{id}/persons/")).json();
    for row in page["results"].as_array().expect("rows") {
        let all: serde_json::Map<String, Value> = (0..8)
            .map(|thread| (format!("k{thread}"), json!(4)))
            .collect();
        assert_eq!(row["properties"], Value::Object(all));
    }
}

#[test]
fn a_token_may_be_named_twice_and_never_holds_nul() {
    let project = Project::new();
    let twice = json!({"api_key": project.token, "token": project.token, "batch": []});
    assert_eq!(batch(twice.to_string().into_bytes(), None).status, 200);
    let nul = json!({"api_key": "a\u{0}", "batch": []});
    batch(nul.to_string().into_bytes(), None).is_error(401, "invalid_api_key", None);
}

#[test]
fn a_batch_of_more_items_than_may_be_is_refused() {
    let many = format!(
        r#"{{"api_key": "phc_x", "batch": [{}1]}}"#,
        "1,".repeat(50_000)
    );
    let detail = batch(many.into_bytes(), None)
        .is_error(400, "parse_error", None)
        .detail();
    assert!(detail.contains("at most 50000 items"), "{detail}");
}

#[test]
fn what_is_sent_again_does_not_undo_what_was_told_since() {
    let project = Project::new();
    let told = |uuid: &str, plan: &str| {
        json!([{"event": "x", "distinct_id": "ann", "uuid": uuid, "timestamp": "2026-01-01T00:00:00Z",
            "properties": {"$set": {"plan": plan}}}])
    };
    let first = told("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "free");
    project.capture(first.clone());
    project.capture(told("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c", "pro"));
    project.capture(first);
    assert_eq!(properties(&project), json!({"plan": "pro"}));
}

#[test]
fn an_id_that_nobody_has_goes_to_whoever_has_the_other() {
    let project = Project::new();
    let identify = |id: &str, other: &str| json!({"event": "$identify", "distinct_id": id, "properties": {"$anon_distinct_id": other}});
    let alias = |id: &str, other: &str| json!({"event": "$create_alias", "distinct_id": id, "properties": {"alias": other}});
    project.capture(json!([{"event": "x", "distinct_id": "anon1"}]));
    // Somebody known gets the other id, and somebody new both.
    project.capture(json!([
        identify("ann", "anon1"),
        identify("bob", "anon2"),
        alias("bob", "b3")
    ]));
    for (one, other) in [("ann", "anon1"), ("bob", "anon2"), ("bob", "b3")] {
        assert_eq!(project.person(one), project.person(other), "{one} {other}");
    }
    assert_ne!(project.person("ann"), project.person("bob"));
    let people = project.get("persons/").json();
    assert_eq!(people["results"].as_array().map(Vec::len), Some(2));
    // Two people who turn out to be one stay two for now.
    project.capture(json!([identify("ann", "bob")]));
    assert_ne!(project.person("ann"), project.person("bob"));
}
