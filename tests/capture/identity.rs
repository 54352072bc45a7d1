//! The identity of events: uuid, name and distinct id, whatever the time.

use std::thread;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, find_person, request, send};

const UUID: &str = "018f0000-0000-7000-8000-000000000001";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// How many persons did the event exactly `times` times, whenever.
fn persons_with(project: &Project, event: &str, times: u32) -> i64 {
    let leaf = json!({"type": "behavioral", "key": event, "value": "performed_event_multiple", "event_type": "events",
        "explicit_datetime": "2000-01-01", "operator": "exact", "operator_value": times});
    let body = json!({"filters": any_of(json!([leaf]))});
    project.post("cohorts/preview/", body).json()["count"]
        .as_i64()
        .expect("a count")
}

/// Sends a batch with this time of sending.
fn send_at(project: &Project, batch: &Value, sent_at: Option<DateTime<Utc>>) {
    let mut body = json!({"api_key": project.token, "batch": batch});
    if let Some(sent_at) = sent_at {
        body["sent_at"] = json!(sent_at.to_rfc3339());
    }
    let call = request(Method::POST, "/batch/").json(&body);
    let answer = send(&Method::POST, call);
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn a_resend_counts_once_whatever_the_clock_says() {
    let project = Project::new();
    let time = Utc::now() - TimeDelta::hours(1);
    let batch = json!([{"event": "x", "distinct_id": "ann", "uuid": UUID, "timestamp": time.to_rfc3339(),
        "properties": {"$set": {"plan": "free"}}}]);
    let later =
        json!([{"event": "x", "distinct_id": "ann", "properties": {"$set": {"plan": "pro"}}}]);
    send_at(&project, &batch, Some(time));
    let created = find_person(&project, "ann").expect("ann")["created_at"].clone();
    project.capture(later);
    // The same time, none, a minute later, and over one and over many midnights in both directions.
    let resends = [0, 1, 24 * 60, -24 * 60, 400 * 24 * 60];
    for minutes in resends {
        send_at(&project, &batch, Some(time + TimeDelta::minutes(minutes)));
    }
    send_at(&project, &batch, None);
    assert_eq!(persons_with(&project, "x", 2), 1);
    let person = find_person(&project, "ann").expect("ann");
    assert_eq!(person["properties"], json!({"plan": "pro"}));
    assert_eq!(person["created_at"], created);
}

#[test]
fn different_events_with_one_uuid_are_stored_with_their_persons() {
    for uuid in [UUID, NIL] {
        let project = Project::new();
        let event = |event: &str, id: &str| {
            json!({"event": event, "distinct_id": id, "uuid": uuid,
            "timestamp": "2026-11-01T10:00:00Z", "properties": {"$set": {"by": format!("{event} of {id}")}}})
        };
        // In one batch, in another batch, and repeated in both.
        let first = json!([
            event("created", "o1"),
            event("paid", "o2"),
            event("created", "o1")
        ]);
        let second = json!([
            event("created", "o1"),
            event("paid", "o1"),
            event("paid", "o2"),
            event("created", "o3")
        ]);
        project.capture(first);
        project.capture(second);
        for id in ["o1", "o2", "o3"] {
            let person = find_person(&project, id).unwrap_or_else(|| panic!("no {id}"));
            let by = if id == "o3" {
                "created of o3".to_owned()
            } else {
                format!("paid of {id}")
            };
            assert_eq!(person["properties"], json!({"by": by}));
        }
        assert_eq!(persons_with(&project, "created", 1), 2);
        assert_eq!(persons_with(&project, "paid", 1), 2);
    }
}

#[test]
fn concurrent_events_with_one_uuid_are_stored_once_each() {
    let project = Project::new();
    thread::scope(|scope| {
        for thread in 0..8 {
            let project = &project;
            scope.spawn(move || {
                for round in 0..5 {
                    let time = format!("2026-11-{:02}T10:00:00Z", 1 + thread + round);
                    let event = |id: usize| json!({"event": "x", "distinct_id": format!("p{id}"), "uuid": UUID, "timestamp": time});
                    project.capture((0..20).map(event).collect());
                }
            });
        }
    });
    assert_eq!(persons_with(&project, "x", 1), 20);
}

#[test]
fn the_distinct_id_of_a_merged_person_still_identifies_its_events() {
    let project = Project::new();
    let event = |id: &str| json!({"event": "x", "distinct_id": id, "uuid": UUID, "timestamp": "2026-11-01T10:00:00Z"});
    project.capture(json!([event("anon")]));
    project.capture(json!([{"event": "$identify", "distinct_id": "ann", "properties": {"$anon_distinct_id": "anon"}}]));
    project.capture(json!([event("anon")]));
    assert_eq!(persons_with(&project, "x", 1), 1);
    // Another distinct id of the same person is another event.
    project.capture(json!([event("ann")]));
    assert_eq!(persons_with(&project, "x", 2), 1);
}

#[test]
fn long_names_and_ids_are_compared_as_they_are_stored() {
    let project = Project::new();
    let (name, id) = ("n".repeat(300), "i".repeat(300));
    let event = json!([{"event": name, "distinct_id": id, "uuid": UUID, "timestamp": "2026-11-01T10:00:00Z"}]);
    project.capture(event.clone());
    project.capture(event);
    assert_eq!(persons_with(&project, &name[..200], 1), 1);
}

#[test]
fn an_invalid_uuid_identifies_the_event_by_its_text() {
    let project = Project::new();
    let event = |event: &str, uuid: Value| json!([{"event": event, "distinct_id": "iv", "uuid": uuid, "timestamp": "2026-11-01T10:00:00Z"}]);
    for (nth, uuid) in [
        json!("50172"),
        json!(50_172),
        json!("order-50172"),
        json!({"id": 50_172}),
        json!("018F0000-0000-7000-8000-000000000001"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("inv{nth}");
        project.capture(event(&name, uuid.clone()));
        project.capture(event(&name, uuid.clone()));
        assert_eq!(persons_with(&project, &name, 1), 1, "{uuid}");
    }
    // Another text is another event, and two spellings of one uuid are the same.
    project.capture(event("other", json!("50172")));
    project.capture(event("other", json!("50173")));
    assert_eq!(persons_with(&project, "other", 2), 1);
    project.capture(event("spelt", json!(UUID)));
    project.capture(event("spelt", json!(format!(" {} ", UUID.to_uppercase()))));
    assert_eq!(persons_with(&project, "spelt", 1), 1);
    // Programs write these for a missing uuid, for each event.
    for (nth, uuid) in [json!(""), json!("undefined"), json!("null"), json!(null)]
        .into_iter()
        .enumerate()
    {
        let name = format!("none{nth}");
        project.capture(event(&name, uuid.clone()));
        project.capture(event(&name, uuid.clone()));
        assert_eq!(persons_with(&project, &name, 2), 1, "{uuid}");
    }
}
