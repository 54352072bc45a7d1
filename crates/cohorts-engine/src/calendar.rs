//! Divides a span of time into the minutes, hours, days, weeks or months of a time zone.
//!
//! All instants are microseconds since the Unix epoch. A day of the calendar can last 23 or 25 hours, and a day that a zone
//! has skipped has no interval. No function here reads a clock.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::window::day_start;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// The length of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// A minute.
    Minute,
    /// An hour, from a full hour of the time zone.
    Hour,
    /// A local day.
    Day,
    /// Seven local days from a Sunday.
    Week,
    /// A local month.
    Month,
}

/// Why a span has no list of intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalError {
    /// There are more intervals than allowed.
    TooMany,
    /// The span reaches beyond the calendar.
    OutsideCalendar,
}

impl Interval {
    /// The usual length in microseconds.
    pub fn length(self) -> i64 {
        match self {
            Self::Minute => MINUTE,
            Self::Hour => HOUR,
            Self::Day => 24 * HOUR,
            Self::Week => 7 * 24 * HOUR,
            Self::Month => 30 * 24 * HOUR,
        }
    }

    /// The boundaries of the intervals that contain the instants from `from` until before `to`: the start of each interval,
    /// and the end of the last one. There are none if `from` is not before `to`.
    ///
    /// # Errors
    ///
    /// Fails if there are more than `most` intervals, or if one is not in the calendar.
    ///
    /// ```
    /// use cohorts_engine::Moment;
    /// use cohorts_engine::calendar::Interval;
    ///
    /// let now = Moment::new(1_750_260_600_000_000, "Europe/Berlin").unwrap(); // 2025-06-18T15:30:00Z
    /// let day = Interval::Day.boundaries((now.now, now.now + 1), &now.time_zone, 10);
    /// // From 22:00 UTC to 22:00 UTC.
    /// assert_eq!(day, Ok(vec![1_750_197_600_000_000, 1_750_284_000_000_000]));
    /// ```
    pub fn boundaries(
        self,
        (from, to): (i64, i64),
        time_zone: &TimeZone,
        most: usize,
    ) -> Result<Vec<i64>, IntervalError> {
        let mut boundaries = Vec::new();
        if from >= to {
            return Ok(boundaries);
        }
        let mut start = Start::new(self, from, time_zone).ok_or(IntervalError::OutsideCalendar)?;
        loop {
            let instant = start
                .instant(time_zone)
                .ok_or(IntervalError::OutsideCalendar)?;
            // A skipped day begins with the next one.
            if boundaries.last() != Some(&instant) {
                boundaries.push(instant);
            }
            if instant >= to {
                return Ok(boundaries);
            }
            if boundaries.len() > most {
                return Err(IntervalError::TooMany);
            }
            start = start.next(self).ok_or(IntervalError::OutsideCalendar)?;
        }
    }
}

/// The start of an interval.
#[derive(Clone, Copy)]
enum Start {
    Instant(i64),
    Date(Date),
}

impl Start {
    /// The start of the interval that contains an instant.
    fn new(interval: Interval, instant: i64, time_zone: &TimeZone) -> Option<Self> {
        let timestamp = Timestamp::from_microsecond(instant).ok()?;
        let local = time_zone.to_datetime(timestamp);
        let date = local.date();
        Some(match interval {
            Interval::Minute => Self::Instant(instant - instant.rem_euclid(MINUTE)),
            Interval::Hour => {
                let offset = i64::from(time_zone.to_offset(timestamp).seconds()) * SECOND;
                Self::Instant(instant - (instant + offset).rem_euclid(HOUR))
            }
            Interval::Day => Self::Date(date),
            Interval::Week => {
                let since_sunday = date.weekday().since(Weekday::Sunday);
                Self::Date(date.checked_sub(i64::from(since_sunday).days()).ok()?)
            }
            Interval::Month => Self::Date(date.first_of_month()),
        })
    }

    fn instant(self, time_zone: &TimeZone) -> Option<i64> {
        match self {
            Self::Instant(instant) => Some(instant),
            Self::Date(date) => day_start(date, time_zone),
        }
    }

    fn next(self, interval: Interval) -> Option<Self> {
        let date = match self {
            Self::Instant(instant) => {
                return Some(Self::Instant(instant.checked_add(interval.length())?));
            }
            Self::Date(date) => date,
        };
        let span = match interval {
            Interval::Week => 1.week(),
            Interval::Month => 1.month(),
            _ => 1.day(),
        };
        date.checked_add(span).ok().map(Self::Date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    /// The boundaries as texts in UTC.
    fn boundaries(interval: Interval, (from, to): (&str, &str), zone: &str) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let boundaries = interval.boundaries((at(from), at(to)), &zone, 100).unwrap();
        let text = |instant: &i64| Timestamp::from_microsecond(*instant).unwrap().to_string();
        boundaries.iter().map(text).collect()
    }

    #[test]
    fn each_interval_begins_with_the_unit_of_the_time_zone() {
        let span = ("2026-03-04T10:20:30Z", "2026-03-04T10:20:31Z");
        let cases = [
            (
                Interval::Minute,
                ["2026-03-04T10:20:00Z", "2026-03-04T10:21:00Z"],
            ),
            // In Nepal it is 16:05:30.
            (
                Interval::Hour,
                ["2026-03-04T10:15:00Z", "2026-03-04T11:15:00Z"],
            ),
            (
                Interval::Day,
                ["2026-03-03T18:15:00Z", "2026-03-04T18:15:00Z"],
            ),
            // A Sunday.
            (
                Interval::Week,
                ["2026-02-28T18:15:00Z", "2026-03-07T18:15:00Z"],
            ),
            (
                Interval::Month,
                ["2026-02-28T18:15:00Z", "2026-03-31T18:15:00Z"],
            ),
        ];
        for (interval, expected) in cases {
            assert_eq!(
                boundaries(interval, span, "Asia/Kathmandu"),
                expected,
                "{interval:?}"
            );
        }
    }

    #[test]
    fn the_end_of_the_span_is_not_part_of_it() {
        let day = ["2026-03-04T00:00:00Z", "2026-03-05T00:00:00Z"];
        for to in ["2026-03-04T00:00:00.000001Z", "2026-03-05T00:00:00Z"] {
            let span = ("2026-03-04T00:00:00Z", to);
            assert_eq!(boundaries(Interval::Day, span, "UTC"), day);
        }
        let empty = ("2026-03-04T00:00:00Z", "2026-03-04T00:00:00Z");
        assert!(boundaries(Interval::Day, empty, "UTC").is_empty());
    }

    #[test]
    fn days_last_23_and_25_hours_when_the_clock_changes() {
        let spring = ("2026-03-28T23:00:00Z", "2026-03-29T23:00:00Z");
        let expected = [
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
            "2026-03-30T22:00:00Z",
        ];
        assert_eq!(boundaries(Interval::Day, spring, "Europe/Berlin"), expected);
        let autumn = ("2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z");
        // The local hour from 2 to 3 comes twice.
        assert_eq!(boundaries(Interval::Hour, autumn, "Europe/Berlin").len(), 4);
        assert_eq!(
            boundaries(Interval::Day, autumn, "Europe/Berlin"),
            ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]
        );
    }

    #[test]
    fn a_day_without_midnight_begins_after_the_gap_and_a_skipped_day_has_no_interval() {
        let gap = ("2018-11-04T12:00:00Z", "2018-11-04T13:00:00Z");
        assert_eq!(
            boundaries(Interval::Day, gap, "America/Sao_Paulo")[0],
            "2018-11-04T03:00:00Z"
        );
        let skipped = ("2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z");
        let expected = [
            "2011-12-29T10:00:00Z",
            "2011-12-30T10:00:00Z",
            "2011-12-31T10:00:00Z",
            "2012-01-01T10:00:00Z",
        ];
        assert_eq!(boundaries(Interval::Day, skipped, "Pacific/Apia"), expected);
    }

    #[test]
    fn the_number_of_intervals_is_limited() {
        let span = (0, 100 * MINUTE);
        let of = |most| Interval::Minute.boundaries(span, &TimeZone::UTC, most);
        assert_eq!(of(100).map(|boundaries| boundaries.len()), Ok(101));
        assert_eq!(of(99), Err(IntervalError::TooMany));
        let outside = Interval::Day.boundaries((i64::MIN, 0), &TimeZone::UTC, 100);
        assert_eq!(outside, Err(IntervalError::OutsideCalendar));
        let overflow = Interval::Month.boundaries((i64::MAX, i64::MIN), &TimeZone::UTC, 1);
        assert_eq!(overflow, Ok(Vec::new()));
    }
}
