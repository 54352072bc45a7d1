//! The shared API cases, each under its number: what any service with this API must answer.
//!
//! Left out, as there is nothing here that could be asked:
//!
//! - 108: an upload is read within its request, so there is no importer beside it that could fail.
//! - 119 to 124: there are no feature flags, no insights and no filters of test accounts.
//!
//! Of these only a part is asked:
//!
//! - 5: the cohort is not calculated, as there are no actions.
//! - 11: that a folder gets an entry is left out, as there are no folders.
//! - 16: the number of SQL statements is left out, as no answer shows it.
//! - 36, 37: that queries are refused, as none is offered.
//! - 54: an upload is wholly there in its answer, so nobody sees it on its way.
//! - 104, 105: that a failed calculation has a message; which one a timeout or too little memory
//!   has is left out, as no request brings these about.
//! - 107: who is calculated of those who wait; whose calculation is asked for again from time to
//!   time is left out, as a server that calculates only when told does not ask.
//! - 115: people are members of no project here, so the key is one that does not reach the project.
//! - 125 to 127: what builds on a cohort is other cohorts alone.

use cohorts_server::KeyGrant;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Project, any_of, request, send};

mod activity;
mod create;
mod filters;
mod keys;
mod kinds;
mod listing;
mod membership;
mod persons;
mod references;
mod state;
mod static_cohorts;
mod uploads;

/// Where a cohort is.
fn at(cohort: i64) -> String {
    format!("cohorts/{cohort}/")
}

/// The number of a cohort that was just made.
fn id_of(made: &Answer) -> i64 {
    assert_eq!(made.status, 201, "{}", made.text);
    made.json()["id"].as_i64().expect("an id")
}

/// Criteria of one leaf.
fn only(leaf: Value) -> Value {
    any_of(json!([leaf]))
}

/// A criterion on the members of another cohort.
fn in_cohort(cohort: i64) -> Value {
    json!({"type": "cohort", "key": "id", "value": cohort})
}

/// That a rule is broken, and that the detail has this part.
fn is_bad(answer: &Answer, attr: Option<&str>, part: &str) {
    let detail = answer.is_error(400, "invalid_input", attr).detail();
    assert!(detail.contains(part), "{detail}");
}

/// That a rule is broken, and that the detail is exactly this.
fn says(answer: &Answer, attr: Option<&str>, detail: &str) {
    let found = answer.is_error(400, "invalid_input", attr).detail();
    assert_eq!(found, detail);
}

/// The rows of a page.
fn rows(page: &Value) -> &[Value] {
    page["results"].as_array().expect("rows")
}

/// The names in a list, in its order.
fn names(project: &Project, query: &str) -> Vec<String> {
    let page = project.get(&format!("cohorts/?{query}"));
    assert_eq!(page.status, 200, "{}", page.text);
    let name = |row: &Value| row["name"].as_str().unwrap_or_default().to_owned();
    rows(&page.json()).iter().map(name).collect()
}

/// The page that a link leads to.
fn follow(project: &Project, link: &Value) -> Value {
    let link = link.as_str().expect("a link");
    let origin = project.server.url();
    let path = link.strip_prefix(&origin).expect("a link to this server");
    let asked = request(Method::GET, path).bearer_auth(&project.key);
    let page = send(&Method::GET, asked);
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()
}

/// The same project, asked with another key.
fn with_key(project: &Project, key: String) -> Project {
    Project {
        id: project.id,
        token: project.token.clone(),
        key,
        server: project.server,
    }
}

/// The same project, asked by somebody else than usual.
fn asked_by(project: &Project, email: &str) -> Project {
    let grant = KeyGrant {
        projects: vec![project.id],
        scopes: vec!["*".to_owned()],
        label: "somebody else".to_owned(),
        email: email.to_owned(),
        first_name: String::new(),
        expires_in: None,
    };
    let admin = project.server.data().admin();
    with_key(project, admin.create_key(&grant).expect("a key").key)
}

/// Uploads a file of people: to a new static cohort, or to one that exists.
fn upload(project: &Project, cohort: Option<i64>, content: impl Into<Vec<u8>>) -> Answer {
    let fields = [("name", "Uploaded"), ("filters", r#"{"properties": {}}"#)];
    let fields = if cohort.is_some() { &[][..] } else { &fields };
    project.upload(cohort, content, fields)
}
