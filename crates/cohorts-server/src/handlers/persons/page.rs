//! One page of persons as JSON, with links to its neighbours.

use cohorts_api::RequestHead;
use cohorts_api::types::{Person, PersonPage};
use cohorts_store::Conn;

use super::cursor::Cursor;
use super::query::{PersonQuery, SelectedPersons};
use crate::error::Error;
use crate::handlers::links::Links;
use crate::handlers::{Service, present};
use crate::index::ranking::RankKey;

const DEFAULT_LIMIT: usize = 100;

impl Service {
    pub(super) async fn person_page(
        &self,
        query: PersonQuery,
        head: &RequestHead,
    ) -> Result<PersonPage, Error> {
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        let (offset, has_cursor) = (query.offset, query.cursor.is_some());
        let (store, project) = (self.store.clone(), query.project);
        let read = move |conn: &mut Conn| {
            query.run(conn, &store, |conn, selected| {
                Page::read(conn, &query, &selected, limit)
            })
        };
        let page = self.read(project, read).await?;
        let links = self.links(head);
        let (next, previous) = if has_cursor {
            let last = page.keys.last().filter(|_| page.has_more);
            let next = last.map(|key| links.with(&[("cursor", Cursor::after(*key))]));
            (next, None)
        } else {
            by_offset(&links, limit, offset, page.keys.len())
        };
        Ok(PersonPage {
            results: page.persons,
            next,
            previous,
        })
    }
}

struct Page {
    persons: Vec<Person>,
    keys: Vec<RankKey>,
    /// Whether persons follow after the page.
    has_more: bool,
}

impl Page {
    fn read(
        conn: &mut Conn,
        query: &PersonQuery,
        selected: &SelectedPersons,
        limit: usize,
    ) -> Result<Self, Error> {
        let mut keys: Vec<RankKey> = selected.page(query).take(limit + 1).collect();
        let has_more = keys.len() > limit;
        keys.truncate(limit);
        let ordinals: Vec<i64> = keys.iter().map(|key| key.ordinal.into()).collect();
        let shard_key = query.project.shard_key();
        Ok(Self {
            persons: present::persons_by_ordinals(conn, shard_key, &ordinals)?,
            keys,
            has_more,
        })
    }
}

/// Links by offset. As in PostHog's API, a full page has a next page.
fn by_offset(
    links: &Links,
    limit: usize,
    offset: i64,
    length: usize,
) -> (Option<String>, Option<String>) {
    let is_full = length >= limit;
    let limit = limit as i64;
    let link = |offset: i64| links.with(&[("offset", offset.to_string())]);
    (
        is_full.then(|| link(offset.saturating_add(limit))),
        (offset >= limit).then(|| link(offset - limit)),
    )
}
