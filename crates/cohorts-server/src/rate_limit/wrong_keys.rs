//! Limits the wrong keys of each client, so that it can neither guess keys nor occupy the database with look-ups. The same
//! holds for the unknown tokens of captures.
//!
//! A valid key is accepted from every client, also from a proxy through which others send wrong keys: keys that were valid
//! are remembered, and the others of such a client are looked up one after another. The memory is bounded, because the
//! caches are.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::auth;
use crate::error::Error;
use crate::peer;
use crate::shares::{Permit, ShareFull, ShareLimits, ShareOwner, Shares};

const WINDOW: Duration = Duration::from_secs(60);
/// The clients that are counted at the same time. Others take the place of those that sent wrong keys least recently.
const CLIENTS: usize = 16_384;
/// The valid keys that are remembered.
const VALID_KEYS: usize = 4_096;
/// Look-ups of keys for clients that have sent too many wrong ones.
const LOOK_UPS: ShareLimits = ShareLimits {
    per_node: usize::MAX,
    work: "look-ups of unknown keys",
    total: 2,
    per_owner: 1,
    waiting: 1_000,
    wait: Duration::from_millis(if cfg!(test) { 1 } else { 2_000 }),
};

/// The wrong keys of clients. Clones share it.
#[derive(Clone)]
pub struct WrongKeys(Arc<WrongKeyCounts>);

struct WrongKeyCounts {
    /// The most wrong keys of a client per minute.
    limit: u32,
    clients: Cache<IpAddr, Arc<WrongKeyCount>>,
    /// The hashes of keys that were valid. Each is still looked up, because it may have been revoked.
    valid: Cache<Vec<u8>, ()>,
    look_ups: Shares,
}

/// The wrong keys of one client since `start`.
struct WrongKeyCount {
    start: Instant,
    count: AtomicU32,
}

impl WrongKeys {
    /// Allows `limit` wrong keys of each client per minute.
    pub fn new(limit: u32) -> Self {
        Self(Arc::new(WrongKeyCounts {
            limit,
            clients: Cache::new(CLIENTS),
            valid: Cache::new(VALID_KEYS),
            look_ups: Shares::new(LOOK_UPS),
        }))
    }

    /// Returns the result of `look_up`, which authenticates the client at `address` by `key`.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Throttled`] instead of an unknown key if the client has sent too many wrong keys.
    pub async fn check<T>(
        &self,
        address: IpAddr,
        key: &str,
        look_up: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let (client, hash) = (peer::network(address), auth::hash(key));
        let mut _permit = None;
        if let Some(throttled) = self.throttled(client) {
            _permit = self.turn(client, &hash).await.map_err(|_| throttled)?;
        }
        let result = look_up.await;
        match &result {
            Err(Error::AuthenticationFailed { .. }) => {
                self.0.valid.remove(&hash);
                if let Some(throttled) = self.throttled(client) {
                    return Err(throttled);
                }
                self.count(client);
            }
            // The key is valid even if it has no access to the operation or the project.
            Ok(_) | Err(Error::PermissionDenied { .. } | Error::ProjectNotFound) => {
                self.0.valid.insert(hash, ());
            }
            Err(_) => {}
        }
        result
    }

    /// Returns the result of `look_up`, which finds the project of the token that the client at `address` sends. An unknown
    /// token counts as a wrong key, and is never throttled: a client may send the events of many applications.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::ShareFull`] if the client has sent too many unknown tokens, and too many of its tokens wait for
    /// their look-ups.
    pub async fn find<T>(
        &self,
        address: IpAddr,
        token: &str,
        look_up: impl Future<Output = Result<Option<T>, Error>>,
    ) -> Result<Option<T>, Error> {
        let (client, hash) = (peer::network(address), auth::hash(token));
        let mut _permit = None;
        if self.throttled(client).is_some() {
            _permit = self.turn(client, &hash).await?;
        }
        let found = look_up.await?;
        if found.is_some() {
            self.0.valid.insert(hash, ());
        } else {
            self.0.valid.remove(&hash);
            self.count(client);
        }
        Ok(found)
    }

    /// The turn of a client for one look-up; `None` if the key was valid, and needs none.
    async fn turn(&self, client: IpAddr, hash: &Vec<u8>) -> Result<Option<Permit>, ShareFull> {
        if self.0.valid.get(hash).is_some() {
            return Ok(None);
        }
        let look_ups = &self.0.look_ups;
        look_ups.acquire(ShareOwner::Peer(client)).await.map(Some)
    }

    /// The error for a further wrong key; `None` if one is allowed.
    fn throttled(&self, client: IpAddr) -> Option<Error> {
        let window = self.0.clients.get(&client)?;
        let left = WINDOW.checked_sub(window.start.elapsed())?;
        let is_used_up = window.count.load(Ordering::Relaxed) >= self.0.limit;
        is_used_up.then(|| Error::Throttled {
            seconds: left.as_secs() + 1,
        })
    }

    fn count(&self, client: IpAddr) {
        let clients = &self.0.clients;
        let current = clients
            .get(&client)
            .filter(|window| window.start.elapsed() < WINDOW);
        let window = current.unwrap_or_else(|| {
            let window = Arc::new(WrongKeyCount {
                start: Instant::now(),
                count: AtomicU32::new(0),
            });
            clients.insert(client, Arc::clone(&window));
            window
        });
        window.count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const KEY: &str = "phx_valid";

    fn invalid() -> Error {
        Error::AuthenticationFailed {
            code: "authentication_failed",
            detail: String::new(),
        }
    }

    /// Sends a key, and returns the code of the error and whether the key was looked up.
    async fn send(keys: &WrongKeys, address: &str, key: &str) -> (&'static str, bool) {
        let mut is_looked_up = false;
        let look_up = async {
            is_looked_up = true;
            if key == KEY { Ok(()) } else { Err(invalid()) }
        };
        let code = match keys.check(address.parse().unwrap(), key, look_up).await {
            Ok(()) => "valid",
            Err(Error::AuthenticationFailed { .. }) => "wrong",
            Err(Error::Throttled { seconds: 1..=60 }) => "throttled",
            Err(other) => panic!("{other:?}"),
        };
        (code, is_looked_up)
    }

    #[actix_web::test]
    async fn a_client_may_send_few_wrong_keys_and_any_valid_ones() {
        let keys = WrongKeys::new(2);
        for _ in 0..2 {
            assert_eq!(send(&keys, "1.2.3.4", "phx_a").await, ("wrong", true));
        }
        assert_eq!(send(&keys, "1.2.3.4", "phx_a").await, ("throttled", true));
        assert_eq!(send(&keys, "1.2.3.4", KEY).await, ("valid", true));
        assert_eq!(send(&keys, "1.2.3.5", "phx_a").await, ("wrong", true));
    }

    #[actix_web::test]
    async fn keys_of_a_suspicious_client_are_looked_up_one_after_another() {
        let keys = WrongKeys::new(1);
        send(&keys, "1.2.3.4", KEY).await;
        send(&keys, "1.2.3.4", "phx_a").await;
        let client = ShareOwner::Peer("1.2.3.4".parse().unwrap());
        let _busy = keys.0.look_ups.acquire(client).await.unwrap();
        assert_eq!(send(&keys, "1.2.3.4", "phx_a").await, ("throttled", false));
        assert_eq!(send(&keys, "1.2.3.4", KEY).await, ("valid", true));
        assert_eq!(send(&keys, "1.2.3.5", "phx_a").await, ("wrong", true));
    }

    #[actix_web::test]
    async fn tokens_of_a_suspicious_client_are_looked_up_one_after_another() {
        let tokens = WrongKeys::new(2);
        let address: IpAddr = "1.2.3.4".parse().unwrap();
        let send = async |token: &str| {
            let look_up = async { Ok((token == "phc_valid").then_some(())) };
            tokens.find(address, token, look_up).await
        };
        assert!(matches!(send("phc_valid").await, Ok(Some(()))));
        for token in ["phc_a", "phc_b", "phc_c"] {
            assert!(matches!(send(token).await, Ok(None)));
        }
        let _busy = tokens.0.look_ups.acquire(ShareOwner::Peer(address)).await;
        assert!(matches!(send("phc_d").await, Err(Error::ShareFull(_))));
        assert!(matches!(send("phc_valid").await, Ok(Some(()))));
    }

    #[actix_web::test]
    async fn a_network_of_ipv6_is_one_client() {
        let keys = WrongKeys::new(1);
        assert_eq!(send(&keys, "2001:db8::1", "phx_a").await.0, "wrong");
        assert_eq!(send(&keys, "2001:db8::2", "phx_a").await.0, "throttled");
        assert_eq!(send(&keys, "2001:db8:0:1::1", "phx_a").await.0, "wrong");
    }

    #[actix_web::test]
    async fn the_memory_does_not_grow_with_the_number_of_clients() {
        let keys = WrongKeys::new(1);
        for number in 0..CLIENTS as u128 * 3 {
            keys.count(Ipv6Addr::from(number << 64).into());
        }
        assert!(keys.0.clients.len() <= CLIENTS);
    }
}
