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
    let request = RequestId::current();
    let work = move || request.scope(|| work(&mut *store.connection()?));
    web::block(work).await.map_err(|_| Error::Unavailable)?
}

/// Runs `work` that needs no connection and may take long, such as parsing a large value.
pub async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let request = RequestId::current();
    let work = move || request.scope(work);
    web::block(work).await.map_err(|_| Error::Unavailable)?
}

/// Runs `work` in one transaction; an error rolls everything back.
pub async fn transaction<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    read(store, |conn| cohorts_store::transaction(conn, work)).await
}

/// Runs `work` in a read-only transaction. All of its statements see the data of one instant.
pub async fn snapshot<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    read(store, |conn| cohorts_store::snapshot(conn, work)).await
}
