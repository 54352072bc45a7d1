//! Tasks of the workspace, run as `cargo xtask <task>`.
//!
//! This program only starts the program of the task, so that a change of the contract does not compile the load generators.

use std::process::{Command, ExitCode};

/// The tasks, each with its program. The program's name is also the feature that it needs.
const TASKS: [(&str, &str); 6] = [
    ("codegen", "codegen"),
    ("console", "console"),
    ("contract-changes", "changes"),
    ("bench", "load"),
    ("soak", "load"),
    ("contention", "load"),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let task = arguments.first().and_then(|task| task.to_str());
    let program = TASKS
        .iter()
        .find(|(name, _)| Some(*name) == task)
        .map(|(_, program)| *program);
    let Some(program) = program else {
        eprintln!(
            "usage: cargo xtask codegen|console|contract-changes|bench|soak|contention [--help]"
        );
        return ExitCode::FAILURE;
    };
    // The load shares the processor with the service that it measures.
    let is_optimised = program == "load";
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "xtask"])
        .args(is_optimised.then_some("--release"))
        .args(["--no-default-features", "--features", program])
        .args(["--bin", program, "--"])
        .args(arguments)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
