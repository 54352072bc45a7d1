//! Decodes bodies of events: compressed, as a form, in base64. The result is JSON text and the items in it.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::{DateTime, Utc};
use cohorts_api::RawBody;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::ingest;

/// The most bytes of a decompressed body.
const MAX_BYTES: usize = 32 << 20;
/// The most items in a batch. A small compressed body may contain millions.
const MAX_ITEMS: usize = 50_000;
const GZIP: &[u8] = &[0x1f, 0x8b];

/// With or without padding, because browsers omit it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The JSON of a body. Its items are not parsed yet.
#[derive(Debug, Default)]
pub struct Payload<'a> {
    pub token: Option<String>,
    /// When the body was sent, by the clock of the client.
    pub sent_at: Option<DateTime<Utc>>,
    pub items: Vec<&'a str>,
}

/// The fields of a batch, or those beside the fields of a single event.
#[derive(Deserialize)]
struct Envelope<'a> {
    api_key: Option<String>,
    token: Option<String>,
    sent_at: Option<Value>,
    created_at: Option<Value>,
    #[serde(borrow)]
    batch: Option<Items<'a>>,
}

impl<'a> Payload<'a> {
    /// Parses a batch, a list of events, or one event.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        if text.trim_start().starts_with('[') {
            let Items(items) = serde_json::from_str(text).map_err(invalid_json)?;
            let items = items.into_iter().map(RawValue::get).collect();
            return Ok(Self {
                items,
                ..Self::default()
            });
        }
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(invalid_json)?;
        let sent_at = envelope.sent_at.or(envelope.created_at);
        Ok(Self {
            token: envelope.api_key.or(envelope.token),
            sent_at: sent_at.as_ref().and_then(ingest::instant),
            items: match envelope.batch {
                Some(Items(items)) => items.into_iter().map(RawValue::get).collect(),
                None => vec![text],
            },
        })
    }
}

/// At most [`MAX_ITEMS`] items.
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
        write!(f, "a list of at most {MAX_ITEMS} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == MAX_ITEMS {
                return Err(A::Error::invalid_length(MAX_ITEMS + 1, &self));
            }
            items.push(item);
        }
        Ok(Items(items))
    }
}

/// The JSON text in a body.
pub fn decode(body: &RawBody) -> Result<String, Error> {
    let bytes = decompress(Cow::from(&*body.bytes), body.content_encoding.as_deref())?;
    let media_type = body.content_type.as_deref().unwrap_or_default();
    let is_form = media_type.starts_with("application/x-www-form-urlencoded");
    // Some SDKs declare a form and send JSON.
    let bytes = if is_form && !is_json(&bytes) {
        form_data(&bytes)?.into()
    } else {
        bytes
    };
    let bytes = if is_json(&bytes) || bytes.starts_with(GZIP) {
        bytes
    } else {
        from_base64(bytes)
    };
    let bytes = decompress(bytes, None)?;
    String::from_utf8(bytes.into_owned())
        .map_err(|error| malformed(format!("JSON parse error - {error}")))
}

fn is_json(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// Returns bytes that are not base64 unchanged, so that the error is about their JSON.
fn from_base64(bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    BASE64.decode(bytes.trim_ascii()).map_or(bytes, Cow::from)
}

fn form_data(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let data = form_urlencoded::parse(bytes).find(|(name, _)| name == "data");
    let (_, data) = data.ok_or_else(|| malformed("The form has no field `data`.".to_owned()))?;
    // The form decoder turns an unencoded plus into a space.
    Ok(data.into_owned().replace(' ', "+").into_bytes())
}

/// Gzip is also recognised by its first bytes, because not every client declares it.
fn decompress<'a>(bytes: Cow<'a, [u8]>, encoding: Option<&str>) -> Result<Cow<'a, [u8]>, Error> {
    match encoding.unwrap_or("identity") {
        "deflate" => read_limited(ZlibDecoder::new(&*bytes), "deflate"),
        "zstd" => match zstd::Decoder::new(&*bytes) {
            Ok(decoder) => read_limited(decoder, "zstd"),
            Err(cause) => Err(malformed(format!("The body is not valid zstd: {cause}"))),
        },
        "" | "identity" | "gzip" if bytes.starts_with(GZIP) => {
            read_limited(MultiGzDecoder::new(&*bytes), "gzip")
        }
        "" | "identity" | "gzip" => Ok(bytes),
        other => Err(malformed(format!(
            "The content encoding `{other}` is not supported; gzip, deflate and zstd are."
        ))),
    }
}

/// Reads a decompressed body up to the size limit.
fn read_limited(reader: impl Read, name: &str) -> Result<Cow<'static, [u8]>, Error> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| malformed(format!("The body is not valid {name}: {error}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::TooLarge { limit: MAX_BYTES });
    }
    Ok(bytes.into())
}

fn malformed(detail: String) -> Error {
    Error::Malformed { detail }
}

fn invalid_json(error: serde_json::Error) -> Error {
    malformed(format!("JSON parse error - {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const JSON: &str = r#"{"event":"é"}"#;

    fn text(bytes: &[u8], media_type: &str, encoding: Option<&str>) -> Result<String, String> {
        let body = RawBody {
            bytes: bytes.to_vec().into(),
            content_type: Some(media_type.to_owned()),
            content_encoding: encoding.map(str::to_owned),
            reservation: None,
        };
        decode(&body).map_err(|error| error.to_string())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_encoding_of_a_body_is_decoded() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(JSON.as_bytes()).unwrap();
        let zlib = zlib.finish().unwrap();
        let encoded = BASE64.encode(JSON);
        let unpadded = encoded.trim_end_matches('=').to_owned();
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("data", &encoded)
            .finish();
        let plain_form = format!("data={}", JSON.replace('"', "%22"));
        for (bytes, media_type, encoding) in [
            (JSON.as_bytes().to_vec(), "application/json", None),
            (JSON.as_bytes().to_vec(), "text/plain", None),
            (
                JSON.as_bytes().to_vec(),
                "application/x-www-form-urlencoded",
                None,
            ),
            (gzip(JSON.as_bytes()), "application/json", Some("gzip")),
            (gzip(JSON.as_bytes()), "text/plain", None),
            (JSON.as_bytes().to_vec(), "application/json", Some("gzip")),
            (zlib, "application/json", Some("deflate")),
            (
                zstd::encode_all(JSON.as_bytes(), 1).unwrap(),
                "application/json",
                Some("zstd"),
            ),
            (encoded.clone().into_bytes(), "text/plain", None),
            (unpadded.into_bytes(), "text/plain", None),
            (
                BASE64.encode(gzip(JSON.as_bytes())).into_bytes(),
                "text/plain",
                None,
            ),
            (form.into_bytes(), "application/x-www-form-urlencoded", None),
            (
                plain_form.into_bytes(),
                "application/x-www-form-urlencoded; charset=UTF-8",
                None,
            ),
        ] {
            let decoded = text(&bytes, media_type, encoding);
            assert_eq!(decoded.as_deref(), Ok(JSON), "{media_type} {encoding:?}");
        }
    }

    #[test]
    fn an_undecodable_body_is_an_error_with_a_reason() {
        let json = "application/json";
        assert!(text(b"{}", json, Some("br")).unwrap_err().contains("`br`"));
        assert!(
            text(b"abc", json, Some("deflate"))
                .unwrap_err()
                .contains("deflate")
        );
        assert!(
            text(b"x=1", "application/x-www-form-urlencoded", None)
                .unwrap_err()
                .contains("data")
        );
        let bomb = gzip(&vec![b' '; MAX_BYTES + 1]);
        assert!(text(&bomb, json, None).unwrap_err().contains("larger"));
    }

    #[test]
    fn one_event_a_list_and_a_batch_are_parsed() {
        let parsed =
            |text| Payload::parse(text).map(|payload| (payload.token, payload.items.len()));
        let token = |text: &str| Some(text.to_owned());
        assert_eq!(
            parsed(r#"{"event":"x","api_key":"a"}"#).unwrap(),
            (token("a"), 1)
        );
        assert_eq!(parsed(r#" [{"event":"x"},{}]"#).unwrap(), (None, 2));
        assert_eq!(
            parsed(r#"{"batch":[{},{},{}],"token":"b"}"#).unwrap(),
            (token("b"), 3)
        );
        assert!(parsed("7").is_err());
        let payload = Payload::parse(r#"{"batch":[],"sent_at":"2026-03-01T12:00:00Z"}"#).unwrap();
        assert_eq!(
            payload.sent_at.map(|time| time.timestamp()),
            Some(1_772_366_400)
        );
    }
}
