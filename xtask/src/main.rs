//! Tasks of the workspace, run as `cargo xtask <task>`.
//!
//! This program depends on no crate of the workspace, so it works when nothing else compiles.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod codegen;
mod service;
mod soak;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the workspace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the generated code of cohorts-api and cohorts-client from openapi.yaml
    Codegen {
        /// Write nothing; fail if a generated file is not what openapi.yaml gives
        #[arg(long)]
        check: bool,
    },
    /// Measure the service on a made-up population
    Bench(bench::Bench),
    /// Let the service live through much at once, kills included, and see that nothing is lost
    Soak(soak::Soak),
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the root of the workspace");
    let done = match Cli::parse().task {
        Task::Codegen { check } => codegen::run(root, check),
        Task::Bench(bench) => bench.run(root),
        Task::Soak(soak) => soak.run(root),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line at once.
fn say(text: impl AsRef<str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.as_ref())?;
    Ok(out.flush()?)
}
