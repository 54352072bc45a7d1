//! Turns a filter into a plan, and finds everything that can be wrong with a stored filter.

use std::collections::HashMap;

use serde_json::Value;

use super::{Criterion, PlacedLeaf, Plan, Tree, behavioral};
use crate::FilterError;
use crate::filter::{Filter, Group, Join, Leaf, Node, PersonLeaf};
use crate::names::stored_name;
use crate::parse::long_name;
use crate::predicate::Predicate;
use crate::window::Moment;

/// Makes a plan of `filter` for the moment `at`. A filter without criteria has no members.
///
/// # Errors
///
/// Fails if the filter cannot be calculated: with code `no_properties` for an empty group below
/// the root, and otherwise with `validation_error`, for example for an unknown operator, a missing
/// or impossible time window, regular expressions beyond their budget, or a definition that is
/// negative as a whole. The path names the node, such as `properties.values[0]`.
pub fn plan(filter: &Filter, at: &Moment) -> Result<Plan, FilterError> {
    check_moment(at)?;
    let mut planner = Planner::new(at);
    if filter.is_empty() {
        return Ok(planner.finish(Tree::Or(Vec::new())));
    }
    let root = planner.group(&filter.root, "properties")?;
    if is_negative_group(&filter.root) {
        return Err(FilterError::calculation(
            "properties",
            "the top level condition cannot be negated; every way to become a member needs a \
             positive criterion",
        ));
    }
    Ok(planner.finish(root))
}

pub(super) fn check_moment(at: &Moment) -> Result<(), FilterError> {
    if at.local().is_some() && at.today_end().is_some() {
        return Ok(());
    }
    let sentence = "the moment of the calculation is outside the calendar";
    Err(FilterError::new("", "validation_error", sentence))
}

/// An AND group is negative if all its values are, an OR group if any value is.
fn is_negative_group(group: &Group) -> bool {
    let mut values = group.values.iter();
    match group.join {
        Join::And => values.all(is_negative),
        Join::Or => values.any(is_negative),
    }
}

fn is_negative(node: &Node) -> bool {
    match node {
        Node::Group(group) => is_negative_group(group),
        Node::Leaf(leaf) => leaf.negated(),
    }
}

/// Collects the criteria of one plan.
pub(super) struct Planner<'a> {
    pub moment: &'a Moment,
    pub leaves: Vec<Criterion>,
    /// The index of each leaf by its identity.
    by_identity: HashMap<String, usize>,
    criteria: Vec<PlacedLeaf>,
    /// The cost of the patterns so far, in units of the budget.
    pub pattern_cost: u32,
}

impl<'a> Planner<'a> {
    pub fn new(moment: &'a Moment) -> Planner<'a> {
        Planner {
            moment,
            leaves: Vec::new(),
            by_identity: HashMap::new(),
            criteria: Vec::new(),
            pattern_cost: 0,
        }
    }

    pub fn finish(self, root: Tree) -> Plan {
        let mut identities = vec![None; self.leaves.len()];
        for (identity, leaf) in self.by_identity {
            identities[leaf] = Some(identity);
        }
        Plan {
            moment: self.moment.clone(),
            leaves: self.leaves,
            identities,
            root,
            criteria: self.criteria,
        }
    }

    /// Adds a criterion without an identity, which no other leaf shares.
    pub fn add(&mut self, criterion: Criterion) -> Tree {
        self.leaves.push(criterion);
        Tree::Leaf {
            leaf: self.leaves.len() - 1,
            negated: false,
        }
    }

    pub fn group(&mut self, group: &Group, path: &str) -> Result<Tree, FilterError> {
        if group.values.is_empty() {
            let detail = format!("{path}: a group has no criteria in it");
            return Err(FilterError::new(path, "no_properties", detail));
        }
        let mut trees = Vec::new();
        for (index, node) in group.values.iter().enumerate() {
            let path = format!("{path}.values[{index}]");
            trees.push(match node {
                Node::Group(inner) => self.group(inner, &path)?,
                Node::Leaf(leaf) => self.leaf(leaf, path)?,
            });
        }
        trees.sort_by_key(|tree| self.cost(tree));
        Ok(match group.join {
            Join::And => Tree::And(trees),
            Join::Or => Tree::Or(trees),
        })
    }

    /// The cost of the most expensive leaf; the trees of a group are sorted already.
    fn cost(&self, tree: &Tree) -> u8 {
        match tree {
            Tree::Leaf { leaf, .. } => self.leaves[*leaf].cost(),
            Tree::And(trees) | Tree::Or(trees) => trees.last().map_or(0, |last| self.cost(last)),
        }
    }

    fn leaf(&mut self, leaf: &Leaf, path: String) -> Result<Tree, FilterError> {
        let negated = leaf.negated();
        let identity = identity(leaf);
        let leaf = match self.by_identity.get(&identity) {
            Some(index) => *index,
            None => {
                let criterion = criterion(leaf, &path, self.moment)?;
                if let Some(sentence) = long_name_of(&criterion) {
                    return Err(FilterError::calculation(&path, sentence));
                }
                for predicate in criterion.predicates() {
                    predicate.charge_patterns(&mut self.pattern_cost, &path)?;
                }
                self.leaves.push(criterion);
                self.by_identity.insert(identity, self.leaves.len() - 1);
                self.leaves.len() - 1
            }
        };
        self.criteria.push(PlacedLeaf {
            path,
            negated,
            leaf,
        });
        Ok(Tree::Leaf { leaf, negated })
    }
}

/// A sentence about a name in the criterion that is too long.
pub(super) fn long_name_of(criterion: &Criterion) -> Option<String> {
    let names = criterion.names().into_iter();
    names.filter_map(|name| long_name("a name", name)).next()
}

/// The JSON text of a leaf without its negation. Leaves with equal identity select the same
/// persons at the same moment.
fn identity(leaf: &Leaf) -> String {
    let mut leaf = leaf.clone();
    match &mut leaf {
        Leaf::Person(leaf) | Leaf::PersonMetadata(leaf) => leaf.negation = false,
        Leaf::Cohort(leaf) => leaf.negation = false,
        Leaf::Behavioral(leaf) => leaf.negation = false,
    }
    serde_json::to_string(&leaf).unwrap_or_default()
}

fn criterion(leaf: &Leaf, path: &str, at: &Moment) -> Result<Criterion, FilterError> {
    match leaf {
        Leaf::Person(leaf) => Ok(match leaf.key.as_str() {
            "distinct_id" => {
                Criterion::DistinctId(person_predicate(&with_stored_ids(leaf), path, at)?)
            }
            key => Criterion::Property {
                key: key.to_owned(),
                predicate: person_predicate(leaf, path, at)?,
            },
        }),
        Leaf::PersonMetadata(leaf) => created_at(leaf, path, at),
        Leaf::Cohort(leaf) => Ok(Criterion::Cohort(leaf.value)),
        Leaf::Behavioral(leaf) => behavioral::criterion(leaf, path, at),
    }
}

/// A leaf on distinct ids. The ids that it compares with are in their stored form; parts of ids and patterns are unchanged.
fn with_stored_ids(leaf: &PersonLeaf) -> PersonLeaf {
    let mut leaf = leaf.clone();
    if let None | Some("exact" | "is_not" | "in" | "not_in") = leaf.operator.as_deref() {
        let ids = match &mut leaf.value {
            Some(Value::Array(ids)) => ids.as_mut_slice(),
            Some(id) => std::slice::from_mut(id),
            None => &mut [],
        };
        for id in ids {
            if let Value::String(text) = id {
                *text = stored_name(text).into_owned();
            }
        }
    }
    leaf
}

fn created_at(leaf: &PersonLeaf, path: &str, at: &Moment) -> Result<Criterion, FilterError> {
    let operator = leaf.operator.as_deref().unwrap_or("exact");
    if !operator.starts_with("is_date_") && !matches!(operator, "is_set" | "is_not_set") {
        let sentence = format!(
            "operator '{operator}' cannot be used with created_at; expected one of \
             is_date_exact, is_date_before, is_date_after"
        );
        return Err(FilterError::calculation(path, sentence));
    }
    Ok(Criterion::CreatedAt(person_predicate(leaf, path, at)?))
}

fn person_predicate(leaf: &PersonLeaf, path: &str, at: &Moment) -> Result<Predicate, FilterError> {
    Predicate::compile(path, leaf.operator.as_deref(), leaf.value.as_ref(), at)
}
