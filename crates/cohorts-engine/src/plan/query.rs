//! Queries that choose people, made into the same plans that filters give; nothing of a query ever runs as SQL.
//!
//! An `ActorsQuery` holds filters of people, all of which must be met. A `HogQLQuery` holds a SELECT over one of four
//! tables, or several joined by UNION, INTERSECT and EXCEPT:
//!
//! | table | columns |
//! | --- | --- |
//! | `persons` | `id`, `created_at`, `properties.…` |
//! | `events` | `person_id`, `event`, `timestamp`, `properties.…`, `person.properties.…`, `person.created_at` |
//! | `cohort_people`, `static_cohort_people` | `person_id`, `cohort_id`; either takes any cohort |
//!
//! Tests of properties mean what the operators of filters mean, a missing value included, so every test is either true
//! or false, as PostHog prints its queries too; NOT is the complement. What is not known is refused by its name: a
//! query that is accepted is answered as it is written.

mod column;
mod condition;
mod criteria;
mod instant;
mod operand;
mod select;
mod sql;
mod column_test;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use super::{Criterion, Plan, Planner, Tree, check_moment};
use crate::FilterError;
use crate::condition::Condition;
use crate::filter::Filter;
use crate::window::Moment;

/// Where in a cohort a query stands.
const PATH: &str = "query";

/// Each of them takes a set of people while a plan is evaluated.
const MAX_TESTS: usize = 1_000;

/// The kinds of queries there are.
pub const QUERY_KINDS: [&str; 2] = ["ActorsQuery", "HogQLQuery"];

/// Makes a plan of the query of a static cohort. Errors have the path `query` and name what is not supported.
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
    Ok(planner.finish(root))
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
            return Err(unsupported(format!("'{key}' beside the text")));
        }
    }
    let Some(text) = query["query"].as_str() else {
        let sentence = "a HogQLQuery must have its text in 'query'";
        return Err(FilterError::input(PATH, sentence));
    };
    select::query(&sql::parse(text)?, planner)
}

/// Filters of people, all of which must be met; how they would be shown is of no matter to a cohort.
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
        let place = |error: FilterError| inside(key, query[key].is_array(), error);
        let filter = Filter::parse_stored(&json!({"properties": group})).map_err(place)?;
        if filter.has_behavioral() {
            return Err(unsupported(format!("a filter of behaviour in '{key}'")));
        }
        trees.push(planner.group(&filter.root, "properties").map_err(place)?);
    }
    Ok(Tree::And(trees))
}

/// Null, or nothing in it.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A list of filters, or a tree of them, as the tree of a filter; nothing where it says nothing.
fn group(key: &str, value: &Value) -> Result<Option<Value>, FilterError> {
    match value {
        value if is_blank(value) => Ok(None),
        Value::Object(_) => Ok(Some(value.clone())),
        // An empty filter is how an editor sends a row that was never filled in.
        Value::Array(list) if list.iter().all(is_blank) => Ok(None),
        Value::Array(list) => Ok(Some(json!({"type": "AND", "values": list}))),
        _ => {
            let sentence = format!("'{key}' must be a list of filters or a group of them");
            Err(FilterError::input(PATH, sentence))
        }
    }
}

/// An error of a filter inside the query, by its place in the query.
fn inside(key: &str, listed: bool, error: FilterError) -> FilterError {
    let place = error.path.strip_prefix("properties").unwrap_or_default();
    let place = match listed {
        true => place.strip_prefix(".values").unwrap_or(place),
        false => place,
    };
    // Most sentences open with their place.
    let opening = format!("{}: ", error.path);
    let sentence = error.detail.strip_prefix(&opening).unwrap_or(&error.detail);
    FilterError::new(
        PATH,
        "invalid_input",
        format!("{PATH}.{key}{place}: {sentence}"),
    )
}

impl Condition<Tree> {
    /// The condition over people as a tree, whose leaves alone are negated.
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
    /// The cohorts that the plan names itself.
    pub fn cohort_references(&self) -> BTreeSet<i64> {
        let ids = self.leaves.iter().filter_map(|leaf| match leaf {
            Criterion::Cohort(id) => Some(*id),
            _ => None,
        });
        ids.collect()
    }
}

#[cfg(test)]
mod tests;
