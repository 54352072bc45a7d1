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

/// A page whose link is the request's own, with `offset` replaced or added.
pub fn same_but_offset(head: &RequestHead, offset: i64) -> String {
    let new = format!("offset={offset}");
    let mut found = false;
    let mut parts: Vec<&str> = Vec::new();
    for part in head.query().split('&').filter(|part| !part.is_empty()) {
        let is_offset = part == "offset" || part.starts_with("offset=");
        if !is_offset {
            parts.push(part);
        } else if !found {
            found = true;
            parts.push(&new);
        }
    }
    if !found {
        parts.push(&new);
    }
    with_query(head, &parts.join("&"))
}

fn with_query(head: &RequestHead, query: &str) -> String {
    format!("{}{}?{query}", head.origin(), head.path())
}
