//! Streams over the rows of all pages.
//!
//! A list with cursors is followed by its links, because only cursors neither skip nor repeat rows while others are added
//! or deleted. Other lists are followed by offset.

use std::collections::VecDeque;

use futures::{Stream, stream};
use reqwest::Url;

/// Where a page of a list with cursors begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PageStart {
    /// The cursor in a link; empty for the first page.
    Cursor(String),
    /// The number of rows before the page.
    Offset(i64),
}

impl PageStart {
    /// The beginning that a caller has set. Without one, the pages are followed by cursor.
    pub(crate) fn new(cursor: Option<String>, offset: Option<i64>) -> Self {
        match (cursor, offset) {
            (None, Some(offset)) => Self::Offset(offset),
            (cursor, _) => Self::Cursor(cursor.unwrap_or_default()),
        }
    }

    /// The beginning in a link to a page, which may lack the host. A service without cursors has links with offsets.
    fn of_link(link: &str) -> Option<Self> {
        let link = Url::parse("http://host/").ok()?.join(link).ok()?;
        let value = |name: &str| {
            let mut pairs = link.query_pairs();
            pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        };
        let offset = || Some(Self::Offset(value("offset")?.parse().ok()?));
        value("cursor").map(Self::Cursor).or_else(offset)
    }
}

/// The state of a stream between two rows.
struct Position<P, T> {
    /// The beginning of the next page. `None` after the last page.
    next: Option<P>,
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
    follow(start, move |offset| {
        let page = page(offset);
        async move {
            let (rows, has_next) = page.await?;
            let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
            // No rows can follow an empty page.
            let next = (has_next && count > 0).then_some(offset.saturating_add(count));
            Ok((rows, next))
        }
    })
}

/// Returns the rows of all pages from `start`, by the links of the pages.
///
/// `page` fetches the page at a beginning and returns its rows and the link to the next page.
pub(crate) fn linked_rows<T, E, F>(
    start: PageStart,
    page: impl Fn(PageStart) -> F,
) -> impl Stream<Item = Result<T, E>>
where
    F: Future<Output = Result<(Vec<T>, Option<String>), E>>,
{
    follow(start, move |start| {
        let page = page(start.clone());
        async move {
            let (rows, link) = page.await?;
            let next = link.as_deref().and_then(PageStart::of_link);
            // A page that leads to itself is the last one.
            Ok((rows, next.filter(|next| *next != start)))
        }
    })
}

fn follow<P, T, E, F>(start: P, page: impl Fn(P) -> F) -> impl Stream<Item = Result<T, E>>
where
    F: Future<Output = Result<(Vec<T>, Option<P>), E>>,
{
    let position = Position {
        next: Some(start),
        rows: VecDeque::new(),
    };
    stream::try_unfold((position, page), async |(mut position, page)| {
        while position.rows.is_empty() {
            let Some(start) = position.next.take() else {
                return Ok(None);
            };
            let (rows, next) = page(start).await?;
            position.next = next;
            position.rows = rows.into();
        }
        Ok(position.rows.pop_front().map(|row| (row, (position, page))))
    })
}
