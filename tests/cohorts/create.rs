//! Creating cohorts: defaults, validation of fields, legacy groups, forms.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::harness::{
    EMAIL, Project, any_of, assert_detail, cohort_path, id_of, only, person, request, send,
};

/// The body of a cohort with legacy groups.
fn trialists() -> Value {
    json!({"name": "Trialists", "groups": [{"properties": {"plan": "trial"}}]})
}

/// Conformance case 1.
#[test]
fn create_sets_the_creator_and_requests_one_calculation_with_or_without_trailing_slash() {
    let project = Project::new();
    let mut creators = Vec::new();
    for path in ["cohorts", "cohorts/"] {
        let cohort = project.post(path, trialists());
        assert_eq!(cohort.status, 201, "{}", cohort.text);
        let cohort = cohort.json();
        assert_eq!(cohort["created_by"]["email"], EMAIL);
        assert_eq!(
            (&cohort["is_calculating"], &cohort["pending_version"]),
            (&json!(true), &json!(1))
        );
        creators.push(cohort["created_by"]["id"].clone());
    }
    assert_eq!(creators[0], creators[1]);
    let by_other = project.with_caller("bob@x.io").post("cohorts", trialists());
    assert_ne!(by_other.json()["created_by"]["id"], creators[0]);
}

/// Conformance case 2.
#[test]
fn legacy_groups_are_returned_as_filters() {
    let project = Project::new();
    let cohort = project.post("cohorts", trialists());
    let shown = project.get(&cohort_path(id_of(&cohort))).json();
    let expected = json!({"type": "OR", "values": [
        {"type": "AND", "values": [{"key": "plan", "value": "trial", "type": "person"}]},
    ]});
    for cohort in [cohort.json(), shown] {
        assert_eq!(cohort["filters"]["properties"], expected);
    }
}

#[test]
fn legacy_groups_are_converted_and_calculated() {
    let project = Project::new();
    project.persons([
        ("ann", json!({"plan": "trial"})),
        ("bob", json!({"plan": "pro"})),
    ]);
    let id =
        project.cohort(json!({"name": "Trialists", "groups": [{"properties": {"plan": "trial"}}]}));
    let cohort = project.settle(id);
    let tree = json!({"type": "OR", "values": [{"type": "AND", "values": [{"key": "plan", "value": "trial", "type": "person"}]}]});
    assert_eq!(cohort["filters"]["properties"], tree);
    assert_eq!(project.members(id), ["ann"]);
}

/// Conformance case 4.
#[test]
fn new_dynamic_cohort_is_pending_and_has_no_count() {
    let project = Project::new();
    let filters = only(person("plan", "exact", "pro"));
    let cohort = project.post("cohorts/", json!({"filters": filters}));
    let shown = project.get(&cohort_path(id_of(&cohort))).json();
    let expected = json!({
        "is_calculating": true, "pending_version": 1, "version": null, "count": null,
        "last_calculation": null, "errors_calculating": 0, "is_static": false, "deleted": false,
        "description": "", "experiment_set": [],
    });
    for cohort in [cohort.json(), shown] {
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(cohort.get(key), Some(value), "{key}");
        }
    }
}

#[test]
fn create_response_has_all_fields_of_a_pending_cohort() {
    let project = Project::new();
    let cohort = project.post(
        "cohorts/",
        json!({"name": "Pros", "filters": any_of(json!([person("plan", "exact", "pro")]))}),
    );
    assert_eq!(cohort.status, 201);
    let cohort = cohort.json();
    let expected = json!({
        "name": "Pros", "description": "", "groups": [], "deleted": false, "query": null, "version": null,
        "pending_version": 1, "is_calculating": true, "last_calculation": null, "errors_calculating": 0,
        "last_error_message": null, "last_error_code": null, "count": null, "is_static": false, "cohort_type": "realtime", "experiment_set": [],
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(cohort[key], *value, "{key}");
    }
    assert_eq!(cohort["created_by"]["email"], EMAIL);
    assert_eq!(cohort["created_by"]["first_name"], "Ana");
    assert_eq!(
        project.get(&format!("cohorts/{}/", cohort["id"])).json(),
        cohort
    );
}

/// Conformance case 5.
#[test]
fn action_criterion_with_a_numeric_key_is_accepted() {
    let project = Project::new();
    let leaf = json!({"type": "behavioral", "key": 7, "value": "performed_event",
        "event_type": "actions", "explicit_datetime": "-30d", "negation": false});
    let cohort = project.post("cohorts/", json!({"filters": only(leaf.clone())}));
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    let stored = &cohort.json()["filters"]["properties"]["values"][0];
    assert_eq!(*stored, leaf);
}

/// Conformance case 10.
#[test]
fn cohort_without_criteria_has_empty_filters() {
    let project = Project::new();
    for is_static in [false, true] {
        let cohort = project.post("cohorts/", json!({"is_static": is_static}));
        let shown = project.get(&cohort_path(id_of(&cohort))).json();
        let listed = project.get("cohorts/").json()["results"][0].clone();
        for cohort in [cohort.json(), shown, listed] {
            assert_eq!(cohort["is_static"], is_static);
            assert_eq!(cohort["filters"], json!({"properties": {}}));
        }
    }
}

/// Conformance case 11.
#[test]
fn folder_is_accepted_and_not_returned() {
    let project = Project::new();
    let cohort = project.post(
        "cohorts/",
        json!({"name": "A", "_create_in_folder": "Growth/Q3"}),
    );
    let shown = project.get(&cohort_path(id_of(&cohort))).json();
    for cohort in [cohort.json(), shown] {
        assert_eq!(cohort["name"], "A");
        assert_eq!(cohort.get("_create_in_folder"), None);
    }
}

/// Conformance case 12.
#[test]
fn empty_body_creates_an_unnamed_dynamic_cohort() {
    let project = Project::new();
    let cohort = project.post("cohorts/", json!({}));
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    let cohort = cohort.json();
    assert_eq!(cohort.get("name"), Some(&Value::Null));
    assert_eq!(cohort["is_static"], false);
}

#[test]
fn absent_body_creates_an_unnamed_cohort_without_criteria() {
    let project = Project::new();
    let call = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    let cohort = send(&Method::POST, call).json();
    assert_eq!(cohort["name"], Value::Null);
    assert_eq!(cohort["filters"], json!({"properties": {}}));
    let settled = project.settle(cohort["id"].as_i64().expect("an id"));
    assert_eq!(
        (&settled["count"], &settled["errors_calculating"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn unknown_and_read_only_fields_are_ignored() {
    let project = Project::new();
    let cohort = project.post(
        "cohorts/",
        json!({"id": "x", "count": [], "colour": 1, "_create_in_folder": "A/B"}),
    );
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    assert!(cohort.json().get("_create_in_folder").is_none());
}

#[test]
fn filters_are_returned_normalised_in_the_sent_key_order() {
    let project = Project::new();
    let sent = json!({"properties": {"values": [
        {"value": "performed_event", "type": "behavioral", "key": "x", "event_type": "events",
            "time_value": "30", "time_interval": "day", "seq_event": null},
        {"type": "cohort", "key": "id", "value": "12"},
    ], "type": "OR"}});
    let cohort = project.post("cohorts/", json!({"filters": sent}));
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    let expected = r#""filters":{"properties":{"values":[{"value":"performed_event","type":"behavioral","key":"x","event_type":"events","time_value":30,"time_interval":"day","negation":false},{"type":"cohort","key":"id","value":12,"negation":false}],"type":"OR"}}"#;
    assert!(cohort.text.contains(expected), "{}", cohort.text);
}

/// Conformance case 13.
#[test]
fn name_is_limited_to_400_characters() {
    let project = Project::new();
    for letter in ["a", "é"] {
        let cohort = project.post("cohorts/", json!({"name": letter.repeat(400)}));
        assert_eq!(cohort.status, 201, "{}", cohort.text);
        let answer = project.post("cohorts/", json!({"name": letter.repeat(401)}));
        answer.is_error(400, "max_length", Some("name"));
    }
}

/// Conformance case 14.
#[test]
fn null_description_and_non_boolean_deleted_are_rejected() {
    let project = Project::new();
    let null = project.post("cohorts/", json!({"description": null}));
    null.is_error(400, "null", Some("description"));
    let banana = project.post("cohorts/", json!({"deleted": "banana"}));
    assert_detail(&banana, Some("deleted"), "Must be a valid boolean.");
}

/// Conformance case 15.
#[test]
fn only_the_first_of_two_invalid_fields_is_reported() {
    let project = Project::new();
    let body = json!({"description": null, "name": "a".repeat(401)});
    let answer = project.post("cohorts/", body);
    answer.is_error(400, "max_length", Some("name"));
    assert!(!answer.text.contains("description"), "{}", answer.text);
}

#[test]
fn first_invalid_field_is_reported_across_all_rules() {
    let project = Project::new();
    let bad = any_of(json!([{"type": "person", "key": "a", "value": 1}]));
    for (body, attr) in [
        (
            json!({"filters": "x", "cohort_type": "nope"}),
            "filters__detail",
        ),
        (json!({"filters": bad, "is_static": "x"}), "filters"),
        (
            json!({"filters": bad, "_create_static_person_ids": "x"}),
            "filters",
        ),
        (json!({"query": "x", "is_static": "x"}), "query"),
        (
            json!({"query": {"kind": "X"}, "cohort_type": "nope"}),
            "query",
        ),
        (json!({"groups": [{}], "filters": bad}), "groups"),
        (json!({"groups": [{}], "cohort_type": "nope"}), "groups"),
        (
            json!({"is_static": "x", "cohort_type": "nope"}),
            "is_static",
        ),
    ] {
        let answer = project.post("cohorts/", body.clone());
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["attr"], attr, "{body}");
    }
    let deleted = json!({"deleted": "x", "filters": bad});
    assert_eq!(project.post("cohorts/", deleted).json()["attr"], "deleted");
}

#[test]
fn invalid_field_is_reported_with_code_and_detail() {
    let project = Project::new();
    let long = "a".repeat(401);
    let cases = [
        (
            json!({"name": long}),
            "max_length",
            "name",
            "Ensure this field has no more than 400 characters.",
        ),
        (
            json!({"name": long, "description": null}),
            "max_length",
            "name",
            "Ensure this field has no more than 400 characters.",
        ),
        (
            json!({"name": [1]}),
            "invalid_input",
            "name",
            "Not a valid string.",
        ),
        (
            json!({"description": null}),
            "null",
            "description",
            "This field may not be null.",
        ),
        (
            json!({"deleted": "banana"}),
            "invalid_input",
            "deleted",
            "Must be a valid boolean.",
        ),
        (
            json!({"cohort_type": "nope"}),
            "invalid_choice",
            "cohort_type",
            "\"nope\" is not a valid choice.",
        ),
    ];
    for (body, code, attr, detail) in cases {
        let answer = project.post("cohorts/", body);
        assert_eq!(answer.is_error(400, code, Some(attr)).detail(), detail);
        assert_eq!(answer.json()["type"], "validation_error");
    }
    assert_eq!(
        project
            .post("cohorts/", json!({"name": "a".repeat(400)}))
            .status,
        201
    );
}

#[test]
fn non_object_and_malformed_bodies_are_rejected() {
    let project = Project::new();
    let send_text = |text: &'static str| {
        let call = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
        send(
            &Method::POST,
            call.header(CONTENT_TYPE, "application/json").body(text),
        )
    };
    let list = send_text("[1]");
    let detail = list.is_error(400, "invalid_input", None).detail();
    assert_eq!(detail, "Invalid data. Expected a dictionary, but got list.");
    let broken = send_text("{\"name\": ");
    assert!(
        broken
            .is_error(400, "parse_error", None)
            .detail()
            .starts_with("JSON parse error - ")
    );
}

fn with_persons() -> Project {
    let project = Project::new();
    project.persons([
        ("d1", json!({"plan": "pro"})),
        ("d2", json!({"plan": "pro"})),
        ("d3", json!({})),
    ]);
    project
}

#[test]
fn form_fields_are_read_like_json_fields() {
    let project = with_persons();
    let filters = any_of(json!([person("plan", "exact", "pro")])).to_string();
    let call = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    let cohort = send(
        &Method::POST,
        call.form(&[
            ("name", "By form"),
            ("filters", &filters),
            ("is_static", "no"),
        ]),
    );
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    let id = cohort.json()["id"].as_i64().expect("an id");
    assert_eq!(project.settle(id)["count"], 2);
    let call = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    let wrong = send(&Method::POST, call.form(&[("filters", "{")]));
    let detail = wrong
        .is_error(400, "invalid_input", Some("filters"))
        .detail();
    assert_eq!(detail, "Value must be valid JSON.");
}
