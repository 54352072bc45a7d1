//! Generates an actix-web server from an OpenAPI 3.0 or 3.1 document: types, one trait per tag, routes and checks.
//!
//! [`generate`] reads the whole document first, and returns files only if there is no finding.
//! The files depend on document and configuration alone.
//! What the generator cannot express is a finding with its location, and is never skipped silently.
//!
//! ```
//! use openapi_actix::{Config, Document, generate};
//!
//! let text = "
//! openapi: 3.0.3
//! info: { title: Greetings, version: 1.0.0 }
//! paths:
//!   /greetings/{name}:
//!     get:
//!       operationId: greet
//!       parameters: [{ name: name, in: path, required: true, schema: { type: string } }]
//!       responses:
//!         '200': { description: A greeting., content: { text/plain: { schema: { type: string } } } }
//! ";
//! let document = Document::parse("greetings.yaml", text)?;
//! let files = generate(&document, &Config::default())?;
//! assert!(files.text("src/server.rs").unwrap().contains("pub trait DefaultApi"));
//! # Ok::<(), openapi_actix::Findings>(())
//! ```
#![warn(missing_docs)]

mod bodies;
#[cfg(feature = "client")]
mod client;
mod config;
mod contract;
mod descriptions;
mod dialect;
mod document;
mod files;
mod findings;
mod keys;
mod literals;
mod model;
mod naming;
mod operations;
mod package;
mod parameters;
mod print;
mod reader;
mod responses;
mod routes;
mod rules;
mod schemas;
mod security;
mod server;
mod types;

#[cfg(test)]
mod tests;

pub use config::{Config, KeyRule, Layout, Rules, Runtime};
pub use document::Document;
pub use files::{File, Files};
pub use findings::{Finding, Findings};

use contract::Contract;

/// The stack of the thread that generates, in bytes.
const STACK_SIZE: usize = 64 << 20;

/// Generates the files of a document.
///
/// # Errors
///
/// Fails with all findings if the document violates a rule, or has a construct that the generator does not support.
///
/// # Panics
///
/// Panics if the process cannot start a thread.
pub fn generate(document: &Document, config: &Config) -> Result<Files, Findings> {
    // Reading a schema inside others is a recursion. The stack of a test, for example, is too small for it.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_SIZE);
        let thread = thread.spawn_scoped(scope, || files(document, config));
        let result = thread.expect("a thread can be started").join();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn files(document: &Document, config: &Config) -> Result<Files, Findings> {
    let document = &dialect::to_3_0(document)?;
    let contract = Contract::read(document, config)?;
    let layout = &config.layout;
    let file = |path: &str, text| File {
        path: path.to_owned(),
        text,
    };
    let mut files = Vec::new();
    if !contract.model.items.is_empty() || layout.package.is_none() {
        files.push(file(&layout.types, types::generate(&contract)));
    }
    files.push(file(&layout.server, server::generate(&contract)));
    if let Some(path) = &layout.client {
        files.push(file(path, client(&contract)?));
    }
    if let Some(name) = &layout.package {
        files.extend(package::files(&contract, name));
    }
    Ok(Files(files))
}

#[cfg(feature = "client")]
fn client(contract: &Contract) -> Result<String, Findings> {
    client::generate(contract)
        .map_err(|message| Findings::one(&contract.document.name, "", message))
}

#[cfg(not(feature = "client"))]
fn client(contract: &Contract) -> Result<String, Findings> {
    let message =
        "a client is configured, but the generator is compiled without the feature `client`";
    Err(Findings::one(&contract.document.name, "", message))
}
