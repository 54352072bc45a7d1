//! Where a request begins to read a feed.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use cohorts_store::{Conn, cohorts};

use crate::error::Error;
use crate::feed::{Feed, FeedCursor};

/// The most cohorts with members at the start of a feed.
const MAX_STARTED: usize = 20;

/// The feed of a request, and where it begins.
#[derive(Clone)]
pub struct FeedSource {
    pub feed: Feed,
    pub start: FeedStart,
    /// Whether the cohort is in the path.
    pub is_of_path: bool,
}

/// Where a feed begins, as the request says it.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedStart {
    Now,
    Members,
    Time(DateTime<Utc>),
    /// The text of a cursor, which is not checked.
    Cursor {
        text: String,
        /// The parameter or the header with the cursor.
        attr: &'static str,
    },
}

impl FeedStart {
    /// The cursor, otherwise `from`.
    pub fn new(cursor: Option<String>, from: Option<String>) -> Result<Self, Error> {
        if let Some(text) = cursor {
            let attr = "cursor";
            return Ok(Self::Cursor { text, attr });
        }
        match from.as_deref() {
            None | Some("now") => Ok(Self::Now),
            Some("start") => Ok(Self::Members),
            Some(text) => time(text).map(Self::Time).ok_or_else(|| {
                Error::field(
                    "from",
                    "Must be `now`, `start` or a time such as 2026-03-01T12:00:00Z.",
                )
            }),
        }
    }

    /// The cursor that a reconnecting client sends, otherwise that of the parameters.
    pub fn of_stream(
        last_event_id: Option<String>,
        cursor: Option<String>,
        from: Option<String>,
    ) -> Result<Self, Error> {
        match last_event_id.filter(|text| !text.is_empty()) {
            Some(text) => Ok(Self::Cursor {
                text,
                attr: "Last-Event-ID",
            }),
            None => Self::new(cursor, from),
        }
    }
}

/// A time with its zone, or a date in UTC.
fn time(text: &str) -> Option<DateTime<Utc>> {
    // In a query, a plus sign is a blank unless it is encoded.
    let time = DateTime::parse_from_rfc3339(&text.replace(' ', "+"));
    let date = || text.parse::<NaiveDate>().ok();
    time.map(|time| time.to_utc())
        .ok()
        .or_else(|| Some(date()?.and_time(NaiveTime::MIN).and_utc()))
}

impl FeedSource {
    /// The cursor of a request. Fails if a cohort does not exist, or the cursor or the time cannot be used.
    pub fn cursor(&self, conn: &mut Conn) -> Result<FeedCursor, Error> {
        self.check_cohorts(conn)?;
        match &self.start {
            FeedStart::Now => Ok(self.feed.now(conn)?),
            FeedStart::Members => self.first(),
            FeedStart::Time(time) => {
                let cursor = self.feed.since(conn, *time)?;
                cursor.ok_or(Error::CursorExpired)
            }
            FeedStart::Cursor { text, attr } => FeedCursor::parse(&self.feed, text)
                .map_err(|invalid| Error::field(attr, invalid.detail())),
        }
    }

    fn check_cohorts(&self, conn: &mut Conn) -> Result<(), Error> {
        let ids = self.feed.cohorts().unwrap_or_default();
        let existing = cohorts::existing(conn, self.feed.project, ids)?;
        match ids.iter().find(|id| !existing.contains(id)) {
            None => Ok(()),
            Some(_) if self.is_of_path => Err(Error::NotFound),
            Some(id) => {
                let detail = format!("The project has no cohort with the ID {id}.");
                Err(Error::field("cohort_id", detail))
            }
        }
    }

    fn first(&self) -> Result<FeedCursor, Error> {
        match self.feed.cohorts() {
            Some(cohorts) if cohorts.len() <= MAX_STARTED => Ok(self.feed.start()),
            _ => Err(Error::field(
                "cohort_id",
                format!("`from=start` needs `cohort_id`, at most {MAX_STARTED} times."),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_begins_with_the_cursor_or_as_from_says() {
        let start = |from: &str| FeedStart::new(None, Some(from.to_owned()));
        let noon: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(FeedStart::new(None, None).unwrap(), FeedStart::Now);
        assert_eq!(start("start").unwrap(), FeedStart::Members);
        for text in ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00 01:00"] {
            assert_eq!(start(text).unwrap(), FeedStart::Time(noon), "{text}");
        }
        let midnight = "2026-03-01T00:00:00Z".parse().unwrap();
        assert_eq!(start("2026-03-01").unwrap(), FeedStart::Time(midnight));
        for text in [
            "",
            "FeedStart",
            "1e30",
            "-1",
            "2026-02-30",
            "99999999999999",
        ] {
            assert!(start(text).is_err(), "{text}");
        }
        let cursor = |text: &str, attr| FeedStart::Cursor {
            text: text.to_owned(),
            attr,
        };
        let both = FeedStart::new(Some("a".to_owned()), Some("start".to_owned()));
        assert_eq!(both.unwrap(), cursor("a", "cursor"));
        let id = |id: &str| {
            FeedStart::of_stream(Some(id.to_owned()), Some("a".to_owned()), None).unwrap()
        };
        assert_eq!(id("b"), cursor("b", "Last-Event-ID"));
        assert_eq!(id(""), cursor("a", "cursor"));
    }
}
