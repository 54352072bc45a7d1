//! Dates as filters and properties write them, turned into instants.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use regex::Regex;
use serde_json::Value;

use crate::value::{Number, Stored};
use crate::window::{Moment, Unit};

/// Spelled-out forms that are accepted beside ISO 8601.
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

/// An amount back from now, such as `-7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relative {
    pub amount: i64,
    pub unit: Unit,
}

/// Reads digits and one unit letter, with or without a minus: always the past.
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

/// The narrower relative form that person criteria take.
fn short_relative(text: &str) -> Option<Relative> {
    let found = relative(text)?;
    let unit = matches!(
        found.unit,
        Unit::Hour | Unit::Day | Unit::Week | Unit::Month | Unit::Year
    );
    (unit && found.amount < 10_000).then_some(found)
}

/// How a date looks that a person criterion may compare with: relative, ISO 8601, or spelled out. Whether there is
/// such a day, a pattern cannot tell.
pub(crate) const FORM: &str = concat!(
    r"^(-?[0-9]{1,4}[hdwmy]|\s*([0-9]{4}-[0-9]{2}-[0-9]{2}.*|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}.*",
    r"|[A-Za-z]{3,9} [0-9]{1,2},? [0-9]{4}.*|[0-9]{1,2} [A-Za-z]{3,9} [0-9]{4}.*))$"
);
static READABLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(FORM).expect("a pattern that is tested"));

/// Whether a person criterion may compare with this date.
pub(crate) fn is_readable(text: &str) -> bool {
    let exists = || short_relative(text).is_some() || absolute(text, &TimeZone::UTC).is_some();
    READABLE.is_match(text) && exists()
}

/// The instant a person criterion means; relative ones are cut to whole seconds.
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

/// The instant a stored property means: epoch seconds, or an absolute date.
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

/// An absolute date or date-time; without an offset it is wall clock in the zone.
pub(crate) fn absolute(text: &str, time_zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_microsecond());
    }
    let local = text.parse::<DateTime>().ok().or_else(|| long_form(text))?;
    crate::window::instant_of(local, time_zone)
}

fn long_form(text: &str) -> Option<DateTime> {
    // Every long form holds one of these, which spares the formats for plain words.
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
    fn naive_dates_are_wall_clock_in_the_zone() {
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
    fn long_forms_are_read() {
        for text in ["March 3, 2025", "Mar 3, 2025", "3 March 2025", "2025/03/03"] {
            assert_eq!(
                absolute(text, &TimeZone::UTC),
                Some(micros("2025-03-03T00:00:00Z")),
                "{text}"
            );
        }
    }

    #[test]
    fn words_and_wide_amounts_are_no_dates() {
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
            assert!(!is_readable(text), "{text}");
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
            assert!(is_readable(text), "{text}");
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
