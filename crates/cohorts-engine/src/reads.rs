//! The columns that the evaluation of a filter reads, as far as its text and its actions tell.
//!
//! A source can store the columns that many evaluations read. Columns that are missing here cost
//! time and change no result.

use crate::filter::{BehavioralLeaf, Filter, Leaf, Name};
use crate::plan::{Criterion, Plan};
use crate::source::{Action, ActionStep};

/// The columns that a filter reads, in the order of the filter and with duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Properties of persons.
    pub properties: Vec<String>,
    /// Events, with the properties that are read together.
    pub events: Vec<EventRead>,
}

/// The events that one leaf reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRead {
    /// The name of the events. `None` means events of every name.
    pub event: Option<String>,
    /// The properties of the events.
    pub properties: Vec<String>,
}

impl Reads {
    /// The columns that `filter` reads. `action` returns the action of an id, or `None` if it does
    /// not exist. Cohorts that the filter refers to are not included.
    pub fn of<E>(
        filter: &Filter,
        mut action: impl FnMut(i64) -> Result<Option<Action>, E>,
    ) -> Result<Reads, E> {
        let mut reads = Reads::default();
        for leaf in filter.leaves() {
            match leaf {
                Leaf::Person(leaf) if leaf.key != "distinct_id" => {
                    reads.properties.push(leaf.key.clone());
                }
                Leaf::Behavioral(leaf) => {
                    reads.events.extend(events_of(leaf, &mut action)?);
                }
                Leaf::Person(_) | Leaf::PersonMetadata(_) | Leaf::Cohort(_) => {}
            }
        }
        Ok(reads)
    }

    /// The columns that a plan of a query reads. Cohorts that the query refers to are not included.
    pub fn of_query(plan: &Plan) -> Reads {
        let mut reads = Reads::default();
        for criterion in &plan.leaves {
            match criterion {
                Criterion::Property { key, .. } => reads.properties.push(key.clone()),
                Criterion::Rows(rows) => {
                    let properties = Vec::from_iter(rows.properties());
                    let read = |event| EventRead {
                        event,
                        properties: properties.clone(),
                    };
                    match rows.condition.event_names() {
                        Some(names) => {
                            reads.events.extend(names.into_iter().map(Some).map(read));
                        }
                        None => reads.events.push(read(None)),
                    }
                }
                // A query has no criteria of behaviour.
                Criterion::Behavior { .. }
                | Criterion::DistinctId(_)
                | Criterion::CreatedAt(_)
                | Criterion::Cohort(_) => {}
            }
        }
        reads
    }
}

fn events_of<E>(
    leaf: &BehavioralLeaf,
    action: &mut impl FnMut(i64) -> Result<Option<Action>, E>,
) -> Result<Vec<EventRead>, E> {
    let filters = leaf.event_filters.iter().flatten();
    let properties: Vec<String> = filters.map(|filter| filter.key.clone()).collect();
    let mut reads = events_named(&leaf.key, &leaf.event_type, &properties, action)?;
    if let (Some(event), Some(kind)) = (&leaf.seq_event, &leaf.seq_event_type) {
        reads.extend(events_named(event, kind, &[], action)?);
    }
    Ok(reads)
}

fn events_named<E>(
    name: &Name,
    event_type: &str,
    properties: &[String],
    action: &mut impl FnMut(i64) -> Result<Option<Action>, E>,
) -> Result<Vec<EventRead>, E> {
    let read = |event, properties| EventRead { event, properties };
    Ok(match (event_type, name.id()) {
        ("events", _) => vec![read(Some(name.text()), properties.to_vec())],
        ("actions", Some(id)) => {
            let steps = action(id)?.unwrap_or_default().steps.into_iter();
            let of_step = |step: ActionStep| {
                let properties = step.properties_read().chain(properties.iter().cloned());
                read(step.event.clone(), properties.collect())
            };
            steps.map(of_step).collect()
        }
        _ => Vec::new(),
    })
}

impl ActionStep {
    fn properties_read(&self) -> impl Iterator<Item = String> {
        let url = self.url.as_ref().map(|_| "$current_url".to_owned());
        let properties = self.properties.iter().map(|property| property.key.clone());
        url.into_iter().chain(properties)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_query_reads_the_properties_of_conditions_and_aggregates() {
        let text = "SELECT person_id FROM events WHERE event IN ('x', 'y') AND properties.at = 1 \
                    AND person.properties.plan = 'pro' GROUP BY person_id HAVING sum(properties.amount) > 5 \
                    UNION SELECT person_id FROM events WHERE properties.z = 1";
        let query = json!({"kind": "HogQLQuery", "query": text});
        let plan = crate::plan_query(&query, &crate::Moment::utc(0)).unwrap();
        let reads = Reads::of_query(&plan);
        let read = |event: Option<&str>, properties: &[&str]| EventRead {
            event: event.map(str::to_owned),
            properties: properties.iter().map(|key| (*key).to_owned()).collect(),
        };
        assert_eq!(reads.properties, ["plan"]);
        assert_eq!(
            reads.events,
            [
                read(Some("x"), &["amount", "at"]),
                read(Some("y"), &["amount", "at"]),
                read(None, &["z"]),
            ]
        );
    }

    #[test]
    fn properties_and_events_are_read_with_the_steps_of_actions() {
        let at = json!([{"type": "event", "key": "at", "value": 1}]);
        let filters = json!({"properties": {"type": "AND", "values": [
            {"type": "person", "key": "plan", "operator": "exact", "value": "pro"},
            {"type": "person", "key": "distinct_id", "operator": "exact", "value": "a"},
            {"type": "cohort", "key": "id", "value": 7},
            {"type": "OR", "values": [
                {"type": "behavioral", "key": "x", "value": "performed_event_sequence",
                    "event_type": "events", "seq_event": "y", "seq_event_type": "events",
                    "event_filters": at},
                {"type": "behavioral", "key": "5", "value": "performed_event",
                    "event_type": "actions", "event_filters": at},
                {"type": "behavioral", "key": 6, "value": "performed_event", "event_type": "actions"},
            ]},
        ]}});
        let filter = Filter::parse(&filters).unwrap();
        let steps =
            json!([{"event": "buy", "url": "/shop"}, {"properties": [{"key": "sum", "value": 2}]}]);
        let Ok(reads) = Reads::of(&filter, |id| {
            Ok::<_, Infallible>((id == 5).then(|| Action::parse(&steps).unwrap()))
        });
        assert_eq!(reads.properties, ["plan"]);
        let events: Vec<(Option<&str>, Vec<&str>)> = reads
            .events
            .iter()
            .map(|read| {
                let properties = read.properties.iter().map(String::as_str);
                (read.event.as_deref(), properties.collect())
            })
            .collect();
        assert_eq!(
            events,
            [
                (Some("x"), vec!["at"]),
                (Some("y"), vec![]),
                (Some("buy"), vec!["$current_url", "at"]),
                (None, vec!["sum", "at"]),
            ]
        );
    }
}
