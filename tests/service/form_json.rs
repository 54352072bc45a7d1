//! JSON with the content type of a form, as `curl -d` sends it, or without a content type.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, cohort_names, cohort_path, id_of, only, person, request, send,
};

const FORM: &str = "application/x-www-form-urlencoded";

fn send_text(
    project: &Project,
    method: Method,
    rest: &str,
    content_type: Option<&str>,
    body: impl Into<Vec<u8>>,
) -> Answer {
    let mut call = request(method.clone(), &project.path(rest)).bearer_auth(&project.key);
    if let Some(content_type) = content_type {
        call = call.header("content-type", content_type);
    }
    send(&method, call.body(body.into()))
}

fn create(project: &Project, body: impl Into<Vec<u8>>) -> Answer {
    send_text(project, Method::POST, "cohorts/", Some(FORM), body)
}

#[test]
fn json_in_a_form_creates_the_cohort() {
    let project = Project::new();
    let filters = only(person("plan", "exact", "a&b=%41+c"));
    let body = json!({"name": "A", "filters": filters});
    let texts = [
        body.to_string(),
        format!("\r\n \t{body}\n"),
        format!("\u{feff}{body}"),
    ];
    for (content_type, text) in [
        Some(FORM),
        Some("application/x-www-form-urlencoded; charset=UTF-8"),
        None,
    ]
    .into_iter()
    .flat_map(|content_type| texts.iter().map(move |text| (content_type, text)))
    {
        let cohort = send_text(
            &project,
            Method::POST,
            "cohorts/",
            content_type,
            text.as_str(),
        );
        assert_eq!(cohort.status, 201, "{content_type:?}: {}", cohort.text);
        let (cohort, leaf) = (cohort.json(), "/filters/properties/values/0/value");
        assert_eq!(
            (&cohort["name"], cohort.pointer(leaf)),
            (&json!("A"), Some(&json!("a&b=%41+c")))
        );
    }
}

#[test]
fn json_in_a_form_is_read_by_all_operations() {
    let project = Project::new();
    project.persons([("d1", json!({"plan": "pro"}))]);
    let filters = only(person("plan", "exact", "pro"));
    let id = project.cohort(json!({"name": "A", "is_static": true}));
    let person_id = project.person("d1");
    let calls: [(Method, String, Value); 7] = [
        (
            Method::POST,
            "cohorts/preview/".to_owned(),
            json!({"filters": filters}),
        ),
        (Method::PATCH, cohort_path(id), json!({"name": "B"})),
        (Method::PUT, cohort_path(id), json!({"description": "d"})),
        (
            Method::PATCH,
            format!("cohorts/{id}/add_persons_to_static_cohort/"),
            json!({"person_ids": [person_id]}),
        ),
        (
            Method::PATCH,
            format!("cohorts/{id}/remove_person_from_static_cohort/"),
            json!({"person_id": person_id}),
        ),
        (
            Method::POST,
            "actions/".to_owned(),
            json!({"name": "Bought", "steps": [{"event": "paid"}]}),
        ),
        (
            Method::POST,
            "cohorts/".to_owned(),
            json!({"name": "a".repeat(100), "filters": filters, "x": "y".repeat(100_000)}),
        ),
    ];
    for (method, rest, body) in calls {
        let answer = send_text(&project, method, &rest, Some(FORM), body.to_string());
        assert!(
            answer.status < 300,
            "{rest}: {} {}",
            answer.status,
            answer.text
        );
    }
    let cohort = project.get(&cohort_path(id)).json();
    assert_eq!(
        (&cohort["name"], &cohort["description"]),
        (&json!("B"), &json!("d"))
    );
    let actions = project.get("actions/").json();
    assert_eq!(
        actions["results"][0]["steps"][0]["event"], "paid",
        "{actions}"
    );
}

#[test]
fn text_that_only_begins_as_json_is_refused_and_creates_no_cohort() {
    let project = Project::new();
    let encoded = "%7B%22name%22%3A%22A%22%7D";
    for body in [
        r#"{"name": "A""#,
        r#"{"name": "A"}&is_static=true"#,
        "{name: A}",
        "[1",
        "{",
        encoded,
    ] {
        let refused = create(&project, body);
        refused.is_error(400, "parse_error", None);
        for part in ["JSON", "Content-Type: application/json"] {
            assert!(refused.detail().contains(part), "{body}: {}", refused.text);
        }
    }
    let named = create(&project, r#"{"name": "A""#).detail();
    assert!(named.contains(FORM), "{named}");
    let untyped = send_text(&project, Method::POST, "cohorts/", None, "{");
    assert!(
        untyped.detail().contains("no content type"),
        "{}",
        untyped.text
    );
    let preview = send_text(&project, Method::POST, "cohorts/preview/", Some(FORM), "{");
    preview.is_error(400, "parse_error", None);
    let list = create(&project, r#"[{"name": "A"}]"#);
    let detail = list.is_error(400, "invalid_input", None).detail();
    assert_eq!(detail, "Invalid data. Expected a dictionary, but got list.");
    assert_eq!(cohort_names(&project, ""), Vec::<String>::new());
}

#[test]
fn forms_are_read_as_before() {
    let project = Project::new();
    let cohort = create(&project, "name=%7BA%7D&is_static=true");
    assert_eq!(
        project.get(&cohort_path(id_of(&cohort))).json()["name"],
        "{A}"
    );
    let preview = send_text(
        &project,
        Method::POST,
        "cohorts/preview/",
        Some(FORM),
        "filters={}",
    );
    preview.is_error(415, "unsupported_media_type", None);
    let text = send_text(&project, Method::POST, "cohorts/", Some("text/plain"), "{}");
    text.is_error(415, "unsupported_media_type", None);
}

#[test]
fn key_in_json_of_a_form_is_found() {
    let project = Project::new();
    let post = |key: &str| {
        let body = json!({"name": "A", "personal_api_key": key}).to_string();
        let call = request(Method::POST, &project.path("cohorts/")).header("content-type", FORM);
        send(&Method::POST, call.body(body))
    };
    assert_eq!(post(&project.key).status, 201);
    assert_eq!(post("phx_no").status, 401);
    assert_eq!(cohort_names(&project, ""), ["A"]);
}
