//! Tests of the linters and generators on a sample document, with the rules of a project.

use crate::contract::Contract;
use crate::{Config, Document, Files, Findings, KeyRule, Layout, Rules, Runtime, generate};

mod dialect;
mod drift;
mod keys;
mod limits;
mod names;
mod operations;
mod output;
mod parameters;
mod schemas;

const SAMPLE: &str = include_str!("tests/sample.yaml");

const LIST: &str = "paths./api/projects/{project_id}/things/.get";
const CREATE: &str = "paths./api/projects/{project_id}/things/.post";

/// A project with a runtime of its own, and with rules.
fn project() -> Config {
    Config {
        command: "cargo xtask codegen".to_owned(),
        runtime: Runtime::Own,
        layout: Layout {
            types: "types.rs".to_owned(),
            server: "server.rs".to_owned(),
            client: cfg!(feature = "client").then(|| "client.rs".to_owned()),
            package: None,
        },
        client_types: Vec::new(),
        rules: Rules {
            trailing_slash: true,
            one_tag: true,
            snake_case_ids: true,
            envelope: Some("Error".to_owned()),
            key: Some(KeyRule {
                schemes: vec!["personalApiKey".to_owned()],
                handled: vec!["projectToken".to_owned()],
                scopes: "x-required-scopes".to_owned(),
            }),
            known_extensions: true,
            missing_body_is_empty: true,
            common_headers: vec!["X-Request-Id".to_owned()],
            ..Rules::default()
        },
    }
}

fn generate_with(text: &str, config: &Config) -> Result<Files, Findings> {
    generate(&Document::parse("openapi.yaml", text)?, config)
}

/// The text of a file that is generated from a document.
#[track_caller]
fn generated(text: &str, path: &str) -> String {
    let files = generate_with(text, &project()).unwrap_or_else(|findings| panic!("{findings}"));
    files.text(path).expect("the file is generated").to_owned()
}

/// Returns the sample with the first occurrence of `from` replaced by `to`.
fn edited_sample(from: &str, to: &str) -> String {
    assert!(
        SAMPLE.contains(from),
        "the sample does not contain `{from}`"
    );
    SAMPLE.replacen(from, to, 1)
}

fn findings_with(text: &str, config: &Config) -> Vec<String> {
    match generate_with(text, config) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.to_string().lines().map(str::to_owned).collect(),
    }
}

fn findings(text: &str) -> Vec<String> {
    findings_with(text, &project())
}

/// Asserts that the sample has `finding` after `from` is replaced by `to`. Other findings are allowed.
#[track_caller]
fn assert_finding(from: &str, to: &str, finding: &str) {
    let findings = findings(&edited_sample(from, to));
    let expected = format!("openapi.yaml: {finding}");
    assert!(findings.contains(&expected), "{findings:#?}");
}
