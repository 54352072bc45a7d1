//! Verification of webhooks, by the Standard Webhooks specification 1.0.0.
//!
//! A sender signs the id, the time and the body of a message. A receiver that checks the signature and the time knows that
//! the message comes from the service, and that it is not an old one that an attacker sends again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::HeaderMap;
use sha2::Sha256;

/// The greatest difference between the time of a message and that of the receiver.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);
/// The version of signatures with a shared secret.
const VERSION: &str = "v1";

/// The headers of a message, as the receiver got them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookHeaders<'a> {
    /// `webhook-id`: the id of the message. It is the same in each attempt to deliver it.
    pub id: &'a str,
    /// `webhook-timestamp`: the time of the attempt, in seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`: one or more signatures, separated by spaces.
    pub signature: &'a str,
}

/// The reason why a message is refused. A receiver should answer with the status 401 and not read the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The secret is not `whsec_` and a key in Base64.
    #[error("the secret is not valid; it consists of `whsec_` and a key in Base64")]
    InvalidSecret,
    /// The message lacks a header, or its value is not text.
    #[error("the message has no valid header `{0}`")]
    MissingHeader(&'static str),
    /// The time is not a number of seconds.
    #[error("the header `webhook-timestamp` is not a number of seconds")]
    InvalidTime,
    /// The time of the message is more than 5 minutes ago: an attacker may send it again.
    #[error("the message is more than 5 minutes old")]
    TooOld,
    /// The time of the message is more than 5 minutes in the future.
    #[error("the message is more than 5 minutes in the future; check the clock")]
    TooNew,
    /// No signature fits the message and the secret.
    #[error("no signature fits the message and the secret")]
    WrongSignature,
}

impl<'a> WebhookHeaders<'a> {
    /// Takes the headers of a message from all of its headers.
    ///
    /// # Errors
    ///
    /// Fails if one is missing.
    pub fn from_map(headers: &'a HeaderMap) -> Result<Self, WebhookError> {
        let text = |name: &'static str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or(WebhookError::MissingHeader(name))
        };
        Ok(Self {
            id: text("webhook-id")?,
            timestamp: text("webhook-timestamp")?,
            signature: text("webhook-signature")?,
        })
    }
}

/// Verifies that the service has sent a message with a webhook's `secret` (`whsec_…`) within the last 5 minutes.
///
/// `body` is the body as it was received: JSON that was parsed and written again can differ. While a secret is rotated, a
/// message has a signature for each secret, and one that fits is enough. The service may deliver a message more than once;
/// a receiver knows it by its id.
///
/// ```
/// use cohorts_client::{WebhookError, WebhookHeaders, verify_webhook};
///
/// let headers = WebhookHeaders {
///     id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
///     timestamp: "1614265330",
///     signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
/// };
/// let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// let verified = verify_webhook(secret, headers, br#"{"test": 2432232314}"#);
/// assert_eq!(verified, Err(WebhookError::TooOld));
/// ```
///
/// # Errors
///
/// Fails if the message must not be trusted.
pub fn verify_webhook(
    secret: &str,
    headers: WebhookHeaders<'_>,
    body: &[u8],
) -> Result<(), WebhookError> {
    verify_webhook_at(secret, headers, body, Utc::now())
}

/// As [`verify_webhook`], with `now` as the time of the receiver.
///
/// # Errors
///
/// As [`verify_webhook`].
pub fn verify_webhook_at(
    secret: &str,
    headers: WebhookHeaders<'_>,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), WebhookError> {
    let mut mac = keyed(secret)?;
    check_time(headers.timestamp, now)?;
    for part in [headers.id, ".", headers.timestamp, "."] {
        mac.update(part.as_bytes());
    }
    mac.update(body);
    let mut signatures = headers.signature.split(' ').filter_map(|signature| {
        let (version, signature) = signature.split_once(',')?;
        let signature = (version == VERSION).then(|| STANDARD.decode(signature));
        signature?.ok()
    });
    // The comparison takes the same time for each wrong signature.
    let fits = |signature: Vec<u8>| mac.clone().verify_slice(&signature).is_ok();
    if signatures.any(fits) {
        Ok(())
    } else {
        Err(WebhookError::WrongSignature)
    }
}

fn keyed(secret: &str) -> Result<Hmac<Sha256>, WebhookError> {
    let key = secret.strip_prefix("whsec_").unwrap_or(secret);
    let key = STANDARD.decode(key).ok().filter(|key| !key.is_empty());
    let mac = key.and_then(|key| Hmac::new_from_slice(&key).ok());
    mac.ok_or(WebhookError::InvalidSecret)
}

fn check_time(seconds: &str, now: DateTime<Utc>) -> Result<(), WebhookError> {
    let is_number = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = seconds.parse().ok().filter(|_| is_number);
    let time = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let age = now - time.ok_or(WebhookError::InvalidTime)?;
    if age > TOLERANCE {
        Err(WebhookError::TooOld)
    } else if age < -TOLERANCE {
        Err(WebhookError::TooNew)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    // The example of the specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SECONDS: i64 = 1_614_265_330;
    const MESSAGE: WebhookHeaders<'_> = WebhookHeaders {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: "1614265330",
        signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    };

    fn verify(secret: &str, headers: WebhookHeaders<'_>, body: &[u8]) -> Result<(), WebhookError> {
        verify_after(0, secret, headers, body)
    }

    fn verify_after(
        seconds: i64,
        secret: &str,
        headers: WebhookHeaders<'_>,
        body: &[u8],
    ) -> Result<(), WebhookError> {
        let now = DateTime::from_timestamp(SECONDS + seconds, 0).unwrap();
        verify_webhook_at(secret, headers, body, now)
    }

    #[test]
    fn the_example_of_the_specification_is_verified() {
        assert_eq!(verify(SECRET, MESSAGE, BODY), Ok(()));
        // The prefix of the secret is optional, as in the reference libraries.
        let key = SECRET.trim_start_matches("whsec_");
        assert_eq!(verify(key, MESSAGE, BODY), Ok(()));
    }

    #[test]
    fn one_of_several_signatures_is_enough() {
        let right = MESSAGE.signature;
        let accepted = [
            format!("v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= {right}"),
            format!("{right} v1a,AAAA v2,AAAA"),
            format!(
                "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== {right}"
            ),
            format!("v1 v1, , v1,% {right}"),
        ];
        for signature in &accepted {
            let headers = WebhookHeaders {
                signature,
                ..MESSAGE
            };
            assert_eq!(verify(SECRET, headers, BODY), Ok(()), "{signature}");
        }
    }

    #[test]
    fn a_changed_message_is_refused() {
        let wrong = Err(WebhookError::WrongSignature);
        let id = WebhookHeaders {
            id: "msg_other",
            ..MESSAGE
        };
        let timestamp = WebhookHeaders {
            timestamp: "1614265331",
            ..MESSAGE
        };
        assert_eq!(verify(SECRET, id, BODY), wrong);
        assert_eq!(verify(SECRET, timestamp, BODY), wrong);
        assert_eq!(verify(SECRET, MESSAGE, br#"{"test":2432232314}"#), wrong);
        assert_eq!(verify("whsec_c2VjcmV0", MESSAGE, BODY), wrong);
        // A dot in the id moves no part of the message into another.
        let moved = WebhookHeaders {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330",
            ..MESSAGE
        };
        assert_eq!(verify(SECRET, moved, BODY), wrong);
    }

    #[test]
    fn a_signature_must_be_whole_and_of_version_1() {
        let (_, right) = MESSAGE.signature.split_once(',').unwrap();
        let refused = [
            String::new(),
            right.to_owned(),
            format!("v2,{right}"),
            format!("v1a,{right}"),
            format!("V1,{right}"),
            format!("v1,{}", &right[..right.len() - 4]),
            format!("v1,{right}AAAA"),
            "v1,".to_owned(),
            format!("v1,\t{right}"),
        ];
        for signature in &refused {
            let headers = WebhookHeaders {
                signature,
                ..MESSAGE
            };
            let verified = verify(SECRET, headers, BODY);
            assert_eq!(verified, Err(WebhookError::WrongSignature), "{signature}");
        }
    }

    #[test]
    fn a_message_is_valid_for_5_minutes() {
        let cases = [
            (300, Ok(())),
            (301, Err(WebhookError::TooOld)),
            (-300, Ok(())),
            (-301, Err(WebhookError::TooNew)),
        ];
        for (seconds, expected) in cases {
            assert_eq!(
                verify_after(seconds, SECRET, MESSAGE, BODY),
                expected,
                "{seconds}"
            );
        }
        for timestamp in [
            "",
            "now",
            "1614265330.5",
            "+1614265330",
            "-1",
            " 1614265330",
            "99999999999999999999",
            "9223372036854775807",
        ] {
            let headers = WebhookHeaders {
                timestamp,
                ..MESSAGE
            };
            let verified = verify(SECRET, headers, BODY);
            assert_eq!(verified, Err(WebhookError::InvalidTime), "{timestamp}");
        }
    }

    #[test]
    fn an_unreadable_secret_is_not_a_wrong_signature() {
        for secret in [
            "",
            "whsec_",
            "whsec_%%%",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        ] {
            let verified = verify(secret, MESSAGE, BODY);
            assert_eq!(verified, Err(WebhookError::InvalidSecret), "{secret}");
        }
    }

    #[test]
    fn headers_are_found_by_name_and_each_is_required() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-id", MESSAGE.id),
            ("Webhook-Timestamp", MESSAGE.timestamp),
            ("webhook-signature", MESSAGE.signature),
        ] {
            let name: reqwest::header::HeaderName = name.parse().unwrap();
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(WebhookHeaders::from_map(&headers), Ok(MESSAGE));
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut incomplete = headers.clone();
            incomplete.remove(name);
            let missing = WebhookHeaders::from_map(&incomplete);
            assert_eq!(missing, Err(WebhookError::MissingHeader(name)));
        }
    }
}
