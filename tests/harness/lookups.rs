//! Persons, counts and metrics of a running service, as tests read them.

use reqwest::Method;
use serde_json::{Value, json};

use super::answer::send;
use super::criteria::any_of;
use super::project::Project;
use super::request;

/// The person with this distinct id, as the API returns it.
pub fn find_person(project: &Project, id: &str) -> Option<Value> {
    let page = project.get(&format!("persons/?distinct_id={id}")).json();
    page["results"]
        .as_array()
        .expect("persons")
        .first()
        .cloned()
}

/// The number of persons that meet any of these criteria, by a preview.
pub fn count(project: &Project, leaves: Value) -> i64 {
    let preview = project.post("cohorts/preview/", json!({"filters": any_of(leaves)}));
    preview.json()["count"].as_i64().expect("a count")
}

/// The number of persons on the first page of the project's persons.
pub fn person_count(project: &Project) -> usize {
    let page = project.get("persons/").json();
    page["results"].as_array().expect("persons").len()
}

/// The value of a metric without labels; 0 if it is not exported yet.
pub fn metric(name: &str) -> u64 {
    let metrics = send(&Method::GET, request(Method::GET, "/metrics")).text;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.trim().parse().expect("a number"))
}
