//! Calls with a response that is not JSON.

use progenitor_client::{Error, ResponseValue};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response};
use serde::de::DeserializeOwned;

/// Sends a request for `media_type`. The caller reads the body of the response.
///
/// # Errors
///
/// Fails if the request cannot be sent or if the status of the response is not a success.
#[allow(dead_code, reason = "called if the contract has such a response")]
pub(crate) async fn send<E>(request: RequestBuilder, media_type: &str) -> Result<Response, Error<E>>
where
    E: DeserializeOwned,
{
    let response = request.header(ACCEPT, media_type).send().await?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(response_error(response).await)
}

/// Converts a response with an error status. Its body is parsed if it is JSON.
pub(crate) async fn response_error<E: DeserializeOwned>(response: Response) -> Error<E> {
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.starts_with("application/json"))
    });
    if !is_json {
        return Error::UnexpectedResponse(response);
    }
    match ResponseValue::from_response(response).await {
        Ok(envelope) => Error::ErrorResponse(envelope),
        Err(error) => error,
    }
}
