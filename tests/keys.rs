//! Keys: authentication, scopes, projects of a key, revocation.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Project, cohort_names, id_of, key, request, send, upload};

/// The same project through a key with only these scopes.
fn scoped(project: &Project, scopes: &[&str]) -> Project {
    project.with_key(project.key_with(scopes))
}

/// Asserts that the error names the missing scope.
fn assert_missing_scope(answer: &Answer, scope: &str) {
    let detail = answer.is_error(403, "permission_denied", None).detail();
    let expected = format!("API key missing required scope '{scope}'");
    assert_eq!(detail, expected);
}

/// Conformance case 109.
#[test]
fn missing_key_and_wrong_key_have_different_errors() {
    let path = Project::new().path("cohorts/");
    let without = send(&Method::GET, request(Method::GET, &path));
    without.is_error(401, "not_authenticated", None);
    let call = request(Method::GET, &path).bearer_auth("phx_unknown");
    let wrong = send(&Method::GET, call);
    let detail = wrong.is_error(401, "authentication_failed", None).detail();
    assert!(
        detail.contains("Authorization header is invalid"),
        "{detail}"
    );
    for answer in [without, wrong] {
        assert_eq!(answer.json()["type"], "authentication_error");
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

/// Conformance case 110.
#[test]
fn read_scope_does_not_allow_writes() {
    let project = Project::new();
    let reader = scoped(&project, &["cohort:read"]);
    assert_eq!(reader.get("cohorts").status, 200);
    assert_missing_scope(&reader.post("cohorts", json!({})), "cohort:write");
    assert_eq!(project.get("cohorts").json()["count"], 0);
}

/// Conformance case 111.
#[test]
fn members_require_person_read() {
    let project = Project::new();
    let path = format!("cohorts/{}/persons", project.cohort(json!({})));
    let reader = scoped(&project, &["cohort:read"]);
    assert_missing_scope(&reader.get(&path), "person:read");
    let both = scoped(&project, &["cohort:read", "person:read"]);
    assert_eq!(both.get(&path).status, 200);
}

/// Conformance case 112.
#[test]
fn activity_requires_activity_log_read() {
    let project = Project::new();
    let writer = scoped(&project, &["cohort:write"]);
    assert_missing_scope(&writer.get("cohorts/activity"), "activity_log:read");
}

/// Conformance case 113.
#[test]
fn key_is_accepted_in_body_and_query() {
    let project = Project::new();
    let path = project.path("cohorts/");
    let body = json!({"name": "by body", "personal_api_key": project.key});
    let in_body = send(&Method::POST, request(Method::POST, &path).json(&body));
    assert_eq!(in_body.status, 201, "{}", in_body.text);
    let path = format!("{path}?personal_api_key={}", project.key);
    let in_query = send(
        &Method::POST,
        request(Method::POST, &path).json(&json!({"name": "by query"})),
    );
    assert_eq!(in_query.status, 201, "{}", in_query.text);
    let listed = send(&Method::GET, request(Method::GET, &path));
    assert_eq!(listed.status, 200, "{}", listed.text);
    assert_eq!(cohort_names(&project, ""), ["by query", "by body"]);
}

/// All lists, with two rows each.
const LISTS: [&str; 9] = [
    "cohorts/?",
    "cohorts/{cohort}/persons/?",
    "cohorts/{cohort}/calculation_history/?",
    "cohorts/{cohort}/uploads/?",
    "cohorts/{cohort}/activity/?",
    "cohorts/activity/?",
    "persons/?",
    "persons/?search=d&",
    "actions/?",
];

#[test]
fn links_to_pages_never_repeat_the_key() {
    let project = Project::new();
    project.persons([("d1", json!({})), ("d2", json!({}))]);
    project.cohort(json!({}));
    let cohort = id_of(&upload(&project, None, "d1\nd2\n"));
    assert_eq!(upload(&project, Some(cohort), "d1\n").status, 200);
    for name in ["one", "other"] {
        project.post("actions/", json!({"name": name, "steps": [{"event": "x"}]}));
    }
    let get = |address: &str| send(&Method::GET, request(Method::GET, address));
    let mut linked = 0;
    for list in LISTS {
        let path = project.path(&list.replace("{cohort}", &cohort.to_string()));
        let secrets = format!("personal_api_key={}&token={}", project.key, project.token);
        let mut page = get(&format!("{path}{secrets}&limit=1")).json();
        for direction in ["next", "previous"] {
            let Some(link) = page[direction].as_str() else {
                continue;
            };
            linked += 1;
            assert!(
                !link.contains("phx_") && !link.contains("phc_"),
                "{list}: {link}"
            );
            let query = link.split_once('?').expect("a query").1;
            let answer = get(&format!("{path}{query}&personal_api_key={}", project.key));
            assert_eq!(answer.status, 200, "{list}: {}", answer.text);
            page = answer.json();
        }
    }
    assert!(linked >= LISTS.len(), "only {linked} links");
}

#[test]
fn error_of_a_wrong_key_in_the_query_names_the_query() {
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

/// Conformance case 115.
#[test]
fn project_outside_the_key_is_forbidden() {
    let (project, other) = (Project::new(), Project::new());
    let answer = project.with_key(other.key).get("cohorts");
    let detail = answer.is_error(403, "permission_denied", None).detail();
    // Projects have no members, so the text is the one for restricted keys.
    let expected = format!(
        "API key does not have access to the requested project: ID {}.",
        project.id
    );
    assert_eq!(detail, expected);
}

#[test]
fn key_for_all_projects_reaches_a_new_project() {
    let project = Project::new();
    let everywhere = key(project.server, &[], &["cohort:read"]);
    let call = request(Method::GET, &project.path("cohorts/")).bearer_auth(everywhere);
    assert_eq!(send(&Method::GET, call).status, 200);
}

#[test]
fn revoked_key_is_rejected_at_once() {
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
    let call = || request(Method::GET, &project.path("cohorts/")).bearer_auth(&key.key);
    assert_eq!(send(&Method::GET, call()).status, 200);
    admin.revoke_key(&key.id).expect("a key to revoke");
    send(&Method::GET, call()).is_error(401, "authentication_failed", None);
    assert!(admin.revoke_key(&key.id).is_err());
}
