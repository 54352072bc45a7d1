//! Calls with a multipart body.

use progenitor_client::{Error, ResponseValue};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;

use crate::download::response_error;

/// Sends a request and parses the response as JSON.
///
/// # Errors
///
/// Fails if the request cannot be sent, if the status is not a success, or if the body cannot be parsed.
#[allow(dead_code, reason = "called if the contract has such a body")]
pub(crate) async fn send<T, E>(request: RequestBuilder) -> Result<ResponseValue<T>, Error<E>>
where
    T: DeserializeOwned,
    E: DeserializeOwned,
{
    let response = request.send().await?;
    if response.status().is_success() {
        return ResponseValue::from_response(response).await;
    }
    Err(response_error(response).await)
}
