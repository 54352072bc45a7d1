//! The operands of comparisons: columns, aggregates and values.

use serde_json::{Number, Value};
use sqlparser::ast::{
    self, BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, UnaryOperator,
};

use super::column::{Aggregate, SelectScope, SqlColumn};
use super::{instant, unsupported};
use crate::FilterError;
use crate::window::Moment;

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Column(SqlColumn),
    /// `toDate`: the local day of an instant column.
    Day(SqlColumn),
    /// `toFloat`: a property as a number.
    Float(SqlColumn),
    /// `toDateTime`: a property as an instant.
    DateTime(SqlColumn),
    Text(String),
    Number(Number),
    Bool(bool),
    Null,
    Instant(i64),
}

impl Operand {
    pub fn read(expr: &Expr, scope: &SelectScope, at: &Moment) -> Result<Operand, FilterError> {
        match expr {
            Expr::Nested(inner) => Operand::read(inner, scope, at),
            Expr::Value(value) => literal(&value.value),
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr: inner,
            } => match Operand::read(inner, scope, at)? {
                Operand::Number(number) => negative(&number),
                _ => Err(unsupported(format!("{expr}"))),
            },
            Expr::TypedString(typed) => match &typed.value.value {
                ast::Value::SingleQuotedString(text) if is_date(&typed.data_type) => {
                    Ok(Operand::Instant(instant::parse(&unescaped(text)?, at)?))
                }
                _ => Err(unsupported(format!("{expr}"))),
            },
            Expr::BinaryOp {
                op: BinaryOperator::Plus | BinaryOperator::Minus,
                ..
            } => Ok(Operand::Instant(instant::arithmetic(expr, scope, at)?)),
            Expr::Function(function) => Operand::call(function, scope, at),
            _ => match scope.column(expr)? {
                Some(column) => Ok(Operand::Column(column)),
                None => Err(unsupported(format!("the expression {expr}"))),
            },
        }
    }

    fn call(function: &Function, scope: &SelectScope, at: &Moment) -> Result<Operand, FilterError> {
        let name = function.name.to_string().to_lowercase();
        let refusal = || unsupported(format!("the function {function}"));
        if name == "count" {
            let aggregate = counted(function, scope, at)?.ok_or_else(refusal)?;
            return Ok(Operand::Column(SqlColumn::Aggregate(aggregate)));
        }
        let arguments = arguments(function).ok_or_else(refusal)?;
        if let Some(value) = instant::current(&name, arguments.len(), at)? {
            return Ok(Operand::Instant(value));
        }
        let [argument] = arguments.as_slice() else {
            return Err(refusal());
        };
        let aggregate = |aggregate: Option<Aggregate>| {
            let column =
                aggregate.map(|aggregate| Operand::Column(SqlColumn::Aggregate(aggregate)));
            column.ok_or_else(refusal)
        };
        Ok(match (name.as_str(), Operand::read(argument, scope, at)?) {
            ("min", Operand::Column(SqlColumn::Timestamp)) => {
                Operand::Column(SqlColumn::Aggregate(Aggregate::First))
            }
            ("max", Operand::Column(SqlColumn::Timestamp)) => {
                Operand::Column(SqlColumn::Aggregate(Aggregate::Last))
            }
            ("sum", operand) => aggregate(operand.event_property().map(Aggregate::Sum))?,
            ("avg", operand) => aggregate(operand.event_property().map(Aggregate::Average))?,
            ("uniq", Operand::Column(SqlColumn::EventProperty(key))) => {
                aggregate(Some(Aggregate::Distinct(key)))?
            }
            ("tostring", Operand::Column(column)) if column.is_property() => {
                Operand::Column(column)
            }
            ("tofloat", Operand::Column(column)) if column.is_property() => Operand::Float(column),
            ("todatetime", Operand::Column(column)) if column.is_time() => Operand::Column(column),
            ("todatetime", Operand::Column(column)) if column.is_property() => {
                Operand::DateTime(column)
            }
            ("todatetime", Operand::Text(text)) => Operand::Instant(instant::parse(&text, at)?),
            ("todatetime", value @ Operand::Instant(_)) => value,
            ("todate", Operand::Column(column)) if column.is_time() => Operand::Day(column),
            ("todate", Operand::Text(text)) => {
                Operand::Instant(instant::day(instant::parse(&text, at)?, at)?.start)
            }
            ("todate" | "tostartofday", Operand::Instant(value)) => {
                Operand::Instant(instant::day(value, at)?.start)
            }
            _ => return Err(refusal()),
        })
    }

    /// The value as JSON; `None` for null, instants and columns.
    pub fn value(&self) -> Option<Value> {
        match self {
            Operand::Text(text) => Some(Value::from(text.as_str())),
            Operand::Number(number) => Some(Value::Number(number.clone())),
            Operand::Bool(answer) => Some(Value::from(*answer)),
            _ => None,
        }
    }
}

fn literal(value: &ast::Value) -> Result<Operand, FilterError> {
    Ok(match value {
        ast::Value::SingleQuotedString(text) => Operand::Text(unescaped(text)?),
        ast::Value::Number(text, _) => match text.parse() {
            Ok(number) => Operand::Number(number),
            Err(_) => return Err(unsupported(format!("the number {text}"))),
        },
        ast::Value::Boolean(answer) => Operand::Bool(*answer),
        ast::Value::Null => Operand::Null,
        other => return Err(unsupported(format!("the value {other}"))),
    })
}

fn negative(number: &Number) -> Result<Operand, FilterError> {
    let text = format!("-{number}");
    match text.parse() {
        Ok(number) => Ok(Operand::Number(number)),
        Err(_) => Err(unsupported(format!("the number {text}"))),
    }
}

/// The aggregate of `count()`, `count(*)` or `count(DISTINCT properties.x)`; `None` for other calls.
fn counted(
    function: &Function,
    scope: &SelectScope,
    at: &Moment,
) -> Result<Option<Aggregate>, FilterError> {
    let FunctionArguments::List(list) = &function.args else {
        return Ok(None);
    };
    if !is_plain(function) {
        return Ok(None);
    }
    Ok(match (&list.duplicate_treatment, list.args.as_slice()) {
        (None, [] | [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) => Some(Aggregate::Count),
        (
            Some(DuplicateTreatment::Distinct),
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))],
        ) => match Operand::read(expr, scope, at)? {
            Operand::Column(SqlColumn::EventProperty(key)) => Some(Aggregate::Distinct(key)),
            _ => None,
        },
        _ => None,
    })
}

/// Whether a call has no modifiers, except DISTINCT.
fn is_plain(function: &Function) -> bool {
    let list = match &function.args {
        FunctionArguments::List(list) => list,
        _ => return false,
    };
    list.clauses.is_empty()
        && matches!(function.parameters, FunctionArguments::None)
        && function.within_group.is_empty()
        && function.filter.is_none()
        && function.null_treatment.is_none()
        && function.over.is_none()
        && !function.uses_odbc_syntax
}

/// The arguments of a call without modifiers; `None` for other calls.
pub(super) fn arguments(function: &Function) -> Option<Vec<&Expr>> {
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let plain = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    let is_plain = is_plain(function) && list.duplicate_treatment.is_none();
    is_plain.then(|| list.args.iter().map(plain).collect())?
}

impl Operand {
    /// The event property of `properties.x` or `toFloat(properties.x)`.
    fn event_property(self) -> Option<String> {
        match self {
            Operand::Column(SqlColumn::EventProperty(key))
            | Operand::Float(SqlColumn::EventProperty(key)) => Some(key),
            _ => None,
        }
    }

    pub fn is_column(&self) -> bool {
        matches!(
            self,
            Operand::Column(_) | Operand::Day(_) | Operand::Float(_) | Operand::DateTime(_)
        )
    }
}

fn is_date(kind: &ast::DataType) -> bool {
    matches!(
        kind,
        ast::DataType::Date | ast::DataType::Datetime(_) | ast::DataType::Timestamp(..)
    )
}

/// The text of a literal, by ClickHouse's escapes. An unknown escape keeps its backslash.
pub(super) fn unescaped(literal: &str) -> Result<String, FilterError> {
    let mut text = String::new();
    let mut letters = literal.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' if letters.peek() == Some(&'\'') => text.extend(letters.next()),
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some('b') => text.push('\u{8}'),
                Some('f') => text.push('\u{c}'),
                Some('a') => text.push('\u{7}'),
                Some('v') => text.push('\u{b}'),
                Some('0') => text.push('\0'),
                Some(known @ ('\\' | '\'' | '"' | '`' | '/' | '=')) => text.push(known),
                Some(other) => text.extend(['\\', other]),
                None => text.push('\\'),
            },
            other => text.push(other),
        }
    }
    if text.contains('\0') {
        return Err(unsupported("the character NUL, which no stored text has,"));
    }
    Ok(text)
}
