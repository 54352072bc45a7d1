//! Streams over the rows of all pages.

use std::collections::VecDeque;

use futures::{Stream, stream};

/// The state of a stream between two rows.
struct Position<T> {
    /// Offset of the next page. `None` after the last page.
    next_offset: Option<i64>,
    /// The remaining rows of the current page.
    rows: VecDeque<T>,
}

/// Returns the rows of all pages from the offset `start`.
///
/// `page` fetches the page at an offset and returns its rows and whether another page follows.
pub(crate) fn rows<T, E, F>(start: i64, page: impl Fn(i64) -> F) -> impl Stream<Item = Result<T, E>>
where
    F: Future<Output = Result<(Vec<T>, bool), E>>,
{
    let position = Position {
        next_offset: Some(start),
        rows: VecDeque::new(),
    };
    stream::try_unfold((position, page), async |(mut position, page)| {
        while position.rows.is_empty() {
            let Some(offset) = position.next_offset else {
                return Ok(None);
            };
            let (rows, has_next) = page(offset).await?;
            let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
            // No rows can follow an empty page.
            position.next_offset = (has_next && count > 0).then_some(offset.saturating_add(count));
            position.rows = rows.into();
        }
        Ok(position.rows.pop_front().map(|row| (row, (position, page))))
    })
}
