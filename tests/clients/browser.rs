//! Swagger UI in a real browser, if one is installed.

use std::process::Command;

use cohorts_server::commands::demo::{Size, start};

use super::sdk::{outcome, script};
use crate::harness::{Project, config, get, server};

/// Runs the script on the page of a service. Returns `None` if no browser is installed.
fn browse(base: &str, arguments: &[&str]) -> Option<String> {
    let mut check = Command::new("python3");
    check.arg(script("browser/swagger.py")).arg(base);
    check.args(arguments);
    if let Some(chromium) = std::env::var_os("COHORTS_TEST_CHROMIUM") {
        check.arg("--chromium").arg(chromium);
    }
    outcome("chromium", check)
}

#[test]
fn swagger_ui_keeps_the_key_over_a_reload() {
    let project = Project::new();
    project.cohort(serde_json::json!({"name": "seen in the browser"}));
    let id = project.id.to_string();
    let arguments = ["--key", &project.key, "--project", &id];
    if let Some(text) = browse(&server().url(), &arguments) {
        assert!(text.contains("cohorts_list answered with 200"), "{text}");
    }
}

#[test]
fn every_operation_succeeds_in_swagger_ui_with_the_values_that_a_demo_offers() {
    let config = config();
    // The ids of the second demo are not those of the examples in the contract.
    for persons in [1, 20] {
        let size = Size {
            persons,
            events: 100,
        };
        let demo = start(size, &config, |_| Ok(())).expect("a demo");
        if persons > 1
            && let Some(text) = browse(&demo.url(), &[])
        {
            assert!(text.contains("operations succeed"), "{text}");
        }
        demo.stop().expect("an end");
    }
}

#[test]
fn a_service_that_is_no_demo_offers_no_credentials() {
    let offered = get("/docs/credentials.json").json();
    assert_eq!(offered, serde_json::json!({}));
}
