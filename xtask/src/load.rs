//! The tasks that put load on the service.
//!
//! This program must not depend on the crates of the service: it runs the service and sends requests to it.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod contention;
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
    /// Measure the service on a synthetic population
    Bench(bench::Bench),
    /// Run the service under load, kill it repeatedly, and check that no data is lost
    Soak(soak::Soak),
    /// Measure the requests of one project while another project puts load on the service
    Contention(contention::Contention),
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder in the root of the workspace");
    let result = match Cli::parse().task {
        Task::Bench(bench) => bench.run(root),
        Task::Soak(soak) => soak.run(root),
        Task::Contention(contention) => contention.run(root),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line to standard output and flushes it.
fn print_line(line: impl AsRef<str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", line.as_ref())?;
    Ok(out.flush()?)
}
