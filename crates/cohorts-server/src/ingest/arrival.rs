//! The times of items: parsing of instants, and correction of the sender's clock by PostHog's rules.
//!
//! Capture replaces a time that cannot be used by the time of the arrival, and reports it. An import refuses the line.

use std::fmt;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use cohorts_engine::event_instant;

use super::fields::Scalar;

/// An event further in the future gets the current time.
const MAX_AHEAD: TimeDelta = TimeDelta::hours(23);
/// The most characters of a faulty time that are shown.
const SHOWN_CHARS: usize = 60;

/// How items arrived, which decides how their timestamps are corrected.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub now: DateTime<Utc>,
    /// When they were sent, by the clock of the sender.
    pub sent_at: Option<DateTime<Utc>>,
    /// Whether they may be lines of PostHog's exports of events and persons. Such a line is refused if its time cannot be
    /// used.
    pub is_export: bool,
}

/// Why the time of an item cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFault {
    /// It is in no known format.
    Unreadable,
    /// It is outside of the years 1 to 9999.
    OutOfRange,
    /// It is more than 23 hours in the future.
    Future,
}

impl TimeFault {
    /// The value of the `reason` label of the metric.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::OutOfRange => "out_of_range",
            Self::Future => "future",
        }
    }
}

/// A time that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultyTime {
    pub fault: TimeFault,
    /// The first characters of the value.
    pub value: String,
}

impl FaultyTime {
    pub fn new(fault: TimeFault, value: &Scalar) -> Self {
        let value = match value.as_text() {
            Some(text) => text.chars().take(SHOWN_CHARS).collect(),
            None => value.kind().to_owned(),
        };
        Self { fault, value }
    }
}

impl fmt::Display for FaultyTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            TimeFault::Unreadable => "is in no known format",
            TimeFault::OutOfRange => "is outside of the years 1 to 9999",
            TimeFault::Future => "is more than 23 hours in the future",
        };
        write!(f, "the time `{}` {fault}", self.value)
    }
}

impl Arrival {
    /// Items from a file. Their timestamps are not corrected.
    pub fn of_file() -> Self {
        Self {
            now: Utc::now(),
            sent_at: None,
            is_export: true,
        }
    }

    /// The time of an event. The difference between the clocks of sender and service is removed. Without a timestamp,
    /// `offset` is the age of the event in milliseconds.
    ///
    /// # Errors
    ///
    /// Fails with the time that was sent, if it cannot be used.
    pub(super) fn time(
        &self,
        timestamp: &Scalar,
        offset: &Scalar,
        ignores_sent_at: bool,
    ) -> Result<DateTime<Utc>, FaultyTime> {
        let (value, time) = if timestamp.is_absent() {
            (offset, self.before(offset))
        } else {
            let sent_at = self.sent_at.filter(|_| !ignores_sent_at);
            (timestamp, self.corrected(timestamp, sent_at))
        };
        time.and_then(|time| {
            if time > self.now + MAX_AHEAD {
                Err(TimeFault::Future)
            } else {
                Ok(time)
            }
        })
        .map_err(|fault| FaultyTime::new(fault, value))
    }

    /// The timestamp by the clock of the service.
    fn corrected(
        &self,
        timestamp: &Scalar,
        sent_at: Option<DateTime<Utc>>,
    ) -> Result<DateTime<Utc>, TimeFault> {
        let timestamp = instant(timestamp)?;
        let Some(sent_at) = sent_at else {
            return Ok(timestamp);
        };
        let time = self.now.checked_add_signed(timestamp - sent_at);
        time.and_then(storable_time).ok_or(TimeFault::OutOfRange)
    }

    /// The time of an event with this age in milliseconds; the current time if the age is absent.
    fn before(&self, age: &Scalar) -> Result<DateTime<Utc>, TimeFault> {
        if age.is_absent() {
            return Ok(self.now);
        }
        let text = age.as_text().ok_or(TimeFault::Unreadable)?;
        let millis: f64 = text.trim().parse().map_err(|_| TimeFault::Unreadable)?;
        if millis.is_nan() {
            return Err(TimeFault::Unreadable);
        }
        let age = TimeDelta::try_milliseconds(millis as i64);
        let time = age.and_then(|age| self.now.checked_sub_signed(age));
        time.and_then(storable_time).ok_or(TimeFault::OutOfRange)
    }
}

/// Parses an instant: a date with or without a time, in the formats of [`event_instant`], or a number. Without an offset
/// it is in UTC.
///
/// # Errors
///
/// Fails with the reason why the value is no instant that can be stored. An absent value is unreadable.
pub fn instant(value: &Scalar) -> Result<DateTime<Utc>, TimeFault> {
    let text = value.as_text().ok_or(TimeFault::Unreadable)?;
    let micros = event_instant(&text).ok_or(TimeFault::Unreadable)?;
    let time = DateTime::from_timestamp_micros(micros);
    time.and_then(storable_time).ok_or(TimeFault::OutOfRange)
}

/// The time of `?_=` in a request of posthog-js, in milliseconds. As in PostHog, other numbers are ignored: times before
/// 2021 are seconds or no times.
pub fn query_sent_at(millis: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::from_timestamp_millis(millis.trim().parse().ok()?)?;
    storable_time(time).filter(|time| time.year() > 2020)
}

/// Truncates to microseconds; `None` outside of the years 1 to 9999.
fn storable_time(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let time = DateTime::from_timestamp_micros(time.timestamp_micros())?;
    (1..=9999).contains(&time.year()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-27T00:00:00Z";

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn arrival(sent_at: Option<&str>) -> Arrival {
        Arrival {
            now: utc(NOW),
            sent_at: sent_at.map(utc),
            is_export: false,
        }
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }

    fn fault(arrival: &Arrival, timestamp: &Scalar) -> (&'static str, String) {
        let faulty = arrival.time(timestamp, &Scalar::Absent, false).unwrap_err();
        (faulty.fault.reason(), faulty.value)
    }

    #[test]
    fn a_time_that_cannot_be_used_has_a_reason_and_a_short_value() {
        let arrival = arrival(None);
        let long = "x".repeat(1_000);
        for (value, reason, shown) in [
            (text("soon"), "unreadable", "soon"),
            (text(""), "unreadable", ""),
            (text("09/13/2020"), "unreadable", "09/13/2020"),
            (text(&long), "unreadable", &long[..SHOWN_CHARS]),
            (Scalar::Bool(true), "unreadable", "true or false"),
            (Scalar::Other, "unreadable", "a list or an object"),
            (
                text("-000044-03-15T12:00:00Z"),
                "out_of_range",
                "-000044-03-15T12:00:00Z",
            ),
            (
                Scalar::Integer(-99_999_999_999),
                "out_of_range",
                "-99999999999",
            ),
            (text("9999-12-31"), "future", "9999-12-31"),
            (
                text("2026-11-27T23:00:01Z"),
                "future",
                "2026-11-27T23:00:01Z",
            ),
        ] {
            let value = fault(&arrival, &value);
            assert_eq!(value, (reason, shown.to_owned()));
        }
        let near = arrival.time(&text("2026-11-27T23:00:00Z"), &Scalar::Absent, false);
        assert_eq!(near, Ok(utc("2026-11-27T23:00:00Z")));
    }

    #[test]
    fn a_time_is_corrected_by_the_clock_of_the_sender() {
        let late = arrival(Some("2026-12-07T00:00:00Z"));
        let timestamp = text("2026-12-06T21:00:00Z");
        let time = |ignores_sent_at| late.time(&timestamp, &Scalar::Absent, ignores_sent_at);
        assert_eq!(time(false), Ok(utc("2026-11-26T21:00:00Z")));
        assert_eq!(time(true).unwrap_err().fault, TimeFault::Future);
        let reset = arrival(Some("1970-01-01T00:10:00Z"));
        let time = reset.time(&Scalar::Integer(300), &Scalar::Absent, false);
        assert_eq!(time, Ok(utc("2026-11-26T23:55:00Z")));
        let first = arrival(Some("9999-01-01T00:00:00Z"));
        assert_eq!(fault(&first, &text("0001-01-01")).0, "out_of_range");
    }

    #[test]
    fn without_a_timestamp_the_offset_is_the_age() {
        let arrival = arrival(Some("2026-12-07T00:00:00Z"));
        let time = |offset: Scalar| arrival.time(&Scalar::Absent, &offset, false);
        assert_eq!(time(Scalar::Absent), Ok(utc(NOW)));
        for offset in [
            Scalar::Integer(1_500),
            Scalar::Number("1500.5".to_owned()),
            text("1500"),
        ] {
            assert_eq!(time(offset), Ok(utc("2026-11-26T23:59:58.5Z")));
        }
        let fault = |offset| time(offset).unwrap_err().fault;
        assert_eq!(fault(text("an hour")), TimeFault::Unreadable);
        assert_eq!(fault(text("NaN")), TimeFault::Unreadable);
        assert_eq!(fault(Scalar::Integer(i64::MAX)), TimeFault::OutOfRange);
        assert_eq!(fault(Scalar::Integer(-86_400_000)), TimeFault::Future);
    }

    #[test]
    fn the_time_in_a_query_is_in_milliseconds() {
        let time = query_sent_at("1790000000000");
        assert_eq!(time, Some(utc("2026-09-21T14:13:20Z")));
        for other in ["1790000000", "0.5", "", "abc", "9999999999999999", "-1"] {
            assert_eq!(query_sent_at(other), None, "{other}");
        }
    }
}
