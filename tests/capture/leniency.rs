//! Items that clients write in another way: empty lists for objects, ids of any type, `NaN`, raw control characters, long
//! names. Requests that store no event.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::harness::{Answer, Project, any_of, count, did, find_person, metric, request, send};

const FORM: &str = "application/x-www-form-urlencoded";

/// Sends a body unchanged.
fn send_raw(path: &str, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let call = request(Method::POST, path).header(CONTENT_TYPE, media_type);
    send(&Method::POST, call.body(body.into()))
}

fn send_json(project: &Project, path: &str, mut body: Value) -> Answer {
    body["api_key"] = json!(project.token);
    send_raw(path, "application/json", body.to_string())
}

/// The body of a batch. The items are JSON texts.
fn batch(project: &Project, items: &[&str]) -> String {
    let items = items.join(",");
    format!(r#"{{"api_key":"{}","batch":[{items}]}}"#, project.token)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// A pair of a form or a query.
fn pair(name: &str, text: &str) -> String {
    let url = Url::parse_with_params("http://a/", [(name, text)]).expect("a URL");
    url.query().expect("a query").to_owned()
}

fn properties(project: &Project, id: &str) -> Value {
    let person = find_person(project, id).unwrap_or_else(|| panic!("no person {id}"));
    person["properties"].clone()
}

#[test]
fn empty_list_is_read_as_an_empty_object() {
    let project = Project::new();
    project.capture(json!([
        {"event": "$identify", "distinct_id": "php1", "$set": [], "properties": {"$lib": "posthog-php"}},
        {"event": "e", "distinct_id": "php2", "properties": []},
        {"event": "e", "distinct_id": "php3", "properties": {"$set": [], "$set_once": [], "$unset": []}, "$set_once": {"a": 1}},
        {"event": "e", "distinct_id": "php4", "$unset": [], "$set_once": [], "options": [], "properties": {"$set": {"b": 2}}},
    ]));
    for (id, expected) in [
        ("php1", json!({})),
        ("php2", json!({})),
        ("php3", json!({"a": 1})),
        ("php4", json!({"b": 2})),
    ] {
        assert_eq!(properties(&project, id), expected, "{id}");
    }
    // A token in the item, and a list with elements.
    let items =
        json!([{"event": "e", "distinct_id": "php5", "token": project.token, "properties": []}]);
    assert_eq!(
        send_raw("/e/", "application/json", items.to_string()).status,
        200
    );
    assert!(find_person(&project, "php5").is_some());
    let list = send_json(
        &project,
        "/capture/",
        json!({"event": "e", "distinct_id": "p", "properties": [1]}),
    );
    list.is_error(400, "invalid_payload", None);
}

#[test]
fn distinct_ids_of_other_types_become_their_json_text() {
    let project = Project::new();
    project.capture(json!([
        {"event": "e", "distinct_id": true},
        {"event": "e", "distinct_id": {"id": 7, "at": ["x", null]}},
        {"event": "e", "distinct_id": ["a", 1.5]},
        {"event": "e", "properties": {"distinct_id": [false]}},
        {"event": "$identify", "distinct_id": "ann", "properties": {"$anon_distinct_id": {"device": 1}}},
        {"event": "$create_alias", "distinct_id": "ann", "properties": {"alias": [2]}},
        {"event": "e", "distinct_id": ["é".repeat(300)]},
    ]));
    let cut = format!("[\"{}", "é".repeat(198));
    for id in [
        "true",
        r#"{"id":7,"at":["x",null]}"#,
        r#"["a",1.5]"#,
        "[false]",
        &cut,
    ] {
        assert!(find_person(&project, id).is_some(), "{id}");
    }
    let ann = find_person(&project, "ann").expect("ann")["uuid"].clone();
    for id in [r#"{"device":1}"#, "[2]"] {
        assert_eq!(find_person(&project, id).expect(id)["uuid"], ann, "{id}");
    }
}

#[test]
fn literals_of_python_and_raw_control_characters_affect_only_their_item() {
    let project = Project::new();
    let items = |kind: &str| {
        let set = r#"{"a":NaN,"b":[Infinity,-Infinity],"c":"NaN \"-Infinity","d":"x#y","e":1}"#;
        let set = set.replace('#', "\t\u{1}\n\0");
        let odd =
            format!(r#"{{"event":"e","distinct_id":"odd-{kind}","properties":{{"$set":{set}}}}}"#);
        let plain = format!(r#"{{"event":"e","distinct_id":"plain-{kind}"}}"#);
        batch(
            &project,
            &[&plain, &odd, r#"{"event":"e","distinct_id":NaN}"#],
        )
    };
    for (kind, media_type, body) in [
        ("json", "application/json", items("json").into_bytes()),
        ("text", "text/plain", items("text").into_bytes()),
        ("gzip", "application/json", gzip(&items("gzip"))),
        ("form", FORM, pair("data", &items("form")).into_bytes()),
    ] {
        assert_eq!(send_raw("/e/", media_type, body).status, 200, "{kind}");
        assert!(find_person(&project, &format!("plain-{kind}")).is_some());
        let expected = json!({"a": null, "b": [null, null], "c": "NaN \"-Infinity",
            "d": "x\t\u{1}\n\u{fffd}y", "e": 1});
        assert_eq!(properties(&project, &format!("odd-{kind}")), expected);
    }
    let single = format!(
        r#"{{"event":"one","distinct_id":"one","api_key":"{}","properties":{{"x":NaN,"text":"a#b"}}}}"#,
        project.token
    );
    let single = single.replace('#', "\n");
    assert_eq!(
        send_raw("/capture/", "application/json", single).status,
        200
    );
    assert!(find_person(&project, "one").is_some());
    // JSON with another mistake is refused as a whole.
    let items = [r#"{"event":"e","distinct_id":"n","properties":{"x":NaN,"y":nil}}"#];
    let answer = send_raw("/batch/", "application/json", batch(&project, &items));
    answer.is_error(400, "parse_error", None);
}

#[test]
fn request_without_a_valid_event_is_an_error_with_the_first_reason() {
    let project = Project::new();
    let detail = |path: &str, body: Value, code: &str, attr: Option<&str>| {
        send_json(&project, path, body)
            .is_error(400, code, attr)
            .detail()
    };
    let camel = json!({"event": "signup", "distinctId": "camel"});
    let missing = detail("/capture/", camel.clone(), "required", Some("distinct_id"));
    assert!(missing.contains("`distinct_id` is missing"), "{missing}");
    let both = json!({"batch": [{"distinct_id": "a"}, camel]});
    let first = detail("/batch/", both, "required", Some("event"));
    assert!(
        first.contains("All 2 events") && first.contains("`event`"),
        "{first}"
    );
    for id in [json!(null), json!(""), json!("  ")] {
        let body = json!({"event": "e", "distinct_id": id});
        detail("/e/", body, "required", Some("distinct_id"));
    }
    for item in [
        json!(7),
        json!({"event": "e", "distinct_id": "a", "properties": "text"}),
    ] {
        detail("/batch/", json!({"batch": [item]}), "invalid_payload", None);
    }
    let own_token =
        json!([{"event": "e", "distinct_id": "a", "properties": 7, "token": project.token}]);
    let answer = send_raw("/e/", "application/json", own_token.to_string());
    answer.is_error(400, "invalid_payload", None);
    assert_eq!(count(&project, json!([did("e", 1)])), 0);
}

#[test]
fn request_without_a_refused_event_is_accepted() {
    let project = Project::new();
    let event =
        json!({"event": "e", "distinct_id": "a", "uuid": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"});
    for batch in [
        json!([]),
        json!([event]),
        json!([event]),
        json!([event, {}]),
    ] {
        let answer = send_json(&project, "/batch/", json!({"batch": batch}));
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"status": "Ok"}))
        );
    }
    assert_eq!(count(&project, json!([did("e", 1)])), 1);
}

#[test]
fn filters_and_requests_find_the_names_that_were_sent() {
    let project = Project::new();
    let names = |field: &str| metric(&format!(r#"cohorts_truncated_total{{field="{field}"}}"#));
    let before = (names("event"), names("distinct_id"));
    let event = format!(" {}b", "é".repeat(200));
    let id = format!("{} b", "i".repeat(199));
    project.capture(json!([
        {"event": event, "distinct_id": id},
        {"event": " short ", "distinct_id": " s "},
        {"event": "$create_alias", "distinct_id": "s", "properties": {"alias": "l".repeat(300)}},
    ]));
    assert!(names("event") > before.0 && names("distinct_id") > before.1 + 1);
    let stored = "i".repeat(199);
    let stored = stored.as_str();
    for (sent, first_id) in [(id.as_str(), stored), (stored, stored), (" s ", "s")] {
        let query = pair("distinct_id", sent);
        let found = project.get(&format!("persons/?{query}")).json();
        let ids = found["results"][0]["distinct_ids"]
            .as_array()
            .expect("a person");
        assert!(ids.contains(&json!(first_id)), "{found}");
    }
    let action = project.post(
        "actions/",
        json!({"name": "a", "steps": [{"event": event}]}),
    );
    let action = action.json()["id"].clone();
    let by_action = json!({"type": "behavioral", "key": action, "event_type": "actions", "value": "performed_event",
        "time_value": 1, "time_interval": "day"});
    let by_id = json!({"type": "person", "key": "distinct_id", "operator": "exact", "value": [id]});
    for leaf in [
        did(&event, 1),
        did(" short ", 1),
        did("short", 1),
        by_action,
        by_id,
    ] {
        assert_eq!(count(&project, json!([leaf])), 1, "{leaf}");
    }
    // The stored filter is the one that was sent.
    let filters = any_of(json!([did(&event, 1)]));
    let cohort = project.cohort(json!({"filters": filters}));
    let stored = project.get(&format!("cohorts/{cohort}/")).json();
    let key = &stored["filters"]["properties"]["values"][0];
    assert!(stored.to_string().contains(&event), "{key}");
}

#[test]
fn uploads_find_the_distinct_ids_that_were_sent() {
    let project = Project::new();
    let id = format!("{} b", "i".repeat(199));
    project.capture(json!([{"event": "e", "distinct_id": id}]));
    let name = r#"cohorts_truncated_total{field="distinct_id"}"#;
    let before = metric(name);
    let csv = format!("distinct_id,x\n{id},1\n{},1\n", "n".repeat(1_000));
    let fields = [("name", "u"), ("create_people", "true")];
    let answer = project.upload(None, csv, &fields);
    let upload = &answer.json()["upload"];
    assert_eq!(
        (&upload["added"], &upload["created_people"]),
        (&json!(2), &json!(1)),
        "{upload}"
    );
    assert!(find_person(&project, &"n".repeat(200)).is_some());
    assert!(metric(name) >= before + 2);
}
