//! From a filter to what is asked of a source: windows become instants, operators become
//! predicates, leaves that recur are found once, and cheap leaves come first.
//! Everything that can be wrong with a stored filter is found here.

mod behavioral;
mod query;

use std::collections::{BTreeSet, HashMap};

use crate::FilterError;
use crate::condition::Condition;
use crate::filter::{Filter, Group, Join, Leaf, Node, PersonLeaf};
use crate::predicate::{Comparison, Predicate};
use crate::window::{Moment, Range};

pub(crate) use behavioral::Count;
pub use query::{QUERY_KINDS, plan_query};

/// A filter made ready for evaluation at one moment.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) moment: Moment,
    pub(crate) leaves: Vec<Criterion>,
    /// By leaf: what it is known by in other plans of the same moment, if by anything.
    pub(crate) identities: Vec<Option<String>>,
    pub(crate) root: Tree,
    criteria: Vec<PlacedLeaf>,
}

/// Where a leaf stands in the filter, and which criterion it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedLeaf {
    /// Such as `properties.values[0].values[2]`.
    pub path: String,
    /// Whether the complement is meant.
    pub negated: bool,
    pub(crate) leaf: usize,
}

/// The joins of a plan over its leaves, cheap ones first.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Leaf {
        leaf: usize,
        negated: bool,
    },
    And(Vec<Tree>),
    /// Of nothing: nobody.
    Or(Vec<Tree>),
}

/// The positive meaning of one leaf.
#[derive(Clone, Debug)]
pub(crate) enum Criterion {
    Property { key: String, predicate: Predicate },
    DistinctId(Predicate),
    CreatedAt(Predicate),
    Cohort(i64),
    Behavior { target: Target, rule: Behavior },
    Rows(Box<RowCriterion>),
}

/// Persons with events that meet a condition, which all of theirs together must meet another one.
#[derive(Clone, Debug)]
pub(crate) struct RowCriterion {
    pub condition: Condition<RowTest>,
    pub having: Condition<GroupTest>,
}

/// A test of one event, or of the persons `P`.
#[derive(Clone, Debug)]
pub(crate) enum RowTest<P = Tree> {
    Named(BTreeSet<String>),
    Name(Predicate),
    Property(String, Predicate),
    Time(Comparison, i64),
    /// Of who did it.
    Person(P),
}

/// A test of the chosen events of one person: how many, and the first and last instant.
#[derive(Clone, Debug)]
pub(crate) enum GroupTest {
    Count(Comparison, i64),
    First(Comparison, i64),
    Last(Comparison, i64),
}

/// Which events a behaviour is about.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub source: EventSource,
    /// Tests of properties, all of which must hold for the same event.
    pub filters: Vec<(String, Predicate)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventSource {
    Event(String),
    Action(i64),
}

/// What a person must have done with the events of a target.
#[derive(Clone, Debug)]
pub(crate) enum Behavior {
    Performed(Range),
    Counted(Range, Count),
    FirstTime(Range),
    Sequence {
        range: Range,
        second: Target,
        /// The longest way between the two events, in microseconds.
        within: i64,
    },
    Regularly {
        /// Latest first; period k runs from `starts[k + 1]` until just before `starts[k]`.
        starts: Vec<i64>,
        count: Count,
        min_periods: usize,
    },
    Stopped {
        outer: Range,
        inner: Range,
    },
    Restarted {
        recent: Range,
        pause: Range,
    },
}

impl Criterion {
    fn predicates(&self) -> Vec<&Predicate> {
        match self {
            Criterion::Property { predicate, .. }
            | Criterion::DistinctId(predicate)
            | Criterion::CreatedAt(predicate) => vec![predicate],
            Criterion::Behavior { target, .. } => {
                target.filters.iter().map(|(_, test)| test).collect()
            }
            Criterion::Cohort(_) | Criterion::Rows(_) => Vec::new(),
        }
    }

    /// A rank, the dearest last.
    fn cost(&self) -> u8 {
        match self {
            Criterion::Cohort(_) => 0,
            Criterion::CreatedAt(_) => 1,
            Criterion::Property { .. } => 2,
            Criterion::DistinctId(_) => 3,
            Criterion::Behavior { rule, .. } => match rule {
                Behavior::Performed(_) | Behavior::Counted(..) => 4,
                Behavior::Sequence { .. } | Behavior::Regularly { .. } => 5,
                Behavior::Stopped { .. } => 5,
                // These read the log from its start.
                Behavior::FirstTime(_) | Behavior::Restarted { .. } => 6,
            },
            Criterion::Rows(_) => 7,
        }
    }
}

impl Plan {
    /// Every leaf of the filter in the order written, each with its place.
    pub fn criteria(&self) -> &[PlacedLeaf] {
        &self.criteria
    }

    /// What its members depend on.
    pub fn dependencies(&self) -> Dependencies {
        let mut dependencies = Dependencies::default();
        self.leaves.iter().for_each(|leaf| leaf.collect_dependencies(&mut dependencies));
        // Somebody new has done nothing, which may be what is asked for.
        dependencies.persons |= self.criteria.iter().any(|placed| placed.negated);
        dependencies
    }

    /// Whether a plan of the same filter for another moment asks for the same: time alone changes none of its members.
    pub fn asks_same_instants(&self, other: &Plan) -> bool {
        self.instants()
            .is_some_and(|instants| Some(instants) == other.instants())
    }

    fn instants(&self) -> Option<Vec<i64>> {
        let mut instants = Vec::new();
        let told = self.leaves.iter().all(|leaf| leaf.collect_instants(&mut instants));
        told.then_some(instants)
    }

    /// The moment the plan was made for.
    pub fn moment(&self) -> &Moment {
        &self.moment
    }
}

/// What the members of a plan depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// The names of events; nothing that is named here means those of any name.
    pub events: BTreeSet<String>,
    pub every_event: bool,
    /// Anything about people themselves.
    pub persons: bool,
    /// Other cohorts, or actions, which may change without any event.
    pub definitions: bool,
}

impl Criterion {
    fn collect_dependencies(&self, dependencies: &mut Dependencies) {
        match self {
            Criterion::Property { .. } | Criterion::DistinctId(_) | Criterion::CreatedAt(_) => {
                dependencies.persons = true;
            }
            Criterion::Cohort(_) => dependencies.definitions = true,
            Criterion::Rows(_) => {
                dependencies.every_event = true;
                dependencies.persons = true;
                dependencies.definitions = true;
            }
            Criterion::Behavior { target, rule } => {
                target.source.collect_dependencies(dependencies);
                if let Behavior::Sequence { second, .. } = rule {
                    second.source.collect_dependencies(dependencies);
                }
            }
        }
    }

    /// Adds the instants that it compares with. False where it cannot tell.
    fn collect_instants(&self, instants: &mut Vec<i64>) -> bool {
        self.predicates()
            .iter()
            .for_each(|test| test.collect_instants(instants));
        let mut range = |range: &Range| instants.extend([range.from.unwrap_or(i64::MIN), range.to]);
        match self {
            Criterion::Rows(_) => return false,
            Criterion::Behavior { rule, .. } => match rule {
                Behavior::Performed(one) | Behavior::Counted(one, _) | Behavior::FirstTime(one) => {
                    range(one);
                }
                Behavior::Sequence {
                    range: one, second, ..
                } => {
                    range(one);
                    second
                        .filters
                        .iter()
                        .for_each(|(_, test)| test.collect_instants(instants));
                }
                Behavior::Regularly { starts, .. } => instants.extend(starts),
                Behavior::Stopped { outer, inner } => {
                    range(outer);
                    range(inner);
                }
                Behavior::Restarted { recent, pause } => {
                    range(recent);
                    range(pause);
                }
            },
            _ => {}
        }
        true
    }
}

impl EventSource {
    fn collect_dependencies(&self, dependencies: &mut Dependencies) {
        match self {
            EventSource::Event(name) => drop(dependencies.events.insert(name.clone())),
            // Its steps may be changed, and name events that nobody knows here.
            EventSource::Action(_) => {
                dependencies.every_event = true;
                dependencies.definitions = true;
            }
        }
    }
}

/// Makes a plan, or says why the filter cannot be calculated. A filter without criteria plans
/// to nobody.
pub fn plan(filter: &Filter, at: &Moment) -> Result<Plan, FilterError> {
    check_moment(at)?;
    let mut planner = Planner::new(at);
    let root = match filter.is_empty() {
        true => Tree::Or(Vec::new()),
        false => planner.group(&filter.root, "properties")?,
    };
    if !filter.is_empty() && negative_group(&filter.root) {
        return Err(FilterError::calculation(
            "properties",
            "the top level condition cannot be negated; every way to become a member needs a \
             positive criterion",
        ));
    }
    Ok(planner.finish(root))
}

fn check_moment(at: &Moment) -> Result<(), FilterError> {
    if at.local().is_some() && at.today_end().is_some() {
        return Ok(());
    }
    let sentence = "the moment of the calculation lies outside the calendar";
    Err(FilterError::new("", "validation_error", sentence))
}

fn negative_group(group: &Group) -> bool {
    let mut values = group.values.iter();
    match group.join {
        Join::And => values.all(negative),
        Join::Or => values.any(negative),
    }
}

fn negative(node: &Node) -> bool {
    match node {
        Node::Group(group) => negative_group(group),
        Node::Leaf(leaf) => leaf.negated(),
    }
}

struct Planner<'a> {
    moment: &'a Moment,
    leaves: Vec<Criterion>,
    /// Leaves by their own JSON text, negation aside.
    known: HashMap<String, usize>,
    criteria: Vec<PlacedLeaf>,
    /// What the patterns so far cost to compile.
    spent: u32,
}

impl<'a> Planner<'a> {
    fn new(moment: &'a Moment) -> Planner<'a> {
        Planner {
            moment,
            leaves: Vec::new(),
            known: HashMap::new(),
            criteria: Vec::new(),
            spent: 0,
        }
    }

    fn finish(self, root: Tree) -> Plan {
        let mut identities = vec![None; self.leaves.len()];
        for (identity, leaf) in self.known {
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

    /// A criterion that stands alone.
    fn add(&mut self, criterion: Criterion) -> Tree {
        self.leaves.push(criterion);
        Tree::Leaf {
            leaf: self.leaves.len() - 1,
            negated: false,
        }
    }

    fn group(&mut self, group: &Group, path: &str) -> Result<Tree, FilterError> {
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

    fn cost(&self, tree: &Tree) -> u8 {
        match tree {
            Tree::Leaf { leaf, .. } => self.leaves[*leaf].cost(),
            Tree::And(trees) | Tree::Or(trees) => {
                trees.last().map_or(0, |dearest| self.cost(dearest))
            }
        }
    }

    fn leaf(&mut self, leaf: &Leaf, path: String) -> Result<Tree, FilterError> {
        let negated = leaf.negated();
        let key = identity(leaf);
        let leaf = match self.known.get(&key) {
            Some(known) => *known,
            None => {
                let criterion = criterion(leaf, &path, self.moment)?;
                for predicate in criterion.predicates() {
                    predicate.charge_patterns(&mut self.spent, &path)?;
                }
                self.leaves.push(criterion);
                self.known.insert(key, self.leaves.len() - 1);
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
        Leaf::Person(leaf) => {
            let predicate = person(leaf, path, at)?;
            Ok(match leaf.key.as_str() {
                "distinct_id" => Criterion::DistinctId(predicate),
                key => Criterion::Property {
                    key: key.to_owned(),
                    predicate,
                },
            })
        }
        Leaf::PersonMetadata(leaf) => {
            let operator = leaf.operator.as_deref().unwrap_or("exact");
            let dated = operator.starts_with("is_date_");
            if !dated && !matches!(operator, "is_set" | "is_not_set") {
                let sentence = format!(
                    "operator '{operator}' cannot be used with created_at; expected one of \
                     is_date_exact, is_date_before, is_date_after"
                );
                return Err(FilterError::calculation(path, sentence));
            }
            Ok(Criterion::CreatedAt(person(leaf, path, at)?))
        }
        Leaf::Cohort(leaf) => Ok(Criterion::Cohort(leaf.value)),
        Leaf::Behavioral(leaf) => behavioral::criterion(leaf, path, at),
    }
}

fn person(leaf: &PersonLeaf, path: &str, at: &Moment) -> Result<Predicate, FilterError> {
    Predicate::compile(path, leaf.operator.as_deref(), leaf.value.as_ref(), at)
}

#[cfg(test)]
mod tests;
