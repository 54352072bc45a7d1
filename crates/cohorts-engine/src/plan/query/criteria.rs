//! Converts column tests to the criteria of a plan.

use std::collections::BTreeSet;

use serde_json::Value;

use super::column::{Aggregate, SqlColumn};
use super::column_test::{Check, ColumnTest};
use super::unsupported;
use crate::FilterError;
use crate::condition::Condition;
use crate::parse::event_name;
use crate::plan::{Criterion, GroupTest, Planner, RowTest, Tree};
use crate::predicate::Comparison;
use crate::value::Number;

/// Converts a test of a person to a tree.
pub(super) fn persons(
    test: &ColumnTest,
    planner: &mut Planner,
) -> Result<Condition<Tree>, FilterError> {
    let tree = match (&test.column, &test.check) {
        (SqlColumn::Person, Check::Among(tree)) => tree.clone(),
        (SqlColumn::PersonProperty(key), check) => {
            let predicate = check.predicate(planner.moment)?;
            planner.add(Criterion::Property {
                key: key.clone(),
                predicate,
            })
        }
        (SqlColumn::PersonCreatedAt, check @ Check::Instant(..)) => {
            let predicate = check.predicate(planner.moment)?;
            planner.add(Criterion::CreatedAt(predicate))
        }
        (column, _) => return Err(unsupported(format!("this test of {column}"))),
    };
    Ok(Condition::Test(tree))
}

/// Converts a test of an event, or of its person.
pub(super) fn rows(
    test: &ColumnTest,
    planner: &mut Planner,
) -> Result<Condition<RowTest>, FilterError> {
    let row = match (&test.column, &test.check) {
        (SqlColumn::Event, Check::Compares(Comparison::Equal, Value::String(name))) => {
            RowTest::Named(BTreeSet::from([event_name(name)]))
        }
        (SqlColumn::Event, Check::OneOf(names)) => {
            let names = names.iter().filter_map(Value::as_str);
            RowTest::Named(names.map(event_name).collect())
        }
        (SqlColumn::Event, check) => RowTest::Name(check.predicate(planner.moment)?),
        (SqlColumn::EventProperty(key), check) => {
            RowTest::Property(key.clone(), check.predicate(planner.moment)?)
        }
        (SqlColumn::Timestamp, Check::Instant(comparison, instant)) => {
            RowTest::Time(*comparison, *instant)
        }
        _ => {
            let persons = persons(test, planner)?;
            RowTest::Person(persons.into_tree(false))
        }
    };
    Ok(Condition::Test(row))
}

/// Converts a condition over a membership table: exactly one test of `cohort_id`, joined by AND
/// with any tests of the person.
pub(super) fn members(
    condition: Condition<ColumnTest>,
    planner: &mut Planner,
) -> Result<Tree, FilterError> {
    let parts = match condition {
        Condition::All(parts) => parts,
        part => vec![part],
    };
    let (cohort_tests, other_tests): (Vec<_>, Vec<_>) = parts
        .into_iter()
        .partition(|part| cohort_ids(part).is_some());
    let [cohort_test] = cohort_tests.as_slice() else {
        let construct =
            "a membership without one test of the form cohort_id = 1 or cohort_id IN (1, 2)";
        return Err(unsupported(construct));
    };
    let mut trees = Vec::new();
    for id in cohort_ids(cohort_test).unwrap_or_default() {
        let text = id.as_str().and_then(|text| text.parse().ok());
        let Some(id) = id.as_i64().or(text) else {
            return Err(unsupported(format!("{id} as the id of a cohort")));
        };
        trees.push(planner.add(Criterion::Cohort(id)));
    }
    let persons = Condition::All(other_tests).try_map(&mut |test| persons(test, planner))?;
    Ok(Tree::And(vec![Tree::Or(trees), persons.into_tree(false)]))
}

/// The cohort ids of a test of the form `cohort_id = 1` or `cohort_id IN (1, 2)`.
fn cohort_ids(part: &Condition<ColumnTest>) -> Option<Vec<Value>> {
    match part {
        Condition::Test(ColumnTest {
            column: SqlColumn::CohortId,
            check,
        }) => match check {
            Check::Compares(Comparison::Equal, id) => Some(vec![id.clone()]),
            Check::OneOf(ids) => Some(ids.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Converts a test in HAVING.
pub(super) fn group(test: &ColumnTest) -> Result<Condition<GroupTest>, FilterError> {
    let refusal = || unsupported(format!("this test of {} in HAVING", test.column));
    let SqlColumn::Aggregate(aggregate) = &test.column else {
        return Err(refusal());
    };
    let compare = |comparison, value: &Value| {
        let decimal = || Number::of(value).map(Number::to_decimal);
        let test = match aggregate {
            Aggregate::Count => value
                .as_i64()
                .map(|number| GroupTest::Count(comparison, number)),
            Aggregate::Distinct(key) => value
                .as_i64()
                .map(|number| GroupTest::Distinct(key.clone(), comparison, number)),
            Aggregate::Sum(key) => {
                decimal().map(|number| GroupTest::Sum(key.clone(), comparison, number))
            }
            Aggregate::Average(key) => {
                decimal().map(|number| GroupTest::Average(key.clone(), comparison, number))
            }
            Aggregate::First | Aggregate::Last => None,
        };
        test.ok_or_else(refusal)
    };
    let test = match (aggregate, &test.check) {
        (_, Check::Compares(comparison, number)) => compare(*comparison, number)?,
        (_, Check::OneOf(numbers)) => {
            let is_equal = |number| Ok(Condition::Test(compare(Comparison::Equal, number)?));
            let tests = numbers.iter().map(is_equal);
            return Ok(Condition::Any(tests.collect::<Result<_, FilterError>>()?));
        }
        (Aggregate::First, Check::Instant(comparison, instant)) => {
            GroupTest::First(*comparison, *instant)
        }
        (Aggregate::Last, Check::Instant(comparison, instant)) => {
            GroupTest::Last(*comparison, *instant)
        }
        _ => return Err(refusal()),
    };
    Ok(Condition::Test(test))
}
