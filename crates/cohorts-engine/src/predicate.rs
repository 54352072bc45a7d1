//! The meaning of each operator for one stored value.
//!
//! Written once, for properties of persons and of events. JSON null counts as missing.
//! A predicate is compiled by `compile`, and applied to many texts at once by `texts`.

mod compile;
pub(crate) mod folded;
mod re2;
mod texts;

use std::collections::HashSet;

use jiff::tz::TimeZone;
use regex::bytes::Regex;
use serde_json::Value;

use crate::FilterError;
use crate::date;
use crate::semver::{Version, VersionRange};
use crate::value::{Number, Stored, text};

use texts::Prefixes;
pub(crate) use texts::Texts;

/// An operator with its value, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    /// The answer for a missing value.
    missing: bool,
    rule: Rule,
    time_zone: TimeZone,
    /// The cost of compiling its patterns, in units of `PATTERN_BUDGET`.
    pattern_cost: u32,
}

#[derive(Clone, Debug)]
enum Rule {
    Constant(bool),
    Any(Vec<ValueTest>),
    NoneOf(Vec<ValueTest>),
}

#[derive(Clone, Debug)]
enum ValueTest {
    /// Equal to any element: by text, and for stored numbers also by number.
    OneOf {
        texts: HashSet<String>,
        /// Sorted, for binary search.
        numbers: Vec<Number>,
    },
    /// Contains a part, case-sensitive. The next three ignore case; their parts are lower case.
    ContainsExact(String),
    Contains(String),
    StartsWith(String),
    EndsWith(String),
    /// A pattern, with the literal prefixes of its matches if searching for them is faster.
    Matches(Regex, Option<Prefixes>),
    Compares(Comparison, Number),
    Within(Number, Number),
    Outside(Number, Number),
    Dated(Comparison, i64),
    Version(Comparison, Version),
    NoVersionOf(Vec<Version>),
    InVersions(VersionRange),
}

/// A comparison of two ordered values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    #[inline]
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
        }
    }
}

impl Predicate {
    #[inline]
    pub fn matches_missing(&self) -> bool {
        self.missing
    }

    /// The estimated cost of testing a value, in units of about ten nanoseconds.
    pub fn work(&self, stored: Stored) -> u64 {
        let tests = match &self.rule {
            Rule::Constant(_) => return 1,
            Rule::Any(tests) | Rule::NoneOf(tests) => tests.len() as u64,
        };
        let length = size(stored);
        // A pattern may take time in proportion to its size for each byte.
        tests * (1 + length / 64) + u64::from(self.pattern_cost) * length
    }

    /// The instants that the predicate compares dates with.
    pub fn dates(&self) -> impl Iterator<Item = (Comparison, i64)> {
        let tests = match &self.rule {
            Rule::Constant(_) => [].as_slice(),
            Rule::Any(tests) | Rule::NoneOf(tests) => tests,
        };
        tests.iter().filter_map(|test| match test {
            ValueTest::Dated(comparison, instant) => Some((*comparison, *instant)),
            _ => None,
        })
    }

    /// Adds the cost of the predicate's patterns to `total`. Fails beyond the budget of a filter.
    pub fn charge_patterns(&self, total: &mut u32, path: &str) -> Result<(), FilterError> {
        *total = total.saturating_add(self.pattern_cost);
        if *total > compile::PATTERN_BUDGET {
            return Err(FilterError::calculation(path, compile::TOO_MANY_PATTERNS));
        }
        Ok(())
    }

    pub fn matches<'a>(&self, stored: impl Into<Stored<'a>>) -> bool {
        let stored = stored.into();
        if stored == Stored::Json(&Value::Null) {
            return self.missing;
        }
        let holds = |test: &ValueTest| test.holds(stored, &self.time_zone);
        match &self.rule {
            Rule::Constant(answer) => *answer,
            Rule::Any(tests) => tests.iter().any(holds),
            Rule::NoneOf(tests) => !tests.iter().any(holds),
        }
    }

    /// Sets `marks[i]` to the answer for the double with the bits `doubles[i]`.
    pub fn mark_doubles(&self, doubles: &[u64], marks: &mut [bool]) {
        let comparison = match &self.rule {
            Rule::Any(tests) => match tests.as_slice() {
                [ValueTest::Compares(comparison, bound)] => {
                    bound.as_double().map(|bound| (*comparison, bound))
                }
                _ => None,
            },
            _ => None,
        };
        fn mark(doubles: &[u64], marks: &mut [bool], holds: impl Fn(f64) -> bool) {
            for (mark, bits) in marks.iter_mut().zip(doubles) {
                *mark = holds(f64::from_bits(*bits));
            }
        }
        match comparison {
            // The bound is exact, so comparing doubles gives the same answer.
            Some((Comparison::Greater, bound)) => mark(doubles, marks, |double| double > bound),
            Some((Comparison::GreaterOrEqual, bound)) => {
                mark(doubles, marks, |double| double >= bound)
            }
            Some((Comparison::Less, bound)) => mark(doubles, marks, |double| double < bound),
            Some((Comparison::LessOrEqual, bound)) => {
                mark(doubles, marks, |double| double <= bound)
            }
            Some((Comparison::Equal, _)) | None => mark(doubles, marks, |double| {
                self.matches(Stored::Double(double.to_bits()))
            }),
        }
    }

    /// The estimated cost of testing an instant, in the units of [`Predicate::work`].
    pub fn work_of_instant(&self) -> u64 {
        match &self.rule {
            Rule::Constant(_) => 1,
            Rule::Any(tests) | Rule::NoneOf(tests) => tests.len() as u64,
        }
    }

    /// The answer for a value that is an instant, such as the creation time of a person.
    #[inline]
    pub fn matches_instant(&self, instant: i64) -> bool {
        let holds = |test: &ValueTest| match test {
            ValueTest::Dated(comparison, bound) => comparison.holds(instant.cmp(bound)),
            _ => false,
        };
        match &self.rule {
            Rule::Constant(answer) => *answer,
            Rule::Any(tests) => tests.iter().any(holds),
            Rule::NoneOf(tests) => !tests.iter().any(holds),
        }
    }
}

impl ValueTest {
    fn holds(&self, stored: Stored, time_zone: &TimeZone) -> bool {
        match self {
            ValueTest::OneOf { texts, numbers } => is_one_of(stored, texts, numbers),
            ValueTest::ContainsExact(part) => text(stored).contains(part),
            ValueTest::Contains(part) => folded::contains(&text(stored), part),
            ValueTest::StartsWith(part) => folded::starts_with(&text(stored), part),
            ValueTest::EndsWith(part) => folded::ends_with(&text(stored), part),
            ValueTest::Matches(pattern, _) => pattern.is_match(text(stored).as_bytes()),
            ValueTest::Compares(comparison, bound) => {
                let number = Number::of(stored);
                number.is_some_and(|number| comparison.holds(number.compare(*bound)))
            }
            ValueTest::Within(low, high) => {
                Number::of(stored).is_some_and(|number| within(number, *low, *high))
            }
            ValueTest::Outside(low, high) => {
                Number::of(stored).is_some_and(|number| !within(number, *low, *high))
            }
            ValueTest::Dated(comparison, bound) => {
                let instant = date::stored_instant(stored, time_zone);
                instant.is_some_and(|instant| comparison.holds(instant.cmp(bound)))
            }
            ValueTest::Version(comparison, bound) => {
                with_version(stored, |version| comparison.holds(version.compare(bound)))
            }
            ValueTest::NoVersionOf(bounds) => with_version(stored, |version| {
                bounds.iter().all(|bound| version.compare(bound).is_ne())
            }),
            ValueTest::InVersions(range) => with_version(stored, |version| range.contains(version)),
        }
    }
}

/// The approximate length of a value's text, in bytes.
fn size(value: Stored) -> u64 {
    match value {
        Stored::Text(text) => text.len() as u64,
        Stored::Json(Value::Array(list)) => list.iter().map(|item| 4 + size(item.into())).sum(),
        Stored::Json(Value::Object(map)) => {
            let members = map.iter();
            members
                .map(|(key, value)| 4 + key.len() as u64 + size(value.into()))
                .sum()
        }
        Stored::Double(_) | Stored::Json(_) => 8,
    }
}

fn is_one_of(stored: Stored, texts: &HashSet<String>, numbers: &[Number]) -> bool {
    if texts.contains(text(stored).as_ref()) {
        return true;
    }
    if matches!(stored, Stored::Text(_)) {
        return false;
    }
    let is_listed = |number: Number| {
        numbers
            .binary_search_by(|candidate| candidate.compare(number))
            .is_ok()
    };
    Number::of(stored).is_some_and(is_listed)
}

fn within(number: Number, low: Number, high: Number) -> bool {
    number.compare(low).is_ge() && number.compare(high).is_le()
}

fn with_version(stored: Stored, test: impl FnOnce(&Version) -> bool) -> bool {
    Version::parse(&text(stored)).is_some_and(|version| test(&version))
}

#[cfg(test)]
mod tests;
