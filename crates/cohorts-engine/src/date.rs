//! Parses the dates of filters and properties into instants.
//!
//! Dates without an offset are local to the project's time zone.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use regex::Regex;
use serde_json::Value;

use crate::value::{Number, Stored};
use crate::window::{LAST_INSTANT, Moment, Unit, day_start, instant_at, instant_of};

/// Formats of dates that are accepted in addition to ISO 8601 and RFC 2822. Numbers with slashes or hyphens and the year
/// at the end begin with the day.
const DATES: [&str; 9] = [
    "%Y/%m/%d",
    "%d-%m-%Y",
    "%d/%m/%Y",
    "%B %d, %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%d %b %Y",
    "%B %d %Y",
    "%b %d %Y",
];
/// Formats of times that follow such a date after a space or a `T`.
const TIMES: [&str; 2] = ["%H:%M:%S%.f", "%H:%M"];

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

/// The pattern of dates in person criteria: relative, ISO 8601, RFC 2822, spelled out, or with the day first. It also
/// matches days that do not exist.
pub(crate) const FORM: &str = concat!(
    r"^(-?[0-9]{1,4}[hdwmy]|\s*([0-9]{4}-[0-9]{2}-[0-9]{2}.*|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}.*",
    r"|[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{4}.*|[0-9]{8}([T ].*)?|([A-Za-z]{3}, )?[0-9]{1,2} [A-Za-z]{3,9} [0-9]{4}.*",
    r"|[A-Za-z]{3,9} [0-9]{1,2},? [0-9]{4}.*))$"
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
    let relative = value.as_str().and_then(short_relative);
    match relative {
        Some(relative) => {
            let micros = at.back(relative.amount, relative.unit)?;
            Some(micros - micros.rem_euclid(1_000_000))
        }
        None => stored_instant(value, &at.time_zone),
    }
}

/// The instant of a stored property: a number by [`epoch`], a text as an absolute date.
pub(crate) fn stored_instant<'a>(
    value: impl Into<Stored<'a>>,
    time_zone: &TimeZone,
) -> Option<i64> {
    let value = value.into();
    if let Some(number) = Number::of(value) {
        return epoch(number, time_zone);
    }
    match value {
        Stored::Text(text) => absolute(text, time_zone),
        Stored::Double(_) | Stored::Json(_) => None,
    }
}

/// The instant of an event, as its sender writes it: a date as in a stored property, in UTC if it has no offset, or the
/// text of a number. The result is in microseconds since 1970.
///
/// Eight digits that are a date are that date. Other numbers are seconds, milliseconds, microseconds or nanoseconds since
/// 1970. As no event is thousands of years away, the magnitude of a number determines its unit.
///
/// ```
/// use cohorts_engine::event_instant;
///
/// let instant = Some(1_600_007_200_000_000);
/// assert_eq!(event_instant("2020-09-13T16:26:40+0200"), instant);
/// assert_eq!(event_instant("Sun, 13 Sep 2020 14:26:40 GMT"), instant);
/// assert_eq!(event_instant("1600007200000"), instant);
/// assert_eq!(event_instant("soon"), None);
/// ```
pub fn event_instant(text: &str) -> Option<i64> {
    let text = text.trim();
    match Number::of(text) {
        Some(number) => compact_day(number, &TimeZone::UTC).or_else(|| event_epoch(number)),
        None => absolute(text, &TimeZone::UTC),
    }
}

/// The instant of a number in an event's time. The bounds are the year 5138 in seconds, milliseconds and microseconds.
fn event_epoch(number: Number) -> Option<i64> {
    match number.to_float().abs() {
        ..1e11 => number.scaled(1_000_000),
        ..1e14 => number.scaled(1_000),
        ..1e17 => number.scaled(1),
        _ => Some(number.scaled(1)? / 1_000),
    }
}

/// The instant of a number: eight digits that are a date are that date, 13 digits are milliseconds since 1970, and all
/// others seconds.
fn epoch(number: Number, time_zone: &TimeZone) -> Option<i64> {
    const MILLIS: std::ops::Range<f64> = 1e12..1e13;
    if let Some(instant) = compact_day(number, time_zone) {
        return Some(instant);
    }
    let scale = if MILLIS.contains(&number.to_float().abs()) {
        1_000
    } else {
        1_000_000
    };
    match number.scaled(scale) {
        Some(micros) => Some(micros.min(LAST_INSTANT)),
        None => (number.to_float() > 0.0).then_some(LAST_INSTANT),
    }
}

/// The start of the day with the digits `YYYYMMDD`.
fn compact_day(number: Number, time_zone: &TimeZone) -> Option<i64> {
    let Number::Whole(digits) = number else {
        return None;
    };
    let digits = u32::try_from(digits).ok()?;
    if !(10_000_000..100_000_000).contains(&digits) {
        return None;
    }
    let (year, month, day) = (digits / 10_000, digits / 100 % 100, digits % 100);
    let date = Date::new(year as i16, month as i8, day as i8).ok()?;
    day_start(date, time_zone)
}

/// The instant of an absolute date or date-time, in microseconds since 1970. Without an offset it is local to
/// `time_zone`. An instant beyond the calendar is the last one.
pub(crate) fn absolute(text: &str, time_zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    // Fast path: every format contains a digit.
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_microsecond());
    }
    if let Ok(local) = text.parse::<DateTime>() {
        return instant_of(local, time_zone);
    }
    let (local, offset) = split_offset(text);
    if let Some(local) = local.parse().ok().or_else(|| long_form(local)) {
        return match offset {
            Some(seconds) => instant_at(local, seconds),
            None => instant_of(local, time_zone),
        };
    }
    let rfc2822 = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    let instant = rfc2822.parse_timestamp(text).ok()?;
    Some(instant.as_microsecond())
}

/// Splits `Z`, `UTC`, `GMT` and offsets such as `+02:00`, `+0200 UTC` or `+0200 CEST` from a date with a time. The offset
/// is in seconds.
fn split_offset(text: &str) -> (&str, Option<i64>) {
    let text = without_zone_name(text);
    let named = ["UTC", "GMT", "Z", "utc", "gmt", "z"].iter();
    let bare = named.filter_map(|name| text.strip_suffix(name)).next();
    let rest = bare.unwrap_or(text).trim_end();
    let zero = bare.map(|_| 0);
    let Some(at) = rest.rfind(['+', '-']) else {
        return (rest, zero);
    };
    let (local, digits) = rest.split_at(at);
    // A hyphen before the time belongs to the date.
    match offset_seconds(digits).filter(|_| local.contains(':')) {
        Some(seconds) => (local.trim_end(), Some(seconds)),
        None => (rest, zero),
    }
}

/// Removes what Go prints after a numeric offset: the abbreviation of the zone and the monotonic clock, as in
/// `+0200 CEST m=+0.5`.
fn without_zone_name(text: &str) -> &str {
    let text = match text.split_once(" m=") {
        Some((time, _)) => time,
        None => text,
    };
    let Some((time, name)) = text.rsplit_once(' ') else {
        return text;
    };
    // A zone without an abbreviation has its offset as name, as in `+0300 +03`.
    let is_letter = |byte: u8| byte.is_ascii_uppercase() || b"+-0123456789".contains(&byte);
    let is_name = name.bytes().all(is_letter);
    let offset = time.rsplit_once(' ').map_or("", |(_, offset)| offset);
    if is_name && offset.starts_with(['+', '-']) {
        time
    } else {
        text
    }
}

/// The seconds of `+hh`, `+hhmm` or `+hh:mm`.
fn offset_seconds(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text[1..].split(':').collect();
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |digits: &str| digits.parse::<i64>().ok();
    let minutes = digits.get(2..).filter(|minutes| !minutes.is_empty());
    let minutes = minutes.map_or(Some(0), number)?;
    let hours = number(&digits[..2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn long_form(text: &str) -> Option<DateTime> {
    let date = |format: &&str| Date::strptime(format, text).ok();
    if let Some(date) = DATES.iter().find_map(date) {
        return Some(date.at(0, 0, 0, 0));
    }
    let colon = text.find(':')?;
    let at = text[..colon].rfind([' ', 'T'])?;
    let (date, time) = (text[..at].trim_end(), &text[at + 1..]);
    let time = TIMES
        .iter()
        .find_map(|format| Time::strptime(format, time).ok())?;
    let date = DATES
        .iter()
        .find_map(|format| Date::strptime(format, date).ok())?;
    Some(date.to_datetime(time))
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
    fn documented_forms_are_parsed() {
        let expected = micros("2020-09-13T14:26:40Z");
        for text in [
            "2020-09-13T16:26:40+0200",
            "2020-09-13T16:26:40+02:00",
            "2020-09-13 16:26:40 +0200",
            "2020-09-13 14:26:40 UTC",
            "2020-09-13 14:26:40 +0000 UTC",
            "2020-09-13 16:26:40 +0200 CEST",
            "2020-09-13 17:26:40 +0300 +03",
            "2020-09-13 16:26:40.000000000 +0200 CEST m=+0.000012",
            "2020-09-13 14:26:40+00",
            "2020-09-13t14:26:40z",
            "2020-09-13T16:26:40+02:00[Europe/Berlin]",
            "2020-09-13T14:26:40Z",
            "20200913T142640Z",
            "20200913T142640",
            "Sun, 13 Sep 2020 14:26:40 GMT",
            "Mon, 13 Sep 2020 16:26:40 +0200",
            "13 Sep 2020 14:26:40 +0000",
            "13-09-2020 14:26:40",
            "13/09/2020 14:26:40",
            "2020/09/13 14:26:40",
            "2020/09/13 14:26:40.000",
            "13-09-2020T14:26:40Z",
            "September 13, 2020 14:26:40",
            " 2020-09-13T14:26:40,000Z",
        ] {
            assert_eq!(absolute(text, &TimeZone::UTC), Some(expected), "{text}");
        }
        for text in ["2020-09-13T14:26Z", "2020-09-13 14:26", "13/09/2020 14:26"] {
            assert_eq!(
                absolute(text, &TimeZone::UTC),
                Some(expected - 40_000_000),
                "{text}"
            );
        }
        for text in [
            "09/13/2020",
            "2020-13-09",
            "13:26",
            "a 1:2",
            "1/2",
            "2020-09-13 25:00:00",
            "é1:2",
            "2020-09-13T14:26:40+99:99",
            "2020-09-13T14:26:40+0260",
        ] {
            assert_eq!(absolute(text, &TimeZone::UTC), None, "{text}");
        }
    }

    #[test]
    fn forms_of_filters_are_those_that_are_parsed() {
        for text in [
            "Tue, 05 Jan 2027 21:50:21 GMT",
            "05-01-2027 21:50:21",
            "05/01/2027",
            "2027/01/05 21:50:21",
            "20250303",
        ] {
            assert!(is_valid_bound(text), "{text}");
        }
        assert!(!is_valid_bound("13/31/2027") && !is_valid_bound("20251303"));
    }

    #[test]
    fn the_calendar_ends_with_the_year_9999_in_every_zone() {
        let zones = ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"];
        for zone in zones.map(|name| TimeZone::get(name).unwrap()) {
            let next_to_last = absolute("9999-12-29", &zone).unwrap();
            for text in [
                "9999-12-31",
                "9999-12-31T23:59:59Z",
                "9999-12-31T23:59:59-12:00",
            ] {
                let last = absolute(text, &zone).unwrap_or_else(|| panic!("{text}"));
                assert!(next_to_last < last && last <= LAST_INSTANT, "{text}");
            }
        }
        let utc = TimeZone::UTC;
        for number in [json!(253_402_300_800_i64), json!(1e300)] {
            assert_eq!(stored_instant(&number, &utc), Some(LAST_INSTANT));
        }
        let midnight = 253_402_214_400_000_000;
        for value in [
            json!(99_991_231),
            json!("9999-12-31"),
            json!("9999-12-31T00:00:00Z"),
        ] {
            assert_eq!(stored_instant(&value, &utc), Some(midnight), "{value}");
        }
        let noon = absolute("9999-12-31 12:00", &utc);
        assert_eq!(noon, Some(midnight + 43_200_000_000));
    }

    #[test]
    fn stored_numbers_are_seconds_milliseconds_or_dates() {
        let utc = TimeZone::UTC;
        assert_eq!(stored_instant(&json!(1.5), &utc), Some(1_500_000));
        let expected = Some(1_600_000_000_000_000);
        for number in [
            json!(1_600_000_000),
            json!("1600000000"),
            json!(1_600_000_000_000_i64),
            json!("1600000000000"),
        ] {
            assert_eq!(stored_instant(&number, &utc), expected, "{number}");
        }
        let date = Some(micros("2025-03-02T18:30:00Z"));
        for value in [json!(20_250_303), json!("20250303"), json!("2025-03-03")] {
            assert_eq!(stored_instant(&value, &kolkata()), date, "{value}");
        }
        // Eight digits that are no date are seconds.
        assert_eq!(
            stored_instant(&json!(20_251_303), &utc),
            Some(20_251_303_000_000)
        );
        assert_eq!(stored_instant(&json!("-7d"), &utc), None);
        assert_eq!(stored_instant(&json!(true), &utc), None);
    }

    #[test]
    fn the_magnitude_of_an_events_time_determines_its_unit() {
        for text in [
            "1600007200",
            " 1600007200.0 ",
            "1600007200000",
            "1600007200000.0",
            "1.6000072e9",
            "1600007200000000",
            "1600007200000000000",
        ] {
            assert_eq!(
                event_instant(text),
                Some(micros("2020-09-13T14:26:40Z")),
                "{text}"
            );
        }
        for (text, expected) in [
            ("1600007200.5", "2020-09-13T14:26:40.5Z"),
            ("1600007200000.25", "2020-09-13T14:26:40.00025Z"),
            ("946684800000", "2000-01-01T00:00:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("-1", "1969-12-31T23:59:59Z"),
            ("-1600007200000", "1919-04-20T09:33:20Z"),
            ("20200913", "2020-09-13T00:00:00Z"),
            ("20251303", "1970-08-23T09:21:43Z"),
        ] {
            assert_eq!(event_instant(text), Some(micros(expected)), "{text}");
        }
        for text in ["", "-", "1e30", "-7d", "NaN", "1600007200s"] {
            assert_eq!(event_instant(text), None, "{text}");
        }
    }
}
