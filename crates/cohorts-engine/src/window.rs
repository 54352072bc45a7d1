//! Turns "the last n units" into exact instants, by the calendar of the project's time zone.
//!
//! All bounds of a plan come from one [`Moment`], so that they are consistent. Instants are
//! microseconds since the Unix epoch. No function here reads a clock.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// The instant that counts as "now" in a calculation, and the project's time zone.
///
/// ```
/// use cohorts_engine::Moment;
///
/// let moment = Moment::new(1_750_260_600_000_000, "Europe/Berlin").unwrap();
/// assert_eq!(moment.now, 1_750_260_600_000_000); // 2025-06-18T15:30:00Z
/// assert!(Moment::new(0, "Europe/Atlantis").is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Moment {
    /// Microseconds since the Unix epoch, UTC.
    pub now: i64,
    /// The project's time zone; it decides where a day begins.
    pub time_zone: TimeZone,
}

/// A unit of calendar time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Unit {
    /// The unit of an interval in a leaf; `None` if a window cannot have it.
    pub fn from_interval(interval: &str) -> Option<Unit> {
        match interval {
            "hour" => Some(Unit::Hour),
            "day" => Some(Unit::Day),
            "week" => Some(Unit::Week),
            "month" => Some(Unit::Month),
            "year" => Some(Unit::Year),
            _ => None,
        }
    }

    /// The unit of a relative date such as `-7d`.
    pub fn from_letter(letter: char) -> Option<Unit> {
        match letter {
            's' => Some(Unit::Second),
            'M' => Some(Unit::Minute),
            'h' => Some(Unit::Hour),
            'd' => Some(Unit::Day),
            'w' => Some(Unit::Week),
            'm' => Some(Unit::Month),
            'q' => Some(Unit::Quarter),
            'y' => Some(Unit::Year),
            _ => None,
        }
    }

    /// The length in seconds, with 30 days for a month, 91 for a quarter and 365 for a year.
    pub fn seconds(self) -> i64 {
        const DAY: i64 = 86_400;
        match self {
            Unit::Second => 1,
            Unit::Minute => 60,
            Unit::Hour => 3_600,
            Unit::Day => DAY,
            Unit::Week => 7 * DAY,
            Unit::Month => 30 * DAY,
            Unit::Quarter => 91 * DAY,
            Unit::Year => 365 * DAY,
        }
    }

    pub fn span(self, amount: i64) -> Option<Span> {
        let span = Span::new();
        let span = match self {
            Unit::Second => span.try_seconds(amount),
            Unit::Minute => span.try_minutes(amount),
            Unit::Hour => span.try_hours(amount),
            Unit::Day => span.try_days(amount),
            Unit::Week => span.try_weeks(amount),
            Unit::Month => span.try_months(amount),
            Unit::Quarter => span.try_weeks(amount.checked_mul(13)?),
            Unit::Year => span.try_years(amount),
        };
        span.ok()
    }
}

/// A range of instants, both ends inclusive. Without `from` it has no lower bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub from: Option<i64>,
    pub to: i64,
}

impl Range {
    #[inline]
    pub fn contains(&self, time: i64) -> bool {
        time <= self.to && self.from.is_none_or(|from| from <= time)
    }
}

impl Moment {
    /// A moment in a time zone given by its IANA name, such as `Europe/Berlin`.
    ///
    /// `now` is in microseconds since the Unix epoch. `None` if no such zone exists. A moment
    /// outside the calendar (years -9999 to 9999) can be made, but planning with it fails.
    pub fn new(now: i64, time_zone: &str) -> Option<Moment> {
        let time_zone = TimeZone::get(time_zone).ok()?;
        Some(Moment { now, time_zone })
    }

    /// A moment in UTC; `now` is in microseconds since the Unix epoch.
    pub fn utc(now: i64) -> Moment {
        Moment {
            now,
            time_zone: TimeZone::UTC,
        }
    }

    /// The local date and time; `None` outside the calendar.
    pub(crate) fn local(&self) -> Option<DateTime> {
        let now = Timestamp::from_microsecond(self.now).ok()?;
        Some(self.time_zone.to_datetime(now))
    }

    fn local_back(&self, amount: i64, unit: Unit) -> Option<DateTime> {
        self.local()?.checked_sub(unit.span(amount)?).ok()
    }

    /// The local date and time minus `amount` calendar units, as an instant.
    pub(crate) fn back(&self, amount: i64, unit: Unit) -> Option<i64> {
        instant_of(self.local_back(amount, unit)?, &self.time_zone)
    }

    /// Like [`Moment::back`], truncated to the local day, or to the local hour for hours.
    pub(crate) fn back_to_start(&self, amount: i64, unit: Unit) -> Option<i64> {
        let local = self.local_back(amount, unit)?;
        match unit {
            Unit::Hour => {
                let hour = local.date().at(local.hour(), 0, 0, 0);
                instant_of(hour, &self.time_zone)
            }
            _ => day_start(local.date(), &self.time_zone),
        }
    }

    /// Like [`Moment::back`], truncated to the local day for every unit.
    pub(crate) fn back_to_day_start(&self, amount: i64, unit: Unit) -> Option<i64> {
        day_start(self.local_back(amount, unit)?.date(), &self.time_zone)
    }

    /// Like [`Moment::back`], moved to the last instant of the local day.
    pub(crate) fn back_to_day_end(&self, amount: i64, unit: Unit) -> Option<i64> {
        day_end(self.local_back(amount, unit)?.date(), &self.time_zone)
    }

    /// The last instant of the local day that contains `instant`.
    pub(crate) fn day_end_of(&self, instant: i64) -> Option<i64> {
        let Ok(timestamp) = Timestamp::from_microsecond(instant) else {
            return (instant > 0).then_some(LAST_INSTANT);
        };
        let date = self.time_zone.to_datetime(timestamp).date();
        day_end(date, &self.time_zone)
    }

    /// The last instant of today.
    pub(crate) fn today_end(&self) -> Option<i64> {
        self.day_end_of(self.now)
    }

    /// The window of most behaviours: whole local days up to the end of today.
    pub(crate) fn day_window(&self, amount: i64, unit: Unit) -> Option<Range> {
        Some(Range {
            from: Some(self.back_to_start(amount, unit)?),
            to: self.today_end()?,
        })
    }

    /// The bounds of `total` periods, counted back from the end of yesterday, latest first.
    /// Period `k` is `starts[k + 1]..starts[k]`; `starts[0]` is the start of today.
    pub(crate) fn periods(&self, total: i64, amount: i64, unit: Unit) -> Option<Vec<i64>> {
        let yesterday = self.local()?.date().yesterday().ok()?;
        let start = |k: i64| {
            let span = unit.span(k.checked_mul(amount)?)?;
            let last_day_before = yesterday.checked_sub(span).ok()?;
            day_start(last_day_before.tomorrow().ok()?, &self.time_zone)
        };
        (0..=total).map(start).collect()
    }
}

/// The end of the calendar, 9999-12-31T23:59:59.999999Z in microseconds. Later instants count as this one, in each zone.
pub(crate) const LAST_INSTANT: i64 = 253_402_300_799_999_999;

/// The first instant of a local day.
pub(crate) fn day_start(date: Date, time_zone: &TimeZone) -> Option<i64> {
    instant_of(date.at(0, 0, 0, 0), time_zone)
}

fn day_end(date: Date, time_zone: &TimeZone) -> Option<i64> {
    match date.tomorrow() {
        Ok(tomorrow) => Some(day_start(tomorrow, time_zone)? - 1),
        Err(_) => Some(LAST_INSTANT),
    }
}

/// The instant of a local date and time. A time that occurs twice means the earlier instant; a
/// midnight inside a gap means the first instant after the gap.
pub(crate) fn instant_of(local: DateTime, time_zone: &TimeZone) -> Option<i64> {
    let ambiguous = time_zone.to_ambiguous_timestamp(local);
    let skipped = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
    if skipped && local.time() == jiff::civil::Time::midnight() {
        let before = ambiguous.earlier().ok()?;
        let after_gap = time_zone.following(before).next()?;
        return Some(after_gap.timestamp().as_microsecond());
    }
    match ambiguous.compatible() {
        Ok(instant) => Some(instant.as_microsecond()),
        // The library's calendar ends a day before that of the filters.
        Err(_) => {
            let offset = time_zone.to_offset(Timestamp::MAX).seconds();
            (local.year() > 0).then(|| instant_at(local, offset.into()))?
        }
    }
}

/// The instant of a local time at an offset in seconds. An instant beyond the calendar is the last one.
pub(crate) fn instant_at(local: DateTime, offset: i64) -> Option<i64> {
    const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let micros = local.duration_since(EPOCH).as_micros();
    let micros = i64::try_from(micros).ok()?;
    Some((micros - offset * 1_000_000).min(LAST_INSTANT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: &str, zone: &str) -> Moment {
        Moment {
            now: micros(now),
            time_zone: TimeZone::get(zone).unwrap(),
        }
    }

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn days_keep_the_wall_clock_across_a_clock_change() {
        let moment = at("2025-03-10T16:00:00Z", "America/New_York");
        assert_eq!(
            moment.back(2, Unit::Day),
            Some(micros("2025-03-08T17:00:00Z"))
        );
    }

    #[test]
    fn a_short_day_ends_at_its_own_midnight() {
        let moment = at("2025-03-09T16:00:00Z", "America/New_York");
        let window = moment.day_window(1, Unit::Day).unwrap();
        assert_eq!(window.from, Some(micros("2025-03-08T05:00:00Z")));
        assert_eq!(window.to, micros("2025-03-10T04:00:00Z") - 1);
    }

    #[test]
    fn a_skipped_midnight_starts_the_day_after_the_gap() {
        let moment = at("2018-11-05T12:00:00Z", "America/Sao_Paulo");
        let window = moment.day_window(1, Unit::Day).unwrap();
        assert_eq!(window.from, Some(micros("2018-11-04T03:00:00Z")));
    }

    #[test]
    fn a_midnight_inside_a_gap_gives_the_instant_after_the_gap() {
        // In Toronto the clock once went from half past eleven to half past midnight.
        let toronto = TimeZone::get("America/Toronto").unwrap();
        let start = day_start(jiff::civil::date(1919, 3, 31), &toronto);
        assert_eq!(start, Some(micros("1919-03-31T04:30:00Z")));
        // Samoa left out the whole of 30 December 2011.
        let apia = TimeZone::get("Pacific/Apia").unwrap();
        let start = day_start(jiff::civil::date(2011, 12, 30), &apia);
        assert_eq!(start, Some(micros("2011-12-30T10:00:00Z")));
    }

    #[test]
    fn a_midnight_that_occurs_twice_is_the_earlier_one() {
        // In Cuba the clock falls from one o'clock back to midnight.
        let moment = at("2024-11-04T12:00:00Z", "America/Havana");
        let window = moment.day_window(1, Unit::Day).unwrap();
        assert_eq!(window.from, Some(micros("2024-11-03T04:00:00Z")));
    }

    #[test]
    fn months_and_years_clamp_to_the_last_day() {
        let moment = at("2024-03-31T12:00:00Z", "UTC");
        assert_eq!(
            moment.back(1, Unit::Month),
            Some(micros("2024-02-29T12:00:00Z"))
        );
        let leap = at("2024-02-29T12:00:00Z", "UTC");
        assert_eq!(
            leap.back(1, Unit::Year),
            Some(micros("2023-02-28T12:00:00Z"))
        );
    }

    #[test]
    fn hours_are_cut_to_the_hour() {
        let moment = at("2025-06-18T15:30:00Z", "Asia/Kolkata");
        let window = moment.day_window(2, Unit::Hour).unwrap();
        assert_eq!(window.from, Some(micros("2025-06-18T13:30:00Z")));
        assert_eq!(window.to, micros("2025-06-18T18:30:00Z") - 1);
    }

    #[test]
    fn each_period_is_counted_back_from_yesterday() {
        let moment = at("2025-05-31T12:00:00Z", "UTC");
        let starts = moment.periods(2, 1, Unit::Month).unwrap();
        let expected = ["2025-05-31", "2025-05-01", "2025-03-31"];
        let expected = expected.map(|day| micros(&format!("{day}T00:00:00Z")));
        assert_eq!(starts, expected);
    }

    #[test]
    fn amounts_beyond_the_calendar_have_no_instant() {
        let moment = at("2025-05-31T12:00:00Z", "UTC");
        assert_eq!(moment.back(i64::MAX, Unit::Day), None);
        assert_eq!(moment.back(19_000, Unit::Year), None);
        assert_eq!(moment.back(i64::MAX, Unit::Quarter), None);
        assert_eq!(moment.periods(3, i64::MAX, Unit::Day), None);
    }
}
