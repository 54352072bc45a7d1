//! Times of exported lines: texts, and numbers since 1970.

use chrono::{DateTime, Datelike, Utc};

use crate::ingest::instant;

/// Smaller numbers are seconds; the first second beyond is in the year 5138.
const FIRST_MILLISECOND: i64 = 100_000_000_000;
/// Larger numbers are no times.
const LAST_MILLISECOND: i64 = 100_000_000_000_000;
const MICROS: i64 = 1_000_000;
const MICROS_OF_MILLISECOND: i64 = 1_000;

/// The time of a JSON string or number: a date, or seconds or milliseconds since 1970.
pub fn read(json: &str) -> Option<DateTime<Utc>> {
    if json.starts_with('"') {
        let text: String = serde_json::from_str(json).ok()?;
        instant(&text).or_else(|| of_number(text.trim()))
    } else {
        of_number(json)
    }
}

fn of_number(text: &str) -> Option<DateTime<Utc>> {
    let micros = if let Ok(number) = text.parse::<i64>() {
        number * micros_of_unit(number)?
    } else {
        let number: f64 = text.parse().ok()?;
        let whole = number.is_finite().then_some(number as i64)?;
        (number * micros_of_unit(whole)? as f64).round() as i64
    };
    let time = DateTime::from_timestamp_micros(micros)?;
    (1..=9999).contains(&time.year()).then_some(time)
}

/// The microseconds of the unit of `number`.
fn micros_of_unit(number: i64) -> Option<i64> {
    match number.checked_abs()? {
        ..FIRST_MILLISECOND => Some(MICROS),
        FIRST_MILLISECOND..LAST_MILLISECOND => Some(MICROS_OF_MILLISECOND),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_milliseconds_and_texts_are_times() {
        for (json, expected) in [
            ("1577836800", "2020-01-01T00:00:00Z"),
            ("1577836800000", "2020-01-01T00:00:00Z"),
            (r#""1577836800""#, "2020-01-01T00:00:00Z"),
            (r#""1577836800000""#, "2020-01-01T00:00:00Z"),
            ("1577836800.25", "2020-01-01T00:00:00.250Z"),
            ("1.5778368E9", "2020-01-01T00:00:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("-86400", "1969-12-31T00:00:00Z"),
            (r#""2020-01-01 00:00:00.000000""#, "2020-01-01T00:00:00Z"),
            (r#""2020-01-01T02:00:00+02:00""#, "2020-01-01T00:00:00Z"),
        ] {
            let time = read(json).map(|time| time.to_rfc3339());
            let expected: DateTime<Utc> = expected.parse().unwrap();
            assert_eq!(time, Some(expected.to_rfc3339()), "{json}");
        }
        for json in [
            "true",
            "{}",
            r#""""#,
            r#""yesterday""#,
            r#""NaN""#,
            r#""inf""#,
            "1e300",
            "1577836800000000",
            "-99999999999",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
