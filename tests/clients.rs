//! Clients of PostHog's API from their registries, unmodified, against a server that calculates by itself.

use std::process::Command;

use crate::harness::{key, scratch_dir, start};
use crate::sdk::{outcome, script};

fn run(name: &str) {
    let server = start(&scratch_dir(name), true);
    let admin = server.data().admin();
    let project = admin.create_project("Clients", "UTC").expect("a project");
    let python = std::env::var("COHORTS_TEST_PYTHON").unwrap_or("python3".to_owned());
    let mut client = Command::new(python);
    client
        .arg(script(&format!("clients/{name}.py")))
        .args([server.url(), project.id.to_string()])
        .args([key(&server, &[project.id], &["*"]), project.token]);
    if let Some(said) = outcome("python", client) {
        let made: serde_json::Value = serde_json::from_str(&said).expect("a line of JSON");
        assert!(made.is_object(), "{said}");
    }
    server.stop().expect("a clean end");
}

#[test]
fn the_arcade_toolkit_finds_what_it_expects() {
    run("arcade");
}

#[test]
fn the_airbyte_source_reads_all_cohorts_and_people() {
    run("airbyte");
}

#[test]
fn the_piglet_command_line_makes_changes_and_deletes_cohorts() {
    run("piglet");
}
