//! Arbitrary text as a document: it has findings, or its output is valid Rust. The generator panics if it is not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openapi_actix::{Config, Document, generate};

fuzz_target!(|text: &str| {
    if let Ok(document) = Document::parse("fuzz.yaml", text) {
        let _ = generate(&document, &Config::default());
    }
});
