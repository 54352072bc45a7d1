//! Cases 1 to 15: cohorts are made, shown and changed.

use reqwest::Method;
use serde_json::{Value, json};

use super::{asked_by, at, id_of, names, only, says};
use crate::harness::{EMAIL, Project, any_of, did, person};

/// A cohort in the older form of criteria.
fn trialists() -> Value {
    json!({"name": "Trialists", "groups": [{"properties": {"plan": "trial"}}]})
}

#[test]
fn case_001_a_cohort_is_its_makers_and_calculated_once_with_or_without_a_slash() {
    let project = Project::new();
    let mut makers = Vec::new();
    for path in ["cohorts", "cohorts/"] {
        let made = project.post(path, trialists());
        assert_eq!(made.status, 201, "{}", made.text);
        let made = made.json();
        assert_eq!(made["created_by"]["email"], EMAIL);
        assert_eq!(
            (&made["is_calculating"], &made["pending_version"]),
            (&json!(true), &json!(1))
        );
        makers.push(made["created_by"]["id"].clone());
    }
    assert_eq!(makers[0], makers[1]);
    let by_other = asked_by(&project, "bob@x.io").post("cohorts", trialists());
    assert_ne!(by_other.json()["created_by"]["id"], makers[0]);
}

#[test]
fn case_002_groups_are_shown_as_filters() {
    let project = Project::new();
    let made = project.post("cohorts", trialists());
    let shown = project.get(&at(id_of(&made))).json();
    let expected = json!({"type": "OR", "values": [
        {"type": "AND", "values": [{"key": "plan", "value": "trial", "type": "person"}]},
    ]});
    for cohort in [made.json(), shown] {
        assert_eq!(cohort["filters"]["properties"], expected);
    }
}

#[test]
fn case_003_a_new_name_asks_for_a_second_calculation() {
    let project = Project::new();
    let made = project.post("cohorts", trialists());
    let body = json!({"name": "Trial users", "description": "on a trial"});
    let changed = project.patch(&at(id_of(&made)), body);
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    assert_eq!(changed["name"], "Trial users");
    assert_eq!(changed["description"], "on a trial");
    assert_eq!(changed["filters"], made.json()["filters"]);
    assert_eq!(changed["pending_version"], 2);
}

#[test]
fn case_004_a_fresh_dynamic_cohort_waits_and_has_no_count() {
    let project = Project::new();
    let filters = only(person("plan", "exact", "pro"));
    let made = project.post("cohorts/", json!({"filters": filters}));
    let shown = project.get(&at(id_of(&made))).json();
    let expected = json!({
        "is_calculating": true, "pending_version": 1, "version": null, "count": null,
        "last_calculation": null, "errors_calculating": 0, "is_static": false, "deleted": false,
        "description": "", "experiment_set": [],
    });
    for cohort in [made.json(), shown] {
        for (key, value) in expected.as_object().expect("an object") {
            assert_eq!(cohort.get(key), Some(value), "{key}");
        }
    }
}

#[test]
fn case_005_an_action_may_be_named_by_its_number() {
    let project = Project::new();
    let leaf = json!({"type": "behavioral", "key": 7, "value": "performed_event",
        "event_type": "actions", "explicit_datetime": "-30d", "negation": false});
    let made = project.post("cohorts/", json!({"filters": only(leaf.clone())}));
    assert_eq!(made.status, 201, "{}", made.text);
    let stored = &made.json()["filters"]["properties"]["values"][0];
    assert_eq!(*stored, leaf);
}

#[test]
fn case_006_members_have_the_property_or_did_it_in_the_window() {
    let project = Project::new();
    project.people([
        ("red", json!({"team": "red"})),
        ("blue", json!({"team": "blue"})),
        ("late", json!({})),
    ]);
    let opened = |id: &str, hours: i64| {
        let time = chrono::Utc::now() - chrono::TimeDelta::hours(hours);
        json!({"event": "open", "distinct_id": id, "timestamp": time.to_rfc3339()})
    };
    project.capture(json!([opened("blue", 12), opened("late", 12 * 24)]));
    let filters = any_of(json!([person("team", "exact", "red"), did("open", 1)]));
    let made = project.post("cohorts/", json!({"filters": filters}));
    let id = id_of(&made);
    assert_eq!(project.settle(id)["is_calculating"], false);
    assert_eq!(project.members(id), ["blue", "red"]);
}

#[test]
fn case_007_delete_is_not_allowed_and_deletes_nothing() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let answer = project.ask(Method::DELETE, &at(id), None);
    assert_eq!((answer.status, answer.text.as_str()), (405, ""));
    let shown = project.get(&at(id));
    assert_eq!(shown.status, 200);
    assert_eq!(shown.json()["deleted"], false);
}

#[test]
fn case_008_a_deleted_cohort_is_shown_and_not_listed() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "gone"}));
    project.cohort(json!({"name": "live"}));
    project.patch(&at(id), json!({"deleted": true}));
    let shown = project.get(&at(id));
    assert_eq!(shown.status, 200);
    assert_eq!(shown.json()["deleted"], true);
    assert_eq!(names(&project, ""), ["live"]);
}

#[test]
fn case_009_filters_that_are_text_are_refused_and_nothing_changes() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let answer = project.patch(&at(id), json!({"filters": "[not json]", "name": "n"}));
    let detail = "Must contain a 'properties' key with type and values";
    says(&answer, Some("filters__detail"), detail);
    assert_eq!(project.get(&at(id)).json()["name"], "A");
}

#[test]
fn case_010_a_cohort_without_criteria_has_empty_filters() {
    let project = Project::new();
    for is_static in [false, true] {
        let made = project.post("cohorts/", json!({"is_static": is_static}));
        let shown = project.get(&at(id_of(&made))).json();
        let listed = project.get("cohorts/").json()["results"][0].clone();
        for cohort in [made.json(), shown, listed] {
            assert_eq!(cohort["is_static"], is_static);
            assert_eq!(cohort["filters"], json!({"properties": {}}));
        }
    }
}

#[test]
fn case_011_a_folder_is_accepted_and_not_shown() {
    let project = Project::new();
    let made = project.post(
        "cohorts/",
        json!({"name": "A", "_create_in_folder": "Growth/Q3"}),
    );
    let shown = project.get(&at(id_of(&made))).json();
    for cohort in [made.json(), shown] {
        assert_eq!(cohort["name"], "A");
        assert_eq!(cohort.get("_create_in_folder"), None);
    }
}

#[test]
fn case_012_an_empty_body_makes_a_dynamic_cohort_without_a_name() {
    let project = Project::new();
    let made = project.post("cohorts/", json!({}));
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    assert_eq!(made.get("name"), Some(&Value::Null));
    assert_eq!(made["is_static"], false);
}

#[test]
fn case_013_a_name_has_400_characters_at_most() {
    let project = Project::new();
    for letter in ["a", "é"] {
        let made = project.post("cohorts/", json!({"name": letter.repeat(400)}));
        assert_eq!(made.status, 201, "{}", made.text);
        let answer = project.post("cohorts/", json!({"name": letter.repeat(401)}));
        answer.is_error(400, "max_length", Some("name"));
    }
}

#[test]
fn case_014_null_and_other_words_are_refused_where_they_mean_nothing() {
    let project = Project::new();
    let null = project.post("cohorts/", json!({"description": null}));
    null.is_error(400, "null", Some("description"));
    let banana = project.post("cohorts/", json!({"deleted": "banana"}));
    says(&banana, Some("deleted"), "Must be a valid boolean.");
}

#[test]
fn case_015_of_two_bad_fields_the_first_is_named_alone() {
    let project = Project::new();
    let body = json!({"description": null, "name": "a".repeat(401)});
    let answer = project.post("cohorts/", body);
    answer.is_error(400, "max_length", Some("name"));
    assert!(!answer.text.contains("description"), "{}", answer.text);
}
