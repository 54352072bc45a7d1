//! The wire, where it is easy to get wrong: verbs, aliases, forms of ids.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, key, person, request, send};

fn refers_to(cohort: i64) -> Value {
    any_of(json!([{"type": "cohort", "key": "id", "value": cohort}]))
}

#[test]
fn options_and_unknown_verbs_want_a_key_first() {
    let project = Project::new();
    let list = project.path("cohorts/");
    let reader = project.key_with(&["activity_log:read"]);
    for method in [Method::OPTIONS, Method::PUT] {
        let ask = |path: &str, key: Option<&str>| {
            let asked = request(method.clone(), path);
            send(
                &method,
                key.iter().fold(asked, |asked, key| asked.bearer_auth(key)),
            )
        };
        ask(&list, None).is_error(401, "not_authenticated", None);
        ask(&list, Some("phx_no")).is_error(401, "authentication_failed", None);
        ask("/api/projects/999999999/cohorts/", Some(&project.key)).is_error(
            404,
            "not_found",
            None,
        );
    }
    let ask = |key: &str| {
        let asked = request(Method::OPTIONS, &list).bearer_auth(key);
        send(&Method::OPTIONS, asked)
    };
    assert_eq!(ask(&project.key).status, 200);
    let refused = ask(&reader);
    refused.is_error(403, "permission_denied", None);
    assert!(refused.detail().contains("cohort:read"));
}

#[test]
fn links_are_written_as_the_path_was_asked_for() {
    let project = Project::new();
    let id = project.cohort(json!({}));
    project.cohort(json!({}));
    project.people([("a", json!({})), ("b", json!({}))]);
    let own = key(project.server, &[project.id], &["*"]);
    let next = |path: &str| {
        let answer = send(&Method::GET, request(Method::GET, path).bearer_auth(&own));
        let next = answer.json()["next"].as_str().expect("a link").to_owned();
        next.strip_prefix(&project.server.url())
            .expect("this server")
            .to_owned()
    };
    assert_eq!(
        next("/api/cohort/?limit=1"),
        "/api/cohort/?limit=1&offset=1"
    );
    let activity = next("/api/cohort/activity?limit=1");
    assert_eq!(activity, "/api/cohort/activity?limit=1&page=2");
    let everyone = any_of(json!([person("nothing", "is_not_set", "")]));
    project.patch(&format!("cohorts/{id}/"), json!({"filters": everyone}));
    project.settle(id);
    let people = project.path(&format!("cohorts/{id}/persons.json"));
    assert_eq!(
        next(&format!("{people}?limit=1")),
        format!("{people}?limit=1&offset=1")
    );
    assert_eq!(
        project.get(&format!("cohorts/{id}/persons.csv/")).status,
        200
    );
    assert_eq!(
        next("/api/cohort/?limit=1&a=~*%20b"),
        "/api/cohort/?a=~%2A+b&limit=1&offset=1"
    );
}

#[test]
fn a_calculation_takes_along_what_it_builds_on_and_what_builds_on_it() {
    let project = Project::new();
    let pro = any_of(json!([person("plan", "exact", "pro")]));
    let bottom = project.cohort(json!({"filters": pro}));
    let listed = project.cohort(json!({"is_static": true}));
    let middle = project.cohort(json!({"filters": refers_to(bottom)}));
    let top = project.cohort(json!({"filters": refers_to(middle)}));
    let other = project.cohort(json!({"filters": pro}));
    project.settle(top);
    project.people([("ann", json!({"plan": "pro"}))]);
    let states = || {
        [bottom, middle, top, other, listed].map(|id| {
            let cohort = project.get(&format!("cohorts/{id}/")).json();
            (cohort["count"].clone(), cohort["pending_version"].as_i64())
        })
    };
    let before = states();
    project.patch(&format!("cohorts/{middle}/"), json!({"name": "go"}));
    project.settle(middle);
    let after = states();
    for (before, after) in before[..3].iter().zip(&after[..3]) {
        assert_eq!(after, &(json!(1), before.1.map(|version| version + 1)));
    }
    assert_eq!(before[3..], after[3..]);
}

#[test]
fn names_with_a_wrong_first_letter_are_found_too() {
    let project = Project::new();
    for name in [
        "Enterprise customers",
        "Loyal buyers",
        "Checkout",
        "Something else",
    ] {
        project.cohort(json!({"name": name}));
    }
    for (term, name) in [
        ("wnterprise", "Enterprise customers"),
        ("xuyers", "Loyal buyers"),
        ("hceckout", "Checkout"),
    ] {
        let page = project.get(&format!("cohorts/?search={term}")).json();
        let names: Vec<&str> = page["results"]
            .as_array()
            .expect("rows")
            .iter()
            .filter_map(|row| row["name"].as_str())
            .collect();
        assert_eq!(names, [name], "{term}");
        assert_eq!(page["results"][0]["search_match_type"], "similar");
    }
}

#[test]
fn a_static_cohort_keeps_a_tree_without_criteria() {
    let project = Project::new();
    let tree = any_of(json!([]));
    let id = project.cohort(json!({"is_static": true, "filters": tree}));
    assert_eq!(
        project.get(&format!("cohorts/{id}/")).json()["filters"],
        tree
    );
    for nothing in [
        json!({}),
        json!("x"),
        json!(null),
        json!({"properties": {}}),
    ] {
        let id = project.cohort(json!({"is_static": true, "filters": nothing}));
        let shown = project.get(&format!("cohorts/{id}/")).json();
        assert_eq!(shown["filters"], json!({"properties": {}}), "{nothing}");
    }
}

#[test]
fn null_and_blank_ids_are_answered_in_words() {
    let project = Project::new();
    let id = project.cohort(json!({"is_static": true}));
    let says = |operation: &str, body: Value, detail: &str| {
        let answer = project.patch(&format!("cohorts/{id}/{operation}/"), body);
        assert_eq!(answer.is_error(400, "invalid_input", None).detail(), detail);
    };
    let null = json!({"person_ids": null});
    says(
        "add_persons_to_static_cohort",
        null,
        "person_ids must be a list",
    );
    for blank in [json!(null), json!(""), json!(0), json!(false), json!([])] {
        let body = json!({"person_id": blank});
        says(
            "remove_person_from_static_cohort",
            body,
            "person_id is required",
        );
    }
    project
        .patch(
            &format!("cohorts/{id}/"),
            json!({"_create_static_person_ids": "x"}),
        )
        .is_error(400, "not_a_list", Some("_create_static_person_ids"));
}

#[test]
fn the_first_field_that_breaks_any_rule_is_named() {
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
