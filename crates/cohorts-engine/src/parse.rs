//! Parses JSON into the filter tree, and into the normalised JSON to store.
//!
//! Depth, number of nodes, length of lists and of names are bounded, so no input can exhaust the
//! stack or the memory.
//! Operators and windows are not checked here; the planner does that.

mod action;
mod fields;
mod leaf;
mod limits;

use std::borrow::Cow;

pub(crate) use fields::MACHINE_FIELDS;
use limits::Size;
pub use limits::read_json;
pub(crate) use limits::{event_name, long_name, long_word};
use serde_json::{Map, Value};

use crate::FilterError;
use crate::filter::{Filter, Group, Join, Node};

/// Levels of nested groups.
pub(crate) const MAX_DEPTH: usize = 64;
/// JSON levels: two for each group, and 32 for the values of leaves.
const MAX_LEVELS: usize = 2 * MAX_DEPTH + 32;
/// Groups and leaves of one filter.
pub(crate) const MAX_NODES: usize = 10_000;
/// Items of one list inside a leaf.
pub(crate) const MAX_ITEMS: usize = 10_000;

/// The key by which PostHog's filters exclude test accounts.
pub(crate) const TEST_ACCOUNTS: &str = "filterTestAccounts";

const NO_PROPERTIES: &str = "Must contain a 'properties' key with type and values";
const EXPECTED: &str = "expected one of behavioral, cohort, person, person_metadata, AND, OR";

/// Which rules apply to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A caller sent it: unknown keys are refused.
    Write,
    /// It was stored earlier: unknown keys are ignored.
    Stored,
}

/// Parses a filter; returns the tree and its normalised JSON.
pub(crate) fn filter(filters: &Value, mode: Mode) -> Result<(Filter, Value), FilterError> {
    let missing = || FilterError::new("", "missing_properties", NO_PROPERTIES);
    let object = filters.as_object().ok_or_else(missing)?;
    let tree = object.get("properties").ok_or_else(missing)?;
    if tree.is_null() {
        return Err(missing());
    }
    check_size(filters, mode)?;
    if contains_nul(filters) {
        let sentence = "texts must not hold the character NUL, which no stored text has";
        return Err(FilterError::input("properties", sentence));
    }
    if mode == Mode::Write {
        refuse_unknown("filters", object, &["properties", TEST_ACCOUNTS])?;
        check_test_accounts(filters)?;
    }
    let (root, tree) = root(tree, mode)?;
    let mut wire = Map::from_iter([("properties".to_owned(), tree)]);
    if let Some(Value::Bool(exclude)) = object.get(TEST_ACCOUNTS) {
        wire.insert(TEST_ACCOUNTS.to_owned(), Value::Bool(*exclude));
    }
    Ok((Filter { root }, Value::Object(wire)))
}

/// Refuses the exclusion of test accounts, because it would need a list of them.
pub(crate) fn check_test_accounts(filters: &Value) -> Result<(), FilterError> {
    let sentence = match filters.get(TEST_ACCOUNTS) {
        None | Some(Value::Null | Value::Bool(false)) => return Ok(()),
        Some(Value::Bool(true)) => {
            "this service has no list of test accounts, so it cannot exclude them. Leave it out or send false, and \
             exclude the accounts with a criterion, such as a negated person property or cohort"
                .to_owned()
        }
        Some(other) => format!("expected false or null, got {}", kind_of(other)),
    };
    Err(FilterError::input(TEST_ACCOUNTS, sentence))
}

fn too_deep() -> FilterError {
    let sentence = format!("groups or values nest deeper than {MAX_DEPTH} levels");
    FilterError::input("properties", sentence)
}

/// Refuses values with too many levels, and in requests too many values. Does not recurse, so that
/// later steps may.
fn check_size(value: &Value, mode: Mode) -> Result<(), FilterError> {
    let mut size = Size::default();
    let mut pending = vec![(value, 0)];
    while let Some((value, level)) = pending.pop() {
        if level > MAX_LEVELS {
            return Err(too_deep());
        }
        size.values += 1;
        match value {
            Value::Array(list) => pending.extend(list.iter().map(|inner| (inner, level + 1))),
            Value::Object(map) => {
                size.objects += 1;
                pending.extend(map.values().map(|inner| (inner, level + 1)));
            }
            _ => {}
        }
    }
    if mode == Mode::Write && size.is_exceeded() {
        return Err(size.error("properties", "a filter"));
    }
    Ok(())
}

/// Whether any text or key contains NUL. Recurses: the caller has checked the depth.
fn contains_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(contains_nul),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains('\0') || contains_nul(value)),
        _ => false,
    }
}

fn root(tree: &Value, mode: Mode) -> Result<(Group, Value), FilterError> {
    if mode == Mode::Stored && tree.as_object().is_some_and(Map::is_empty) {
        let empty = Group {
            join: Join::Or,
            values: Vec::new(),
        };
        return Ok((empty, tree.clone()));
    }
    let mut parser = Parser {
        mode,
        path: Vec::new(),
        nodes: 0,
    };
    let object = parser.object(tree)?;
    match parser.kind(object, "expected one of AND, OR")? {
        "AND" => parser.group(object, Join::And),
        "OR" => parser.group(object, Join::Or),
        other => Err(parser.fail(format!(
            "unknown group type '{}'; expected one of AND, OR",
            short(other)
        ))),
    }
}

fn refuse_unknown(
    path: &str,
    object: &Map<String, Value>,
    known: &[&str],
) -> Result<(), FilterError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(FilterError::input(
            path,
            format!(
                "unknown key '{}'; allowed are {}",
                short(key),
                known.join(", ")
            ),
        )),
    }
}

struct Parser {
    mode: Mode,
    /// Indexes into `values`, from the root to the current node.
    path: Vec<usize>,
    /// Nodes parsed so far.
    nodes: usize,
}

impl Parser {
    fn at(&self) -> String {
        let mut text = "properties".to_owned();
        for index in &self.path {
            text.push_str(&format!(".values[{index}]"));
        }
        text
    }

    fn fail(&self, sentence: String) -> FilterError {
        FilterError::input(&self.at(), sentence)
    }

    fn object<'a>(&self, value: &'a Value) -> Result<&'a Map<String, Value>, FilterError> {
        let object = value.as_object();
        object.ok_or_else(|| self.fail(format!("expected an object, got {}", kind_of(value))))
    }

    fn kind<'a>(
        &self,
        object: &'a Map<String, Value>,
        expected: &str,
    ) -> Result<&'a str, FilterError> {
        match object.get("type") {
            Some(Value::String(kind)) => Ok(kind),
            None | Some(Value::Null) => {
                Err(self.fail(format!("the key 'type' is missing; {expected}")))
            }
            Some(other) => Err(self.fail(format!(
                "'type' must be text, got {}; {expected}",
                kind_of(other)
            ))),
        }
    }

    fn group(
        &mut self,
        object: &Map<String, Value>,
        join: Join,
    ) -> Result<(Group, Value), FilterError> {
        if self.path.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        if self.mode == Mode::Write {
            refuse_unknown(&self.at(), object, &["type", "values"])?;
        }
        let values = match object.get("values") {
            Some(Value::Array(values)) => values,
            None | Some(Value::Null) => {
                return Err(self.fail("a group must have 'values'".to_owned()));
            }
            Some(other) => {
                let sentence = format!("'values' must be a list, got {}", kind_of(other));
                return Err(self.fail(sentence));
            }
        };
        let mut nodes = Vec::new();
        let mut wires = Vec::new();
        for (index, value) in values.iter().enumerate() {
            self.path.push(index);
            let (node, wire) = self.node(value)?;
            self.path.pop();
            nodes.push(node);
            wires.push(wire);
        }
        let group = Group {
            join,
            values: nodes,
        };
        Ok((group, group_wire(object, wires)))
    }

    fn node(&mut self, value: &Value) -> Result<(Node, Value), FilterError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let sentence = format!("a filter may hold {MAX_NODES} groups and leaves at most");
            return Err(FilterError::input("properties", sentence));
        }
        let object = self.object(value)?;
        match self.kind(object, EXPECTED)? {
            "AND" => self.nested(object, Join::And),
            "OR" => self.nested(object, Join::Or),
            kind => {
                let (leaf, wire) = leaf::leaf(&self.at(), self.mode, kind, object)?;
                Ok((Node::Leaf(leaf), wire))
            }
        }
    }

    fn nested(
        &mut self,
        object: &Map<String, Value>,
        join: Join,
    ) -> Result<(Node, Value), FilterError> {
        let (group, wire) = self.group(object, join)?;
        Ok((Node::Group(group), wire))
    }
}

fn group_wire(object: &Map<String, Value>, values: Vec<Value>) -> Value {
    let mut values = Some(values);
    let members = object.iter().filter(|(_, value)| !value.is_null());
    let wire = members.map(|(key, value)| match key.as_str() {
        "values" => (key.clone(), values.take().unwrap_or_default().into()),
        _ => (key.clone(), value.clone()),
    });
    Value::Object(wire.collect())
}

/// A text, cut to 60 characters for use in a sentence.
pub(crate) fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

/// The kind of a JSON value with its article, for error sentences.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
