//! The sender of a body before it is read, and its share of the memory for large bodies.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header;
use cohorts_api::{MemoryBudget, Operation};
use cohorts_store::ProjectId;
use parking_lot::Mutex;

use crate::blocking;
use crate::error::Error;
use crate::handlers::{Service, capture};
use crate::peer;
use crate::shares::ShareOwner;

/// A budget, and a part of it for each owner with a body in progress. One owner takes at most half.
#[derive(Clone)]
pub struct OwnerBudgets {
    whole: MemoryBudget,
    parts: Arc<Mutex<OwnerParts>>,
}

#[derive(Default)]
struct OwnerParts {
    by_owner: HashMap<ShareOwner, MemoryBudget>,
    /// The number of parts at which the unused ones are removed.
    cleanup_at: usize,
}

/// The fewest parts at which unused ones are removed.
const MIN_CLEANUP: usize = 64;

impl OwnerBudgets {
    pub fn new(whole: MemoryBudget) -> Self {
        let parts = Arc::default();
        Self { whole, parts }
    }

    /// The part of the owner.
    pub fn of(&self, owner: ShareOwner) -> MemoryBudget {
        let mut parts = self.parts.lock();
        if parts.by_owner.len() >= parts.cleanup_at.max(MIN_CLEANUP) {
            parts.by_owner.retain(|_, part| !part.is_unused());
            parts.cleanup_at = 2 * parts.by_owner.len();
        }
        let part = || self.whole.part(self.whole.capacity() / 2);
        parts.by_owner.entry(owner).or_insert_with(part).clone()
    }
}

impl Service {
    /// The owner of a body that is not read yet: the project of its token if the header or the query has one, else the
    /// peer.
    pub(in crate::handlers) async fn sender(
        &self,
        request: &HttpRequest,
        operation: &Operation,
    ) -> Result<ShareOwner, Error> {
        let address = peer::peer(request, self.peer_source);
        let Some(token) = sent_token(request, operation) else {
            return Ok(ShareOwner::Peer(peer::network(address)));
        };
        let find = self.look_up_token(token.clone());
        let project = self.tokens.find(address, &token, find).await?;
        project
            .map(ShareOwner::Project)
            .ok_or_else(capture::invalid_token)
    }

    /// The project of a token.
    pub(in crate::handlers) async fn look_up_token(
        &self,
        token: String,
    ) -> Result<Option<ProjectId>, Error> {
        if token.contains('\0') {
            return Ok(None);
        }
        let store = self.store.clone();
        blocking::compute(move || Ok(store.project_of_token(&token)?)).await
    }
}

/// The token in the header, where one operation expects it, or in the query.
fn sent_token(request: &HttpRequest, operation: &Operation) -> Option<String> {
    let token = match operation.id {
        "capture_analytics" => {
            let value = request.headers().get(header::AUTHORIZATION)?;
            let token = value.to_str().ok()?.strip_prefix("Bearer ")?;
            token.trim().to_owned()
        }
        id if id.starts_with("capture_") => {
            let pairs = form_urlencoded::parse(request.query_string().as_bytes());
            let (_, token) = pairs.filter(|(name, _)| name == "token").last()?;
            token.into_owned()
        }
        _ => return None,
    };
    Some(token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(number: u32) -> ShareOwner {
        ShareOwner::Peer(Ipv4Addr::from(number).into())
    }

    #[test]
    fn an_owner_has_one_part_as_long_as_it_uses_it() {
        let budgets = OwnerBudgets::new(MemoryBudget::new(100 << 10));
        let held = budgets.of(peer(0)).reserve(50 << 10);
        assert!(held.is_some());
        for number in 1..1_000 {
            assert!(budgets.of(peer(number)).reserve(50 << 10).is_some());
        }
        assert!(budgets.parts.lock().by_owner.len() <= 2 * MIN_CLEANUP);
        assert!(budgets.of(peer(0)).reserve(1).is_none(), "more than half");
        drop(held);
        assert!(budgets.of(peer(0)).reserve(50 << 10).is_some());
    }
}
