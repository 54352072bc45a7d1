//! Swagger UI in a real browser, if one is installed.

use std::process::Command;

use super::sdk::{outcome, script};
use crate::harness::{Project, server};

#[test]
fn swagger_ui_shows_the_contract_and_executes_a_request() {
    let project = Project::new();
    project.cohort(serde_json::json!({"name": "seen in the browser"}));
    let mut check = Command::new("python3");
    check.arg(script("browser/swagger.py"));
    check.arg(server().url()).arg(&project.key);
    check.args(["--project", &project.id.to_string()]);
    if let Some(chromium) = std::env::var_os("COHORTS_TEST_CHROMIUM") {
        check.arg("--chromium").arg(chromium);
    }
    if let Some(text) = outcome("chromium", check) {
        assert!(text.contains("cohorts_list answered with 200"), "{text}");
    }
}
