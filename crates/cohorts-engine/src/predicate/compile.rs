//! Compiles an operator and its value into a predicate.
//!
//! The memory and time that the patterns of one filter may take are bounded by a budget.

use std::cell::Cell;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::folded::lower;
use super::re2;
use super::texts::literal_prefixes;
use super::{Comparison, Predicate, Rule, ValueTest};
use crate::FilterError;
use crate::date;
use crate::semver::{Version, VersionRange};
use crate::value::{Number, text};
use crate::window::Moment;

/// The memory limit of one compiled pattern, in bytes.
pub(super) const PATTERN_LIMIT: usize = 1 << 20;
/// The memory limit of a small pattern, in bytes. Nearly all patterns are small.
pub(super) const SMALL_PATTERN: usize = 1 << 16;
/// The budget for the patterns of one filter. A small pattern costs 1, which is at most a third
/// of a millisecond; a larger pattern, or one beyond the limit, costs `LARGE_COST`.
pub(crate) const PATTERN_BUDGET: u32 = 1_024;
pub(super) const LARGE_COST: u32 = 32;
pub(crate) const TOO_MANY_PATTERNS: &str =
    "the regular expressions of this filter are too many or too large";

impl Predicate {
    /// A missing operator means `exact`. An invalid version or date is no error: it matches no value.
    /// A pattern that cannot be read is an error with code `invalid_regex`.
    pub fn compile(
        path: &str,
        operator: Option<&str>,
        value: Option<&Value>,
        at: &Moment,
    ) -> Result<Predicate, FilterError> {
        let operator = operator.unwrap_or("exact");
        let fail = |sentence: String| FilterError::calculation(path, sentence);
        let build = PredicateBuilder::new(&at.time_zone);
        match operator {
            "is_set" => return Ok(build.rule(false, Rule::Constant(true))),
            "is_not_set" => return Ok(build.rule(true, Rule::Constant(false))),
            "between" | "not_between" => {
                return build.range(operator, value).ok_or_else(|| {
                    fail(format!(
                        "operator '{operator}' needs a list of two numbers, the lower one first"
                    ))
                });
            }
            _ => {}
        }
        let values = match value {
            Some(Value::Array(list)) => list.as_slice(),
            Some(value) => std::slice::from_ref(value),
            None => &[],
        };
        let listed = build.listed(operator, values, at);
        let listed = listed.map_err(|sentence| FilterError::pattern(path, sentence))?;
        let predicate = listed.ok_or_else(|| fail(format!("unknown operator '{operator}'")))?;
        predicate.charge_patterns(&mut 0, path)?;
        match value {
            None => Err(fail(format!("operator '{operator}' needs a value"))),
            // As in PostHog, an empty list drops the condition: all persons satisfy it.
            Some(_) if values.is_empty() => Ok(build.rule(true, Rule::Constant(true))),
            Some(_) => Ok(predicate),
        }
    }

    /// A comparison with an instant, by the rules of dates.
    pub fn instant(comparison: Comparison, instant: i64, at: &Moment) -> Predicate {
        let build = PredicateBuilder::new(&at.time_zone);
        build.any(vec![ValueTest::Dated(comparison, instant)])
    }

    /// A search for a regular expression.
    ///
    /// # Errors
    ///
    /// Fails with a sentence if the pattern cannot be read.
    pub fn pattern(pattern: &str, at: &Moment) -> Result<Predicate, String> {
        let build = PredicateBuilder::new(&at.time_zone);
        let tests = build.patterns(&[Value::from(pattern)])?;
        Ok(build.any(tests))
    }

    /// The test of the URL in a step of an action.
    ///
    /// # Errors
    ///
    /// Fails with a sentence if the URL is a pattern that cannot be read.
    pub fn url(url: &str, matching: Option<&str>) -> Result<Predicate, String> {
        let build = PredicateBuilder::new(&TimeZone::UTC);
        let value = [Value::from(url)];
        let tests = match matching {
            Some("exact") => vec![one_of(&value)],
            Some("regex") => build.patterns(&value)?,
            _ => vec![ValueTest::ContainsExact(url.to_owned())],
        };
        Ok(build.any(tests))
    }
}

/// Two numbers in ascending order.
fn pair(value: &Value) -> Option<(Number, Number)> {
    let [low, high] = value.as_array()?.as_slice() else {
        return None;
    };
    let (low, high) = (Number::of(low)?, Number::of(high)?);
    low.compare(high).is_le().then_some((low, high))
}

struct PredicateBuilder {
    zone: TimeZone,
    pattern_cost: Cell<u32>,
}

impl PredicateBuilder {
    fn new(zone: &TimeZone) -> PredicateBuilder {
        PredicateBuilder {
            zone: zone.clone(),
            pattern_cost: Cell::new(0),
        }
    }

    fn rule(&self, missing: bool, rule: Rule) -> Predicate {
        Predicate {
            missing,
            rule,
            time_zone: self.zone.clone(),
            pattern_cost: self.pattern_cost.get(),
        }
    }

    /// The patterns. Stops compiling beyond the budget, which the caller checks.
    fn patterns(&self, values: &[Value]) -> Result<Vec<ValueTest>, String> {
        let within_budget = |_: &&Value| self.pattern_cost.get() <= PATTERN_BUDGET;
        let tests = values.iter().take_while(within_budget).map(|value| {
            let compiled = re2::compile(&text(value));
            self.pattern_cost
                .set(self.pattern_cost.get() + compiled.cost);
            let (regex, translated) = compiled.result?;
            let prefixes = literal_prefixes(&translated);
            Ok(ValueTest::Matches(regex, prefixes))
        });
        tests.collect()
    }

    fn any(&self, tests: Vec<ValueTest>) -> Predicate {
        self.rule(false, Rule::Any(tests))
    }

    fn none_of(&self, tests: Vec<ValueTest>) -> Predicate {
        self.rule(true, Rule::NoneOf(tests))
    }

    /// The operators that take a pair of numbers.
    fn range(&self, operator: &str, value: Option<&Value>) -> Option<Predicate> {
        let (low, high) = pair(value?)?;
        Some(match operator {
            "between" => self.any(vec![ValueTest::Within(low, high)]),
            _ => self.rule(true, Rule::Any(vec![ValueTest::Outside(low, high)])),
        })
    }

    /// The operators that take one value or a list; `None` for an unknown operator.
    fn listed(
        &self,
        operator: &str,
        values: &[Value],
        at: &Moment,
    ) -> Result<Option<Predicate>, String> {
        use Comparison::*;
        Ok(Some(match operator {
            "exact" | "in" => self.any(vec![one_of(values)]),
            "is_not" | "not_in" => self.none_of(vec![one_of(values)]),
            "icontains" | "icontains_multi" => self.any(parts(values, ValueTest::Contains)),
            "not_icontains" | "not_icontains_multi" => {
                self.none_of(parts(values, ValueTest::Contains))
            }
            "starts_with" => self.any(parts(values, ValueTest::StartsWith)),
            "not_starts_with" => self.none_of(parts(values, ValueTest::StartsWith)),
            "ends_with" => self.any(parts(values, ValueTest::EndsWith)),
            "not_ends_with" => self.none_of(parts(values, ValueTest::EndsWith)),
            "regex" => self.any(self.patterns(values)?),
            "not_regex" => self.none_of(self.patterns(values)?),
            "gt" => self.any(bounds(values, Greater)),
            "gte" | "min" => self.any(bounds(values, GreaterOrEqual)),
            "lt" => self.any(bounds(values, Less)),
            "lte" | "max" => self.any(bounds(values, LessOrEqual)),
            "is_date_exact" => self.any(dates(values, Equal, at)),
            "is_date_before" => self.any(dates(values, Less, at)),
            "is_date_after" => self.any(dates(values, Greater, at)),
            "semver_neq" => self.semver_neq(values),
            other => match versions(other, values) {
                Some(tests) => self.any(tests),
                None => return Ok(None),
            },
        }))
    }

    /// One invalid version makes the whole list match no value.
    fn semver_neq(&self, values: &[Value]) -> Predicate {
        let parsed = values.iter().map(|value| Version::parse(&text(value)));
        match parsed.collect::<Option<Vec<Version>>>() {
            Some(versions) => self.any(vec![ValueTest::NoVersionOf(versions)]),
            None => self.rule(false, Rule::Constant(false)),
        }
    }
}

/// Null elements are equal to no value.
fn one_of(values: &[Value]) -> ValueTest {
    let values = || values.iter().filter(|value| !value.is_null());
    let mut numbers: Vec<Number> = values().filter_map(Number::of).collect();
    numbers.sort_by(|a, b| a.compare(*b));
    ValueTest::OneOf {
        texts: values().map(|value| text(value).into_owned()).collect(),
        numbers,
    }
}

fn parts(values: &[Value], test: fn(String) -> ValueTest) -> Vec<ValueTest> {
    let values = values.iter().filter(|value| !value.is_null());
    values.map(|value| test(lower(&text(value)))).collect()
}

fn bounds(values: &[Value], comparison: Comparison) -> Vec<ValueTest> {
    let numbers = values.iter().filter_map(Number::of);
    numbers
        .map(|number| ValueTest::Compares(comparison, number))
        .collect()
}

fn dates(values: &[Value], comparison: Comparison, at: &Moment) -> Vec<ValueTest> {
    let instants = values
        .iter()
        .filter_map(|value| date::filter_instant(value, at));
    instants
        .map(|instant| ValueTest::Dated(comparison, instant))
        .collect()
}

fn versions(operator: &str, values: &[Value]) -> Option<Vec<ValueTest>> {
    let comparison =
        |comparison| move |text: &str| Some(ValueTest::Version(comparison, Version::parse(text)?));
    let texts = values.iter().map(text);
    Some(match operator {
        "semver_eq" => each(texts, comparison(Comparison::Equal)),
        "semver_gt" => each(texts, comparison(Comparison::Greater)),
        "semver_gte" => each(texts, comparison(Comparison::GreaterOrEqual)),
        "semver_lt" => each(texts, comparison(Comparison::Less)),
        "semver_lte" => each(texts, comparison(Comparison::LessOrEqual)),
        "semver_tilde" => each(texts, |text| {
            VersionRange::tilde(text).map(ValueTest::InVersions)
        }),
        "semver_caret" => each(texts, |text| {
            VersionRange::caret(text).map(ValueTest::InVersions)
        }),
        "semver_wildcard" => each(texts, |text| {
            VersionRange::wildcard(text).map(ValueTest::InVersions)
        }),
        _ => return None,
    })
}

fn each<T: AsRef<str>>(
    texts: impl Iterator<Item = T>,
    test: impl Fn(&str) -> Option<ValueTest>,
) -> Vec<ValueTest> {
    texts.filter_map(|text| test(text.as_ref())).collect()
}
