//! Links to the next and the previous page.

use cohorts_api::RequestHead;
use form_urlencoded::{Serializer, parse};

/// A page by limit and offset: the link always holds `limit`, and `offset` unless it is 0; keys come sorted.
pub fn page(head: &RequestHead, limit: i64, offset: i64) -> String {
    let mut pairs: Vec<(String, String)> = parse(head.query().as_bytes())
        .into_owned()
        .filter(|(key, _)| key != "limit" && key != "offset")
        .collect();
    pairs.push(("limit".to_owned(), limit.to_string()));
    if offset > 0 {
        pairs.push(("offset".to_owned(), offset.to_string()));
    }
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    with_query(
        head,
        &Serializer::new(String::new()).extend_pairs(pairs).finish(),
    )
}

/// The request's own link with some parameters replaced where they stand, or else added.
pub fn with(head: &RequestHead, values: &[(&str, i64)]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut left = values.to_vec();
    for part in head.query().split('&').filter(|part| !part.is_empty()) {
        let name = part.split('=').next().unwrap_or_default();
        if !values.iter().any(|(key, _)| *key == name) {
            parts.push(part.to_owned());
        } else if let Some(at) = left.iter().position(|(key, _)| *key == name) {
            let (key, value) = left.remove(at);
            parts.push(format!("{key}={value}"));
        }
    }
    let added = left.iter().map(|(key, value)| format!("{key}={value}"));
    parts.extend(added);
    with_query(head, &parts.join("&"))
}

fn with_query(head: &RequestHead, query: &str) -> String {
    format!("{}{}?{query}", head.origin(), head.path())
}
