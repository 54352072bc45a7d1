//! Measures what the catalogue costs captures, by a test of the server that is built with optimisation: requests cannot switch
//! the catalogue off.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::Report;

const TEST: &str = "index::catalogue::tests::cost::captures_with_and_without_the_catalogue";
/// The line of the test with its figures begins with this.
const MARK: &str = "figures: ";

/// Runs the test, and reports its figures.
pub fn measure(root: &Path, report: &mut Report) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["test", "--release", "--locked", "--package"])
        .args(["cohorts-server", "--lib", "--", "--exact", TEST])
        .args(["--ignored", "--nocapture"])
        .stderr(Stdio::inherit());
    let output = command.output()?;
    ensure!(output.status.success(), "{TEST} failed");
    let text = String::from_utf8(output.stdout)?;
    let figures = text.lines().find_map(|line| {
        let (_, figures) = line.split_once(MARK)?;
        Some(figures)
    });
    let value: Value = serde_json::from_str(figures.context("the test has printed no figures")?)?;
    report.add("catalogue_work", value.to_string(), value)
}
