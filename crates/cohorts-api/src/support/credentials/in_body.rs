//! Finds the key in the beginning of a body. No values of the body are built.

use std::fmt;

use actix_multipart::Multipart;
use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::body::{Media, json_bytes};
use super::{CredentialSource, Credentials, FIELD};

/// Maximum length of a key in a multipart body, in bytes.
const MAX_KEY: usize = 1_000;

/// The key in a body that begins with `start`. `is_complete` tells whether that is the whole body.
pub(in super::super) async fn in_body(
    request: &HttpRequest,
    media: Option<Media>,
    start: &[u8],
    is_complete: bool,
) -> Option<Credentials> {
    let key = match media? {
        Media::Json => in_json(start, is_complete)?,
        Media::Form => in_form(start, is_complete)?,
        Media::Multipart => in_multipart(request, start).await?,
    };
    Some(key)
        .filter(|key| !key.is_empty())
        .map(Credentials::new(CredentialSource::Body))
}

/// The last value of a top-level member. A complete body must be valid JSON.
fn in_json(start: &[u8], is_complete: bool) -> Option<String> {
    let mut key = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json_bytes(start));
    let members = deserializer.deserialize_map(KeyMember(&mut key));
    let is_valid = members.is_ok() && deserializer.end().is_ok();
    key.filter(|_| is_valid || !is_complete)
}

/// Stores the value of the member if it is a text.
struct KeyMember<'a>(&'a mut Option<String>);

impl<'de> Visitor<'de> for KeyMember<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(is_key) = members.next_key_seed(IsKey)? {
            if is_key {
                let value: &RawValue = members.next_value()?;
                *self.0 = serde_json::from_str(value.get()).ok();
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Whether the name of a member is that of the key.
struct IsKey;

impl<'de> DeserializeSeed<'de> for IsKey {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == FIELD)
    }
}

/// The last value of the field. The last field of an incomplete body may be cut, so it is ignored.
fn in_form(start: &[u8], is_complete: bool) -> Option<String> {
    let end = if is_complete {
        start.len()
    } else {
        start.iter().rposition(|byte| *byte == b'&')?
    };
    let pairs = form_urlencoded::parse(&start[..end]);
    let (_, key) = pairs.filter(|(name, _)| name == FIELD).last()?;
    Some(key.into_owned())
}

/// The value of the first part with the name, which must come before any file.
async fn in_multipart(request: &HttpRequest, start: &[u8]) -> Option<String> {
    let body = stream::iter([Ok::<_, PayloadError>(Bytes::copy_from_slice(start))]);
    let mut parts = Multipart::new(request.headers(), body);
    while let Some(mut part) = parts.try_next().await.ok()? {
        let disposition = part.content_disposition()?;
        if disposition.get_filename().is_some() {
            return None;
        }
        if disposition.get_name() == Some(FIELD) {
            let bytes = part.bytes(MAX_KEY).await.ok()?.ok()?;
            return String::from_utf8(bytes.into()).ok();
        }
        while part.try_next().await.ok()?.is_some() {}
    }
    None
}

#[cfg(test)]
mod tests {
    use actix_web::http::header;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_last_text_at_the_top_level_of_json_is_the_key() {
        for (text, key) in [
            (r#"{"personal_api_key": "a"}"#, Some("a")),
            (
                r#"{"x": [{"personal_api_key": "b"}], "personal_api_key": "a"}"#,
                Some("a"),
            ),
            (
                r#"{"personal_api_key": "a", "personal_api_key": "b"}"#,
                Some("b"),
            ),
            (r#"{"personal_api_key": "a", "personal_api_key": 1}"#, None),
            (r#"{"personal_\u0061pi_key": "a"}"#, Some("a")),
            (r#"{"personal_api_key": "a"} {}"#, None),
            (r#"{"personal_api_key": "a""#, None),
            (r#"["personal_api_key", "a"]"#, None),
            ("", None),
        ] {
            assert_eq!(in_json(text.as_bytes(), true).as_deref(), key, "{text}");
        }
    }

    #[test]
    fn a_body_that_continues_may_have_the_key_at_its_start() {
        let json = |start: &str| in_json(start.as_bytes(), false);
        let text = r#"{"personal_api_key": "a", "filters": [[["#;
        assert_eq!(json(text).as_deref(), Some("a"));
        assert_eq!(json(r#"{"personal_api_key": "a"#), None);
        let form = |start: &str| in_form(start.as_bytes(), false);
        assert_eq!(form("personal_api_key=a&x=").as_deref(), Some("a"));
        assert_eq!(form("x=1&personal_api_key=a"), None);
    }

    #[actix_web::test]
    async fn a_multipart_body_has_the_key_before_the_file() {
        let media_type = "multipart/form-data; boundary=b";
        let request = TestRequest::default()
            .insert_header((header::CONTENT_TYPE, media_type))
            .to_http_request();
        let part = |name: &str, text: &str| {
            format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{text}\r\n")
        };
        let (key, other) = (part("\"personal_api_key\"", "a"), part("\"x\"", "1"));
        let file = part("\"csv\"; filename=\"f\"", "d1");
        for (body, expected) in [
            (format!("{other}{key}{file}--b--\r\n"), Some("a")),
            (format!("{key}--b\r\nContent-Disp"), Some("a")),
            (format!("{file}{key}--b--\r\n"), None),
            (format!("{other}{other}--b--\r\n"), None),
            (format!("{other}--b\r\n"), None),
            ("x".to_owned(), None),
        ] {
            let key = in_multipart(&request, body.as_bytes()).await;
            assert_eq!(key.as_deref(), expected, "{body}");
        }
    }
}
