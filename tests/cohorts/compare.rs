//! What a draft would change: previews with `compare_to`, and changes with `dry_run`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, cohort_path, first_ids, only, person};

fn on(plan: &str) -> Value {
    person("plan", "exact", plan)
}

/// Persons `a` and `b` on the plan `pro`, `c` on `free`, `d` on none.
fn with_plans() -> Project {
    let project = Project::new();
    project.persons([
        ("a", json!({"plan": "pro"})),
        ("b", json!({"plan": "pro"})),
        ("c", json!({"plan": "free"})),
        ("d", json!({})),
    ]);
    project
}

fn compared(entering: i64, leaving: i64, staying: i64) -> Value {
    json!({"entering": entering, "leaving": leaving, "staying": staying})
}

#[test]
fn preview_compares_with_the_members_that_a_cohort_would_have_now() {
    let project = with_plans();
    // Nothing is calculated: the cohort is evaluated, too.
    let cohort = project.cohort(json!({"filters": only(on("pro"))}));
    let mut body = json!({"filters": any_of(json!([on("free"), person("distinct_id", "exact", "a")])),
        "compare_to": cohort});
    let preview = project.post("cohorts/preview/", body.clone()).json();
    assert_eq!(preview["count"], 2);
    assert_eq!(preview["compared"], compared(1, 1, 1));
    assert_eq!(preview["entering_sample"], json!([]));
    body["sample"] = json!(5);
    let preview = project.post("cohorts/preview/", body).json();
    assert_eq!(first_ids(&preview["entering_sample"]), ["c"]);
    assert_eq!(first_ids(&preview["leaving_sample"]), ["b"]);
}

#[test]
fn preview_compares_with_the_stored_members_of_a_static_cohort() {
    let project = with_plans();
    let ids = ["a", "d"].map(|id| project.person(id));
    let list = project.cohort(json!({"is_static": true, "_create_static_person_ids": ids}));
    let body = json!({"filters": only(on("pro")), "compare_to": list});
    let preview = project.post("cohorts/preview/", body).json();
    assert_eq!(preview["compared"], compared(1, 1, 1));
}

#[test]
fn preview_without_a_comparison_has_none_and_an_unknown_cohort_is_refused() {
    let project = with_plans();
    let preview = project.post("cohorts/preview/", json!({"filters": only(on("pro"))}));
    for name in ["compared", "entering_sample", "leaving_sample"] {
        assert_eq!(preview.json().get(name), None);
    }
    let body = json!({"filters": only(on("pro")), "compare_to": 999_999});
    let refused = project.post("cohorts/preview/", body);
    refused.is_error(400, "invalid_input", Some("compare_to"));
}

/// What a caller can see of a cohort and its history.
fn state(project: &Project, cohort: i64) -> Vec<String> {
    let parts = ["", "activity/", "calculation_history/", "persons/"];
    let paths = parts.map(|part| format!("{}{part}", cohort_path(cohort)));
    paths.iter().map(|path| project.get(path).text).collect()
}

#[test]
fn a_dry_run_compares_and_changes_nothing() {
    let project = with_plans();
    let cohort = project.cohort(json!({"name": "pros", "filters": only(on("pro"))}));
    project.settle(cohort);
    let before = state(&project, cohort);
    for method in [Method::PATCH, Method::PUT] {
        let body = json!({"name": "free", "filters": only(on("free"))});
        let path = format!("{}?dry_run=true", cohort_path(cohort));
        let answer = project.ask(method, &path, Some(body));
        assert_eq!(answer.status, 200, "{}", answer.text);
        let answer = answer.json();
        assert_eq!(answer["compared"], compared(1, 2, 0));
        assert_eq!(answer["name"], "free");
        assert_eq!(
            answer["filters"]["properties"]["values"][0]["value"],
            "free"
        );
    }
    assert_eq!(state(&project, cohort), before);
    let changed = project.patch(
        &format!("{}?dry_run=false", cohort_path(cohort)),
        json!({"name": "changed"}),
    );
    assert_eq!(changed.json()["name"], "changed");
    assert_eq!(changed.json().get("compared"), None);
}

#[test]
fn a_dry_run_is_validated_like_a_change() {
    let project = with_plans();
    let cohort = project.cohort(json!({"filters": only(on("pro"))}));
    let dry = |body: Value| project.patch(&format!("{}?dry_run=true", cohort_path(cohort)), body);
    let own = json!({"type": "cohort", "key": "id", "value": cohort});
    assert_eq!(dry(json!({"filters": only(own)})).status, 400);
    assert_eq!(dry(json!({"is_static": 7})).status, 400);
    let unknown = project.patch("cohorts/999999/?dry_run=true", json!({}));
    unknown.is_error(404, "not_found", None);
}

#[test]
fn a_dry_run_keeps_the_members_of_a_cohort_that_becomes_static() {
    let project = with_plans();
    let cohort = project.cohort(json!({"filters": only(on("pro"))}));
    project.settle(cohort);
    project.persons([("e", json!({"plan": "pro"}))]);
    let path = format!("{}?dry_run=true", cohort_path(cohort));
    let answer = project.patch(&path, json!({"is_static": true})).json();
    assert_eq!(answer["is_static"], true);
    // The stored members stay, and the new person would have entered.
    assert_eq!(answer["compared"], compared(0, 1, 2));
}

#[test]
fn an_unknown_parameter_never_changes_a_cohort() {
    let project = with_plans();
    let cohort = project.cohort(json!({"name": "pros"}));
    for name in ["dryrun", "Dry_run", "dry-run", "x"] {
        for method in [Method::PATCH, Method::PUT] {
            let path = format!("{}?{name}=true", cohort_path(cohort));
            let answer = project.ask(method, &path, Some(json!({"name": "changed"})));
            answer.is_error(400, "invalid_input", Some(name));
        }
    }
    let path = format!("{}?dry_run=maybe", cohort_path(cohort));
    let answer = project.patch(&path, json!({"name": "changed"}));
    assert_eq!(answer.status, 400, "{}", answer.text);
    let name = &project.get(&cohort_path(cohort)).json()["name"];
    assert_eq!(name, "pros");
}

#[test]
fn a_dry_run_takes_no_file() {
    let project = with_plans();
    let cohort = project.cohort(json!({"is_static": true}));
    let file = reqwest::blocking::multipart::Part::bytes(&b"distinct_id\na\n"[..]);
    let form = reqwest::blocking::multipart::Form::new().part("csv", file.file_name("p.csv"));
    let path = project.path(&format!("{}?dry_run=true", cohort_path(cohort)));
    let call = crate::harness::request(Method::PATCH, &path).bearer_auth(&project.key);
    let answer = crate::harness::send(&Method::PATCH, call.multipart(form));
    answer.is_error(400, "invalid_input", Some("csv"));
    assert_eq!(project.members(cohort), Vec::<String>::new());
}
