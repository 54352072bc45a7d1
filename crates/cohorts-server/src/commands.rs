//! What each command does and prints. `main.rs` parses the command line and calls these functions.

pub mod console;
pub mod demo;
pub mod distribute;
pub mod doctor;
pub mod explain;
pub mod import;
pub mod keys;
mod output;
mod progress;
pub mod projects;
pub mod purge;
pub mod serve;
