//! The times of items: parsing of instants, and correction of the sender's clock by PostHog's rules.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};

/// An event further in the future gets the current time.
const MAX_AHEAD: TimeDelta = TimeDelta::hours(23);

/// How items arrived, which decides how their timestamps are corrected.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub now: DateTime<Utc>,
    /// When they were sent, by the clock of the sender.
    pub sent_at: Option<DateTime<Utc>>,
    /// Whether they may be lines of PostHog's exports of events and persons.
    pub is_export: bool,
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
    /// `offset_ms` is the age of the event. A time in the future becomes the current time.
    pub(super) fn time(
        &self,
        timestamp: Option<DateTime<Utc>>,
        offset_ms: Option<i64>,
        ignores_sent_at: bool,
    ) -> DateTime<Utc> {
        let time = match (timestamp, self.sent_at.filter(|_| !ignores_sent_at)) {
            (Some(timestamp), Some(sent_at)) => self
                .now
                .checked_add_signed(timestamp - sent_at)
                .unwrap_or(timestamp),
            (Some(timestamp), None) => timestamp,
            (None, _) => {
                let ago = offset_ms.and_then(TimeDelta::try_milliseconds);
                ago.and_then(|ago| self.now.checked_sub_signed(ago))
                    .unwrap_or(self.now)
            }
        };
        let time = storable_time(time).unwrap_or(self.now);
        if time > self.now + MAX_AHEAD {
            self.now
        } else {
            time
        }
    }
}

/// Parses an instant in ISO 8601, with a space or a `T` between date and time. Without an offset it is in UTC.
pub fn instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let zoned = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
        .map(|time| time.to_utc());
    let local = || {
        let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
        let times = formats
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
        let midnight = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0);
        Some(times.or_else(midnight)?.and_utc())
    };
    storable_time(zoned.ok().or_else(local)?)
}

/// Truncates to microseconds; `None` outside of the years 1 to 9999.
fn storable_time(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let time = DateTime::from_timestamp_micros(time.timestamp_micros())?;
    (1..=9999).contains(&time.year()).then_some(time)
}
