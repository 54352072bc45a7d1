//! Tests of failures: killed processes, a lost database, cut connections, hostile clients. The program runs as a
//! separate process, like in production.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod bodies;
mod broken;
mod changes;
mod deletion;
mod harness;
mod histories;
mod hostile;
mod idle;
mod kills;
mod live;
mod locks;
mod logs;
mod look_ups;
mod memory;
mod operation;
mod pages;
mod retries;
mod tls;
mod webhooks;
