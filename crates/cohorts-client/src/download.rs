//! Calls whose answer is not JSON.

use progenitor_client::{Error, ResponseValue};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response};
use serde::de::DeserializeOwned;

#[allow(dead_code, reason = "called where the contract has such an answer")]
/// Sends a request for `media_type`; the body of the answer is left unread.
pub(crate) async fn send<E>(request: RequestBuilder, media_type: &str) -> Result<Response, Error<E>>
where
    E: DeserializeOwned,
{
    let response = request.header(ACCEPT, media_type).send().await?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(refusal(response).await)
}

/// The error that an answer without success is: with its envelope, if it has one.
pub(crate) async fn refusal<E: DeserializeOwned>(response: Response) -> Error<E> {
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.starts_with("application/json"))
    });
    if !json {
        return Error::UnexpectedResponse(response);
    }
    match ResponseValue::from_response(response).await {
        Ok(envelope) => Error::ErrorResponse(envelope),
        Err(error) => error,
    }
}
