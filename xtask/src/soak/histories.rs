//! Runs random histories with kills at commit points: a test of the server, built with optimisation.
//!
//! The test is in `crates/cohorts-server/tests/processes/histories.rs`. A few of its histories run with the other tests.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

const TEST: &str = "histories::many_replays_of_the_feed_end_with_the_members";

/// Runs `count` histories, each on `processes` services that share a database. The test prints a summary.
pub fn run(root: &Path, count: usize, first: usize, processes: usize) -> Result<()> {
    let status = Command::new("cargo")
        .current_dir(root)
        .args([
            "test",
            "--release",
            "--locked",
            "--package",
            "cohorts-server",
        ])
        .args(["--test", "processes", "--", "--exact", TEST])
        .args(["--ignored", "--nocapture"])
        .env("COHORTS_SOAK_HISTORIES", count.to_string())
        .env("COHORTS_SOAK_FIRST", first.to_string())
        .env("COHORTS_SOAK_PROCESSES", processes.to_string())
        .status()?;
    ensure!(status.success(), "a replay of the feed failed");
    Ok(())
}
