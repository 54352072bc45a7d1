//! The kind of a cohort (`cohort_type` on the wire), derived from its definition.

use std::collections::{HashMap, HashSet};

use crate::filter::{Filter, Leaf};

/// The kind of a cohort, ordered by the cost of its calculation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The members are a stored list.
    Static,
    /// The definition tests only properties of persons.
    PersonProperty,
    /// The definition tests the occurrence or number of events.
    Behavioral,
    /// The definition tests the order or regularity of events, or is a query.
    Analytical,
}

impl Kind {
    /// The kind's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Static => "static",
            Kind::PersonProperty => "person_property",
            Kind::Behavioral => "behavioral",
            Kind::Analytical => "analytical",
        }
    }
}

/// A cohort that a cohort leaf refers to.
#[derive(Clone, Debug)]
pub enum ReferencedCohort {
    /// The kind is known without its filter.
    Kind(Kind),
    /// The kind follows from this filter.
    Filter(Filter),
}

/// The kind of a definition: the highest kind among its leaves and the cohorts it refers to.
///
/// `resolve` returns the cohort of an id, or `None` if the project has none; it is called at most
/// once for each id. Returns `None` if a filter has no criteria, refers to an unknown cohort, or is
/// part of a loop of references.
pub fn required_kind(
    filter: &Filter,
    mut resolve: impl FnMut(i64) -> Option<ReferencedCohort>,
) -> Option<Kind> {
    let mut highest = own_kind(filter);
    let mut references = HashMap::new();
    let mut pending = filter.cohort_references();
    if highest.is_none() && pending.is_empty() {
        return None;
    }
    while let Some(id) = pending.pop() {
        if references.contains_key(&id) {
            continue;
        }
        let (kind, next) = match resolve(id)? {
            ReferencedCohort::Kind(kind) => (Some(kind), Vec::new()),
            ReferencedCohort::Filter(filter) => (own_kind(&filter), filter.cohort_references()),
        };
        if kind.is_none() && next.is_empty() {
            return None;
        }
        highest = highest.max(kind);
        pending.extend(&next);
        references.insert(id, next);
    }
    if has_loop(&references) { None } else { highest }
}

/// The highest kind among the leaves of a filter that refer to no cohort.
fn own_kind(filter: &Filter) -> Option<Kind> {
    let kind = |leaf: &Leaf| match leaf {
        Leaf::Person(_) | Leaf::PersonMetadata(_) => Some(Kind::PersonProperty),
        Leaf::Behavioral(leaf) => Some(behavioral_kind(&leaf.value)),
        Leaf::Cohort(_) => None,
    };
    filter.leaves().into_iter().filter_map(kind).max()
}

/// Whether the references between cohorts form a loop. All cohorts are keys of `references`.
fn has_loop(references: &HashMap<i64, Vec<i64>>) -> bool {
    let mut finished = HashSet::new();
    let mut current = HashSet::new();
    for first in references.keys() {
        let mut visits = vec![(*first, 0)];
        while let Some((id, next)) = visits.last_mut() {
            if *next == 0 && (finished.contains(id) || !current.insert(*id)) {
                if !finished.contains(id) {
                    return true;
                }
                visits.pop();
                continue;
            }
            match references.get(id).and_then(|list| list.get(*next)) {
                Some(reference) => {
                    *next += 1;
                    visits.push((*reference, 0));
                }
                None => {
                    current.remove(id);
                    finished.insert(*id);
                    visits.pop();
                }
            }
        }
    }
    false
}

fn behavioral_kind(value: &str) -> Kind {
    match value {
        "performed_event_first_time"
        | "performed_event_regularly"
        | "performed_event_sequence"
        | "stopped_performing_event"
        | "restarted_performing_event" => Kind::Analytical,
        _ => Kind::Behavioral,
    }
}

/// Whether every leaf is of a type that PostHog can update event by event.
///
/// False for a filter without criteria. `cohort_is_realtime` and `action_is_known` answer for the
/// ids of cohorts and actions.
pub fn is_realtime_capable(
    filter: &Filter,
    cohort_is_realtime: impl Fn(i64) -> bool,
    action_is_known: impl Fn(i64) -> bool,
) -> bool {
    let capable = |leaf: &Leaf| match leaf {
        Leaf::Person(_) => true,
        Leaf::PersonMetadata(_) => false,
        Leaf::Cohort(leaf) => cohort_is_realtime(leaf.value),
        Leaf::Behavioral(leaf) => {
            let simple =
                leaf.value == "performed_event" || leaf.value == "performed_event_multiple";
            let known = match leaf.event_type.as_str() {
                "events" => true,
                "actions" => leaf.key.id().is_some_and(&action_is_known),
                _ => false,
            };
            simple && known
        }
    };
    !filter.is_empty() && filter.leaves().into_iter().all(capable)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn filter(leaves: Value) -> Filter {
        let tree = json!({"properties": {"type": "OR", "values": leaves}});
        Filter::parse(&tree).unwrap()
    }

    fn person() -> Value {
        json!({"type": "person", "key": "x", "operator": "exact", "value": 1})
    }

    fn event(value: &str) -> Value {
        json!({"type": "behavioral", "key": "e", "value": value, "event_type": "events"})
    }

    fn cohort(id: i64) -> Value {
        json!({"type": "cohort", "key": "id", "value": id})
    }

    #[test]
    fn the_highest_kind_among_the_leaves_is_required() {
        let kind = |leaves| required_kind(&filter(leaves), |_| None);
        assert_eq!(kind(json!([person()])), Some(Kind::PersonProperty));
        let mixed = json!([event("performed_event"), person()]);
        assert_eq!(kind(mixed), Some(Kind::Behavioral));
        let stopped = json!([event("stopped_performing_event"), event("performed_event")]);
        assert_eq!(kind(stopped), Some(Kind::Analytical));
    }

    #[test]
    fn kinds_of_referenced_cohorts_count_transitively() {
        let resolve = |id| match id {
            1 => Some(ReferencedCohort::Kind(Kind::Static)),
            2 => Some(ReferencedCohort::Filter(filter(json!([cohort(3)])))),
            3 => Some(ReferencedCohort::Filter(filter(json!([event(
                "performed_event"
            )])))),
            _ => None,
        };
        let kind = |leaves| required_kind(&filter(leaves), resolve);
        assert_eq!(kind(json!([cohort(1)])), Some(Kind::Static));
        assert_eq!(kind(json!([cohort(2), person()])), Some(Kind::Behavioral));
        // The same cohort twice is no loop.
        assert_eq!(kind(json!([cohort(2), cohort(3)])), Some(Kind::Behavioral));
    }

    #[test]
    fn empty_unknown_and_circular_definitions_have_no_kind() {
        assert_eq!(required_kind(&filter(json!([])), |_| None), None);
        assert_eq!(
            required_kind(&filter(json!([person(), cohort(9)])), |_| None),
            None
        );
        let circular = filter(json!([cohort(1)]));
        let resolve = |_| Some(ReferencedCohort::Filter(circular.clone()));
        assert_eq!(required_kind(&circular, resolve), None);
    }

    #[test]
    fn each_referenced_cohort_is_resolved_once() {
        let mut resolved = Vec::new();
        let resolve = |id| {
            resolved.push(id);
            let next = json!([cohort(id + 1), cohort(id + 1)]);
            let last = json!([person()]);
            Some(ReferencedCohort::Filter(filter(if id < 40 {
                next
            } else {
                last
            })))
        };
        let kind = required_kind(&filter(json!([cohort(1)])), resolve);
        assert_eq!(kind, Some(Kind::PersonProperty));
        assert_eq!(resolved, Vec::from_iter(1..=40));
    }

    #[test]
    fn a_chain_of_references_has_a_kind_whatever_its_length() {
        let resolve = |id| {
            let leaf = if id < 20_000 {
                cohort(id + 1)
            } else {
                event("performed_event")
            };
            Some(ReferencedCohort::Filter(filter(json!([leaf]))))
        };
        let kind = required_kind(&filter(json!([cohort(1)])), resolve);
        assert_eq!(kind, Some(Kind::Behavioral));
    }

    #[test]
    fn a_loop_behind_other_cohorts_has_no_kind() {
        let resolve = |id| {
            let leaves = match id {
                1 => json!([cohort(2), cohort(3)]),
                2 => json!([cohort(3)]),
                3 => json!([cohort(4)]),
                _ => json!([person(), cohort(2)]),
            };
            Some(ReferencedCohort::Filter(filter(leaves)))
        };
        assert_eq!(required_kind(&filter(json!([cohort(1)])), resolve), None);
    }

    #[test]
    fn only_simple_leaves_are_realtime_capable() {
        let capable = |leaves| is_realtime_capable(&filter(leaves), |id| id == 7, |id| id == 5);
        assert!(capable(json!([
            person(),
            event("performed_event_multiple"),
            cohort(7)
        ])));
        assert!(!capable(json!([])));
        assert!(!capable(json!([person(), cohort(8)])));
        assert!(!capable(json!([event("performed_event_sequence")])));
        let created = json!({"type": "person_metadata", "key": "created_at",
            "operator": "is_date_after", "value": "-7d"});
        assert!(!capable(json!([created])));
        let action = |id| {
            json!({"type": "behavioral", "key": id, "value": "performed_event",
                "event_type": "actions"})
        };
        assert!(capable(json!([action("5")])));
        assert!(!capable(json!([action("6")])));
    }
}
