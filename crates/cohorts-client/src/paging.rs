//! Lists, followed from page to page.

use std::collections::VecDeque;

use futures::{Stream, stream};

struct Place<T> {
    /// The offset of the next page; none after the last.
    next: Option<i64>,
    rows: VecDeque<T>,
}

/// The rows of all pages from `start` on. `page` fetches one and says whether another follows.
pub(crate) fn rows<T, E, F>(start: i64, page: impl Fn(i64) -> F) -> impl Stream<Item = Result<T, E>>
where
    F: Future<Output = Result<(Vec<T>, bool), E>>,
{
    let place = Place {
        next: Some(start),
        rows: VecDeque::new(),
    };
    stream::try_unfold((place, page), async |(mut place, page)| {
        while place.rows.is_empty() {
            let Some(offset) = place.next else {
                return Ok(None);
            };
            let (rows, more) = page(offset).await?;
            let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
            // An empty page cannot be followed by one with rows.
            place.next = (more && count > 0).then_some(offset.saturating_add(count));
            place.rows = rows.into();
        }
        Ok(place.rows.pop_front().map(|row| (row, (place, page))))
    })
}
