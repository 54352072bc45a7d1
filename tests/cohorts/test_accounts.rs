//! `filterTestAccounts` of PostHog's filters, which this service accepts only without an effect.

use serde_json::{Value, json};

use crate::harness::{Answer, Project, any_of, cohort_path, id_of, only, person};

const DETAIL: &str = "filterTestAccounts: this service has no list of test accounts, so it cannot exclude them. \
    Leave it out or send false, and exclude the accounts with a criterion, such as a negated person property or cohort";

fn with_option(mut filters: Value, option: Value) -> Value {
    filters["filterTestAccounts"] = option;
    filters
}

#[test]
fn false_and_null_are_accepted_and_change_nothing() {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "pro"})), ("bob", json!({}))]);
    let plain = only(person("plan", "exact", "pro"));
    for (option, shown) in [(json!(false), Some(json!(false))), (Value::Null, None)] {
        let filters = with_option(plain.clone(), option);
        let cohort = project.post("cohorts/", json!({"filters": filters}));
        let id = id_of(&cohort);
        let stored = project.settle(id);
        assert_eq!(
            stored["filters"].get("filterTestAccounts"),
            shown.as_ref(),
            "{stored}"
        );
        assert_eq!(project.members(id), ["ann"]);
        let preview = project.post("cohorts/preview/", json!({"filters": filters}));
        assert_eq!(preview.json()["count"], 1, "{}", preview.text);
        let changed = project.patch(&cohort_path(id), json!({"filters": filters}));
        assert_eq!(changed.status, 200, "{}", changed.text);
    }
}

#[test]
fn true_is_refused_with_the_reason_and_a_remedy() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "before"}));
    let filters = with_option(only(person("plan", "exact", "pro")), json!(true));
    let no_criteria = with_option(any_of(json!([])), json!(true));
    let refused = |answer: Answer| {
        let detail = answer
            .is_error(400, "invalid_input", Some("filters"))
            .detail();
        assert_eq!(detail, DETAIL);
    };
    refused(project.post("cohorts/", json!({"filters": filters})));
    refused(project.post("cohorts/", json!({"filters": filters, "is_static": true})));
    refused(project.post(
        "cohorts/",
        json!({"filters": no_criteria, "is_static": true}),
    ));
    refused(project.patch(
        &cohort_path(id),
        json!({"filters": filters, "name": "after"}),
    ));
    refused(project.post("cohorts/preview/", json!({"filters": filters})));
    let list = project.get("cohorts/").json();
    assert_eq!(list["count"], 1);
    assert_eq!(list["results"][0]["name"], "before");
    let text = with_option(only(person("plan", "exact", "pro")), json!("false"));
    let answer = project.post("cohorts/", json!({"filters": text}));
    let detail = answer
        .is_error(400, "invalid_input", Some("filters"))
        .detail();
    assert_eq!(
        detail,
        "filterTestAccounts: expected false or null, got text"
    );
}
