//! The content type of a body, and what the body is in spite of it.
//!
//! curl sends `-d '{…}'` as a form, and some clients send no content type. Such a body is JSON if it begins as JSON:
//! no field of a form begins so. As a form it would have no known field, and would mean an empty object.

use actix_web::HttpRequest;
use actix_web::http::header;

use super::super::Rejection;
use super::Media;

/// The header `Content-Type`.
#[derive(Debug, Clone)]
pub(super) struct ContentType {
    /// The header with its parameters; empty if it is missing.
    pub text: String,
    media: Option<Media>,
}

impl ContentType {
    pub fn of_request(request: &HttpRequest) -> Self {
        let value = request.headers().get(header::CONTENT_TYPE);
        let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
        let media_type = text.split(';').next().unwrap_or_default().trim();
        Self {
            text: text.to_owned(),
            media: Media::parse(media_type),
        }
    }

    /// The header without its parameters.
    pub fn media_type(&self) -> &str {
        self.text.split(';').next().unwrap_or_default().trim()
    }

    /// The boundary of a multipart body.
    pub fn boundary(&self) -> Option<&str> {
        let mut parameters = self.text.split(';').skip(1);
        parameters.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let is_boundary = name.trim().eq_ignore_ascii_case("boundary");
            is_boundary.then(|| value.trim().trim_matches('"'))
        })
    }

    /// The declared type; `None` if it is missing or unknown.
    pub fn declared(&self) -> Option<Media> {
        self.media
    }

    /// The type of a body that begins with `start`.
    pub fn of_body(&self, start: &[u8]) -> Option<Media> {
        let may_be_wrong = self.media == Some(Media::Form) || self.text.is_empty();
        if may_be_wrong && begins_as_json(start) {
            Some(Media::Json)
        } else {
            self.media
        }
    }

    /// Names the content type in the rejection of JSON with another content type.
    pub fn explain(&self, rejection: Rejection) -> Rejection {
        match rejection {
            Rejection::Malformed { detail } if self.media != Some(Media::Json) => {
                let sent = if self.text.is_empty() {
                    "it has no content type".to_owned()
                } else {
                    format!("its content type is \"{}\"", self.text)
                };
                Rejection::Malformed {
                    detail: format!(
                        "{detail}. The body begins as JSON, but {sent}. \
                         Send valid JSON with the header `Content-Type: application/json`."
                    ),
                }
            }
            other => other,
        }
    }
}

/// A body of JSON without a byte order mark at its start.
pub(in super::super) fn json_bytes(body: &[u8]) -> &[u8] {
    let start = body.trim_ascii_start();
    start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Whether the first byte that is not blank begins an object or a list.
fn begins_as_json(start: &[u8]) -> bool {
    let first = json_bytes(start).trim_ascii_start().first();
    matches!(first, Some(b'{' | b'['))
}

/// Refuses a form that is percent-encoded JSON, as `curl --data-urlencode` sends it.
pub(super) fn check_form(bytes: &[u8]) -> Result<(), Rejection> {
    match form_urlencoded::parse(bytes).next() {
        Some((name, _)) if begins_as_json(name.as_bytes()) => Err(Rejection::Malformed {
            detail: "The body is percent-encoded JSON in a form. \
                     Send the JSON as it is, with the header `Content-Type: application/json`."
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn media_of(content_type: Option<&str>, body: &str) -> Option<Media> {
        let mut request = TestRequest::default();
        if let Some(text) = content_type {
            request = request.insert_header((header::CONTENT_TYPE, text));
        }
        ContentType::of_request(&request.to_http_request()).of_body(body.as_bytes())
    }

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded; charset=utf-8");

    #[test]
    fn a_form_or_a_body_without_a_type_is_json_if_it_begins_as_json() {
        for body in [
            "{",
            "{}",
            " \r\n\t{\"a\": 1}",
            "\u{feff}{}",
            "\n\u{feff} [1]",
            "{}&a=1",
        ] {
            for content_type in [FORM, None, Some("")] {
                assert_eq!(media_of(content_type, body), Some(Media::Json), "{body}");
            }
        }
        for body in ["", "a={}", "%7B%7D", "\"a\"", "&{}"] {
            assert_eq!(media_of(FORM, body), Some(Media::Form), "{body}");
            assert_eq!(media_of(None, body), None, "{body}");
        }
    }

    #[test]
    fn other_types_are_as_declared() {
        for (content_type, media) in [
            ("application/json", Some(Media::Json)),
            ("multipart/form-data; boundary=b", Some(Media::Multipart)),
            ("text/plain", None),
        ] {
            assert_eq!(media_of(Some(content_type), "{}"), media, "{content_type}");
        }
    }

    #[test]
    fn percent_encoded_json_in_a_form_is_refused() {
        for body in ["%7B%22a%22%3A1%7D", "%7b%7d=", "+%7B%7D", "%5B1%5D", "&%7B"] {
            assert!(check_form(body.as_bytes()).is_err(), "{body}");
        }
        for body in ["", "a=%7B%7D", "a", "name=x&%7B=1"] {
            assert!(check_form(body.as_bytes()).is_ok(), "{body}");
        }
    }
}
