//! Builds the console: installs its pinned packages, checks its types, and bundles `ui/` into `dist/`.
//!
//! Only this task needs Node. `cargo build` uses the committed `dist/`.

use std::path::Path;
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask console [--check]

With --check, no file is written, and a difference between dist/ and the result is an error.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] => build(&["build.mjs"]),
        ["--check"] => build(&["build.mjs", "--check"]),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build(bundle: &[&str]) -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cohorts-console/ui");
    // The bundler is a program in an optional package, so no package needs to run a script.
    run(
        &folder,
        "npm",
        &["ci", "--ignore-scripts", "--loglevel=error"],
    )?;
    run(&folder, "npm", &["run", "--silent", "check"])?;
    run(&folder, "node", bundle)
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} {}: {status}", arguments.join(" "))),
        Err(error) => Err(format!(
            "cannot run {program}: {error}. The console needs Node 20 or later with npm."
        )),
    }
}
