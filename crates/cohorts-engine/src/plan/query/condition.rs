//! Converts the conditions of WHERE and HAVING to conditions over column tests.

use sqlparser::ast::{self, BinaryOperator, Expr, Function, InTarget, UnaryOperator};

use super::column::{SelectScope, SqlColumn};
use super::column_test::{Check, ColumnTest, compare, comparison, swapped};
use super::operand::{Operand, arguments};
use super::select::{self, Aliases};
use super::{PATH, unsupported};
use crate::FilterError;
use crate::condition::Condition;
use crate::plan::Planner;
use crate::predicate::{Comparison, Predicate};
use crate::window::Moment;

/// Converts the conditions of one SELECT.
pub(super) struct ConditionReader<'a> {
    pub scope: &'a SelectScope,
    pub aliases: &'a Aliases<'a>,
}

impl<'a> ConditionReader<'a> {
    pub fn condition(
        &self,
        expr: &'a Expr,
        planner: &mut Planner,
    ) -> Result<Condition<ColumnTest>, FilterError> {
        match expr {
            Expr::BinaryOp {
                op: op @ (BinaryOperator::And | BinaryOperator::Or),
                ..
            } => {
                let parts = flatten(expr, op)
                    .into_iter()
                    .map(|part| self.condition(part, planner))
                    .collect::<Result<_, _>>()?;
                Ok(match op {
                    BinaryOperator::And => Condition::All(parts),
                    _ => Condition::Any(parts),
                })
            }
            Expr::Nested(inner) => self.condition(inner, planner),
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: inner,
            } => Ok(self.condition(inner, planner)?.negated()),
            Expr::Value(value) => match value.value {
                ast::Value::Boolean(true) => Ok(Condition::All(Vec::new())),
                ast::Value::Boolean(false) => Ok(Condition::Any(Vec::new())),
                _ => Err(unsupported(format!("{expr} as a condition"))),
            },
            Expr::Function(function) => self.call(function, planner),
            _ => self.test(expr, planner),
        }
    }

    fn test(
        &self,
        expr: &'a Expr,
        planner: &mut Planner,
    ) -> Result<Condition<ColumnTest>, FilterError> {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                let (comparison, negated) = comparison(op)
                    .ok_or_else(|| unsupported(format!("the operator {op} in a condition")))?;
                let test = self.comparison(left, comparison, right, planner.moment)?;
                Ok(test.negated_if(negated))
            }
            Expr::IsNull(inner) => Ok(self.is_set(inner, planner)?.negated()),
            Expr::IsNotNull(inner) => self.is_set(inner, planner),
            Expr::Between {
                expr: inner,
                negated,
                low,
                high,
            } => {
                let at = planner.moment;
                let low = self.comparison(inner, Comparison::GreaterOrEqual, low, at)?;
                let high = self.comparison(inner, Comparison::LessOrEqual, high, at)?;
                Ok(Condition::All(vec![low, high]).negated_if(*negated))
            }
            Expr::Like {
                negated,
                any: false,
                expr: inner,
                pattern,
                escape_char: None,
            } => self.like(inner, pattern, "(?s)", *negated, planner),
            Expr::ILike {
                negated,
                any: false,
                expr: inner,
                pattern,
                escape_char: None,
            } => self.like(inner, pattern, "(?si)", *negated, planner),
            Expr::In {
                expr: inner,
                target,
                negated,
                ..
            } => Ok(self.is_in(inner, target, planner)?.negated_if(*negated)),
            _ => Err(unsupported(format!("the condition {expr}"))),
        }
    }

    fn call(
        &self,
        function: &'a Function,
        planner: &mut Planner,
    ) -> Result<Condition<ColumnTest>, FilterError> {
        let name = function.name.to_string().to_lowercase();
        let arguments = arguments(function).unwrap_or_default();
        let each = |planner: &mut Planner| {
            let parts = arguments.iter().map(|part| self.condition(part, planner));
            parts.collect::<Result<Vec<_>, _>>()
        };
        let at = planner.moment;
        match (name.as_str(), arguments.as_slice()) {
            ("and", [_, ..]) => Ok(Condition::All(each(planner)?)),
            ("or", [_, ..]) => Ok(Condition::Any(each(planner)?)),
            ("not", [inner]) => Ok(self.condition(inner, planner)?.negated()),
            ("isnull", [inner]) => Ok(self.is_set(inner, planner)?.negated()),
            ("isnotnull", [inner]) => self.is_set(inner, planner),
            ("equals", [left, right]) => self.comparison(left, Comparison::Equal, right, at),
            ("notequals", [left, right]) => Ok(self
                .comparison(left, Comparison::Equal, right, at)?
                .negated()),
            ("greater", [left, right]) => self.comparison(left, Comparison::Greater, right, at),
            ("greaterorequals", [left, right]) => {
                self.comparison(left, Comparison::GreaterOrEqual, right, at)
            }
            ("less", [left, right]) => self.comparison(left, Comparison::Less, right, at),
            ("lessorequals", [left, right]) => {
                self.comparison(left, Comparison::LessOrEqual, right, at)
            }
            ("like", [left, right]) => self.like(left, right, "(?s)", false, planner),
            ("notlike", [left, right]) => self.like(left, right, "(?s)", true, planner),
            ("ilike", [left, right]) => self.like(left, right, "(?si)", false, planner),
            ("notilike", [left, right]) => self.like(left, right, "(?si)", true, planner),
            ("match", [left, right]) => {
                let pattern = self.text(right, planner.moment)?;
                self.matches(left, &pattern, planner)
            }
            ("startswith", [left, right]) => {
                let start = regex::escape(&self.text(right, at)?);
                self.matches(left, &format!(r"\A{start}"), planner)
            }
            ("endswith", [left, right]) => {
                let end = regex::escape(&self.text(right, at)?);
                self.matches(left, &format!(r"{end}\z"), planner)
            }
            _ => Err(unsupported(format!(
                "the function {function} as a condition"
            ))),
        }
    }

    fn operand(&self, expr: &'a Expr, at: &Moment) -> Result<Operand, FilterError> {
        Operand::read(self.aliases.resolve(expr), self.scope, at)
    }

    fn text(&self, expr: &'a Expr, at: &Moment) -> Result<String, FilterError> {
        match self.operand(expr, at)? {
            Operand::Text(text) => Ok(text),
            _ => Err(unsupported(format!("{expr} in place of a text"))),
        }
    }

    /// A property, or the name of the event.
    fn plain_column(&self, expr: &'a Expr, at: &Moment) -> Result<SqlColumn, FilterError> {
        match self.operand(expr, at)? {
            Operand::Column(column) if column.is_property() || column == SqlColumn::Event => {
                Ok(column)
            }
            _ => Err(unsupported(format!("this test of {expr}"))),
        }
    }

    fn is_set(
        &self,
        expr: &'a Expr,
        planner: &Planner,
    ) -> Result<Condition<ColumnTest>, FilterError> {
        let column = self.plain_column(expr, planner.moment)?;
        Ok(Condition::Test(ColumnTest {
            column,
            check: Check::IsSet,
        }))
    }

    fn like(
        &self,
        expr: &'a Expr,
        pattern: &'a Expr,
        flags: &str,
        negated: bool,
        planner: &mut Planner,
    ) -> Result<Condition<ColumnTest>, FilterError> {
        let pattern = like_pattern(&self.text(pattern, planner.moment)?);
        let test = self.matches(expr, &format!("{flags}{pattern}"), planner)?;
        Ok(test.negated_if(negated))
    }

    fn matches(
        &self,
        expr: &'a Expr,
        pattern: &str,
        planner: &mut Planner,
    ) -> Result<Condition<ColumnTest>, FilterError> {
        let column = self.plain_column(expr, planner.moment)?;
        let predicate = Predicate::pattern(pattern, planner.moment);
        let predicate = predicate.map_err(|sentence| FilterError::pattern(PATH, sentence))?;
        predicate
            .charge_patterns(&mut planner.pattern_cost, PATH)
            .map_err(|error| FilterError::new(PATH, "invalid_input", error.detail))?;
        let check = Check::Matches(predicate);
        Ok(Condition::Test(ColumnTest { column, check }))
    }

    fn is_in(
        &self,
        expr: &'a Expr,
        target: &'a InTarget,
        planner: &mut Planner,
    ) -> Result<Condition<ColumnTest>, FilterError> {
        let operand = self.operand(expr, planner.moment)?;
        let list = match (&operand, target) {
            (Operand::Column(SqlColumn::Person), InTarget::Subquery(query)) => {
                let check = Check::Among(select::subquery(query, planner)?);
                return Ok(Condition::Test(ColumnTest {
                    column: SqlColumn::Person,
                    check,
                }));
            }
            (_, InTarget::Subquery(_)) => {
                return Err(unsupported(format!(
                    "a subquery for {expr}, which is not the person,"
                )));
            }
            (_, InTarget::List(list)) => list,
            _ => return Err(unsupported(format!("IN {target}"))),
        };
        let values = list
            .iter()
            .map(|value| self.operand(value, planner.moment))
            .collect::<Result<Vec<_>, _>>()?;
        match operand {
            Operand::Column(column) if column.takes_lists() => {
                let values = values.iter().map(|value| {
                    let value = value.value().filter(|value| column.takes(value));
                    value.ok_or_else(|| unsupported(format!("this list for {column}")))
                });
                let check = Check::OneOf(values.collect::<Result<_, _>>()?);
                Ok(Condition::Test(ColumnTest { column, check }))
            }
            operand => {
                let tests = values
                    .iter()
                    .map(|value| compare(&operand, Comparison::Equal, value, planner.moment));
                Ok(Condition::Any(tests.collect::<Result<_, _>>()?))
            }
        }
    }

    fn comparison(
        &self,
        left: &'a Expr,
        comparison: Comparison,
        right: &'a Expr,
        at: &Moment,
    ) -> Result<Condition<ColumnTest>, FilterError> {
        let (left, right) = (self.operand(left, at)?, self.operand(right, at)?);
        match (left.is_column(), right.is_column()) {
            (true, false) => compare(&left, comparison, &right, at),
            (false, true) => compare(&right, swapped(comparison), &left, at),
            (true, true) => Err(unsupported("a comparison of two columns")),
            (false, false) => Err(unsupported("a comparison of two values")),
        }
    }
}

/// The operands of a left-deep chain of one operator, without recursion.
fn flatten<'a>(expr: &'a Expr, operator: &BinaryOperator) -> Vec<&'a Expr> {
    let mut operands = Vec::new();
    let mut chain = expr;
    while let Expr::BinaryOp { left, op, right } = chain
        && op == operator
    {
        operands.push(right.as_ref());
        chain = left;
    }
    operands.push(chain);
    operands.reverse();
    operands
}

/// The regular expression of a LIKE pattern: `%` is any text, `_` any character, and `\` escapes.
fn like_pattern(like: &str) -> String {
    let mut pattern = r"\A".to_owned();
    let mut letters = like.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '%' => pattern.push_str(".*"),
            '_' => pattern.push('.'),
            '\\' => match letters.clone().next() {
                Some(special @ ('%' | '_' | '\\')) => {
                    letters.next();
                    pattern.push_str(&regex::escape(special.encode_utf8(&mut [0; 4])));
                }
                _ => pattern.push_str(r"\\"),
            },
            other => pattern.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    pattern + r"\z"
}
