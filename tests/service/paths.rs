//! Other forms of paths: environments in place of projects, and slashes that occur twice.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::harness::{Answer, Project, find_person, first_ids, request, rows, send};

fn ask(method: Method, path: &str, key: &str) -> Answer {
    send(&method, request(method.clone(), path).bearer_auth(key))
}

#[test]
fn environments_are_projects_in_every_operation() {
    let project = Project::new();
    project.persons([("d1", json!({})), ("d2", json!({}))]);
    let root = format!("/api/environments/{}", project.id);
    let get = |path: &str| ask(Method::GET, path, &project.key);
    let persons = get(&format!("{root}/persons"));
    assert_eq!(first_ids(&persons.json()["results"]), ["d1", "d2"]);
    assert_eq!(persons.text, project.get("persons/").text);
    let csv = get(&format!("{root}/persons.csv"));
    assert_eq!(csv.text, project.get("persons.csv").text);
    assert_eq!(get(&format!("{root}/")).text, project.get("").text);
    assert_eq!(get("/api/environments/@current/cohorts/").status, 200);
    assert_eq!(
        get("/api/environments/").json()["results"][0]["id"],
        project.id
    );

    let create = request(Method::POST, &format!("{root}/cohorts/")).bearer_auth(&project.key);
    let cohort = send(&Method::POST, create.json(&json!({"name": "e"})));
    let cohort = cohort.json()["id"].as_i64().expect("an id");
    assert_eq!(
        project.get(&format!("cohorts/{cohort}/")).json()["name"],
        "e"
    );
    // The links have the prefix of the request.
    let page = get(&format!("{root}/persons/?limit=1")).json();
    let next = page["next"].as_str().expect("a link");
    let path = next
        .strip_prefix(&project.server.url())
        .expect("this server");
    assert!(
        path.starts_with(&format!("{root}/persons/?limit=1")),
        "{path}"
    );
    assert_eq!(rows(&get(path).json()).len(), 1);
}

#[test]
fn keys_are_checked_in_every_form_of_a_path() {
    let (project, other) = (Project::new(), Project::new());
    for root in [
        format!("/api/environments/{}", project.id),
        format!("//api//environments/{}", project.id),
        format!("/api//projects//{}", project.id),
    ] {
        let path = format!("{root}/persons/");
        let without = send(&Method::GET, request(Method::GET, &path));
        without.is_error(401, "not_authenticated", None);
        ask(Method::GET, &path, &other.key).is_error(403, "permission_denied", None);
        let reader = project.key_with(&["cohort:read"]);
        ask(Method::GET, &path, &reader).is_error(403, "permission_denied", None);
        assert_eq!(ask(Method::GET, &path, &project.key).status, 200, "{path}");
    }
    for unknown in [
        "/api/environments/999999999/persons/",
        "//api/environments/x/persons/",
    ] {
        ask(Method::GET, unknown, &project.key).is_error(404, "not_found", None);
    }
    // Metrics have the paths of the contract.
    let metrics = send(&Method::GET, request(Method::GET, "/metrics")).text;
    assert!(!metrics.contains("environments") && !metrics.contains("\"//"));
}

#[test]
fn several_slashes_count_as_one() {
    let project = Project::new();
    let capture = |path: &str, id: &str| {
        let body = json!({"api_key": project.token, "batch": [{"event": "x", "distinct_id": id}]});
        let call = request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        send(&Method::POST, call.body(body.to_string()))
    };
    for (path, id) in [
        ("//batch/", "d1"),
        ("///batch//", "d2"),
        ("//i//v0/e", "d3"),
    ] {
        assert_eq!(capture(path, id).status, 200, "{path}");
        assert!(find_person(&project, id).is_some(), "{path}");
    }
    let preflight = request(Method::OPTIONS, "//batch/")
        .header("Origin", "https://shop.example")
        .header("Access-Control-Request-Method", "POST");
    let preflight = preflight.send().expect("a response");
    let allowed = preflight.headers().get("access-control-allow-origin");
    assert!(allowed.is_some(), "{preflight:?}");

    let list = |path: String| ask(Method::GET, &path, &project.key);
    let page = list(format!(
        "//api//projects//{}//persons//?limit=2&search=",
        project.id
    ))
    .json();
    assert_eq!(rows(&page).len(), 2);
    let next = page["next"].as_str().expect("a link");
    let next = next
        .strip_prefix(&project.server.url())
        .expect("this server");
    assert_eq!(rows(&list(next.to_owned()).json()).len(), 1);
    // Slashes of a query are text.
    let ids = list(format!(
        "/api/projects/{}/persons/?distinct_id=a//b",
        project.id
    ))
    .json();
    assert_eq!(ids["results"], Value::Array(Vec::new()));
    project.capture(json!([{"event": "x", "distinct_id": "a//b"}]));
    assert!(find_person(&project, "a//b").is_some());
}
