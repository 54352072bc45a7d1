//! From tests of columns to the criteria of a plan.

use std::collections::BTreeSet;

use serde_json::Value;

use super::column::{Aggregate, SqlColumn};
use super::column_test::{Check, ColumnTest};
use super::unsupported;
use crate::FilterError;
use crate::condition::Condition;
use crate::plan::{Criterion, GroupTest, Planner, RowTest, Tree};
use crate::predicate::Comparison;

/// A test of people, as a tree.
pub(super) fn people(test: &ColumnTest, planner: &mut Planner) -> Result<Condition<Tree>, FilterError> {
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

/// A test of an event, or of the person who did it.
pub(super) fn rows(test: &ColumnTest, planner: &mut Planner) -> Result<Condition<RowTest>, FilterError> {
    let row = match (&test.column, &test.check) {
        (SqlColumn::Event, Check::Compares(Comparison::Equal, Value::String(name))) => {
            RowTest::Named(BTreeSet::from([name.clone()]))
        }
        (SqlColumn::Event, Check::OneOf(names)) => {
            let names = names.iter().filter_map(Value::as_str);
            RowTest::Named(names.map(str::to_owned).collect())
        }
        (SqlColumn::Event, check) => RowTest::Name(check.predicate(planner.moment)?),
        (SqlColumn::EventProperty(key), check) => {
            RowTest::Property(key.clone(), check.predicate(planner.moment)?)
        }
        (SqlColumn::Timestamp, Check::Instant(comparison, instant)) => {
            RowTest::Time(*comparison, *instant)
        }
        _ => {
            let people = people(test, planner)?;
            RowTest::Person(people.into_tree(false))
        }
    };
    Ok(Condition::Test(row))
}

/// The members of one cohort, or of any of several, perhaps narrowed by who they are.
pub(super) fn members(
    condition: Condition<ColumnTest>,
    planner: &mut Planner,
) -> Result<Tree, FilterError> {
    let parts = match condition {
        Condition::All(parts) => parts,
        one => vec![one],
    };
    let (of, others): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|part| cohorts(part).is_some());
    let [of] = of.as_slice() else {
        let what = "a membership without one test of the form cohort_id = 1 or cohort_id IN (1, 2)";
        return Err(unsupported(what));
    };
    let mut trees = Vec::new();
    for id in cohorts(of).unwrap_or_default() {
        let text = id.as_str().and_then(|text| text.parse().ok());
        let Some(id) = id.as_i64().or(text) else {
            return Err(unsupported(format!("{id} as the id of a cohort")));
        };
        trees.push(planner.add(Criterion::Cohort(id)));
    }
    let others = Condition::All(others).try_map(&mut |test| people(test, planner))?;
    Ok(Tree::And(vec![Tree::Or(trees), others.into_tree(false)]))
}

/// The ids that a membership is check for.
fn cohorts(part: &Condition<ColumnTest>) -> Option<Vec<Value>> {
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

/// What HAVING asks of the events of a person.
pub(super) fn group(test: &ColumnTest) -> Result<Condition<GroupTest>, FilterError> {
    let no = || unsupported(format!("this test of {} in HAVING", test.column));
    let SqlColumn::Aggregate(aggregate) = &test.column else {
        return Err(no());
    };
    let count = |comparison, number: &Value| match number.as_i64() {
        Some(number) => Ok(GroupTest::Count(comparison, number)),
        None => Err(no()),
    };
    let one = match (aggregate, &test.check) {
        (Aggregate::Count, Check::Compares(comparison, number)) => count(*comparison, number)?,
        (Aggregate::Count, Check::OneOf(numbers)) => {
            let equal = |number| Ok(Condition::Test(count(Comparison::Equal, number)?));
            let any = numbers.iter().map(equal);
            return Ok(Condition::Any(any.collect::<Result<_, FilterError>>()?));
        }
        (Aggregate::First, Check::Instant(comparison, instant)) => {
            GroupTest::First(*comparison, *instant)
        }
        (Aggregate::Last, Check::Instant(comparison, instant)) => {
            GroupTest::Last(*comparison, *instant)
        }
        _ => return Err(no()),
    };
    Ok(Condition::Test(one))
}
