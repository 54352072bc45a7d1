//! Published clients of PostHog's API, unmodified, against a server that calculates in the background.

use std::process::Command;

use super::sdk::{outcome, script};
use crate::harness::{key, start};

fn run(name: &str) {
    let server = start(|config| config.calculate = true);
    let admin = server.data().admin();
    let project = admin.create_project("Clients", "UTC").expect("a project");
    let python = std::env::var("COHORTS_TEST_PYTHON").unwrap_or("python3".to_owned());
    let mut client = Command::new(python);
    client
        .arg(script(&format!("clients/{name}.py")))
        .args([server.url(), project.id.to_string()])
        .args([key(&server, &[project.id], &["*"]), project.token]);
    if let Some(text) = outcome("python", client) {
        let cohort: serde_json::Value = serde_json::from_str(&text).expect("a line of JSON");
        assert!(cohort.is_object(), "{text}");
    }
    server.stop().expect("a clean end");
}

#[test]
fn arcade_toolkit_gets_the_expected_responses() {
    run("arcade");
}

#[test]
fn airbyte_source_reads_all_cohorts_and_persons() {
    run("airbyte");
}

#[test]
fn piglet_creates_changes_and_deletes_cohorts() {
    run("piglet");
}
