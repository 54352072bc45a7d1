//! Requests with an `Idempotency-Key`: a retry of such a request is recognised by the header and by a fingerprint.

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use super::body::PendingBody;
use super::{Api, Operation, Rejection};

const NAME: &str = "Idempotency-Key";
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_LENGTH: usize = 255;

/// The name that a client has given to a request, and what a retry of the request repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The header `Idempotency-Key`.
    pub text: String,
    /// The hash of method, path, query and body.
    pub fingerprint: [u8; 32],
}

/// Lets the service carry a request out once, if it has an `Idempotency-Key`. The body is received before.
pub(crate) async fn once<A: Api>(
    api: &A,
    request: &HttpRequest,
    operation: &'static Operation,
    caller: A::Caller,
    mut body: PendingBody,
    run: impl AsyncFnOnce(A::Caller, PendingBody) -> Result<HttpResponse, A::Error> + 'static,
) -> Result<HttpResponse, A::Error> {
    let reject = |why| api.reject(why);
    let Some(text) = header(request).map_err(reject)? else {
        return run(caller, body).await;
    };
    if !body.receive_small(request).await.map_err(reject)? {
        return run(caller, body).await;
    }
    let key = IdempotencyKey {
        text,
        fingerprint: fingerprint(request, &body),
    };
    let run = async move |caller| run(caller, body).await;
    api.once(operation, key, caller, run).await
}

/// The header `Idempotency-Key` of a request.
fn header(request: &HttpRequest) -> Result<Option<String>, Rejection> {
    let invalid = |detail: &str| Rejection::Query {
        attr: NAME,
        detail: detail.to_owned(),
    };
    let mut lines = request.headers().get_all(HEADER);
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(invalid("The header occurs more than once; send it once."));
    }
    let bytes = line.as_bytes();
    let is_valid =
        (1..=MAX_LENGTH).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    let text = line.to_str().ok().filter(|_| is_valid);
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        invalid("The header must have 1 to 255 visible ASCII characters, such as a UUID.")
    })
}

/// The hash of everything that a retry repeats.
fn fingerprint(request: &HttpRequest, body: &PendingBody) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(request.method().as_str().as_bytes());
    add(request.path().trim_end_matches('/').as_bytes());
    add(request.query_string().as_bytes());
    body.repeated_parts().for_each(add);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn header_of(lines: &[&str]) -> Result<Option<String>, Rejection> {
        let mut request = TestRequest::default();
        for line in lines {
            request = request.append_header((HEADER, *line));
        }
        header(&request.to_http_request())
    }

    #[test]
    fn a_key_is_one_line_of_visible_characters() {
        assert_eq!(header_of(&[]), Ok(None));
        let longest = "x".repeat(MAX_LENGTH);
        for text in ["a", "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", &longest] {
            assert_eq!(header_of(&[text]), Ok(Some(text.to_owned())));
        }
        let too_long = "x".repeat(MAX_LENGTH + 1);
        let invalid: [&[&str]; 5] = [&[""], &["a b"], &["\u{e9}"], &[&too_long], &["a", "a"]];
        for lines in invalid {
            let rejection = header_of(lines).unwrap_err();
            assert!(
                matches!(rejection, Rejection::Query { attr: NAME, .. }),
                "{lines:?}"
            );
        }
    }
}
