//! Events and people come in.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::harness::{Answer, Project, any_of, did, first_ids, person, request, send};

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
    batch(b"7".to_vec(), None).is_error(400, "parse_error", None);
    batch(b"[]".to_vec(), None).is_error(401, "not_authenticated", None);
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
}

/// Sends a body as it is, and gives the answer.
fn send_raw(path: &str, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let asked = request(Method::POST, path).header("content-type", media_type);
    send(&Method::POST, asked.body(body.into()))
}

#[test]
fn every_path_takes_events_however_browsers_pack_them() {
    let project = Project::new();
    let one = |id: &str| json!({"api_key": project.token, "event": "x", "distinct_id": id});
    let list = json!([{"event": "x", "distinct_id": "l1", "properties": {"token": project.token}},
        {"event": "x", "distinct_id": "l2", "api_key": project.token}]);
    let encoded = |text: &str| BASE64_STANDARD.encode(text);
    for (path, media_type, body) in [
        ("/capture/", "application/json", one("a").to_string()),
        ("/capture", "text/plain;charset=UTF-8", one("b").to_string()),
        (
            "/e/?ip=1&_=17&ver=1",
            "text/plain",
            encoded(&one("c").to_string()),
        ),
        (
            "/e/?compression=base64",
            "application/x-www-form-urlencoded",
            format!(
                "data={}",
                encoded(&one("d").to_string()).replace('+', "%2B")
            ),
        ),
        ("/i/v0/e/", "application/json", list.to_string()),
        ("/track/", "application/json", one("f").to_string()),
    ] {
        let answer = send_raw(path, media_type, body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    let query = format!("/e/?token={}", project.token);
    let bare = json!({"event": "x", "distinct_id": "g"}).to_string();
    assert_eq!(send_raw(&query, "application/json", bare).status, 200);
    let people = project.get("persons/").json();
    assert_eq!(
        first_ids(&people["results"]),
        ["a", "b", "c", "d", "f", "g", "l1", "l2"]
    );
}

#[test]
fn each_event_may_have_a_project_of_its_own() {
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
fn newer_sdks_are_told_what_became_of_each_event() {
    let project = Project::new();
    let good = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    let bad = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c";
    let batch = json!({"created_at": "2026-03-01T12:00:00Z", "batch": [
        {"event": "x", "uuid": good, "distinct_id": "a", "options": {}, "properties": {"$set": {"plan": "pro"}}},
        {"event": "", "uuid": bad, "distinct_id": "a"},
    ]});
    let asked = request(Method::POST, "/i/v1/analytics/events").bearer_auth(&project.token);
    let answer = send(&Method::POST, asked.json(&batch)).json();
    assert_eq!(answer["results"][good], json!({"result": "ok"}));
    assert_eq!(answer["results"][bad]["result"], "drop");
    assert!(answer["results"][bad]["details"].is_string());
    let shown = project.get("persons/").json();
    assert_eq!(shown["results"][0]["properties"], json!({"plan": "pro"}));
}

#[test]
fn there_are_no_flags_and_sdks_are_told_so() {
    for path in ["/flags/?v=2", "/flags", "/decide/?v=3"] {
        let answer = send_raw(
            path,
            "application/json",
            r#"{"api_key": "x", "distinct_id": "a"}"#,
        );
        assert_eq!(answer.json()["flags"], json!({}), "{path}");
        assert_eq!(answer.json()["errorsWhileComputingFlags"], false);
    }
}

#[test]
fn browsers_are_told_what_there_is_and_never_a_script_of_theirs() {
    let config = send(&Method::GET, request(Method::GET, "/array/phc_x/config"));
    assert_eq!(config.json()["hasFeatureFlags"], false);
    let script = |token: &str| {
        let asked = request(Method::GET, &format!("/array/{token}/config.js"));
        asked.send().expect("an answer")
    };
    let answer = script("phc_x-1");
    assert_eq!(answer.headers()["content-type"], "application/javascript");
    let text = answer.text().expect("a script");
    assert!(
        text.contains(r#"["phc_x-1"] = {config: {"supportedCompression":["gzip","gzip-js"],"#),
        "{text}"
    );
    for hostile in ["%22%5D;alert(1);//", "a%3C"] {
        assert_eq!(script(hostile).status(), 404, "{hostile}");
    }
}

#[test]
fn any_page_in_a_browser_may_send_events_and_nothing_else() {
    let preflight = |path: &str| {
        let asked = request(Method::OPTIONS, path)
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        asked.send().expect("an answer")
    };
    for path in [
        "/e/",
        "/batch",
        "/i/v0/e/?ip=1",
        "/flags/",
        "/array/phc_x/config",
    ] {
        let answer = preflight(path);
        assert_eq!(answer.status(), 200, "{path}");
        let allowed = answer.headers().get("access-control-allow-origin");
        assert_eq!(
            allowed.expect("an origin"),
            "https://shop.example",
            "{path}"
        );
    }
    let refused = preflight("/api/projects/@current/cohorts/");
    assert_eq!(refused.headers().get("access-control-allow-origin"), None);

    let project = Project::new();
    let body = json!({"api_key": project.token, "event": "x", "distinct_id": "a"});
    let asked = request(Method::POST, "/e/").header("origin", "https://shop.example");
    let answer = send(&Method::POST, asked.json(&body));
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://shop.example")
    );
}

#[test]
fn clocks_are_set_and_the_future_is_the_present() {
    let project = Project::new();
    let now = chrono::Utc::now();
    let at = |hours: i64| (now + chrono::TimeDelta::hours(hours)).to_rfc3339();
    // A clock that is ten days ahead; an event of three hours before it was sent.
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
    let people = project.get("persons/").json();
    for (id, hours) in [("ahead", -3), ("as_told", -48), ("future", 0), ("ago", -2)] {
        let rows = people["results"].as_array().expect("rows");
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
fn properties_are_taken_away_and_broken_characters_kept_out() {
    let project = Project::new();
    project.people([("ann", json!({"plan": "pro", "seats": 3, "old": 1}))]);
    project.capture(
        json!([{"event": "x", "distinct_id": "ann", "properties": {"$unset": ["plan"]}},
        {"event": "x", "distinct_id": "ann", "$unset": {"old": ""}}]),
    );
    let body = format!(
        r#"{{"api_key":"{}","event":"x","distinct_id":"ann","properties":{{"$set":{{"odd":"a\ud800b\udc00\ud83d\ude00"}}}}}}"#,
        project.token
    );
    assert_eq!(send_raw("/capture/", "application/json", body).status, 200);
    let shown = project.get("persons/?distinct_id=ann").json();
    let expected = json!({"seats": 3, "odd": "a\u{fffd}b\u{fffd}😀"});
    assert_eq!(shown["results"][0]["properties"], expected);
}

#[test]
fn ids_that_mean_nobody_tie_nobody_together() {
    let project = Project::new();
    for id in [
        "null",
        "undefined",
        "00000000-0000-0000-0000-000000000000",
        "Guest",
        "[object Object]",
    ] {
        project.capture(
            json!([{"event": "$identify", "distinct_id": format!("of {id}"),
            "properties": {"$anon_distinct_id": id}}]),
        );
        let alone = project.get(&format!("persons/?distinct_id={id}")).json();
        assert_eq!(alone["results"], json!([]), "{id}");
    }
}
