//! Generates an actix-web server from an OpenAPI 3.0 document: types, one trait per tag, routes and checks.
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

/// Generates the files of a document.
///
/// # Errors
///
/// Fails with all findings if the document violates a rule, or has a construct that the generator does not support.
pub fn generate(document: &Document, config: &Config) -> Result<Files, Findings> {
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
