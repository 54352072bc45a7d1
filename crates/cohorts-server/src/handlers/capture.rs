//! How events come in: the body is unpacked, each item read or refused, and the good ones are kept before the answer.

use std::fmt;
use std::io::Read;

use actix_web::web;
use chrono::Utc;
use cohorts_api::types::{CaptureAnswer, CaptureAnswerStatus};
use cohorts_api::{CaptureApi, CaptureBatchRequest, CaptureBatchResponse, RawBody};
use flate2::read::MultiGzDecoder;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
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
/// A batch may hold so many items.
const MOST_ITEMS: usize = 50_000;

/// A batch as it is sent. What items hold is judged one by one.
#[derive(Deserialize)]
struct Batch<'a> {
    api_key: Option<String>,
    token: Option<String>,
    #[serde(borrow)]
    batch: Items<'a>,
}

/// So many items at most: a small compressed body may unpack to millions.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST_ITEMS} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == MOST_ITEMS {
                return Err(A::Error::invalid_length(MOST_ITEMS + 1, &self));
            }
            items.push(item);
        }
        Ok(Items(items))
    }
}

/// Where an item may carry the token, if the batch does not.
#[derive(Deserialize)]
struct Token {
    api_key: Option<String>,
    token: Option<String>,
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
        let sent = batch.batch.0;
        let mut items = Vec::new();
        for text in &sent {
            match Item::read(text.get(), now, Uuid::now_v7) {
                Ok(item) => items.push(item),
                Err(refusal) => self.metrics.refused(refusal.reason()),
            }
        }
        let refused = sent.len() - items.len();
        if refused > 0 {
            log::warn!(
                "refused {refused} of {} items for project {}",
                sent.len(),
                project.0
            );
        }
        let added = ingest::keep(&self.store, project, &items)?;
        self.metrics.kept(added);
        Ok(())
    }

    fn project_of(&self, batch: &Batch<'_>) -> Result<ProjectId, Error> {
        let in_items = || {
            let items = batch.batch.0.iter();
            let tokens = items.filter_map(|item| serde_json::from_str::<Token>(item.get()).ok());
            tokens
                .filter_map(|one| one.api_key.or(one.token).or_else(|| one.properties?.token))
                .next()
        };
        let token = batch.api_key.clone().or(batch.token.clone());
        let token = token.or_else(in_items).map(|token| token.replace('\0', ""));
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
