//! A test of one column: a comparison in a query, reduced to the tests that criteria support.

use serde_json::Value;
use sqlparser::ast::BinaryOperator;

use super::column::SqlColumn;
use super::operand::Operand;
use super::{PATH, instant, unsupported};
use crate::FilterError;
use crate::condition::Condition;
use crate::plan::Tree;
use crate::predicate::{Comparison, Predicate};
use crate::window::Moment;

/// A test of one column.
#[derive(Clone, Debug)]
pub(super) struct ColumnTest {
    pub column: SqlColumn,
    pub check: Check,
}

/// The check of a column. Negative checks are wrapped in NOT.
#[derive(Clone, Debug)]
pub(super) enum Check {
    IsSet,
    Compares(Comparison, Value),
    OneOf(Vec<Value>),
    /// A valid pattern.
    Matches(Predicate),
    Instant(Comparison, i64),
    /// The person is in the set.
    Among(Tree),
}

impl Check {
    /// The check as an operator of filters.
    pub fn predicate(&self, at: &Moment) -> Result<Predicate, FilterError> {
        let (operator, value) = match self {
            Check::IsSet => ("is_set", Value::Null),
            Check::Compares(comparison, value) => (operator(*comparison), value.clone()),
            Check::OneOf(values) => ("in", Value::Array(values.clone())),
            Check::Matches(predicate) => return Ok(predicate.clone()),
            Check::Instant(comparison, instant) => {
                return Ok(Predicate::instant(*comparison, *instant, at));
            }
            Check::Among(_) => return Err(unsupported("a subquery for anything but the person")),
        };
        Predicate::compile(PATH, Some(operator), Some(&value), at)
    }
}

fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "exact",
        Comparison::Greater => "gt",
        Comparison::GreaterOrEqual => "gte",
        Comparison::Less => "lt",
        Comparison::LessOrEqual => "lte",
    }
}

/// The comparison of an operator, and whether it is negated. `None` for other operators.
pub(super) fn comparison(op: &BinaryOperator) -> Option<(Comparison, bool)> {
    Some(match op {
        BinaryOperator::Eq => (Comparison::Equal, false),
        BinaryOperator::NotEq => (Comparison::Equal, true),
        BinaryOperator::Gt => (Comparison::Greater, false),
        BinaryOperator::GtEq => (Comparison::GreaterOrEqual, false),
        BinaryOperator::Lt => (Comparison::Less, false),
        BinaryOperator::LtEq => (Comparison::LessOrEqual, false),
        _ => return None,
    })
}

/// The equivalent comparison after swapping the operands.
pub(super) fn swapped(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal => Comparison::Equal,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
    }
}

/// The condition that compares `column`, an operand with a column, with `value`.
pub(super) fn compare(
    column: &Operand,
    comparison: Comparison,
    value: &Operand,
    at: &Moment,
) -> Result<Condition<ColumnTest>, FilterError> {
    let instant = || match value {
        Operand::Instant(instant) => Ok(*instant),
        Operand::Text(text) => instant::parse(text, at),
        _ => Err(unsupported(
            "a comparison of an instant with anything but a date",
        )),
    };
    match column {
        Operand::Day(column) => compare_day(column, comparison, instant()?, at),
        Operand::DateTime(column) => Ok(test(column, Check::Instant(comparison, instant()?))),
        Operand::Float(column) => {
            let Operand::Number(number) = value else {
                return Err(unsupported(
                    "a comparison of toFloat with anything but a number",
                ));
            };
            let test =
                |comparison| test(column, Check::Compares(comparison, number.clone().into()));
            Ok(match comparison {
                Comparison::Equal => Condition::All(vec![
                    test(Comparison::GreaterOrEqual),
                    test(Comparison::LessOrEqual),
                ]),
                other => test(other),
            })
        }
        Operand::Column(column) if column.is_time() => {
            Ok(test(column, Check::Instant(comparison, instant()?)))
        }
        Operand::Column(column) => compare_plain(column, comparison, value),
        _ => Err(unsupported("a comparison without a column")),
    }
}

fn test(column: &SqlColumn, check: Check) -> Condition<ColumnTest> {
    Condition::Test(ColumnTest {
        column: column.clone(),
        check,
    })
}

/// Compares a column that holds no instants.
fn compare_plain(
    column: &SqlColumn,
    comparison: Comparison,
    value: &Operand,
) -> Result<Condition<ColumnTest>, FilterError> {
    match value {
        Operand::Null if column.is_property() && comparison == Comparison::Equal => {
            return Ok(test(column, Check::IsSet).negated());
        }
        Operand::Instant(instant) if column.is_property() => {
            return Ok(test(column, Check::Instant(comparison, *instant)));
        }
        _ => {}
    }
    let has_order = comparison == Comparison::Equal || matches!(value, Operand::Number(_));
    match value.value().filter(|value| column.takes(value)) {
        Some(value) if has_order => Ok(test(column, Check::Compares(comparison, value))),
        Some(_) => Err(unsupported(format!(
            "an order of texts, for {column}; compare with a number, or with a date by toDateTime('…'),"
        ))),
        None => Err(unsupported(format!("this comparison of {column}"))),
    }
}

/// Compares the local day of `column`, as its first instant, with `instant`.
fn compare_day(
    column: &SqlColumn,
    comparison: Comparison,
    instant: i64,
    at: &Moment,
) -> Result<Condition<ColumnTest>, FilterError> {
    let day = instant::day(instant, at)?;
    let is_midnight = instant == day.start;
    let test = |comparison, instant| test(column, Check::Instant(comparison, instant));
    Ok(match comparison {
        // Between two midnights: equal to no day, and the next day is the first one above.
        Comparison::Equal if !is_midnight => Condition::Any(Vec::new()),
        Comparison::Less if !is_midnight => test(Comparison::Less, day.next),
        Comparison::GreaterOrEqual if !is_midnight => test(Comparison::GreaterOrEqual, day.next),
        Comparison::Equal => Condition::All(vec![
            test(Comparison::GreaterOrEqual, day.start),
            test(Comparison::Less, day.next),
        ]),
        Comparison::Less => test(Comparison::Less, day.start),
        Comparison::LessOrEqual => test(Comparison::Less, day.next),
        Comparison::Greater => test(Comparison::GreaterOrEqual, day.next),
        Comparison::GreaterOrEqual => test(Comparison::GreaterOrEqual, day.start),
    })
}
