//! What delta evaluation asks of the data of a project, besides the blocks.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use super::lookup;
use crate::block::TimeSpan;
use crate::source::Source;
use crate::window::Moment;

/// The writes of the log with sequence numbers above `after`, up to `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSpan {
    /// The last write before the span.
    pub after: i64,
    /// The last write of the span.
    pub through: i64,
}

/// Two versions of the members of a static cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionSpan {
    /// The version of the earlier evaluation.
    pub then: i64,
    /// The version of this evaluation.
    pub now: i64,
}

/// A column with values that a criterion compares with relative dates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DateColumn {
    /// A property of persons.
    Person(String),
    /// A property of the events of a name.
    Event {
        /// The name of the events.
        event: String,
        /// The property.
        property: String,
    },
    /// The creation times of persons.
    CreatedAt,
    /// The distinct ids of persons.
    DistinctId,
}

/// A query for the persons with dates in spans of time.
#[derive(Clone, Debug)]
pub struct DateQuery<'a> {
    /// The column with the dates.
    pub column: &'a DateColumn,
    /// The spans.
    pub spans: &'a [TimeSpan],
    /// The earliest event that counts, in microseconds since the Unix epoch.
    pub from: i64,
    /// Dates without an offset are local to the time zone of this moment.
    pub at: &'a Moment,
}

/// The data of a project, and what changed in it.
///
/// The source presents the project as of the end of a pass. All ordinals are those of that
/// position: events of a merged person count for the survivor. Answers may contain more persons
/// than changed, and ordinals that are no longer persons.
///
/// # Errors
///
/// All methods return [`Interrupt::Error`](crate::Interrupt::Error) if the data cannot be read.
pub trait ChangeSource: Source {
    /// Returns the persons with events in `span`, by name of the events, whatever time the events
    /// have. `None` asks for every name.
    fn performers(
        &self,
        span: LogSpan,
        names: Option<&BTreeSet<String>>,
    ) -> Result<BTreeMap<String, RoaringBitmap>, Self::Error>;

    /// Returns the persons that were created, merged or deleted in `span`: for a merge, the survivor
    /// and the merged person.
    fn changed_identities(&self, span: LogSpan) -> Result<RoaringBitmap, Self::Error>;

    /// Returns the persons that gained or lost a distinct id in `span`.
    fn changed_distinct_ids(&self, span: LogSpan) -> Result<RoaringBitmap, Self::Error>;

    /// Returns the persons with properties or creation times that were written in `span`.
    fn changed_persons(&self, span: LogSpan) -> Result<RoaringBitmap, Self::Error>;

    /// Returns the version of the members that [`Source::cohort`] returns for a static cohort. It
    /// differs after each change of the members.
    fn members_version(&self, id: i64) -> Result<i64, Self::Error>;

    /// Returns the persons that are members of a static cohort in one of two versions only. `None`
    /// means that they are unknown.
    fn changed_members(
        &self,
        id: i64,
        versions: VersionSpan,
    ) -> Result<Option<RoaringBitmap>, Self::Error>;

    /// Returns, for each of `spans`, the persons with an event of this name in it. The default reads
    /// the blocks of the events.
    fn persons_between(
        &self,
        event: &str,
        spans: &[TimeSpan],
    ) -> Result<Vec<RoaringBitmap>, Self::Error>
    where
        Self: Sized,
    {
        lookup::persons_between(self, event, spans)
    }

    /// Returns, for each span of `query`, the persons with a date in it. `None` means that they
    /// cannot be identified; then each evaluation of a cohort with such dates is full. The default
    /// reads the blocks of the column.
    fn persons_with_dates(
        &self,
        query: &DateQuery,
    ) -> Result<Option<Vec<RoaringBitmap>>, Self::Error>
    where
        Self: Sized,
    {
        lookup::persons_with_dates(self, query).map(Some)
    }
}
