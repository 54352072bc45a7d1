//! How events come in: the body is unpacked, each item read or refused, and the good ones are kept before the answer.

use std::io::Read;

use actix_web::web;
use chrono::Utc;
use cohorts_api::types::{CaptureAnswer, CaptureAnswerStatus};
use cohorts_api::{CaptureApi, CaptureBatchRequest, CaptureBatchResponse, RawBody};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Service;
use crate::error::Error;
use crate::ingest::{self, Item};
use crate::request_id::RequestId;
use crate::store::ProjectId;
use crate::store::projects;

/// A compressed body may unpack to so many bytes.
const UNPACKED: usize = 64 << 20;

/// A batch as it is sent. What items hold is judged one by one.
#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(alias = "token")]
    api_key: Option<String>,
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
}

/// Where an item may carry the token, if the batch does not.
#[derive(Deserialize)]
struct Token {
    #[serde(alias = "token")]
    api_key: Option<String>,
    properties: Option<TokenProperty>,
}

#[derive(Deserialize)]
struct TokenProperty {
    token: Option<String>,
}

impl CaptureApi for Service {
    async fn capture_batch(
        &self,
        request: CaptureBatchRequest,
    ) -> Result<CaptureBatchResponse, Error> {
        let service = self.clone();
        let id = RequestId::current();
        let keep = move || id.scope(|| service.keep_batch(&request.raw));
        web::block(keep).await.map_err(|_| Error::Unavailable)??;
        Ok(CaptureBatchResponse::Status200(CaptureAnswer {
            status: CaptureAnswerStatus::Ok,
        }))
    }
}

impl Service {
    fn keep_batch(&self, body: &RawBody) -> Result<(), Error> {
        let text = unpacked(body)?;
        let batch: Batch<'_> = serde_json::from_str(&text).map_err(|error| Error::Malformed {
            detail: format!("JSON parse error - {error}"),
        })?;
        let project = self.project_of(&batch)?;
        let now = Utc::now();
        let mut items = Vec::with_capacity(batch.batch.len());
        for text in &batch.batch {
            match Item::read(text.get(), now, Uuid::now_v7) {
                Ok(item) => items.push(item),
                Err(refusal) => self.metrics.refused(refusal.reason()),
            }
        }
        let refused = batch.batch.len() - items.len();
        if refused > 0 {
            log::warn!(
                "refused {refused} of {} items for project {}",
                batch.batch.len(),
                project.0
            );
        }
        let added = ingest::keep(&self.store, project, &items)?;
        self.metrics.kept(added);
        Ok(())
    }

    fn project_of(&self, batch: &Batch<'_>) -> Result<ProjectId, Error> {
        let in_items = || {
            let tokens = batch
                .batch
                .iter()
                .filter_map(|item| serde_json::from_str::<Token>(item.get()).ok());
            tokens
                .filter_map(|token| token.api_key.or_else(|| token.properties?.token))
                .next()
        };
        let token = batch.api_key.clone().or_else(in_items);
        let token =
            token
                .filter(|token| !token.is_empty())
                .ok_or_else(|| Error::AuthenticationFailed {
                    code: "not_authenticated",
                    detail: "The project's token is missing: name it in `api_key`.".to_owned(),
                })?;
        let found = projects::find_by_token(&mut *self.store.connection()?, &token)?;
        let project = found.ok_or_else(|| Error::AuthenticationFailed {
            code: "invalid_api_key",
            detail: "The project's token is not valid.".to_owned(),
        })?;
        Ok(project.id())
    }
}

fn unpacked(body: &RawBody) -> Result<String, Error> {
    let malformed = |detail: String| Error::Malformed { detail };
    let is_gzip = body.bytes.starts_with(&[0x1f, 0x8b]);
    match body.content_encoding.as_deref().unwrap_or("identity") {
        "" | "identity" | "gzip" => {}
        other => {
            return Err(malformed(format!(
                "The content encoding `{other}` is not supported; gzip is."
            )));
        }
    }
    let bytes = match is_gzip {
        false => body.bytes.to_vec(),
        true => gunzip(&body.bytes)?,
    };
    String::from_utf8(bytes).map_err(|error| malformed(format!("JSON parse error - {error}")))
}

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(bytes)
        .take(UNPACKED as u64 + 1)
        .read_to_end(&mut unpacked);
    read.map_err(|error| Error::Malformed {
        detail: format!("The body is not valid gzip: {error}"),
    })?;
    if unpacked.len() > UNPACKED {
        return Err(Error::TooLarge { limit: UNPACKED });
    }
    Ok(unpacked)
}
