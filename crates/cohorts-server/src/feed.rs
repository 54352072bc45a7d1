//! The feed of changes: who entered and left cohorts, as rows with persons, in pages from a cursor on.
//!
//! Responses, streams and webhooks read the same pages. A page is read in one [`cohorts_store::snapshot`], so its rows and
//! its cursor belong together. The cursor says where the next page begins, and nothing else is remembered.

use chrono::{DateTime, Utc};
use cohorts_api::types::{ChangeKind, CohortChange};
use cohorts_store::changes::{self, ChangeHead, FeedPosition, LoggedPerson, MemberChange};
use cohorts_store::{CohortId, Conn, ProjectId, Result};

mod cursor;
mod persons;
#[cfg(test)]
mod tests;
mod watch;

pub use cursor::FeedCursor;
use cursor::FeedPlace;
use persons::ChangedPersons;
pub use watch::{ChangeReader, ChangeWatch, WaitEnd};

/// The cause of the rows of members with which a feed begins.
const SNAPSHOT: &str = "snapshot";

/// A feed: that of some cohorts of a project, or of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    pub project: ProjectId,
    /// The ids of the cohorts, sorted; `None` is all cohorts of the project, also later ones.
    cohorts: Option<Vec<i64>>,
}

/// A row of a feed.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedRow {
    pub change: CohortChange,
    /// The position after the row.
    pub cursor: FeedCursor,
}

/// Some rows of a feed.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeRows {
    /// At most as many rows as the caller wants. Those of purged persons are left out.
    pub rows: Vec<FeedRow>,
    /// The position after all rows.
    pub cursor: FeedCursor,
    /// Whether more rows are available now.
    pub has_more: bool,
}

impl Feed {
    /// The feed of all cohorts, or of those with these ids.
    pub fn new(project: ProjectId, cohorts: Option<Vec<i64>>) -> Self {
        let sorted = |mut cohorts: Vec<i64>| {
            cohorts.sort_unstable();
            cohorts.dedup();
            cohorts
        };
        Self {
            project,
            cohorts: cohorts.map(sorted),
        }
    }

    /// The ids of the cohorts; `None` is all cohorts.
    pub fn cohorts(&self) -> Option<&[i64]> {
        self.cohorts.as_deref()
    }

    /// The cursor from which the members of the cohorts come first. Only for a feed of named cohorts.
    pub fn start(&self) -> FeedCursor {
        let start = FeedPlace::Members {
            cohort: 0,
            after: None,
            then: None,
        };
        FeedCursor::new(self, start, DateTime::UNIX_EPOCH)
    }

    /// The cursor after the last change.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn now(&self, conn: &mut Conn) -> Result<FeedCursor> {
        let head = self.head(conn)?;
        let number = head.as_ref().map_or(0, |head| head.number);
        let place = FeedPlace::Changes(FeedPosition::after(number));
        Ok(FeedCursor::new(self, place, time_of(head.as_ref())))
    }

    /// The cursor from which the changes after a time come; `None` if some of these are deleted.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn since(&self, conn: &mut Conn, time: DateTime<Utc>) -> Result<Option<FeedCursor>> {
        let Some(head) = self.head(conn)? else {
            return Ok(Some(self.now(conn)?));
        };
        let position = changes::position_at(conn, &head, time)?;
        let cursor =
            |position| FeedCursor::new(self, FeedPlace::Changes(position), time_of(Some(&head)));
        Ok(position.map(cursor))
    }

    /// Reads at most `limit` rows from a cursor on. Returns `None` if changes after the cursor are deleted, or the log was
    /// restored and does not have them: then the reader begins again.
    ///
    /// The caller reads in a [`cohorts_store::snapshot`].
    ///
    /// # Errors
    ///
    /// [`cohorts_store::Error::Corrupt`] if stored bitmaps cannot be decoded; fails if the database fails.
    pub fn page(
        &self,
        conn: &mut Conn,
        cursor: &FeedCursor,
        limit: usize,
    ) -> Result<Option<ChangeRows>> {
        let head = self.head(conn)?;
        if let Some(number) = cursor.number() {
            let seen = (number, cursor.time);
            if !changes::is_same_log(conn, self.project, head.as_ref(), seen)? {
                log::warn!(
                    "a cursor of project {} is beyond the change log; was the database restored?",
                    self.project.0
                );
                return Ok(None);
            }
        }
        let mut page = PageReader {
            feed: self,
            drafts: Vec::new(),
            limit,
        };
        let Some((place, has_more)) = page.read(conn, cursor.place)? else {
            return Ok(None);
        };
        let drafts = page.drafts;
        let cursor = |place| FeedCursor::new(self, place, time_of(head.as_ref()));
        Ok(Some(ChangeRows {
            rows: rows(conn, self.project, drafts, cursor)?,
            cursor: cursor(place),
            has_more,
        }))
    }

    fn head(&self, conn: &mut Conn) -> Result<Option<ChangeHead>> {
        Ok(changes::heads(conn, &[self.project])?.pop())
    }
}

fn time_of(head: Option<&ChangeHead>) -> DateTime<Utc> {
    head.map_or(DateTime::UNIX_EPOCH, |head| head.published_at)
}

/// A row without its person.
struct Draft {
    cohort: i64,
    change: MemberChange,
    at: DateTime<Utc>,
    version: i64,
    cause: String,
    /// The place after the row.
    place: FeedPlace,
}

/// The rows of a page that are read already.
struct PageReader<'a> {
    feed: &'a Feed,
    drafts: Vec<Draft>,
    limit: usize,
}

impl PageReader<'_> {
    /// Reads the page from a place on. Returns the place after it, and whether more rows are available; `None` if changes
    /// are deleted.
    fn read(&mut self, conn: &mut Conn, start: FeedPlace) -> Result<Option<(FeedPlace, bool)>> {
        let mut place = start;
        loop {
            place = match place {
                FeedPlace::Changes(position) => return self.read_changes(conn, position),
                _ if self.rest() == 0 => return Ok(Some((place, true))),
                FeedPlace::Members { .. } => self.read_members(conn, place)?,
            };
        }
    }

    fn rest(&self) -> usize {
        self.limit - self.drafts.len()
    }

    fn read_changes(
        &mut self,
        conn: &mut Conn,
        position: FeedPosition,
    ) -> Result<Option<(FeedPlace, bool)>> {
        let (project, cohorts) = (self.feed.project, self.feed.cohorts());
        let page = changes::feed(conn, project, cohorts, position, self.rest())?;
        let Some(page) = page else {
            return Ok(None);
        };
        for (row, persons) in page.changes {
            self.drafts.extend(persons.into_iter().map(|change| Draft {
                cohort: row.cohort_id,
                change,
                at: row.published_at,
                version: row.version,
                cause: row.cause.clone(),
                place: FeedPlace::Changes(FeedPosition {
                    number: row.number,
                    after: Some(change.ordinal),
                }),
            }));
        }
        Ok(Some((FeedPlace::Changes(page.position), page.has_more)))
    }

    /// Reads members of one cohort, up to the limit. Returns the place after them.
    fn read_members(&mut self, conn: &mut Conn, place: FeedPlace) -> Result<FeedPlace> {
        let FeedPlace::Members {
            cohort,
            after,
            then,
        } = place
        else {
            return Ok(place);
        };
        let ids = self.feed.cohorts().unwrap_or_default();
        let Some(id) = ids.get(usize::from(cohort)) else {
            return Ok(FeedPlace::Changes(FeedPosition::after(then.unwrap_or(0))));
        };
        let next = |then| FeedPlace::Members {
            cohort: cohort + 1,
            after: None,
            then,
        };
        let first = after.map_or(Some(0), |after| after.checked_add(1));
        let Some(first) = first else {
            return Ok(next(then));
        };
        let part = (first, self.rest());
        let snapshot = changes::snapshot(conn, self.feed.project, CohortId(*id), part)?;
        let Some(snapshot) = snapshot else {
            return Ok(next(then));
        };
        let number = snapshot.position.number;
        let then = Some(then.map_or(number, |then| then.min(number)));
        let at = snapshot.at.unwrap_or_else(Utc::now);
        let mut members = snapshot.members.iter();
        let drafts = members.by_ref().take(self.rest()).map(|ordinal| Draft {
            cohort: *id,
            change: MemberChange {
                ordinal,
                has_entered: true,
            },
            at,
            version: snapshot.version,
            cause: SNAPSHOT.to_owned(),
            place: FeedPlace::Members {
                cohort,
                after: Some(ordinal),
                then,
            },
        });
        self.drafts.extend(drafts);
        if members.next().is_none() {
            return Ok(next(then));
        }
        Ok(self.drafts.last().map_or(place, |draft| draft.place))
    }
}

impl Draft {
    /// The person in the log; `None` if the row is a member of now.
    fn person(&self) -> Option<LoggedPerson> {
        let FeedPlace::Changes(position) = self.place else {
            return None;
        };
        Some(LoggedPerson {
            ordinal: self.change.ordinal,
            number: position.number,
        })
    }
}

/// The rows with their persons and cursors, without those of purged persons.
fn rows(
    conn: &mut Conn,
    project: ProjectId,
    mut drafts: Vec<Draft>,
    cursor: impl Fn(FeedPlace) -> FeedCursor,
) -> Result<Vec<FeedRow>> {
    let shard_key = project.shard_key();
    let logged = drafts.iter().filter_map(Draft::person);
    let moved = changes::ordinals_now(conn, shard_key, logged)?;
    for draft in &mut drafts {
        if let Some(now) = draft.person().and_then(|person| moved.get(&person)) {
            draft.change.ordinal = *now;
        }
    }
    let ordinals = drafts.iter().map(|draft| draft.change.ordinal);
    let persons = ChangedPersons::read(conn, shard_key, ordinals)?;
    let rows = drafts.into_iter().filter_map(|draft| {
        let change = CohortChange {
            cohort_id: draft.cohort,
            change: if draft.change.has_entered {
                ChangeKind::Entered
            } else {
                ChangeKind::Left
            },
            at: draft.at,
            version: draft.version,
            cause: draft.cause,
            person: persons.get(draft.change.ordinal)?,
        };
        let cursor = cursor(draft.place);
        Some(FeedRow { change, cursor })
    });
    Ok(rows.collect())
}
