//! Retries of POST requests with the header `Idempotency-Key`.
//!
//! Lost processes, expiry and errors of the database are in the tests of processes of the server.

use std::sync::Barrier;
use std::thread;

use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::harness::{Answer, Project, id_of, request_to, rows, send};

fn call(project: &Project, path: &str) -> RequestBuilder {
    let request = request_to(project.server, Method::POST, &project.path(path));
    request.bearer_auth(&project.key)
}

/// Sends a POST with an `Idempotency-Key`.
pub fn keyed(project: &Project, key: &str, path: &str, body: &Value) -> Answer {
    let request = call(project, path).header("Idempotency-Key", key);
    send(&Method::POST, request.json(body))
}

fn count(project: &Project, list: &str) -> usize {
    rows(&project.get(list).json()).len()
}

/// Asserts that a retry has the same response, apart from the id of the request.
#[track_caller]
fn is_same(first: &Answer, retry: &Answer) {
    let parts = |answer: &Answer| {
        let headers = ["content-type", "etag", "location", "allow"];
        let headers = headers.map(|name| answer.header(name).map(str::to_owned));
        (answer.status, answer.text.clone(), headers)
    };
    assert_eq!(parts(first), parts(retry));
    assert_ne!(first.header("x-request-id"), retry.header("x-request-id"));
}

#[test]
fn a_retry_gets_the_response_of_the_first_request() {
    let project = Project::new();
    let body = json!({"name": "A"});
    let first = keyed(&project, "a", "cohorts/", &body);
    assert_eq!((first.status, first.header("etag")), (201, Some("\"d1\"")));
    // The response is that of the first request, although the cohort is another one now.
    let path = format!("cohorts/{}/", id_of(&first));
    project.patch(&path, json!({"name": "B"}));
    for path in ["cohorts/", "cohorts"] {
        is_same(&first, &keyed(&project, "a", path, &body));
    }
    assert_eq!(count(&project, "cohorts/"), 1);
    let second = keyed(&project, "b", "cohorts/", &body);
    assert_ne!(id_of(&second), id_of(&first));
    assert_ne!(id_of(&project.post("cohorts/", body)), id_of(&second));
}

#[test]
fn another_request_with_the_same_key_is_refused() {
    let project = Project::new();
    let body = json!({"name": "A"});
    let first = keyed(&project, "a", "cohorts/", &body);
    for (path, body) in [
        ("cohorts/", json!({"name": "B"})),
        ("actions/", body.clone()),
        ("cohorts/?x=1", body.clone()),
    ] {
        let other = keyed(&project, "a", path, &body);
        other.is_error(422, "idempotency_key_reused", Some("Idempotency-Key"));
    }
    is_same(&first, &keyed(&project, "a", "cohorts/", &body));
    assert_eq!(count(&project, "cohorts/"), 1);
    assert_eq!(count(&project, "actions/"), 0);
}

#[test]
fn keys_of_different_callers_are_different() {
    let project = Project::new();
    let body = json!({"name": "A"});
    let first = keyed(&project, "a", "cohorts/", &body);
    let other = project.with_caller("bob@x.io");
    let second = keyed(&other, "a", "cohorts/", &body);
    assert_ne!(id_of(&second), id_of(&first));
    // A key that lost its rights gets no stored response.
    let reader = project.with_key(project.key_with(&["cohort:read"]));
    let refused = keyed(&reader, "a", "cohorts/", &body);
    refused.is_error(403, "permission_denied", None);
}

#[test]
fn a_key_is_one_text_of_visible_characters() {
    let project = Project::new();
    let longest = "x".repeat(255);
    for key in ["1", "\"8e03978e\"", &longest] {
        assert_eq!(keyed(&project, key, "cohorts/", &json!({})).status, 201);
    }
    for key in ["", "a b", &"x".repeat(256)] {
        let refused = keyed(&project, key, "cohorts/", &json!({}));
        refused.is_error(400, "invalid_input", Some("Idempotency-Key"));
    }
    // Only a POST has such keys.
    let get = request_to(project.server, Method::GET, &project.path("cohorts/"));
    let get = get.bearer_auth(&project.key).header("Idempotency-Key", "");
    assert_eq!(send(&Method::GET, get).status, 200);
}

#[test]
fn of_requests_at_the_same_moment_one_is_carried_out() {
    const CLIENTS: usize = 6;
    let project = Project::new();
    let body = json!({"name": "A"});
    for round in 0..5 {
        let key = format!("round {round}").replace(' ', "-");
        let start = Barrier::new(CLIENTS);
        let answers: Vec<Answer> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        keyed(&project, &key, "cohorts/", &body)
                    })
                })
                .collect();
            let answers = clients.into_iter();
            answers.map(|client| client.join().unwrap()).collect()
        });
        let retry = keyed(&project, &key, "cohorts/", &body);
        for answer in &answers {
            if answer.status == 409 {
                answer.is_error(409, "request_running", Some("Idempotency-Key"));
                assert_eq!(answer.header("retry-after"), Some("1"));
            } else {
                assert_eq!((answer.status, &answer.text), (201, &retry.text));
            }
        }
        assert_eq!(count(&project, "cohorts/"), round + 1);
    }
}

#[test]
fn errors_of_the_client_are_stored() {
    let project = Project::new();
    let action = json!({"name": "A", "steps": [{"event": "x"}]});
    let id = id_of(&project.post("actions/", action.clone()));
    let first = keyed(&project, "a", "actions/", &action);
    first.is_error(400, "unique", Some("name"));
    let path = format!("actions/{id}/");
    assert_eq!(project.patch(&path, json!({"name": "B"})).status, 200);
    is_same(&first, &keyed(&project, "a", "actions/", &action));
    assert_eq!(keyed(&project, "b", "actions/", &action).status, 201);
    let malformed = |body: &'static str| {
        let request = call(&project, "cohorts/").header("Idempotency-Key", "c");
        let request = request.header("Content-Type", "application/json");
        send(&Method::POST, request.body(body))
    };
    malformed("{").is_error(400, "parse_error", None);
    malformed("{").is_error(400, "parse_error", None);
    malformed("{}").is_error(422, "idempotency_key_reused", Some("Idempotency-Key"));
}

/// Uploads a file to a new cohort. Each call has another boundary.
fn upload(project: &Project, key: &str, file: &str) -> Answer {
    let file = Part::text(file.to_owned()).file_name("persons.csv");
    let form = Form::new().part("csv", file).text("is_static", "true");
    let request = call(project, "cohorts/").header("Idempotency-Key", key);
    send(&Method::POST, request.multipart(form))
}

#[test]
fn a_small_upload_is_carried_out_once_and_a_large_one_ignores_the_key() {
    let project = Project::new();
    let first = upload(&project, "a", "distinct_id\nx\n");
    id_of(&first);
    is_same(&first, &upload(&project, "a", "distinct_id\nx\n"));
    let other = upload(&project, "a", "distinct_id\ny\n");
    other.is_error(422, "idempotency_key_reused", Some("Idempotency-Key"));
    let large = format!("distinct_id\n{}", "someone\n".repeat(140_000));
    let [one, two] = [(); 2].map(|()| upload(&project, "b", &large));
    assert_ne!(id_of(&one), id_of(&two));
    assert_eq!(count(&project, "cohorts/"), 3);
}

#[test]
fn a_body_of_more_than_a_mebibyte_is_no_upload() {
    let project = Project::new();
    let body = json!({"name": "A", "description": "x".repeat(390), "filler": "x".repeat(2 << 20)});
    let first = keyed(&project, "a", "cohorts/", &body);
    id_of(&first);
    is_same(&first, &keyed(&project, "a", "cohorts/", &body));
}

#[test]
fn a_retry_gets_the_secret_of_a_webhook() {
    let project = Project::new();
    let body = json!({"url": "https://example.com/hook"});
    let first = keyed(&project, "a", "webhooks/", &body);
    let secret = first.json()["secret"].clone();
    assert!(secret.is_string(), "{}", first.text);
    is_same(&first, &keyed(&project, "a", "webhooks/", &body));
    assert_eq!(count(&project, "webhooks/"), 1);
    let rotate = format!("webhooks/{}/rotate_secret/", id_of(&first));
    let rotated = keyed(&project, "b", &rotate, &json!({}));
    assert_ne!(rotated.json()["secret"], secret);
    is_same(&rotated, &keyed(&project, "b", &rotate, &json!({})));
}

#[test]
fn a_retry_does_not_change_a_property_again() {
    let project = Project::new();
    project.persons([("ann", json!({}))]);
    let person = project.person("ann");
    let path = format!("persons/{person}/update_property/");
    let set = |key: &str, value: &str| {
        let body = json!({"key": "plan", "value": value});
        keyed(&project, key, &path, &body)
    };
    let first = set("a", "pro");
    assert_eq!((first.status, set("b", "free").status), (202, 202));
    is_same(&first, &set("a", "pro"));
    let shown = project.get(&format!("persons/{person}/")).json();
    assert_eq!(shown["properties"]["plan"], "free");
}

#[test]
fn a_stored_response_does_not_show_a_deleted_person() {
    let project = Project::new();
    project.persons([("ann", json!({}))]);
    let body = json!({"distinct_ids": ["ann"]});
    let ask = || keyed(&project, "a", "cohorts/memberships/", &body);
    let first = ask();
    assert!(first.json()["results"][0]["person_id"].is_string());
    is_same(&first, &ask());
    let person = format!("persons/{}/", project.person("ann"));
    assert_eq!(project.ask(Method::DELETE, &person, None).status, 204);
    assert!(ask().json()["results"][0]["person_id"].is_null());
}

/// Sends a request several times at once, until one of the clients gets 409.
pub fn running(server: &'static cohorts_server::Server, key: &str, address: &str) -> Answer {
    let method = Method::POST;
    for nth in 0..1_000 {
        let ask = || {
            let request = request_to(server, method.clone(), address).bearer_auth(key);
            let request = request.header("Idempotency-Key", format!("running-{address}-{nth}"));
            send(&method, request)
        };
        let answers: Vec<Answer> = thread::scope(|scope| {
            let clients = [(); 4].map(|()| scope.spawn(ask));
            let answers = clients.into_iter();
            answers
                .map(|client| client.join().expect("an answer"))
                .collect()
        });
        let mut answers = answers.into_iter();
        if let Some(answer) = answers.find(|answer| answer.status == 409) {
            return answer;
        }
    }
    panic!("{address}: no request overlaps with another one")
}

/// Sends another request with the key of an earlier one.
pub fn reused(server: &'static cohorts_server::Server, key: &str, address: &str) -> Answer {
    let ask = |body: &'static str| {
        let request = request_to(server, Method::POST, address).bearer_auth(key);
        let request = request.header("Idempotency-Key", format!("reused-{address}"));
        send(&Method::POST, request.body(body))
    };
    ask("");
    ask("{}")
}
