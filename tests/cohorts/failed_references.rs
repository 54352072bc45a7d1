//! Criteria that refer to a cohort that cannot be calculated: the error has its code and names the path to it.

use serde_json::{Value, json};

use crate::harness::{Project, any_of, cohort_path, in_cohort, only, person};

/// A project with one person on the plan `pro`.
fn with_one_person() -> Project {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "pro"}))]);
    project
}

fn unreadable() -> Value {
    only(person("plan", "regex", "("))
}

fn pro_or_member_of(cohort: i64) -> Value {
    any_of(json!([person("plan", "exact", "pro"), in_cohort(cohort)]))
}

/// Asserts that the last calculation failed with this code, and returns the newest error of the history.
#[track_caller]
fn failure(project: &Project, cohort: i64, code: &str) -> String {
    let shown = project.settle(cohort);
    assert_eq!(
        (
            &shown["last_error_code"],
            shown["errors_calculating"].as_i64() > Some(0)
        ),
        (&json!(code), true),
        "{shown}"
    );
    let page = project.get(&format!("cohorts/{cohort}/calculation_history/"));
    let newest = page.json()["results"][0].clone();
    assert_eq!(newest["error_code"], code, "{newest}");
    let error = newest["error"].as_str().expect("an error").to_owned();
    let message = shown["last_error_message"].as_str().expect("a message");
    assert!(message.contains(&error), "{message}");
    error
}

#[test]
fn calculation_fails_with_the_code_and_the_path_of_the_reference() {
    let project = with_one_person();
    let broken = project.cohort(json!({"filters": unreadable()}));
    let middle = project.cohort(json!({"filters": only(in_cohort(broken))}));
    let top = project.cohort(json!({"filters": pro_or_member_of(middle)}));
    let own = failure(&project, broken, "invalid_regex");
    assert!(own.starts_with("properties.values[0]: "), "{own}");
    let middle_path = format!("properties.values[0] → cohort {broken} → ");
    assert_eq!(
        failure(&project, middle, "invalid_regex"),
        format!("{middle_path}{own}")
    );
    let top_path = format!("properties.values[1] → cohort {middle} → ");
    assert_eq!(
        failure(&project, top, "invalid_regex"),
        format!("{top_path}{middle_path}{own}")
    );
    assert_eq!(project.members(top), Vec::<String>::new());
    let message = project.get(&cohort_path(top)).json()["last_error_message"].clone();
    let message = message.as_str().expect("a message");
    assert!(
        message.contains("contains an invalid regular expression"),
        "{message}"
    );
}

#[test]
fn every_reason_is_passed_on_also_by_negated_and_nested_references() {
    let project = with_one_person();
    for (filters, code) in [
        (unreadable(), "invalid_regex"),
        (
            only(person("plan", "sounds_like", "pro")),
            "validation_error",
        ),
        (
            any_of(json!([{"type": "AND", "values": []}])),
            "no_properties",
        ),
    ] {
        let broken = project.cohort(json!({"filters": filters}));
        let negated = json!({"type": "cohort", "key": "id", "value": broken, "negation": true});
        let inner = json!({"type": "AND", "values": [person("plan", "is_set", ""), negated]});
        let top = project.cohort(json!({"filters": any_of(json!([inner]))}));
        let error = failure(&project, top, code);
        let path = format!("properties.values[0].values[1] → cohort {broken} → properties");
        assert!(error.starts_with(&path), "{error}");
    }
}

/// The other criteria already decide who is a member, so an evaluation would not reach the reference.
#[test]
fn unreached_reference_fails_too() {
    let project = with_one_person();
    let broken = project.cohort(json!({"filters": unreadable()}));
    let nobody = person("plan", "exact", "other");
    let filters = json!({"properties": {"type": "AND", "values": [nobody, in_cohort(broken)]}});
    let top = project.cohort(json!({"filters": filters}));
    failure(&project, top, "invalid_regex");
}

#[test]
fn members_stay_while_a_reference_fails_and_both_recover_together() {
    let project = with_one_person();
    let pro = only(person("plan", "exact", "pro"));
    let bottom = project.cohort(json!({"filters": pro}));
    let middle = project.cohort(json!({"filters": only(in_cohort(bottom))}));
    let top = project.cohort(json!({"filters": only(in_cohort(middle))}));
    assert_eq!(project.settle(top)["count"], 1);
    project.patch(&cohort_path(bottom), json!({"filters": unreadable()}));
    project.persons([("bob", json!({"plan": "pro"}))]);
    failure(&project, top, "invalid_regex");
    // The bottom still has the members of its last calculation, and they are not used.
    for cohort in [bottom, middle, top] {
        assert_eq!(project.members(cohort), ["ann"]);
    }
    project.patch(&cohort_path(bottom), json!({"filters": pro}));
    let recovered = project.settle(top);
    assert_eq!(
        (&recovered["errors_calculating"], &recovered["count"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(project.members(middle), ["ann", "bob"]);
}

#[test]
fn preview_and_person_filters_are_refused_with_the_path() {
    let project = with_one_person();
    let broken = project.cohort(json!({"filters": unreadable()}));
    let middle = project.cohort(json!({"filters": only(in_cohort(broken))}));
    let path = format!(
        "properties.values[0] → cohort {middle} → properties.values[0] → cohort {broken} → properties.values[0]: "
    );
    let preview = project.post(
        "cohorts/preview/",
        json!({"filters": only(in_cohort(middle))}),
    );
    let detail = preview
        .is_error(400, "invalid_input", Some("filters"))
        .detail();
    assert!(detail.starts_with(&path), "{detail}");
    let listed = project.get(&format!(
        "persons/?properties={}",
        json!([in_cohort(middle)])
    ));
    let detail = listed
        .is_error(400, "invalid_input", Some("properties"))
        .detail();
    assert!(detail.starts_with(&path), "{detail}");
}

#[test]
fn static_copy_of_criteria_fails_too() {
    let project = with_one_person();
    let broken = project.cohort(json!({"filters": unreadable()}));
    let copy = project.cohort(json!({"is_static": true, "filters": only(in_cohort(broken))}));
    let error = failure(&project, copy, "invalid_regex");
    assert!(
        error.starts_with(&format!("properties.values[0] → cohort {broken} → ")),
        "{error}"
    );
}

#[test]
fn missing_and_static_cohorts_are_no_error() {
    let project = with_one_person();
    let listed = project.cohort(json!({"is_static": true}));
    for reference in [999_999_999, listed] {
        let id = project.cohort(json!({"filters": pro_or_member_of(reference)}));
        let settled = project.settle(id);
        assert_eq!(
            (&settled["errors_calculating"], &settled["count"]),
            (&json!(0), &json!(1))
        );
    }
}

#[test]
fn error_over_a_long_chain_names_its_start_its_end_and_the_cause() {
    let project = with_one_person();
    let mut ids =
        vec![project.cohort(json!({"filters": only(person("plan", "sounds_like", "pro"))}))];
    for depth in 0..20 {
        ids.push(project.cohort(json!({"filters": only(in_cohort(ids[depth]))})));
    }
    let body = json!({"filters": only(in_cohort(ids[20]))});
    let detail = project.post("cohorts/preview/", body).detail();
    for part in [
        format!("properties.values[0] → cohort {} → ", ids[20]),
        "(15 more cohorts)".to_owned(),
        format!(
            "cohort {} → properties.values[0]: unknown operator 'sounds_like'",
            ids[0]
        ),
    ] {
        assert!(detail.contains(&part), "{detail}");
    }
    let error = failure(&project, ids[20], "validation_error");
    assert!(error.contains("unknown operator 'sounds_like'"), "{error}");
}
