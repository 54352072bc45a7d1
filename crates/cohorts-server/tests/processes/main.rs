//! What the service promises when something breaks: processes that are killed, a database that goes away, connections
//! that are cut, clients that mean no good. The program runs as its users run it.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod broken;
mod harness;
mod hostile;
mod kills;
mod operation;
