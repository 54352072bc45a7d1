//! The sizes of a cohort over time: recorded ones, and before the first record those of an evaluation.

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_api::CohortsSizesQuery;
use cohorts_api::types::{CohortSize, CohortSizes, CohortsSizesInterval};
use cohorts_engine::calendar::{Interval, IntervalError};
use cohorts_store::changes::sizes;
use cohorts_store::cohorts::{self, Cohort};
use cohorts_store::projects::Project;
use cohorts_store::{CohortId, Conn, ProjectId};

use crate::calculation::moment;
use crate::error::Error;

mod evaluation;

pub use evaluation::{EvaluatedSizes, PastSizes};

/// The most rows of a response.
const MAX_ROWS: usize = 1_000;
/// The intervals before the last one if the request has no `from`.
const EARLIER_INTERVALS: i64 = 29;

/// The intervals of a request.
pub struct Intervals {
    /// The start of each interval, and the end of the last one; empty without intervals.
    boundaries: Vec<DateTime<Utc>>,
    now: DateTime<Utc>,
}

impl Intervals {
    pub fn new(project: &Project, query: &CohortsSizesQuery) -> Result<Self, Error> {
        let now = Utc::now();
        let interval = engine_interval(query.interval);
        let to = query.to.unwrap_or(now);
        let end = to.min(now);
        let earlier = TimeDelta::microseconds(interval.length() * EARLIER_INTERVALS);
        let from = query.from.unwrap_or(end - earlier);
        if from >= to {
            let detail = "Must be before `to`, which is now if it is absent.";
            return Err(Error::field("from", detail));
        }
        let span = (from.timestamp_micros(), end.timestamp_micros());
        let time_zone = moment(project, now.timestamp_micros())?.time_zone;
        let boundaries = interval.boundaries(span, &time_zone, MAX_ROWS);
        let boundaries = boundaries.map_err(invalid)?.into_iter();
        let boundaries: Option<_> = boundaries.map(DateTime::from_timestamp_micros).collect();
        let boundaries = boundaries.ok_or_else(|| invalid(IntervalError::OutsideCalendar))?;
        Ok(Self { boundaries, now })
    }

    /// The number of intervals.
    fn count(&self) -> usize {
        self.boundaries.len().saturating_sub(1)
    }

    /// The end of each interval.
    fn ends(&self) -> &[DateTime<Utc>] {
        self.boundaries.get(1..).unwrap_or_default()
    }

    /// The last instant of an interval, as far as it has passed.
    fn last_instant(&self, nth: usize) -> DateTime<Utc> {
        (self.ends()[nth] - TimeDelta::microseconds(1)).min(self.now)
    }
}

fn engine_interval(interval: CohortsSizesInterval) -> Interval {
    match interval {
        CohortsSizesInterval::Minute => Interval::Minute,
        CohortsSizesInterval::Hour => Interval::Hour,
        CohortsSizesInterval::Day => Interval::Day,
        CohortsSizesInterval::Week => Interval::Week,
        CohortsSizesInterval::Month => Interval::Month,
    }
}

fn invalid(error: IntervalError) -> Error {
    match error {
        IntervalError::TooMany => Error::field(
            "interval",
            format!(
                "There are more than {MAX_ROWS} intervals from `from` to `to`. Choose a longer interval or a shorter time."
            ),
        ),
        IntervalError::OutsideCalendar => {
            Error::field("from", "`from` and `to` must be in the years 1 to 9999.")
        }
    }
}

/// The sizes that are recorded.
pub struct RecordedSizes {
    cohort: Cohort,
    intervals: Intervals,
    rows: Vec<CohortSize>,
    /// The number of intervals that end before the first record.
    unrecorded: usize,
}

impl RecordedSizes {
    /// Reads the recorded sizes. The caller reads in a snapshot.
    pub fn read(
        conn: &mut Conn,
        project: ProjectId,
        id: CohortId,
        intervals: Intervals,
    ) -> Result<Self, Error> {
        let (cohort, _) = cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
        let first = sizes::first(conn, project, id)?;
        let since = match &first {
            Some(size) => Some(size.at),
            None => known_since(&cohort, intervals.now),
        };
        let ends = intervals.ends();
        let unrecorded = since.map_or(ends.len(), |since| {
            ends.partition_point(|end| *end <= since)
        });
        let mut recorded = Self {
            rows: intervals.boundaries[..unrecorded]
                .iter()
                .map(unknown)
                .collect(),
            cohort,
            intervals,
            unrecorded,
        };
        if recorded.unrecorded < recorded.intervals.count() {
            let count = if first.is_none() {
                recorded.cohort.count
            } else {
                None
            };
            recorded.add_recorded(conn, project, count)?;
        }
        Ok(recorded)
    }

    /// Adds the rows of the other intervals. `count` is the size if there is no record.
    fn add_recorded(
        &mut self,
        conn: &mut Conn,
        project: ProjectId,
        count: Option<i64>,
    ) -> Result<(), Error> {
        let id = self.cohort.id();
        let boundaries = &self.intervals.boundaries[self.unrecorded..];
        let (from, to) = (boundaries[0], boundaries[boundaries.len() - 1]);
        let before = sizes::last_before(conn, project, id, from)?;
        let mut count = before.map(|size| size.count).or(count);
        let sizes = sizes::read(conn, project, id, from, to)?;
        let mut sizes = sizes.into_iter().peekable();
        for bounds in boundaries.windows(2) {
            let (mut entered, mut left) = (0, 0);
            while let Some(size) = sizes.next_if(|size| size.at < bounds[1]) {
                entered += size.entered;
                left += size.left;
                count = Some(size.count);
            }
            self.rows.push(CohortSize {
                at: bounds[0],
                count,
                entered: Some(entered),
                left: Some(left),
            });
        }
        Ok(())
    }

    /// The sizes to evaluate, if there are any.
    pub fn past(&self, project: &Project) -> Result<Option<PastSizes>, Error> {
        if self.cohort.definition.is_static || self.unrecorded == 0 {
            return Ok(None);
        }
        let newest_first = (0..self.unrecorded).rev();
        let instants = newest_first.map(|nth| self.intervals.last_instant(nth));
        PastSizes::new(project, &self.cohort, instants).map(Some)
    }

    /// The response, with what was evaluated.
    pub fn with(mut self, evaluated: EvaluatedSizes) -> CohortSizes {
        let newest_first = self.rows[..self.unrecorded].iter_mut().rev();
        for (row, count) in newest_first.zip(evaluated.counts) {
            row.count = Some(count);
        }
        let evaluated_before = self.intervals.boundaries.get(self.unrecorded);
        CohortSizes {
            evaluated_before: evaluated_before.filter(|_| self.unrecorded > 0).copied(),
            uses_current_properties: evaluated.uses_current_properties,
            results: self.rows,
        }
    }
}

/// Since when the number of members is the current one, if no change is recorded.
fn known_since(cohort: &Cohort, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    cohort.count?;
    if cohort.definition.is_static {
        Some(now)
    } else {
        cohort.last_calculation
    }
}

/// A row without a record.
fn unknown(at: &DateTime<Utc>) -> CohortSize {
    CohortSize {
        at: *at,
        count: None,
        entered: None,
        left: None,
    }
}
