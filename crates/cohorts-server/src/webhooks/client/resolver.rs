//! The look-up of the host of a URL.
//!
//! A name may have another address at each look-up, so an attempt looks it up once, and checks and calls these addresses.

use std::net::SocketAddr;

use tokio::net::lookup_host;
use url::Host;

use super::RequestFailure;
use crate::webhooks::address::WebhookTarget;

/// The addresses of a name at its next look-up.
#[cfg(test)]
pub type GivenLookUp = dyn Fn(&str) -> Vec<std::net::IpAddr> + Send + Sync;

/// Where the addresses of names come from.
#[derive(Clone)]
pub enum Resolver {
    /// The system.
    System,
    /// Tests decide the addresses of each look-up of a name.
    #[cfg(test)]
    Given(std::sync::Arc<GivenLookUp>),
}

impl Resolver {
    /// The addresses of the host of a target.
    pub async fn addresses(
        &self,
        target: &WebhookTarget,
    ) -> Result<Vec<SocketAddr>, RequestFailure> {
        let port = target.port();
        match target.host() {
            Host::Ipv4(address) => Ok(vec![(address, port).into()]),
            Host::Ipv6(address) => Ok(vec![(address, port).into()]),
            Host::Domain(name) => self.look_up(name, port).await,
        }
    }

    async fn look_up(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, RequestFailure> {
        match self {
            Self::System => {
                let addresses = lookup_host((name, port)).await;
                let addresses = addresses.map_err(|_| "The host of the URL has no address.")?;
                Ok(addresses.collect())
            }
            #[cfg(test)]
            Self::Given(look_up) => {
                let addresses = look_up(name).into_iter();
                Ok(addresses.map(|address| (address, port).into()).collect())
            }
        }
    }
}
