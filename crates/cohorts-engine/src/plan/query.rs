//! Turns the query of a cohort into a plan, as for a filter. No query runs as SQL.
//!
//! An `ActorsQuery` has lists of person filters, which must all be satisfied. A `HogQLQuery` is a
//! SELECT over one of these tables, or several SELECTs joined by UNION, INTERSECT and EXCEPT:
//!
//! | table | columns |
//! | --- | --- |
//! | `persons` | `id`, `created_at`, `properties.…` |
//! | `events` | `person_id`, `event`, `timestamp`, `properties.…`, `person.properties.…`, `person.created_at` |
//! | `cohort_people`, `static_cohort_people` | `person_id`, `cohort_id`; both accept any cohort |
//!
//! `HAVING` compares `count()`, `min(timestamp)` and `max(timestamp)` of a person's events, and of
//! their numbers or values of a property `sum`, `avg`, `uniq` and `count(DISTINCT …)`.
//!
//! Tests of properties have the meaning of the filter operators, also for missing values. Logic is
//! therefore two-valued, as in the SQL that PostHog generates, and NOT is the complement.
//! Unsupported constructs are refused by name, never ignored.
//! A SELECT over `persons` or `events` may return constants only, as in `select 1 from events`.

mod column;
mod column_test;
mod condition;
mod criteria;
mod instant;
mod operand;
mod select;
mod sql;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use super::planner::long_name_of;
use super::{Criterion, Plan, Planner, Tree, check_moment};
use crate::FilterError;
use crate::condition::Condition;
use crate::filter::Filter;
use crate::window::Moment;

/// The path of all errors.
const PATH: &str = "query";

/// Criteria of one plan; each takes a bitmap during evaluation.
const MAX_TESTS: usize = 1_000;

/// The supported values of `kind` in a query.
pub const QUERY_KINDS: [&str; 2] = ["ActorsQuery", "HogQLQuery"];

/// Makes a plan of the query of a cohort for the moment `at`.
///
/// A query has at most 64 KiB of text, 500 keywords and operators, 50 levels of parentheses, 1,000
/// tests, and 1,000 bytes in the name of a property or an event.
///
/// # Errors
///
/// Fails with code `invalid_input` and path `query` if the query is malformed, exceeds a limit, or
/// uses an unsupported construct, which the sentence names. Fails with `validation_error` if `at`
/// is outside the calendar.
pub fn plan_query(query: &Value, at: &Moment) -> Result<Plan, FilterError> {
    check_moment(at)?;
    let mut planner = Planner::new(at);
    let root = match query["kind"].as_str() {
        Some("HogQLQuery") => hogql(query, &mut planner)?,
        Some("ActorsQuery") => actors(query, &mut planner)?,
        kind => {
            let kind = kind.unwrap_or("None");
            let sentence = format!(
                "the kind must be one of {}, got {kind}",
                QUERY_KINDS.join(", ")
            );
            return Err(FilterError::input(PATH, sentence));
        }
    };
    if planner.leaves.len() > MAX_TESTS {
        let sentence = format!("a query may test {MAX_TESTS} things at most; a list for IN is one");
        return Err(FilterError::input(PATH, sentence));
    }
    if let Some(sentence) = planner.leaves.iter().find_map(long_name_of) {
        return Err(FilterError::input(PATH, sentence));
    }
    let mut plan = planner.finish(root);
    for placed in &mut plan.criteria {
        placed.path = PATH.to_owned();
    }
    Ok(plan)
}

fn unsupported(what: impl fmt::Display) -> FilterError {
    FilterError::input(
        PATH,
        format!("{what} is not supported in the query of a cohort"),
    )
}

fn hogql(query: &Value, planner: &mut Planner) -> Result<Tree, FilterError> {
    for key in ["filters", "variables", "values"] {
        if query.get(key).is_some_and(|value| !is_blank(value)) {
            return Err(unsupported(format!("'{key}' of a HogQLQuery")));
        }
    }
    let Some(text) = query["query"].as_str() else {
        let sentence = "a HogQLQuery must have its text in 'query'";
        return Err(FilterError::input(PATH, sentence));
    };
    select::query(&sql::parse(text)?, planner)
}

/// The person filters of an ActorsQuery. Members about presentation, such as `select`, are ignored.
fn actors(query: &Value, planner: &mut Planner) -> Result<Tree, FilterError> {
    if !is_blank(&query["source"]) {
        let kind = query["source"]["kind"].as_str().unwrap_or("of no kind");
        return Err(unsupported(format!(
            "an ActorsQuery whose source is {kind}"
        )));
    }
    if !is_blank(&query["search"]) {
        return Err(unsupported("'search' in an ActorsQuery"));
    }
    let mut trees = Vec::new();
    for key in ["properties", "fixedProperties"] {
        let Some(group) = group(key, &query[key])? else {
            continue;
        };
        let in_query = |error: FilterError| error_in_query(key, &query[key], error);
        let filter = Filter::parse_stored(&json!({"properties": group})).map_err(in_query)?;
        if filter.has_behavioral() {
            return Err(unsupported(format!("a filter of behaviour in '{key}'")));
        }
        trees.push(
            planner
                .group(&filter.root, "properties")
                .map_err(in_query)?,
        );
    }
    Ok(Tree::And(trees))
}

/// Whether a value is null, or an empty text, list or object.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Converts a list of filters, or a group of them, to a group; `None` if it has no filters.
fn group(key: &str, value: &Value) -> Result<Option<Value>, FilterError> {
    match value {
        value if is_blank(value) => Ok(None),
        Value::Object(_) => Ok(Some(value.clone())),
        // PostHog's editor sends an unused row as an empty object.
        Value::Array(list) if list.iter().all(is_blank) => Ok(None),
        Value::Array(list) => Ok(Some(json!({"type": "AND", "values": list}))),
        _ => {
            let sentence = format!("'{key}' must be a list of filters or a group of them");
            Err(FilterError::input(PATH, sentence))
        }
    }
}

/// Converts an error in the filter that `group` made of `value` to an error of the query.
fn error_in_query(key: &str, value: &Value, error: FilterError) -> FilterError {
    let path = error.path.strip_prefix("properties").unwrap_or_default();
    let path = if value.is_array() {
        path.strip_prefix(".values").unwrap_or(path)
    } else {
        path
    };
    // Most sentences start with the path.
    let start = format!("{}: ", error.path);
    let sentence = error.detail.strip_prefix(&start).unwrap_or(&error.detail);
    let detail = format!("{PATH}.{key}{path}: {sentence}");
    FilterError::new(PATH, "invalid_input", detail)
}

impl Condition<Tree> {
    /// Converts the condition to a tree, in which only leaves are negated.
    fn into_tree(self, negated: bool) -> Tree {
        let all = |parts: Vec<Condition<Tree>>| {
            let parts = parts.into_iter();
            parts.map(|part| part.into_tree(negated)).collect()
        };
        match (self, negated) {
            (Condition::Test(tree), false) => tree,
            (Condition::Test(tree), true) => tree.negated(),
            (Condition::Not(inner), _) => inner.into_tree(!negated),
            (Condition::All(parts), false) | (Condition::Any(parts), true) => Tree::And(all(parts)),
            (Condition::Any(parts), false) | (Condition::All(parts), true) => Tree::Or(all(parts)),
        }
    }
}

impl Tree {
    fn negated(self) -> Tree {
        let all = |trees: Vec<Tree>| trees.into_iter().map(Tree::negated).collect();
        match self {
            Tree::Leaf { leaf, negated } => Tree::Leaf {
                leaf,
                negated: !negated,
            },
            Tree::And(trees) => Tree::Or(all(trees)),
            Tree::Or(trees) => Tree::And(all(trees)),
        }
    }
}

impl Plan {
    /// The ids of the cohorts that the plan refers to directly.
    pub fn cohort_references(&self) -> BTreeSet<i64> {
        let references = self.placed_references().into_iter();
        references.map(|reference| reference.cohort).collect()
    }

    /// The cohorts that the plan refers to directly, each with the first place that names it.
    pub fn placed_references(&self) -> Vec<PlacedReference> {
        let leaves = self.leaves.iter().enumerate();
        let references = leaves.filter_map(|(leaf, criterion)| match criterion {
            Criterion::Cohort(cohort) => Some(PlacedReference {
                path: self.path_of(leaf),
                cohort: *cohort,
            }),
            _ => None,
        });
        references.collect()
    }

    /// The path of a leaf. The conditions of a query have no paths of their own.
    fn path_of(&self, leaf: usize) -> String {
        let placed = self.criteria.iter().find(|placed| placed.leaf == leaf);
        placed.map_or_else(|| PATH.to_owned(), |placed| placed.path.clone())
    }
}

/// A reference to another cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedReference {
    /// The path of the criterion, such as `properties.values[0]`; `query` in a query.
    pub path: String,
    /// The id of the other cohort.
    pub cohort: i64,
}

#[cfg(test)]
mod tests;
