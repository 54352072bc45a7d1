//! Code generation: from `openapi.yaml` to the generated files of `cohorts-api` and `cohorts-client`.
//!
//! [`Contract::read`] lints the whole document first, and files are generated only if there is no finding.
//! The text of the files depends on the document alone.
//! What the generators cannot express is a finding and is never skipped silently.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

#[cfg(feature = "client")]
mod client;
mod contract;
mod documentation;
mod findings;
mod operations;
mod parameters;
mod print;
#[cfg(feature = "client")]
mod projection;
mod responses;
mod routes;
mod rules;
mod schemas;
mod server;
mod types;

#[cfg(test)]
mod tests;

use contract::Contract;

const DOCUMENT: &str = "openapi.yaml";
const COMMAND: &str = "cargo xtask codegen";

/// A generated file: its path relative to the root of the workspace, and its text.
struct Output {
    path: &'static str,
    text: String,
}

/// Writes the generated files. With `check`, compares them with the files on disk and writes nothing.
pub fn run(root: &Path, check: bool) -> Result<()> {
    let document = root.join(DOCUMENT);
    let text = fs::read_to_string(&document)
        .with_context(|| format!("cannot read {}", document.display()))?;
    let outputs = generate(&text)?;
    if check {
        compare(root, &outputs)
    } else {
        write(root, &outputs)
    }
}

fn generate(text: &str) -> Result<Vec<Output>> {
    let contract = Contract::read(text)?;
    Ok(vec![
        Output {
            path: "crates/cohorts-api/src/generated/types.rs",
            text: types::generate(&contract)?,
        },
        Output {
            path: "crates/cohorts-api/src/generated/server.rs",
            text: server::generate(&contract)?,
        },
        Output {
            path: "crates/cohorts-client/src/generated.rs",
            text: client::generate(&contract)?,
        },
    ])
}

fn write(root: &Path, outputs: &[Output]) -> Result<()> {
    for Output { path, text } in outputs {
        let path: PathBuf = root.join(path);
        let folder = path.parent().context("a generated file has no folder")?;
        fs::create_dir_all(folder)?;
        // An unchanged file keeps its modification time, so cargo does not rebuild its crate.
        if fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn compare(root: &Path, outputs: &[Output]) -> Result<()> {
    let stale: Vec<_> = outputs
        .iter()
        .filter(|output| {
            let old = fs::read_to_string(root.join(output.path));
            !old.is_ok_and(|old| old == output.text)
        })
        .map(|output| format!("  {}", output.path))
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "out of date with {DOCUMENT}:\n{}\nrun `{COMMAND}` and commit the result",
        stale.join("\n")
    );
}
