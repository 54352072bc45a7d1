//! Cases 109 to 118: keys, scopes, and the envelope of errors.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use super::{names, with_key};
use crate::harness::{Answer, Project, request, send};

/// The same project, asked with a key that has only these scopes.
fn scoped(project: &Project, scopes: &[&str]) -> Project {
    with_key(project, project.key_with(scopes))
}

/// That a scope is missing, and that it is named.
fn lacks(answer: &Answer, scope: &str) {
    let detail = answer.is_error(403, "permission_denied", None).detail();
    let expected = format!("API key missing required scope '{scope}'");
    assert_eq!(detail, expected);
}

#[test]
fn case_109_no_key_is_told_from_a_wrong_one() {
    let path = Project::new().path("cohorts/");
    let without = send(&Method::GET, request(Method::GET, &path));
    without.is_error(401, "not_authenticated", None);
    let asked = request(Method::GET, &path).bearer_auth("phx_nobody");
    let wrong = send(&Method::GET, asked);
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

#[test]
fn case_110_a_key_that_may_read_may_not_write() {
    let project = Project::new();
    let reader = scoped(&project, &["cohort:read"]);
    assert_eq!(reader.get("cohorts").status, 200);
    lacks(&reader.post("cohorts", json!({})), "cohort:write");
    assert_eq!(project.get("cohorts").json()["count"], 0);
}

#[test]
fn case_111_members_are_shown_only_to_who_may_read_persons() {
    let project = Project::new();
    let path = format!("cohorts/{}/persons", project.cohort(json!({})));
    let reader = scoped(&project, &["cohort:read"]);
    lacks(&reader.get(&path), "person:read");
    let both = scoped(&project, &["cohort:read", "person:read"]);
    assert_eq!(both.get(&path).status, 200);
}

#[test]
fn case_112_the_log_is_shown_only_to_who_may_read_it() {
    let project = Project::new();
    let writer = scoped(&project, &["cohort:write"]);
    lacks(&writer.get("cohorts/activity"), "activity_log:read");
}

#[test]
fn case_113_a_key_may_stand_in_the_body_or_in_the_query() {
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
    assert_eq!(names(&project, ""), ["by query", "by body"]);
}

#[test]
fn case_114_a_project_is_named_by_its_number_or_as_the_current_one() {
    let project = Project::new();
    project.cohort(json!({"name": "here"}));
    let ask = |named: &str| {
        let asked = request(Method::GET, &format!("/api/projects/{named}/cohorts"));
        send(&Method::GET, asked.bearer_auth(&project.key))
    };
    let unknown = ask("999999999");
    let detail = unknown.is_error(404, "not_found", None).detail();
    assert_eq!(detail, "Project not found.");
    for named in ["@current", project.id.to_string().as_str()] {
        let page = ask(named);
        assert_eq!(page.status, 200, "{}", page.text);
        assert_eq!(page.json()["results"][0]["name"], "here");
    }
}

#[test]
fn case_115_a_project_that_the_key_does_not_reach_is_refused() {
    let (project, other) = (Project::new(), Project::new());
    let answer = with_key(&project, other.key).get("cohorts");
    let detail = answer.is_error(403, "permission_denied", None).detail();
    // Nobody is a member of a project here, so the sentence is the one for restricted keys.
    let expected = format!(
        "API key does not have access to the requested project: ID {}.",
        project.id
    );
    assert_eq!(detail, expected);
}

#[test]
fn case_116_broken_json_is_refused_as_such() {
    let project = Project::new();
    let asked = request(Method::POST, &project.path("cohorts")).bearer_auth(&project.key);
    let asked = asked.header(CONTENT_TYPE, "application/json");
    let answer = send(&Method::POST, asked.body(r#"{"name": "#));
    let detail = answer.is_error(400, "parse_error", None).detail();
    assert!(detail.contains("JSON parse error"), "{detail}");
    assert_eq!(answer.json()["type"], "invalid_request");
}

#[test]
fn case_117_a_cohort_that_is_not_there_is_not_found() {
    let project = Project::new();
    for id in ["999999", "abc"] {
        let answer = project.get(&format!("cohorts/{id}"));
        let detail = answer.is_error(404, "not_found", None).detail();
        assert_eq!(detail, "Not found.");
    }
}

#[test]
fn case_118_a_list_cannot_be_put_and_says_what_it_can() {
    let project = Project::new();
    let answer = project.ask(Method::PUT, "cohorts", None);
    let detail = answer.is_error(405, "method_not_allowed", None).detail();
    assert_eq!(detail, r#"Method "PUT" not allowed."#);
    let allowed: Vec<&str> = answer
        .header("allow")
        .expect("a header")
        .split(", ")
        .collect();
    for method in ["GET", "POST", "HEAD", "OPTIONS"] {
        assert!(allowed.contains(&method), "{allowed:?}");
    }
}
