//! Parses the dates of filters and properties into instants.
//!
//! Dates without an offset are local to the project's time zone.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use regex::Regex;
use serde_json::Value;

use crate::value::{Number, Stored};
use crate::window::{Moment, Unit};

/// Formats that are accepted in addition to ISO 8601.
const LONG_DATES: [&str; 7] = [
    "%B %d, %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%d %b %Y",
    "%B %d %Y",
    "%b %d %Y",
    "%Y/%m/%d",
];
const LONG_DATE_TIMES: [&str; 4] = [
    "%B %d, %Y %H:%M:%S",
    "%B %d, %Y %H:%M",
    "%d %B %Y %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
];

/// A date relative to now, such as `-7d`; always in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relative {
    pub amount: i64,
    pub unit: Unit,
}

/// Parses digits and one unit letter, with an optional minus sign.
pub(crate) fn relative(text: &str) -> Option<Relative> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (position, letter) = text.char_indices().last()?;
    let digits = &text[..position];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount = digits.parse().ok()?;
    let unit = Unit::from_letter(letter)?;
    Some(Relative { amount, unit })
}

/// The relative dates of person criteria: fewer units, and below 10,000.
fn short_relative(text: &str) -> Option<Relative> {
    let date = relative(text)?;
    let unit = matches!(
        date.unit,
        Unit::Hour | Unit::Day | Unit::Week | Unit::Month | Unit::Year
    );
    (unit && date.amount < 10_000).then_some(date)
}

/// The pattern of dates in person criteria: relative, ISO 8601 or spelled out. It also matches
/// days that do not exist.
pub(crate) const FORM: &str = concat!(
    r"^(-?[0-9]{1,4}[hdwmy]|\s*([0-9]{4}-[0-9]{2}-[0-9]{2}.*|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}.*",
    r"|[A-Za-z]{3,9} [0-9]{1,2},? [0-9]{4}.*|[0-9]{1,2} [A-Za-z]{3,9} [0-9]{4}.*))$"
);
static FORM_PATTERN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(FORM).expect("a pattern that is tested"));

/// Whether a person criterion may compare with this date.
pub(crate) fn is_valid_bound(text: &str) -> bool {
    let exists = || short_relative(text).is_some() || absolute(text, &TimeZone::UTC).is_some();
    FORM_PATTERN.is_match(text) && exists()
}

/// The instant of a date in a person criterion; a relative date is truncated to whole seconds.
pub(crate) fn filter_instant(value: &Value, at: &Moment) -> Option<i64> {
    let text = value.as_str()?;
    match short_relative(text) {
        Some(relative) => {
            let micros = at.back(relative.amount, relative.unit)?;
            Some(micros - micros.rem_euclid(1_000_000))
        }
        None => absolute(text, &at.time_zone),
    }
}

/// The instant of a stored property: a number is epoch seconds, a text an absolute date.
pub(crate) fn stored_instant<'a>(
    value: impl Into<Stored<'a>>,
    time_zone: &TimeZone,
) -> Option<i64> {
    let value = value.into();
    if let Some(number) = Number::of(value) {
        return number.seconds_to_micros();
    }
    match value {
        Stored::Text(text) => absolute(text, time_zone),
        Stored::Double(_) | Stored::Json(_) => None,
    }
}

/// The instant of an absolute date or date-time; without an offset it is local to `time_zone`.
pub(crate) fn absolute(text: &str, time_zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_microsecond());
    }
    let local = text.parse::<DateTime>().ok().or_else(|| long_form(text))?;
    crate::window::instant_of(local, time_zone)
}

fn long_form(text: &str) -> Option<DateTime> {
    // Fast path: every format contains a digit.
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let date = |format: &&str| Date::strptime(format, text).ok();
    let date_time = |format: &&str| DateTime::strptime(format, text).ok();
    let dates = LONG_DATES.iter().find_map(date);
    dates
        .map(|date| date.at(0, 0, 0, 0))
        .or_else(|| LONG_DATE_TIMES.iter().find_map(date_time))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kolkata() -> TimeZone {
        TimeZone::get("Asia/Kolkata").unwrap()
    }

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn dates_without_offset_are_local_to_the_zone() {
        assert_eq!(
            absolute("2025-06-10", &kolkata()),
            Some(micros("2025-06-09T18:30:00Z"))
        );
        assert_eq!(
            absolute("2025-06-10 00:00:01", &kolkata()),
            Some(micros("2025-06-09T18:30:01Z"))
        );
        assert_eq!(
            absolute("2025-06-10T12:00:00+02:00", &kolkata()),
            Some(micros("2025-06-10T10:00:00Z"))
        );
    }

    #[test]
    fn long_forms_are_parsed() {
        for text in ["March 3, 2025", "Mar 3, 2025", "3 March 2025", "2025/03/03"] {
            assert_eq!(
                absolute(text, &TimeZone::UTC),
                Some(micros("2025-03-03T00:00:00Z")),
                "{text}"
            );
        }
    }

    #[test]
    fn words_and_large_amounts_are_no_dates() {
        for text in [
            "soon",
            "",
            "-",
            "d",
            "-10000d",
            "7q",
            "--7d",
            "2025-13-01",
            "7 d",
        ] {
            assert!(!is_valid_bound(text), "{text}");
        }
        for text in [
            "-7d",
            "30d",
            "-1w",
            "-1m",
            "-1y",
            "-24h",
            "9999d",
            "2025-01-31",
        ] {
            assert!(is_valid_bound(text), "{text}");
        }
    }

    #[test]
    fn stored_numbers_are_epoch_seconds() {
        assert_eq!(stored_instant(&json!(1.5), &TimeZone::UTC), Some(1_500_000));
        assert_eq!(
            stored_instant(&json!("20250101"), &TimeZone::UTC),
            Some(20_250_101_000_000)
        );
        assert_eq!(stored_instant(&json!("-7d"), &TimeZone::UTC), None);
        assert_eq!(stored_instant(&json!(true), &TimeZone::UTC), None);
        assert_eq!(stored_instant(&json!(1e300), &TimeZone::UTC), None);
    }
}
