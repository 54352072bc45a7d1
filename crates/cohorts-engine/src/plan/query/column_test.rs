//! Tests of one column each.

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

/// What is check of a column. The opposites are made by NOT.
#[derive(Clone, Debug)]
pub(super) enum Check {
    IsSet,
    Compares(Comparison, Value),
    OneOf(Vec<Value>),
    /// A pattern that could be read.
    Matches(Predicate),
    Instant(Comparison, i64),
    Among(Tree),
}

impl Check {
    /// The same as an operator of filters.
    pub fn predicate(&self, at: &Moment) -> Result<Predicate, FilterError> {
        let (operator, value) = match self {
            Check::IsSet => ("is_set", Value::Null),
            Check::Compares(comparison, value) => (operator(*comparison), value.clone()),
            Check::OneOf(values) => ("in", Value::Array(values.clone())),
            Check::Matches(predicate) => return Ok(predicate.clone()),
            Check::Instant(comparison, instant) => {
                return Ok(Predicate::dated(*comparison, *instant, at));
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

/// The comparison of an operator, and whether its opposite is meant.
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

/// The comparison with its sides exchanged.
pub(super) fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal => Comparison::Equal,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
    }
}

/// One column against one value.
pub(super) fn tested(
    column: &Operand,
    comparison: Comparison,
    value: &Operand,
    at: &Moment,
) -> Result<Condition<ColumnTest>, FilterError> {
    let test = |column: &SqlColumn, check| {
        Condition::Test(ColumnTest {
            column: column.clone(),
            check,
        })
    };
    let instant = || match value {
        Operand::Instant(instant) => Ok(*instant),
        Operand::Text(text) => instant::read(text, at),
        _ => Err(unsupported(
            "a comparison of an instant with anything but a date",
        )),
    };
    match column {
        Operand::Day(column) => {
            let instant = instant()?;
            let day = instant::day(instant, at)?;
            let at_midnight = instant == day.start;
            let test = |comparison, instant| test(column, Check::Instant(comparison, instant));
            Ok(match comparison {
                // No day begins later than at its start.
                Comparison::Equal if !at_midnight => Condition::Any(Vec::new()),
                Comparison::Less if !at_midnight => test(Comparison::Less, day.next),
                Comparison::GreaterOrEqual if !at_midnight => {
                    test(Comparison::GreaterOrEqual, day.next)
                }
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
        Operand::Moment(column) => Ok(test(column, Check::Instant(comparison, instant()?))),
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
        Operand::Column(column) => match value {
            Operand::Null if column.is_property() && comparison == Comparison::Equal => {
                Ok(test(column, Check::IsSet).negated())
            }
            Operand::Instant(instant) if column.is_property() => {
                Ok(test(column, Check::Instant(comparison, *instant)))
            }
            value => {
                let found = value.value().filter(|value| column.takes(value));
                let ordered =
                    comparison == Comparison::Equal || matches!(value, Operand::Number(_));
                match found {
                    Some(found) if ordered => Ok(test(column, Check::Compares(comparison, found))),
                    Some(_) => Err(unsupported(format!(
                        "an order of texts, for {column}; compare with a number, or with a date by toDateTime('…'),"
                    ))),
                    None => Err(unsupported(format!("this comparison of {column}"))),
                }
            }
        },
        _ => Err(unsupported("a comparison without a column")),
    }
}
