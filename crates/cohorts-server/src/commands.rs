//! What the command line does besides serving: demo, import, doctor.

pub mod demo;
pub mod doctor;
pub mod import;
mod progress;
