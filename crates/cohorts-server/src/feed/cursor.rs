//! The cursor of a feed, and its opaque text.
//!
//! A cursor has the project and the cohorts of its feed, a place in it, and the time of the last change of the log when it
//! was made. By this time, a log that was restored from a backup is recognised.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use cohorts_store::ProjectId;
use cohorts_store::changes::FeedPosition;
use sha2::{Digest, Sha256};

use super::Feed;

/// The first byte of a cursor. It changes with the layout of the rest.
const LAYOUT: u8 = 1;
/// The bytes of a cursor: layout, project, cohorts, time, kind of place, number, ordinal, cohort, checksum.
const LENGTH: usize = 1 + 8 + 8 + 8 + 1 + 8 + 4 + 2 + 4;
/// The bytes of the checksum, which tells a damaged cursor from an expired one. It protects no secret.
const CHECKSUM: usize = 4;

/// Where a reader of a feed continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedCursor {
    project: ProjectId,
    /// A hash of the cohorts of the feed.
    cohorts: u64,
    /// The time of the last change of the log when the cursor was made.
    pub(super) time: DateTime<Utc>,
    pub(super) place: FeedPlace,
}

/// A place in a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedPlace {
    /// In the changes.
    Changes(FeedPosition),
    /// In the members with which the feed begins.
    Members {
        /// The position of the cohort in the list of the feed.
        cohort: u16,
        /// The last ordinal that is read; `None` before the first.
        after: Option<u32>,
        /// The number after which the changes begin when all members are read; `None` before the first page.
        then: Option<i64>,
    },
}

/// Why a text is no cursor of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidCursor {
    /// The text is no cursor.
    Malformed,
    /// It is the cursor of another project, or of other cohorts.
    OtherFeed,
}

impl InvalidCursor {
    /// The sentence of the error.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Malformed => {
                "The cursor is not valid. Send the `cursor` of an earlier response unchanged, or begin with `from`."
            }
            Self::OtherFeed => {
                "The cursor belongs to another project or to other cohorts. Begin with `from`."
            }
        }
    }
}

impl FeedCursor {
    pub(super) fn new(feed: &Feed, place: FeedPlace, time: DateTime<Utc>) -> Self {
        Self {
            project: feed.project,
            cohorts: hash(feed.cohorts()),
            time,
            place,
        }
    }

    /// Reads a cursor of a feed.
    ///
    /// # Errors
    ///
    /// Fails if the text is no cursor, or one of another feed.
    pub fn parse(feed: &Feed, text: &str) -> Result<Self, InvalidCursor> {
        let cursor = Self::read(text)?;
        let is_same = cursor.project == feed.project && cursor.cohorts == hash(feed.cohorts());
        is_same.then_some(cursor).ok_or(InvalidCursor::OtherFeed)
    }

    /// Reads the cursor of any feed of the project as one of `feed`, if it is in the changes.
    ///
    /// # Errors
    ///
    /// Fails if the text is no cursor, or one of another project, or one in the members with which a feed begins.
    pub fn parse_of_project(feed: &Feed, text: &str) -> Result<Self, InvalidCursor> {
        let cursor = Self::read(text)?;
        let is_in_changes = matches!(cursor.place, FeedPlace::Changes(_));
        if cursor.project != feed.project || !is_in_changes {
            return Err(InvalidCursor::OtherFeed);
        }
        Ok(cursor.in_feed(feed))
    }

    fn read(text: &str) -> Result<Self, InvalidCursor> {
        let mut bytes = [0; LENGTH];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        if length != Ok(LENGTH) {
            return Err(InvalidCursor::Malformed);
        }
        Self::from_bytes(&bytes).ok_or(InvalidCursor::Malformed)
    }

    /// The same place in another feed of the project.
    pub fn in_feed(self, feed: &Feed) -> Self {
        Self::new(feed, self.place, self.time)
    }

    /// The number up to which all changes are before the cursor.
    pub fn finished(&self) -> i64 {
        match self.place {
            FeedPlace::Changes(position) => position.number - i64::from(position.after.is_some()),
            FeedPlace::Members { .. } => 0,
        }
    }

    /// The number of the last change that the reader may have read; `None` before the first page.
    pub(super) fn number(&self) -> Option<i64> {
        match self.place {
            FeedPlace::Changes(position) => Some(position.number),
            FeedPlace::Members { then, .. } => then,
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        let (kind, number, after, cohort) = match self.place {
            FeedPlace::Changes(FeedPosition { number, after }) => (0, Some(number), after, 0),
            FeedPlace::Members {
                cohort,
                after,
                then,
            } => (1, then, after, cohort),
        };
        let flags = kind | u8::from(number.is_some()) << 1 | u8::from(after.is_some()) << 2;
        let mut bytes = vec![LAYOUT];
        bytes.extend(self.project.0.to_be_bytes());
        bytes.extend(self.cohorts.to_be_bytes());
        bytes.extend(self.time.timestamp_micros().to_be_bytes());
        bytes.push(flags);
        bytes.extend(number.unwrap_or_default().to_be_bytes());
        bytes.extend(after.unwrap_or_default().to_be_bytes());
        bytes.extend(cohort.to_be_bytes());
        bytes.extend(checksum(&bytes));
        bytes
    }

    fn from_bytes(bytes: &[u8; LENGTH]) -> Option<Self> {
        let (content, sum) = bytes.split_at(LENGTH - CHECKSUM);
        if sum != checksum(content) {
            return None;
        }
        let mut rest = content;
        let [layout] = take(&mut rest)?;
        let project = ProjectId(i64::from_be_bytes(take(&mut rest)?));
        let cohorts = u64::from_be_bytes(take(&mut rest)?);
        let time = DateTime::from_timestamp_micros(i64::from_be_bytes(take(&mut rest)?))?;
        let [flags] = take(&mut rest)?;
        let number = i64::from_be_bytes(take(&mut rest)?);
        let after = u32::from_be_bytes(take(&mut rest)?);
        let cohort = u16::from_be_bytes(take(&mut rest)?);
        let number = (flags & 2 != 0).then_some(number);
        let after = (flags & 4 != 0).then_some(after);
        if layout != LAYOUT || flags > 7 || number.is_some_and(|number| number < 0) {
            return None;
        }
        let place = if flags & 1 == 0 {
            FeedPlace::Changes(FeedPosition {
                number: number?,
                after,
            })
        } else {
            FeedPlace::Members {
                cohort,
                after,
                then: number,
            }
        };
        Some(Self {
            project,
            cohorts,
            time,
            place,
        })
    }
}

impl std::fmt::Display for FeedCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.to_bytes()))
    }
}

/// Removes the first bytes of `rest`.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, later) = rest.split_first_chunk()?;
    *rest = later;
    Some(*first)
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::digest(bytes);
    std::array::from_fn(|at| digest[at])
}

/// A hash of the cohorts of a feed.
fn hash(cohorts: Option<&[i64]>) -> u64 {
    let Some(cohorts) = cohorts else { return 0 };
    let bytes: Vec<u8> = cohorts.iter().flat_map(|id| id.to_be_bytes()).collect();
    let digest = Sha256::digest(bytes);
    u64::from_be_bytes(std::array::from_fn(|at| digest[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Vec<FeedPlace> {
        let mut places = Vec::new();
        for after in [None, Some(0), Some(u32::MAX)] {
            for number in [0, 7, i64::MAX] {
                places.push(FeedPlace::Changes(FeedPosition { number, after }));
            }
            for then in [None, Some(0), Some(9)] {
                let cohort = 19;
                places.push(FeedPlace::Members {
                    cohort,
                    after,
                    then,
                });
            }
        }
        places
    }

    #[test]
    fn a_cursor_is_parsed_as_it_was_written() {
        let feed = Feed::new(ProjectId(3), Some(vec![9, 5, 9]));
        for place in places() {
            let cursor = FeedCursor::new(&feed, place, DateTime::from_timestamp_nanos(5_000));
            let text = cursor.to_string();
            assert_eq!(FeedCursor::parse(&feed, &text), Ok(cursor));
            let same = Feed::new(ProjectId(3), Some(vec![5, 9]));
            assert_eq!(FeedCursor::parse(&same, &text), Ok(cursor));
        }
    }

    #[test]
    fn a_cursor_of_another_feed_is_refused() {
        let feed = Feed::new(ProjectId(3), Some(vec![5, 9]));
        let text = feed.start().to_string();
        for other in [
            Feed::new(ProjectId(4), Some(vec![5, 9])),
            Feed::new(ProjectId(3), Some(vec![5])),
            Feed::new(ProjectId(3), None),
        ] {
            let result = FeedCursor::parse(&other, &text);
            assert_eq!(result, Err(InvalidCursor::OtherFeed));
        }
    }

    #[test]
    fn a_changed_text_is_no_cursor() {
        let feed = Feed::new(ProjectId(3), None);
        let text = feed.start().to_string();
        let mut texts = vec![
            String::new(),
            "x".repeat(100_000),
            format!("{text}="),
            "é".to_owned(),
        ];
        for at in 0..text.len() {
            let other = if text.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            let mut changed = text.clone();
            changed.replace_range(at..=at, other);
            texts.push(changed);
        }
        for text in texts {
            let result = FeedCursor::parse(&feed, &text);
            assert_eq!(result, Err(InvalidCursor::Malformed), "{text}");
        }
    }
}
