//! Setting and deleting one property of a person.

use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, any_of, assert_invalid, count, find_person, person, person_count,
};

fn change(project: &Project, person: &str, operation: &str, body: Value) -> Answer {
    project.post(&format!("persons/{person}/{operation}/"), body)
}

fn set(project: &Project, person: &str, key: &str, value: Value) {
    let body = json!({"key": key, "value": value});
    let answer = change(project, person, "update_property", body);
    assert_eq!((answer.status, answer.text.as_str()), (202, ""));
}

fn properties(project: &Project, id: &str) -> Value {
    find_person(project, id).expect("a person")["properties"].clone()
}

#[test]
fn property_is_set_like_one_of_an_event() {
    let project = Project::new();
    project.persons([
        ("ann", json!({"plan": "free", "age": 3})),
        ("bob", json!({})),
    ]);
    let ann = project.person("ann");
    let pros = project.cohort(json!({"filters": any_of(json!([person("plan", "exact", "pro")]))}));
    project.settle(pros);
    set(&project, &ann, "plan", json!("pro"));
    for (key, value) in [
        ("age", json!(4)),
        ("tags", json!({"a": [1, 2.50, "\u{e9}\""]})),
        ("a \"quoted\" name", json!(12345678901234567890_u64)),
    ] {
        set(&project, &ann, key, value);
    }
    let expected = json!({"plan": "pro", "age": 4, "tags": {"a": [1, 2.5, "\u{e9}\""]},
        "a \"quoted\" name": 12345678901234567890_u64});
    assert_eq!(properties(&project, "ann"), expected);
    assert_eq!(properties(&project, "bob"), json!({}));
    // The change is an event, and the dynamic cohort follows it.
    let changes = json!([{"type": "behavioral", "key": "$set", "value": "performed_event_multiple", "event_type": "events",
        "time_value": 1, "time_interval": "day", "operator": "exact", "operator_value": 5}]);
    assert_eq!(count(&project, changes), 1);
    let calculated = || {
        project.patch(&format!("cohorts/{pros}/"), json!({}));
        project.settle(pros);
    };
    calculated();
    assert_eq!(project.members(pros), ["ann"]);

    let deleted = change(&project, &ann, "delete_property", json!({"$unset": "plan"}));
    assert_eq!(
        (deleted.status, deleted.json()),
        (201, json!({"success": true}))
    );
    let repeated = change(&project, &ann, "delete_property", json!({"$unset": "plan"}));
    assert_eq!(repeated.status, 201);
    assert_eq!(properties(&project, "ann").get("plan"), None);
    calculated();
    assert_eq!(project.members(pros), Vec::<String>::new());
    assert_eq!(person_count(&project), 2);
}

#[test]
fn missing_fields_are_named_as_by_posthog() {
    let project = Project::new();
    project.persons([("ann", json!({}))]);
    let ann = project.person("ann");
    for (body, field) in [
        (json!({}), "value"),
        (json!({"key": "a"}), "value"),
        (json!({"key": "a", "value": null}), "value"),
        (json!({"value": 1}), "key"),
        (json!({"key": null, "value": 1}), "key"),
    ] {
        let answer = change(&project, &ann, "update_property", body);
        let expected = json!({"type": "validation_error", "code": "This field is required.",
            "detail": "required", "attr": field});
        assert_eq!((answer.status, answer.json()), (400, expected));
    }
    let number = change(
        &project,
        &ann,
        "update_property",
        json!({"key": 7, "value": 1}),
    );
    assert_invalid(&number, Some("key"), "string");
    let missing = change(&project, &ann, "delete_property", json!({"$unset": null}));
    missing.is_error(400, "required", Some("$unset"));
    let list = change(&project, &ann, "delete_property", json!({"$unset": ["a"]}));
    assert_invalid(&list, Some("$unset"), "string");
    assert_eq!(properties(&project, "ann"), json!({}));
}

#[test]
fn change_that_cannot_be_stored_is_refused() {
    let project = Project::new();
    project.persons([("ann", json!({"keep": "a".repeat(400_000)}))]);
    let (ann, before) = (project.person("ann"), properties(&project, "ann"));
    for (key, length) in [("b", 200_000), ("b", 1_100_000)] {
        let body = json!({"key": key, "value": "b".repeat(length)});
        let answer = change(&project, &ann, "update_property", body);
        answer.is_error(400, "invalid_input", Some("value"));
    }
    let body = json!({"key": "k".repeat(3_000), "value": 1});
    let answer = change(&project, &ann, "update_property", body);
    answer.is_error(400, "invalid_input", Some("key"));
    assert_eq!(properties(&project, "ann"), before);
    let body = json!({"key": "nul", "value": "\0"});
    let answer = change(&project, &ann, "update_property", body);
    assert_ne!(answer.status, 500, "{}", answer.text);
    // A shorter value of the same property has room.
    set(&project, &ann, "keep", json!("b".repeat(500_000)));
}

#[test]
fn persons_of_other_projects_are_not_changed() {
    let (project, other) = (Project::new(), Project::new());
    other.persons([("ann", json!({}))]);
    let ann = other.person("ann");
    for id in [ann.as_str(), "ann"] {
        change(
            &project,
            id,
            "update_property",
            json!({"key": "a", "value": 1}),
        )
        .is_error(404, "not_found", None);
        change(&project, id, "delete_property", json!({"$unset": "a"})).is_error(
            404,
            "not_found",
            None,
        );
    }
    assert_eq!(properties(&other, "ann"), json!({}));
    assert_eq!(person_count(&project), 0);
}
