use super::*;

mod drift;
mod operations;
mod output;
mod parameters;
mod schemas;

const SAMPLE: &str = include_str!("tests/sample.yaml");

/// The sample with one text replaced.
fn sample(from: &str, to: &str) -> String {
    assert!(SAMPLE.contains(from), "the sample has no `{from}`");
    SAMPLE.replacen(from, to, 1)
}

fn findings(text: &str) -> Vec<String> {
    match generate(text) {
        Ok(_) => Vec::new(),
        Err(error) => format!("{error:#}").lines().map(str::to_owned).collect(),
    }
}

/// Demands that the sample, with one text replaced, is refused in these words among others.
#[track_caller]
fn refuses(from: &str, to: &str, finding: &str) {
    let findings = findings(&sample(from, to));
    let expected = format!("openapi.yaml: {finding}");
    assert!(findings.contains(&expected), "{findings:#?}");
}

const LIST: &str = "paths./api/projects/{project_id}/things/.get";
const CREATE: &str = "paths./api/projects/{project_id}/things/.post";
