//! `cohorts serve`: runs the service until a signal ends it.

use super::output::print;
use crate::{Config, Server};

/// Starts the service, prints its address, and waits until it ends.
///
/// # Errors
///
/// Fails if the address is in use, or the database cannot be opened.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let server = Server::start(config)?;
    print(format!("Cohorts is ready at {}", server.url()))?;
    server.wait()
}
