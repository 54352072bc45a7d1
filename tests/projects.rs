//! Projects, their retention, and the user of a key.

use chrono::{TimeDelta, Utc};
use cohorts_server::EventRetention;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, count, did, key, person_count, request, send, server};

fn get(path: &str, key: &str) -> Value {
    let answer = send(&Method::GET, request(Method::GET, path).bearer_auth(key));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Conformance case 114.
#[test]
fn project_is_addressed_by_id_or_as_current() {
    let project = Project::new();
    project.cohort(json!({"name": "here"}));
    let ask = |named: &str| {
        let call = request(Method::GET, &format!("/api/projects/{named}/cohorts"));
        send(&Method::GET, call.bearer_auth(&project.key))
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
fn current_project_is_the_first_project_of_the_key() {
    let (first, second) = (Project::new(), Project::new());
    first.cohort(json!({"name": "of the first"}));
    let both = key(server(), &[second.id, first.id], &["cohort:read"]);
    let call = request(Method::GET, "/api/projects/@current/cohorts/").bearer_auth(both);
    assert_eq!(
        send(&Method::GET, call).json()["results"][0]["name"],
        "of the first"
    );
}

#[test]
fn key_lists_its_projects() {
    let (first, second, _) = (Project::new(), Project::new(), Project::new());
    let both = key(server(), &[second.id, first.id], &["project:read"]);
    let page = get("/api/projects/?limit=1", &both);
    assert_eq!(
        (&page["count"], &page["results"][0]["id"]),
        (&json!(2), &json!(first.id))
    );
    let next = page["next"].as_str().expect("a link");
    let path = next.strip_prefix(&server().url()).expect("this server");
    assert_eq!(get(path, &both)["results"][0]["id"], second.id);
    let all = get(
        "/api/projects/?limit=100000",
        &key(server(), &[], &["project:read"]),
    );
    assert!(all["count"].as_i64() >= Some(3), "{}", all["count"]);
}

#[test]
fn project_and_current_user_are_retrieved() {
    let project = Project::in_zone("Europe/Berlin");
    let shown = project.get("").json();
    assert_eq!(
        (&shown["id"], &shown["api_token"], &shown["timezone"]),
        (
            &json!(project.id),
            &json!(project.token),
            &json!("Europe/Berlin")
        )
    );
    let me = get("/api/users/@me", &project.key);
    assert_eq!(
        (&me["email"], &me["first_name"], &me["team"]),
        (&json!("ana@x.io"), &json!("Ana"), &shown)
    );
}

#[test]
fn events_beyond_the_retention_are_not_counted() {
    let project = Project::new();
    let ago = |days: i64| (Utc::now() - TimeDelta::days(days)).to_rfc3339();
    project.capture(json!([
        {"event": "x", "distinct_id": "old", "timestamp": ago(40)},
        {"event": "x", "distinct_id": "new", "timestamp": ago(20)},
    ]));
    let done = || count(&project, json!([did("x", 60)]));
    assert_eq!(done(), 2);
    let keep = |text: &str| {
        let retention: EventRetention = text.parse().expect("a retention");
        let admin = server().data().admin();
        admin
            .set_event_retention(project.id, retention)
            .expect("a project");
    };
    keep("30d");
    assert_eq!(done(), 1);
    keep("10");
    assert_eq!(done(), 0);
    assert_eq!(person_count(&project), 2);
    keep("all");
    assert!("0".parse::<EventRetention>().is_err() && "x".parse::<EventRetention>().is_err());
}
