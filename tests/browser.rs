//! Swagger UI in a real browser, where there is one.

use std::process::Command;

use crate::harness::{Project, server};
use crate::sdk::{outcome, script};

#[test]
fn swagger_ui_shows_the_contract_and_tries_it_out() {
    let project = Project::new();
    project.cohort(serde_json::json!({"name": "seen in the browser"}));
    let mut check = Command::new("python3");
    check.arg(script("browser/swagger.py"));
    check.arg(server().url()).arg(&project.key);
    check.args(["--project", &project.id.to_string()]);
    if let Some(chromium) = std::env::var_os("COHORTS_TEST_CHROMIUM") {
        check.arg("--chromium").arg(chromium);
    }
    if let Some(said) = outcome("chromium", check) {
        assert!(said.contains("cohorts_list answered with 200"), "{said}");
    }
}
