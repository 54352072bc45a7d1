//! Capturing batches: encodings, tokens, validation of items, deduplication, times.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, any_of, count, did, find_person, first_ids, person, request, send,
};

fn batch(body: Vec<u8>, encoding: Option<&str>) -> Answer {
    let mut call = request(Method::POST, "/batch/")
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    if let Some(encoding) = encoding {
        call = call.header(CONTENT_ENCODING, encoding);
    }
    send(&Method::POST, call)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// Sends a body unchanged.
fn send_raw(path: &str, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let call = request(Method::POST, path).header("content-type", media_type);
    send(&Method::POST, call.body(body.into()))
}

/// Whether one person did the event exactly `times` times.
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

/// The properties of the only person of the project.
fn properties(project: &Project) -> Value {
    let body =
        json!({"filters": any_of(json!([person("nothing", "is_not_set", "")])), "sample": 2});
    let preview = project.post("cohorts/preview/", body).json();
    assert_eq!(preview["count"], 1, "{preview}");
    preview["sample"][0]["properties"].clone()
}

#[test]
fn batch_is_accepted_plain_and_gzipped() {
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
fn project_token_is_read_from_several_fields() {
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
fn repeated_token_is_accepted_and_token_with_nul_is_rejected() {
    let project = Project::new();
    let twice = json!({"api_key": project.token, "token": project.token, "batch": []});
    assert_eq!(batch(twice.to_string().into_bytes(), None).status, 200);
    let nul = json!({"api_key": "a\u{0}", "batch": []});
    batch(nul.to_string().into_bytes(), None).is_error(401, "invalid_api_key", None);
}

#[test]
fn wrong_or_missing_token_is_rejected() {
    let wrong = batch(br#"{"api_key": "phc_no", "batch": []}"#.to_vec(), None);
    wrong.is_error(401, "invalid_api_key", None);
    let missing = batch(br#"{"batch": []}"#.to_vec(), None);
    missing.is_error(401, "not_authenticated", None);
    let project = Project::new();
    let personal = json!({"api_key": project.key, "batch": []}).to_string();
    batch(personal.into_bytes(), None).is_error(401, "invalid_api_key", None);
}

#[test]
fn each_event_may_name_its_own_project() {
    let (one, other) = (Project::new(), Project::new());
    let event = |token: &str, id: &str| json!({"event": "x", "distinct_id": id, "api_key": token});
    let batch =
        json!({"batch": [event(&one.token, "a"), event(&other.token, "b"), event("phc_no", "c")]});
    assert_eq!(
        send_raw("/batch/", "application/json", batch.to_string()).status,
        200
    );
    for (project, id) in [(one, "a"), (other, "b")] {
        assert_eq!(first_ids(&project.get("persons/").json()["results"]), [id]);
    }
}

#[test]
fn undecodable_body_is_rejected() {
    let project = Project::new();
    let good = gzip(&json!({"api_key": project.token, "batch": []}).to_string());
    batch(good[..good.len() - 4].to_vec(), Some("gzip")).is_error(400, "parse_error", None);
    batch(b"{}".to_vec(), Some("br")).is_error(400, "parse_error", None);
    batch(b"\xff\xfe".to_vec(), None).is_error(400, "parse_error", None);
    batch(b"7".to_vec(), None).is_error(400, "parse_error", None);
    batch(b"[]".to_vec(), None).is_error(401, "not_authenticated", None);
}

#[test]
fn body_that_inflates_beyond_the_limit_is_rejected() {
    let bomb = gzip(&" ".repeat(65 << 20));
    assert!(bomb.len() < 1 << 20);
    batch(bomb, Some("gzip")).is_error(413, "request_too_large", None);
}

#[test]
fn batch_of_more_than_50000_items_is_rejected() {
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
fn invalid_items_are_dropped_and_valid_ones_stored() {
    let project = Project::new();
    project.capture(json!([
        5, {}, {"event": "x"}, {"event": "", "distinct_id": "a"}, {"event": "x", "distinct_id": " "},
        {"event": "x", "distinct_id": null}, {"event": "x", "distinct_id": "a", "properties": 7},
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
fn analytics_endpoint_reports_the_result_of_each_event() {
    let project = Project::new();
    let good = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    let bad = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c";
    let batch = json!({"created_at": "2026-03-01T12:00:00Z", "batch": [
        {"event": "x", "uuid": good, "distinct_id": "a", "options": {}, "properties": {"$set": {"plan": "pro"}}},
        {"event": "", "uuid": bad, "distinct_id": "a"},
    ]});
    let call = request(Method::POST, "/i/v1/analytics/events").bearer_auth(&project.token);
    let answer = send(&Method::POST, call.json(&batch)).json();
    assert_eq!(answer["results"][good], json!({"result": "ok"}));
    assert_eq!(answer["results"][bad]["result"], "drop");
    assert!(answer["results"][bad]["details"].is_string());
    let shown = project.get("persons/").json();
    assert_eq!(shown["results"][0]["properties"], json!({"plan": "pro"}));
    // An event without a uuid has no result.
    let call = request(Method::POST, "/i/v1/analytics/events").bearer_auth(&project.token);
    let answer = send(
        &Method::POST,
        call.json(&json!({"batch": [{"event": "x"}]})),
    );
    answer.is_error(400, "required", Some("distinct_id"));
}

#[test]
fn event_with_a_repeated_uuid_counts_once() {
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
fn event_is_identified_by_its_uuid_regardless_of_its_time() {
    let project = Project::new();
    let event = |day: u32, plan: &str| {
        json!([{"event": "x", "distinct_id": "ann", "uuid": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a77",
            "timestamp": format!("2026-03-{day:02}T23:59:59Z"), "properties": {"$set": {"plan": plan}}}])
    };
    project.capture(event(1, "first"));
    project.capture(event(2, "second"));
    assert_eq!(
        find_person(&project, "ann").expect("ann")["properties"],
        json!({"plan": "first"})
    );
    let counted = |times: u32| {
        json!([{"type": "behavioral", "key": "x", "value": "performed_event_multiple", "event_type": "events",
            "explicit_datetime": "2026-01-01", "operator": "exact", "operator_value": times}])
    };
    assert_eq!(count(&project, counted(1)), 1);
    // Events of another project are separate.
    let other = Project::new();
    other.capture(event(1, "other"));
    assert_eq!(count(&other, counted(1)), 1);
}

#[test]
fn repeated_event_does_not_undo_later_properties() {
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
fn concurrent_batches_create_each_person_once() {
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
fn clock_skew_is_corrected_and_future_times_become_now() {
    let project = Project::new();
    let now = chrono::Utc::now();
    let at = |hours: i64| (now + chrono::TimeDelta::hours(hours)).to_rfc3339();
    // The sender's clock is ten days ahead, and the first event happened three hours before it was sent.
    let ahead = json!({"api_key": project.token, "sent_at": at(240), "batch": [
        {"event": "x", "distinct_id": "ahead", "timestamp": at(237)},
        {"event": "x", "distinct_id": "as_told", "timestamp": at(-48), "properties": {"$ignore_sent_at": true}},
    ]});
    let others = json!({"api_key": project.token, "batch": [
        {"event": "x", "distinct_id": "future", "timestamp": at(100)},
        {"event": "x", "distinct_id": "ago", "offset": 7_200_000},
    ]});
    for batch in [ahead, others] {
        assert_eq!(
            send_raw("/batch/", "application/json", batch.to_string()).status,
            200
        );
    }
    let persons = project.get("persons/").json();
    for (id, hours) in [("ahead", -3), ("as_told", -48), ("future", 0), ("ago", -2)] {
        let rows = persons["results"].as_array().expect("rows");
        let person = rows
            .iter()
            .find(|one| one["distinct_ids"][0] == id)
            .expect(id);
        let created = person["created_at"].as_str().expect("a time");
        let created: chrono::DateTime<chrono::Utc> = created.parse().expect("a time");
        let off = created - (now + chrono::TimeDelta::hours(hours));
        assert!(off.num_seconds().abs() < 60, "{id}: {off}");
    }
}

#[test]
fn group_identify_is_a_plain_event() {
    let project = Project::new();
    let group = json!({"event": "$groupidentify", "distinct_id": "ann", "properties":
        {"$group_type": "company", "$group_key": "acme", "$group_set": {"size": 9}}});
    project.capture(json!([group]));
    assert_eq!(count(&project, json!([did("$groupidentify", 1)])), 1);
    assert_eq!(
        find_person(&project, "ann").expect("ann")["properties"],
        json!({})
    );
}
