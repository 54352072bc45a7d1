//! Cohorts that build on other cohorts.

use serde_json::{Value, json};

use crate::harness::{Project, any_of, did};

fn on(ids: &[i64]) -> Value {
    let leaf = |id: &i64| json!({"type": "cohort", "key": "id", "value": id});
    any_of(ids.iter().map(leaf).collect())
}

#[test]
fn a_loop_is_refused_and_changes_nothing() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A", "filters": any_of(json!([did("x", 1)]))}));
    let b = project.cohort(json!({"name": "B", "filters": on(&[a])}));
    let c = project.cohort(json!({"name": "C", "filters": on(&[b])}));
    let path = format!("cohorts/{a}/");
    let before = project.get(&path).json();
    for filters in [on(&[c]), on(&[a])] {
        let answer = project.patch(&path, json!({"name": "changed", "filters": filters}));
        let detail = answer.is_error(400, "invalid_input", None).detail();
        assert_eq!(detail, "Cohorts cannot reference other cohorts in a loop.");
    }
    assert_eq!(project.get(&path).json(), before);
    // Two ways to one cohort are no loop.
    assert_eq!(
        project
            .patch(&format!("cohorts/{c}/"), json!({"filters": on(&[a, b])}))
            .status,
        200
    );
}

#[test]
fn an_unknown_cohort_may_be_named_at_first_and_not_later() {
    let (project, other) = (Project::new(), Project::new());
    let theirs = other.cohort(json!({}));
    let id = project.cohort(json!({"filters": on(&[999_999_999])}));
    let path = format!("cohorts/{id}/");
    for filters in [on(&[999_999_999]), on(&[theirs])] {
        let answer = project.patch(&path, json!({"filters": filters}));
        assert_eq!(
            answer.is_error(400, "invalid_input", None).detail(),
            "Invalid Cohort ID in filter"
        );
    }
    assert_eq!(project.settle(id)["count"], 0);
}

#[test]
fn a_cohort_that_others_build_on_cannot_be_deleted() {
    let project = Project::new();
    let a = project.cohort(json!({"filters": any_of(json!([did("x", 1)]))}));
    let path = format!("cohorts/{a}/");
    let users: Vec<i64> = (0..7)
        .map(|number| project.cohort(json!({"name": format!("B{number}"), "filters": on(&[a])})))
        .collect();
    let detail = project
        .patch(&path, json!({"deleted": true}))
        .is_error(400, "invalid_input", None)
        .detail();
    assert!(
        detail.starts_with(
            "This cohort is used as criteria in 7 other cohort(s): B0, B1, B2, B3, B4, and 2 more."
        ),
        "{detail}"
    );
    for user in users {
        assert_eq!(
            project
                .patch(&format!("cohorts/{user}/"), json!({"deleted": true}))
                .status,
            200
        );
    }
    assert_eq!(
        project.patch(&path, json!({"deleted": true})).json()["deleted"],
        true
    );
}

#[test]
fn a_cohort_tells_what_builds_on_it() {
    let project = Project::new();
    let a = project.cohort(json!({}));
    let nothing = json!({"results": [], "total": 0, "has_more": false});
    let path = format!("cohorts/{a}/used_in");
    let expected = json!({"feature_flags": nothing, "insights": nothing, "cohorts": nothing});
    assert_eq!(project.get(&path).json(), expected);
    let b = project.cohort(json!({"name": "B", "filters": on(&[a])}));
    let c = project.cohort(json!({"filters": on(&[a])}));
    let cohorts = &project.get(&path).json()["cohorts"];
    assert_eq!(
        cohorts["results"],
        json!([{"id": b, "name": "B"}, {"id": c, "name": "Unnamed"}])
    );
    for _ in 0..99 {
        project.cohort(json!({"filters": on(&[a])}));
    }
    let cohorts = &project.get(&path).json()["cohorts"];
    let listed = cohorts["results"].as_array().map(Vec::len);
    assert_eq!(
        (listed, &cohorts["total"], &cohorts["has_more"]),
        (Some(100), &json!(101), &json!(true))
    );
}

#[test]
fn a_cohort_tells_how_its_calculations_went() {
    let project = Project::new();
    let id = project.cohort(json!({"filters": any_of(json!([did("x", 1)]))}));
    let path = format!("cohorts/{id}/");
    project.settle(id);
    project.patch(&path, json!({"filters": any_of(json!([{"type": "behavioral", "key": "x", "value": "dreamt", "event_type": "events"}]))}));
    project.settle(id);
    project.patch(&path, json!({"filters": any_of(json!([did("y", 1)]))}));
    project.settle(id);
    let page = project
        .get(&format!("cohorts/{id}/calculation_history?limit=2"))
        .json();
    assert_eq!(
        (&page["count"], &page["next"], &page["previous"]),
        (&json!(3), &json!("?limit=2&offset=2"), &Value::Null)
    );
    let rows = page["results"].as_array().expect("rows");
    assert_eq!(
        (&rows[0]["is_successful"], &rows[0]["count"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(
        (&rows[1]["is_completed"], &rows[1]["is_successful"]),
        (&json!(true), &json!(false))
    );
    assert!(
        rows[1]["error"]
            .as_str()
            .is_some_and(|error| error.contains("dreamt")),
        "{}",
        rows[1]
    );
    assert_eq!(rows[0]["filters"]["properties"]["values"][0]["key"], "y");
    let last = project
        .get(&format!(
            "cohorts/{id}/calculation_history?limit=2&offset=2"
        ))
        .json();
    assert_eq!(
        (&last["next"], &last["previous"]),
        (&Value::Null, &json!("?limit=2&offset=0"))
    );
}
