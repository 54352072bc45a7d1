//! Generates the code of `cohorts-api` and `cohorts-client` from `openapi.yaml`.
//!
//! It must not depend on generated code, so that it runs when that code does not compile.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder in the root of the workspace");
    let check = std::env::args().any(|argument| argument == "--check");
    match openapi_actix::run(root, check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
