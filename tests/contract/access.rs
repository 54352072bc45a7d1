//! Each operation of the contract with no key, a wrong key, a key that lacks a scope, and a key of another project.

use reqwest::Method;
use serde_json::json;

use crate::contract::spec::{self, Operation};
use crate::harness::{Answer, Project, request, send};

/// All scopes that the operations require.
fn all_scopes() -> Vec<&'static str> {
    let mut scopes: Vec<&str> = spec::operations()
        .iter()
        .filter_map(Operation::scopes)
        .flatten()
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

fn guarded() -> Vec<(Operation, Vec<&'static str>)> {
    let guarded = spec::operations()
        .into_iter()
        .filter_map(|operation| Some((operation, operation.scopes()?)));
    let guarded: Vec<_> = guarded.collect();
    assert!(
        guarded.len() >= 10,
        "only {} operations require a key",
        guarded.len()
    );
    guarded
}

fn ask(operation: &Operation, project: i64, cohort: i64, key: Option<&str>) -> Answer {
    let method = operation.method();
    let mut call = request(method.clone(), &operation.address(project, cohort));
    if let Some(key) = key {
        call = call.bearer_auth(key);
    }
    if matches!(operation.method, "post" | "patch" | "put") {
        call = call.json(&json!({"filters": {"properties": {"type": "OR", "values": []}}}));
    }
    send(&method, call)
}

#[test]
fn every_guarded_operation_requires_a_key() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, _) in guarded() {
        let answer = ask(&operation, project.id, cohort, None);
        answer.is_error(401, "not_authenticated", None);
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[test]
fn every_guarded_operation_rejects_a_wrong_key() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, _) in guarded() {
        for wrong in ["phx_unknown", project.token.as_str()] {
            let answer = ask(&operation, project.id, cohort, Some(wrong));
            answer.is_error(401, "authentication_failed", None);
            assert!(answer.detail().contains("Authorization header is invalid"));
        }
    }
}

#[test]
fn every_guarded_operation_names_the_missing_scope() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, scopes) in guarded() {
        for scope in scopes {
            let includes = format!("{}:write", scope.split(':').next().expect("a thing"));
            let others = all_scopes();
            let others = others
                .into_iter()
                .filter(|other| *other != scope && *other != includes);
            let others: Vec<&str> = others.chain(["survey:read"]).collect();
            let key = project.key_with(&others);
            let answer = ask(&operation, project.id, cohort, Some(&key));
            answer.is_error(403, "permission_denied", None);
            assert_eq!(
                answer.detail(),
                format!("API key missing required scope '{scope}'")
            );
        }
    }
}

#[test]
fn documented_scopes_are_sufficient() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, scopes) in guarded() {
        let key = project.key_with(&scopes);
        let answer = ask(&operation, project.id, cohort, Some(&key));
        assert!(
            ![401, 403].contains(&answer.status),
            "{}: {}",
            operation.id,
            answer.text
        );
    }
}

#[test]
fn key_of_another_project_is_forbidden() {
    let (project, other) = (Project::new(), Project::new());
    let cohort = project.cohort(json!({}));
    let in_project = |(operation, _): &(Operation, _)| operation.path.contains("{project_id}");
    for (operation, _) in guarded().into_iter().filter(in_project) {
        let answer = ask(&operation, project.id, cohort, Some(&other.key));
        answer.is_error(403, "permission_denied", None);
        let detail = format!(
            "API key does not have access to the requested project: ID {}.",
            project.id
        );
        assert_eq!(answer.detail(), detail);
    }
}

#[test]
fn cohort_of_another_project_is_answered_like_an_unknown_one() {
    let (project, other) = (Project::new(), Project::new());
    let theirs = other.cohort(json!({"name": "theirs"}));
    for id in [
        "cohorts_retrieve",
        "cohorts_partial_update",
        "cohorts_persons",
    ] {
        let operation = spec::operation(id);
        let answers = [theirs, 999_999_999]
            .map(|cohort| ask(&operation, project.id, cohort, Some(&project.key)));
        answers[0].is_error(404, "not_found", None);
        assert_eq!(answers[0].text, answers[1].text);
    }
    assert_eq!(
        other.get(&format!("cohorts/{theirs}/")).json()["name"],
        "theirs"
    );
}

#[test]
fn unknown_project_is_reported_before_a_missing_scope() {
    let project = Project::new();
    let key = project.key_with(&["survey:read"]);
    for unknown in ["999999999", "abc", "0", "-1", "@nowhere"] {
        let call =
            request(Method::GET, &format!("/api/projects/{unknown}/cohorts/")).bearer_auth(&key);
        let answer = send(&Method::GET, call);
        answer.is_error(404, "not_found", None);
        assert_eq!(answer.detail(), "Project not found.");
    }
}
