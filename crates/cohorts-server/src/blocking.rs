//! Runs work on the database on threads that may block. Its log lines contain the id of the request.

use actix_web::web;
use cohorts_store::{Conn, Store};

use crate::error::Error;
use crate::logging::RequestId;

/// Runs `work` on a connection.
pub async fn read<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let store = store.clone();
    compute(move || work(&mut *store.connection()?)).await
}

/// Runs `work` that needs no connection and may take long, such as parsing a large value.
pub async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let request = RequestId::current();
    let work = move || request.scope(work);
    web::block(work).await.map_err(|_| Error::Unavailable)?
}
