//! Tests of the linters and generators on a sample document.

use super::*;

mod drift;
mod operations;
mod output;
mod parameters;
mod schemas;

const SAMPLE: &str = include_str!("tests/sample.yaml");

const LIST: &str = "paths./api/projects/{project_id}/things/.get";
const CREATE: &str = "paths./api/projects/{project_id}/things/.post";

/// Returns the sample with the first occurrence of `from` replaced by `to`.
fn edited_sample(from: &str, to: &str) -> String {
    assert!(
        SAMPLE.contains(from),
        "the sample does not contain `{from}`"
    );
    SAMPLE.replacen(from, to, 1)
}

fn findings(text: &str) -> Vec<String> {
    match generate(text) {
        Ok(_) => Vec::new(),
        Err(error) => format!("{error:#}").lines().map(str::to_owned).collect(),
    }
}

/// Asserts that the sample has `finding` after `from` is replaced by `to`. Other findings are allowed.
#[track_caller]
fn assert_finding(from: &str, to: &str, finding: &str) {
    let findings = findings(&edited_sample(from, to));
    let expected = format!("openapi.yaml: {finding}");
    assert!(findings.contains(&expected), "{findings:#?}");
}
