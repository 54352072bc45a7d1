//! Instants in queries: dates, the current time, and arithmetic with intervals.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use sqlparser::ast::{self, BinaryOperator, DateTimeField, Expr, Interval};

use super::column::SelectScope;
use super::operand::{Operand, arguments};
use super::{PATH, unsupported};
use crate::FilterError;
use crate::date;
use crate::window::{Moment, Unit, day_start, instant_of};

/// A local day: its first instant, and the first instant of the next day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day {
    pub start: i64,
    pub next: i64,
}

/// The instant of an absolute date or date-time; without an offset it is local to the project.
pub(super) fn parse(text: &str, at: &Moment) -> Result<i64, FilterError> {
    let instant = date::absolute(text, &at.time_zone);
    instant.ok_or_else(|| FilterError::input(PATH, format!("'{text}' is not a date")))
}

/// The instant of `now()`, `today()` or `yesterday()`; `None` for other calls.
pub(super) fn current(
    name: &str,
    arguments: usize,
    at: &Moment,
) -> Result<Option<i64>, FilterError> {
    if arguments > 0 {
        return Ok(None);
    }
    Ok(match name {
        "now" => Some(at.now),
        "today" => Some(day(at.now, at)?.start),
        "yesterday" => Some(day(day(at.now, at)?.start - 1, at)?.start),
        _ => None,
    })
}

/// The local day that contains `instant`.
pub(super) fn day(instant: i64, at: &Moment) -> Result<Day, FilterError> {
    let local = Timestamp::from_microsecond(instant).ok();
    let date = local.map(|instant| at.time_zone.to_datetime(instant).date());
    let next = date.and_then(|date| date.tomorrow().ok());
    let bounds = date.zip(next).and_then(|(date, next)| {
        Some(Day {
            start: day_start(date, &at.time_zone)?,
            next: day_start(next, &at.time_zone)?,
        })
    });
    bounds.ok_or_else(outside_calendar)
}

fn outside_calendar() -> FilterError {
    FilterError::input(PATH, "an instant is outside the calendar")
}

/// The instant of an expression such as `now() - INTERVAL 7 DAY`.
pub(super) fn arithmetic(
    expr: &Expr,
    scope: &SelectScope,
    at: &Moment,
) -> Result<i64, FilterError> {
    let mut steps = Vec::new();
    let mut start = expr;
    while let Expr::BinaryOp { left, op, right } = start {
        let sign = match op {
            BinaryOperator::Minus => -1,
            BinaryOperator::Plus => 1,
            _ => return Err(unsupported(format!("the operator {op} in an expression"))),
        };
        let (amount, unit) = interval(right)?;
        steps.push((sign * amount, unit));
        start = left;
    }
    let Operand::Instant(mut instant) = Operand::read(start, scope, at)? else {
        return Err(unsupported("arithmetic on anything but now() and dates"));
    };
    for (amount, unit) in steps.into_iter().rev() {
        instant = add(instant, amount, unit, &at.time_zone).ok_or_else(outside_calendar)?;
    }
    Ok(instant)
}

/// Adds exact time for hours and shorter units, and local calendar time for longer units.
fn add(instant: i64, amount: i64, unit: Unit, zone: &TimeZone) -> Option<i64> {
    let from = Timestamp::from_microsecond(instant).ok()?;
    if matches!(unit, Unit::Second | Unit::Minute | Unit::Hour) {
        let span: Span = unit.span(amount)?;
        return Some(from.checked_add(span).ok()?.as_microsecond());
    }
    let local = zone
        .to_datetime(from)
        .checked_add(unit.span(amount)?)
        .ok()?;
    instant_of(local, zone)
}

/// The largest amount of an interval; far beyond the calendar, and safe to negate.
const MAX_AMOUNT: i64 = 1_000_000_000_000;

fn interval(expr: &Expr) -> Result<(i64, Unit), FilterError> {
    let interval = match expr {
        Expr::Interval(interval) => interval_literal(interval),
        Expr::Nested(inner) => return interval(inner),
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            let amount = match arguments(function).as_deref() {
                Some([Expr::Value(value)]) => integer(&value.value),
                _ => None,
            };
            name.strip_prefix("tointerval")
                .and_then(|name| with_unit(amount?, name))
        }
        _ => None,
    };
    interval
        .filter(|(amount, _)| (-MAX_AMOUNT..=MAX_AMOUNT).contains(amount))
        .ok_or_else(|| unsupported(format!("the interval {expr}")))
}

/// `INTERVAL 7 DAY`, `INTERVAL '7' DAY` or `INTERVAL '7 days'`.
fn interval_literal(interval: &Interval) -> Option<(i64, Unit)> {
    let is_plain = interval.leading_precision.is_none()
        && interval.last_field.is_none()
        && interval.fractional_seconds_precision.is_none();
    let Expr::Value(value) = interval.value.as_ref() else {
        return None;
    };
    match (&interval.leading_field, &value.value) {
        _ if !is_plain => None,
        (Some(field), value) => with_unit(integer(value)?, &field_name(field)),
        (None, ast::Value::SingleQuotedString(text)) => {
            let (amount, name) = text.trim().split_once(' ')?;
            with_unit(amount.parse().ok()?, &name.trim().to_lowercase())
        }
        _ => None,
    }
}

fn field_name(field: &DateTimeField) -> String {
    field.to_string().to_lowercase()
}

fn integer(value: &ast::Value) -> Option<i64> {
    match value {
        ast::Value::Number(text, _) | ast::Value::SingleQuotedString(text) => text.parse().ok(),
        _ => None,
    }
}

/// An amount with the unit of that name, singular or plural.
fn with_unit(amount: i64, name: &str) -> Option<(i64, Unit)> {
    Some(match name.strip_suffix('s').unwrap_or(name) {
        "second" => (amount, Unit::Second),
        "minute" => (amount, Unit::Minute),
        "quarter" => (amount.checked_mul(3)?, Unit::Month),
        name => (amount, Unit::from_interval(name)?),
    })
}
