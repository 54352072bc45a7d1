//! Evaluations for a request: with a permit of the previews, and only as long as their client waits.

use cohorts_api::RequestHead;
use cohorts_store::{Conn, ProjectId};

use crate::auth::Caller;
use crate::client_socket::ClientSocket;
use crate::error::Error;
use crate::handlers::Service;
use crate::handlers::admission::holding;
use crate::index::IndexedStore;
use crate::index::stop::StopFlag;
use crate::shares::ShareOwner;

/// The project and the key that an evaluation belongs to.
#[derive(Clone, Copy)]
pub struct EvaluationOwner {
    project: ProjectId,
    key: i64,
}

impl From<&Caller> for EvaluationOwner {
    fn from(caller: &Caller) -> Self {
        Self {
            project: caller.project.id(),
            key: caller.key,
        }
    }
}

impl Service {
    /// Runs `read`. It stops if its client disconnects, or if it is the oldest of too many evaluations of its key.
    pub(super) async fn evaluate<T: Send + 'static>(
        &self,
        EvaluationOwner { project, key }: EvaluationOwner,
        head: &RequestHead,
        read: impl FnOnce(&mut Conn, &IndexedStore, &StopFlag) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store.clone();
        let turn = self.shares.preview_turns.begin(key);
        let stop = turn.stop.clone();
        let work = async {
            let owner = ShareOwner::Project(project);
            let permit = self.shares.previews.acquire(owner).await?;
            let read = holding(permit, move |conn| read(conn, &store, &stop));
            self.read(project, read).await
        };
        let client = ClientSocket::of(head.request());
        tokio::select! {
            result = work => result,
            () = turn.stop.wait() => Err(Error::Superseded),
            () = ClientSocket::closed(client.as_ref()) => Err(Error::Superseded),
        }
    }
}
