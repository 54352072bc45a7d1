//! Calls whose body holds files.

use progenitor_client::{Error, ResponseValue};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;

use crate::download::refusal;

#[allow(dead_code, reason = "called where the contract has such a body")]
/// Sends a request and reads its answer as JSON.
pub(crate) async fn send<T, E>(request: RequestBuilder) -> Result<ResponseValue<T>, Error<E>>
where
    T: DeserializeOwned,
    E: DeserializeOwned,
{
    let response = request.send().await?;
    if response.status().is_success() {
        return ResponseValue::from_response(response).await;
    }
    Err(refusal(response).await)
}
