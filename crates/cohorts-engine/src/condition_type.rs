//! The kinds of the criteria of a cohort (`condition_type` on the wire).
//!
//! A list shows them for each of its cohorts, so they are read from the stored JSON without building
//! the values of leaves.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The kinds of criteria that occur in a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConditionFlags {
    /// A test of the person.
    pub person_properties: bool,
    /// A test of events that is not one of `lifecycle`.
    pub behavioral: bool,
    /// A test whether the person is new, regular, dormant or back.
    pub lifecycle: bool,
    /// Membership of another cohort.
    pub cohorts: bool,
}

#[derive(Deserialize)]
struct Filters<'a> {
    #[serde(borrow)]
    properties: Node<'a>,
}

/// A group or a leaf.
#[derive(Deserialize)]
struct Node<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default = "Vec::new")]
    values: Vec<Node<'a>>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

impl ConditionFlags {
    /// The flags of a stored filter; `None` if it has no criteria.
    pub fn of(filters: &str) -> Option<Self> {
        let filters: Filters = serde_json::from_str(filters).ok()?;
        let mut flags = None;
        add(&filters.properties, &mut flags);
        flags
    }
}

fn add(node: &Node, flags: &mut Option<ConditionFlags>) {
    let leaf = match node.kind.as_deref() {
        None => return,
        Some("AND" | "OR") => return node.values.iter().for_each(|node| add(node, flags)),
        Some(leaf) => leaf,
    };
    let flags = flags.get_or_insert_default();
    match leaf {
        "person" | "person_metadata" => flags.person_properties = true,
        "behavioral" if node.value.is_some_and(is_lifecycle) => flags.lifecycle = true,
        "behavioral" => flags.behavioral = true,
        "cohort" => flags.cohorts = true,
        _ => {}
    }
}

fn is_lifecycle(behavior: &RawValue) -> bool {
    matches!(
        behavior.get(),
        r#""performed_event_first_time""#
            | r#""performed_event_regularly""#
            | r#""stopped_performing_event""#
            | r#""restarted_performing_event""#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Leaf;
    use crate::{Filter, cases};

    #[test]
    fn flags_are_those_of_the_parsed_leaves() {
        let mut seen = 0;
        for (_, case) in cases::all() {
            let Ok((filter, stored)) = Filter::parse_and_normalise(&case["filters"]) else {
                continue;
            };
            let leaves = filter.leaves();
            let has = |is_kind: fn(&Leaf) -> bool| leaves.iter().any(|leaf| is_kind(leaf));
            let flags = ConditionFlags::of(&stored.to_string());
            assert_eq!(flags.is_some(), !leaves.is_empty(), "{stored}");
            let flags = flags.unwrap_or_default();
            let person = |leaf: &Leaf| matches!(leaf, Leaf::Person(_) | Leaf::PersonMetadata(_));
            assert_eq!(flags.person_properties, has(person), "{stored}");
            let behavioral = has(|leaf| matches!(leaf, Leaf::Behavioral(_)));
            assert_eq!(flags.behavioral || flags.lifecycle, behavioral, "{stored}");
            assert_eq!(
                flags.cohorts,
                has(|leaf| matches!(leaf, Leaf::Cohort(_))),
                "{stored}"
            );
            seen += 1;
        }
        assert!(seen > 50, "only {seen} cases");
    }

    #[test]
    fn filters_without_criteria_have_no_flags() {
        for filters in [
            "null",
            "{}",
            "[]",
            r#"{"properties":{}}"#,
            r#"{"properties":{"type":"OR","values":[{"type":"AND","values":[]}]}}"#,
        ] {
            assert_eq!(ConditionFlags::of(filters), None, "{filters}");
        }
    }

    #[test]
    fn deepest_filter_has_flags() {
        let mut node = r#"{"type":"cohort","key":"id","value":7,"negation":false}"#.to_owned();
        for _ in 0..crate::parse::MAX_DEPTH - 3 {
            node = format!(r#"{{"type":"AND","values":[{node}]}}"#);
        }
        let filters = format!(r#"{{"properties":{{"type":"OR","values":[{node}]}}}}"#);
        let value = serde_json::from_str(&filters).unwrap();
        assert!(Filter::parse(&value).is_ok());
        assert!(ConditionFlags::of(&filters).unwrap().cohorts);
    }
}
