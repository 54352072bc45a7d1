//! The output of the documents. `mod.rs` of each is what `lib.rs` of a generated crate is.

pub mod bodies;
pub mod modern;
pub mod names;
pub mod parameters;
pub mod petstore;
pub mod responses;
pub mod schemas;
pub mod trains;
