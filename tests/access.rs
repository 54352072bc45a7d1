//! Each operation of the contract with no key, a wrong key, a key that lacks a scope, and a key of another project.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Project, key, request, send, server};
use crate::spec::{self, Operation};

/// Every scope that some operation wants.
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
        .filter_map(|one| Some((one, one.scopes()?)));
    let guarded: Vec<_> = guarded.collect();
    assert!(
        guarded.len() >= 10,
        "only {} operations want a key",
        guarded.len()
    );
    guarded
}

fn ask(operation: &Operation, project: i64, cohort: i64, key: Option<&str>) -> Answer {
    let method = operation.method();
    let mut asked = request(method.clone(), &operation.address(project, cohort));
    if let Some(key) = key {
        asked = asked.bearer_auth(key);
    }
    if matches!(operation.method, "post" | "patch" | "put") {
        asked = asked.json(&json!({"filters": {"properties": {"type": "OR", "values": []}}}));
    }
    send(&method, asked)
}

#[test]
fn without_a_key_nothing_is_answered() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, _) in guarded() {
        let answer = ask(&operation, project.id, cohort, None);
        answer.is_error(401, "not_authenticated", None);
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[test]
fn a_wrong_key_is_told_from_none() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, _) in guarded() {
        for wrong in ["phx_nobody", project.token.as_str()] {
            let answer = ask(&operation, project.id, cohort, Some(wrong));
            answer.is_error(401, "authentication_failed", None);
            assert!(answer.detail().contains("Authorization header is invalid"));
        }
    }
}

#[test]
fn a_key_that_lacks_a_scope_is_told_which() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, wanted) in guarded() {
        for scope in wanted {
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
fn exactly_the_documented_scopes_are_enough() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, wanted) in guarded() {
        let key = project.key_with(&wanted);
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
fn a_key_of_another_project_reaches_nothing_of_this_one() {
    let (project, other) = (Project::new(), Project::new());
    let cohort = project.cohort(json!({}));
    let in_project = |one: &(Operation, _)| one.0.path.contains("{project_id}");
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
fn a_cohort_of_another_project_is_as_unknown_as_one_that_never_was() {
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
fn an_unknown_project_is_not_found_before_scopes_are_compared() {
    let project = Project::new();
    let key = project.key_with(&["survey:read"]);
    for unknown in ["999999999", "abc", "0", "-1", "@nowhere"] {
        let asked =
            request(Method::GET, &format!("/api/projects/{unknown}/cohorts/")).bearer_auth(&key);
        let answer = send(&Method::GET, asked);
        answer.is_error(404, "not_found", None);
        assert_eq!(answer.detail(), "Project not found.");
    }
}

#[test]
fn the_current_project_is_the_first_that_the_key_reaches() {
    let (first, second) = (Project::new(), Project::new());
    first.cohort(json!({"name": "of the first"}));
    let both = key(server(), &[second.id, first.id], &["cohort:read"]);
    let asked = request(Method::GET, "/api/projects/@current/cohorts/").bearer_auth(both);
    assert_eq!(
        send(&Method::GET, asked).json()["results"][0]["name"],
        "of the first"
    );
}

#[test]
fn a_key_may_stand_in_the_body_or_the_query() {
    let project = Project::new();
    let key = &project.key;
    let in_body =
        request(Method::POST, &project.path("cohorts/")).json(&json!({"personal_api_key": key}));
    assert_eq!(send(&Method::POST, in_body).status, 201);
    let in_query = request(
        Method::GET,
        &project.path(&format!("cohorts/?personal_api_key={key}")),
    );
    assert_eq!(send(&Method::GET, in_query).status, 200);
    let wrong = request(
        Method::GET,
        &project.path("cohorts/?personal_api_key=phx_no"),
    );
    let detail = send(&Method::GET, wrong)
        .is_error(401, "authentication_failed", None)
        .detail();
    assert_eq!(
        detail,
        "Personal API key found in request query string is invalid."
    );
}

#[test]
fn a_revoked_key_is_refused_at_once() {
    let project = Project::new();
    let admin = project.server.data().admin();
    let grant = cohorts_server::KeyGrant {
        projects: vec![project.id],
        scopes: vec!["*".to_owned()],
        label: "to be revoked".to_owned(),
        email: "bob@x.io".to_owned(),
        first_name: String::new(),
        expires_in: None,
    };
    let key = admin.create_key(&grant).expect("a key");
    let asked = || request(Method::GET, &project.path("cohorts/")).bearer_auth(&key.key);
    assert_eq!(send(&Method::GET, asked()).status, 200);
    admin.revoke_key(&key.id).expect("a key to revoke");
    send(&Method::GET, asked()).is_error(401, "authentication_failed", None);
    assert!(admin.revoke_key(&key.id).is_err());
}
