//! Decodes bodies of events: compressed, as a form, in base64. The result is JSON text and the items in it.
//!
//! The memory of each step is reserved before it is allocated: 32 KB may unpack to 32 MiB.

use std::io::Read;
use std::sync::Arc;
use std::{fmt, str};

use actix_web::web::Bytes;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cohorts_api::{RawBody, Reservation};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::decoding::DecodingMemory;
use crate::error::Error;
use crate::ingest::{HeldMemory, Scalar, Standardized};

/// The most bytes of a decompressed body.
const MAX_BYTES: usize = 32 << 20;
/// The bytes of the first reservation for a decompressed body. Each further one doubles it.
const FIRST_BYTES: usize = 64 << 10;
/// The largest window of zstd, as a power of two: 8 MiB, as RFC 9659 requires.
const ZSTD_WINDOW_LOG: u32 = 23;
/// The memory of a decoder of zstd.
const ZSTD_BYTES: usize = 9 << 20;
/// The most bytes that one byte of a form takes while it is decoded: the text without escapes, twice, and thrice as many
/// bytes if none of them is UTF-8.
const FORM_COST: usize = 5;
/// The bytes that one byte of the longest text takes while the items are found: it is copied for each of two tokens, and its
/// escapes are decoded in a buffer that doubles.
const PARSE_COST: usize = 4;
/// The bytes that one byte of the whole text takes at most.
const MAX_PARSE_COST: usize = 2;
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
    pub sent_at: Scalar,
    /// The field `created_at`, which means `sent_at` in batches of newer SDKs.
    pub created_at: Scalar,
    pub items: Vec<&'a str>,
}

/// The fields of a batch, or those beside the fields of a single event.
#[derive(Deserialize)]
struct Envelope<'a> {
    api_key: Option<String>,
    token: Option<String>,
    #[serde(default)]
    sent_at: Scalar,
    #[serde(default)]
    created_at: Scalar,
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
        Ok(Self {
            token: envelope.api_key.or(envelope.token),
            sent_at: envelope.sent_at,
            created_at: envelope.created_at,
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

/// The bytes of a body, decoded or not, with their reserved memory.
pub struct BodyBytes {
    bytes: Bytes,
    _memory: HeldMemory,
}

impl BodyBytes {
    fn new(bytes: impl Into<Bytes>, memory: Reservation) -> Self {
        Self {
            bytes: bytes.into(),
            _memory: Arc::new(memory),
        }
    }

    /// The JSON text.
    pub fn text(&self) -> Result<&str, Error> {
        str::from_utf8(&self.bytes)
            .map_err(|error| malformed(format!("JSON parse error - {error}")))
    }

    /// The text as standard JSON; `None` if it has nothing to rewrite.
    pub fn standardized(&self, memory: &DecodingMemory) -> Result<Option<Self>, Error> {
        let Some(standard) = Standardized::of(self.text()?) else {
            return Ok(None);
        };
        let memory = memory.reserve(standard.length())?;
        Ok(Some(Self::new(standard.rewritten(), memory)))
    }

    fn is_json(&self) -> bool {
        is_json(&self.bytes)
    }
}

fn is_json(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// Decodes a body to JSON text. Each step frees the bytes of the step before.
pub fn decode(memory: &DecodingMemory, body: RawBody) -> Result<BodyBytes, Error> {
    let media_type = body.content_type.as_deref().unwrap_or_default();
    let is_form = media_type.starts_with("application/x-www-form-urlencoded");
    let encoding = body.content_encoding.clone();
    let decoder = BodyDecoder { memory };
    let body = BodyBytes {
        bytes: body.bytes.clone(),
        _memory: Arc::new(body),
    };
    let body = decoder.decompress(body, encoding.as_deref())?;
    // Some SDKs declare a form and send JSON.
    let body = if is_form && !body.is_json() {
        decoder.form_data(body)?
    } else {
        body
    };
    let body = if body.is_json() || body.bytes.starts_with(GZIP) {
        body
    } else {
        decoder.base64(body)?
    };
    decoder.decompress(body, None)
}

struct BodyDecoder<'a> {
    memory: &'a DecodingMemory,
}

impl BodyDecoder<'_> {
    fn reserve(&self, bytes: usize) -> Result<Reservation, Error> {
        self.memory.reserve(bytes)
    }

    /// Returns bytes that are not base64 unchanged, so that the error is about their JSON.
    fn base64(&self, body: BodyBytes) -> Result<BodyBytes, Error> {
        let memory = self.reserve(body.bytes.len())?;
        let decoded = BASE64.decode(body.bytes.trim_ascii());
        Ok(decoded.map_or(body, |bytes| BodyBytes::new(bytes, memory)))
    }

    fn form_data(&self, body: BodyBytes) -> Result<BodyBytes, Error> {
        let _decoding = self.reserve(body.bytes.len() * FORM_COST)?;
        let data = form_urlencoded::parse(&body.bytes).find(|(name, _)| name == "data");
        let (_, data) =
            data.ok_or_else(|| malformed("The form has no field `data`.".to_owned()))?;
        let mut data = data.into_owned().into_bytes();
        if !is_json(&data) {
            // The form decoder turns an unencoded plus of base64 into a space.
            for byte in data.iter_mut().filter(|byte| **byte == b' ') {
                *byte = b'+';
            }
        }
        let memory = self.reserve(data.capacity())?;
        Ok(BodyBytes::new(data, memory))
    }

    /// Gzip is also recognised by its first bytes, because not every client declares it.
    fn decompress(&self, body: BodyBytes, encoding: Option<&str>) -> Result<BodyBytes, Error> {
        match encoding.unwrap_or("identity") {
            "deflate" => self.read_limited(ZlibDecoder::new(&*body.bytes), "deflate"),
            "zstd" => self.decompress_zstd(&body.bytes),
            "" | "identity" | "gzip" if body.bytes.starts_with(GZIP) => {
                self.read_limited(MultiGzDecoder::new(&*body.bytes), "gzip")
            }
            "" | "identity" | "gzip" => Ok(body),
            other => Err(malformed(format!(
                "The content encoding `{other}` is not supported; gzip, deflate and zstd are."
            ))),
        }
    }

    /// A frame of a few bytes may demand a large window.
    fn decompress_zstd(&self, bytes: &[u8]) -> Result<BodyBytes, Error> {
        let _window = self.reserve(ZSTD_BYTES)?;
        let decoder = zstd::Decoder::new(bytes).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Ok(decoder)
        });
        match decoder {
            Ok(decoder) => self.read_limited(decoder, "zstd"),
            Err(cause) => Err(malformed(format!("The body is not valid zstd: {cause}"))),
        }
    }

    /// Reads a decompressed body up to the size limit. Old and new memory are reserved while the bytes move.
    fn read_limited(&self, mut reader: impl Read, name: &str) -> Result<BodyBytes, Error> {
        let mut memory = self.reserve(FIRST_BYTES)?;
        let mut bytes = Vec::with_capacity(FIRST_BYTES);
        loop {
            let free = bytes.capacity() - bytes.len();
            let read = reader
                .by_ref()
                .take(free as u64)
                .read_to_end(&mut bytes)
                .map_err(|error| malformed(format!("The body is not valid {name}: {error}")))?;
            if read < free {
                return Ok(BodyBytes::new(bytes, memory));
            }
            if bytes.len() > MAX_BYTES {
                return Err(Error::TooLarge { limit: MAX_BYTES });
            }
            let capacity = (bytes.capacity() * 2).min(MAX_BYTES + 1);
            let larger = self.reserve(capacity)?;
            bytes.reserve_exact(capacity - bytes.len());
            memory = larger;
        }
    }
}

/// The bytes that [`Payload::parse`] takes for `text`, about: the longest text is copied, and so are the brackets around a
/// value.
pub fn parsing_bytes(text: &str) -> usize {
    let (mut rest, mut longest, mut depth) = (text.as_bytes(), 0, 0_usize);
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        match first {
            b'[' | b'{' => {
                depth += 1;
                longest = longest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                let length = string_length(rest);
                longest = longest.max(length);
                rest = &rest[length..];
            }
            _ => {}
        }
    }
    (longest * PARSE_COST).min(text.len() * MAX_PARSE_COST)
}

/// The bytes of a JSON string up to and with its closing quote.
fn string_length(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 1)
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
    use std::time::Duration;

    use cohorts_api::MemoryBudget;

    use super::*;

    const JSON: &str = r#"{"event":"é"}"#;

    fn text(bytes: &[u8], media_type: &str, encoding: Option<&str>) -> Result<String, String> {
        text_within(128 << 20, bytes, media_type, encoding)
    }

    fn text_within(
        budget: usize,
        bytes: &[u8],
        media_type: &str,
        encoding: Option<&str>,
    ) -> Result<String, String> {
        let body = RawBody {
            bytes: bytes.to_vec().into(),
            content_type: Some(media_type.to_owned()),
            content_encoding: encoding.map(str::to_owned),
            reservation: None,
        };
        let memory = DecodingMemory::new(MemoryBudget::new(budget), Duration::ZERO);
        let body = decode(&memory, body);
        let text = body.and_then(|body| Ok(body.text()?.to_owned()));
        text.map_err(|error| error.to_string())
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
    fn a_body_is_decoded_only_within_the_memory_budget() {
        let json = "application/json";
        let spaces = vec![b' '; 1 << 20];
        let zstd = zstd::encode_all(&spaces[..], 1).unwrap();
        for (bytes, encoding) in [(gzip(&spaces), None), (zstd, Some("zstd"))] {
            assert!(bytes.len() < 10_000);
            let within = |budget| text_within(budget, &bytes, json, encoding);
            let too_much = Error::TooManyEvents.to_string();
            assert_eq!(within(1 << 20), Err(too_much), "{encoding:?}");
            assert!(within(12 << 20).is_ok(), "{encoding:?}");
        }
        let form = [b"data={".as_slice(), &spaces].concat();
        let media_type = "application/x-www-form-urlencoded";
        assert!(text_within(4 << 20, &form, media_type, None).is_err());
        assert!(text_within(8 << 20, &form, media_type, None).is_ok());
    }

    #[test]
    fn spaces_in_the_json_of_a_form_remain() {
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("data", r#"{"event": "a b+c"}"#)
            .finish();
        let decoded = text(form.as_bytes(), "application/x-www-form-urlencoded", None);
        assert_eq!(decoded.as_deref(), Ok(r#"{"event": "a b+c"}"#));
    }

    #[test]
    fn a_body_is_rewritten_only_within_the_memory_budget() {
        let text = format!("[\"{}\"]", "\u{1}".repeat(1 << 10));
        let budget = |bytes| DecodingMemory::new(MemoryBudget::new(bytes), Duration::ZERO);
        let body = BodyBytes::new(text, budget(8).reserve(0).unwrap());
        let standard = body.standardized(&budget(6 << 10));
        assert!(matches!(standard, Err(Error::TooManyEvents)));
        let standard = body.standardized(&budget(7 << 10)).unwrap().unwrap();
        assert_eq!(standard.text().unwrap().len(), (6 << 10) + 4);
        assert!(standard.standardized(&budget(0)).unwrap().is_none());
    }

    #[test]
    fn a_frame_with_a_large_window_is_malformed() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(JSON.as_bytes()).unwrap();
        let error = text(&encoder.finish().unwrap(), "application/json", Some("zstd"));
        assert!(error.unwrap_err().contains("zstd"));
    }

    #[test]
    fn memory_to_find_items_depends_on_the_longest_text_and_the_levels() {
        for (text, bytes) in [
            (r#"{"a":1,"b":[2]}"#.to_owned(), 8),
            (r#"{"a":"\\\"[[[[[[[[","b":{}}"#.to_owned(), 4 * 13),
            (r#"["\\",[[["#.to_owned(), 4 * 4),
            (format!("[{}]", r#"{"a":"xyz"},"#.repeat(1_000)), 16),
            ("[".repeat(1_000), 2_000),
            (format!("\"{}", "x".repeat(1_000)), 2_002),
        ] {
            assert_eq!(parsing_bytes(&text), bytes, "{text}");
        }
    }

    #[test]
    fn times_of_any_type_are_parsed() {
        for (text, sent_at) in [
            (r#"{"batch":[],"sent_at":[[0],[0]]}"#, Scalar::Other),
            (r#"{"batch":[],"sent_at":{"a":[1]}}"#, Scalar::Other),
            (r#"{"batch":[],"sent_at":7}"#, Scalar::Integer(7)),
            (r#"{"batch":[]}"#, Scalar::Absent),
        ] {
            assert_eq!(Payload::parse(text).unwrap().sent_at, sent_at, "{text}");
        }
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
    }
}
