//! What explanations say in single cases.

use serde_json::{Value, json};

use super::super::{Found, FoundEvents, NextChange};
use super::{all_of, explain};
use crate::cases::{Event, Person, Project, at, micros};
use crate::delta::Definition;
use crate::{Filter, Moment, Reference};

const DAY: i64 = 86_400_000_000;

fn now() -> Moment {
    at("2025-06-18T15:30:00Z", "UTC")
}

/// A person with properties, and events with a name and an age in days.
fn project(properties: Value, events: &[(&str, i64)]) -> Project {
    let event = |(name, days): &(&str, i64)| Event {
        name: (*name).to_owned(),
        person: 0,
        time: now().now - days * DAY,
        properties: json!({"amount": days}),
    };
    Project {
        persons: vec![Person {
            properties,
            distinct_ids: vec!["ana".to_owned()],
            created_at: micros("2025-01-02T03:04:05Z"),
        }],
        events: events.iter().map(event).collect(),
        ..Project::default()
    }
}

/// Has paid at least `bound` times in 30 days.
fn times(bound: i64) -> Value {
    json!({"type": "behavioral", "value": "performed_event_multiple", "key": "paid",
        "event_type": "events", "time_value": 30, "time_interval": "day",
        "operator": "gte", "operator_value": bound})
}

fn cohort(id: i64, negation: bool) -> Value {
    json!({"type": "cohort", "key": "id", "value": id, "negation": negation})
}

fn events(found: &Found) -> &FoundEvents {
    match found {
        Found::Events(events) => events,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_and_a_count_are_named_with_their_paths() {
    let project = project(
        json!({"plan": "pro"}),
        &[("paid", 29), ("paid", 3), ("paid", 40), ("seen", 1)],
    );
    let plan = json!({"type": "person", "key": "plan", "operator": "exact", "value": "free",
        "negation": true});
    let definition = all_of(json!([times(2), {"type": "OR", "values": [plan]}]));
    let (explanation, change) = explain(&project, &definition, 0, &now());
    assert!(explanation.member);
    let [count, value] = explanation.criteria.as_slice() else {
        panic!("{explanation:?}");
    };
    assert_eq!(
        (count.path.as_str(), count.holds, count.negated),
        ("properties.values[0]", true, false)
    );
    let found = events(&count.found);
    let uuids: Vec<u128> = found.events.iter().map(|event| event.uuid).collect();
    assert_eq!((found.count, uuids), (2, vec![1, 0]));
    assert_eq!(found.first_at, Some(now().now - 29 * DAY));
    assert_eq!(
        (value.path.as_str(), value.holds, value.negated),
        ("properties.values[1].values[0]", true, true)
    );
    assert_eq!(value.found, Found::Value(json!("pro")));
    // The older event leaves the window one day later.
    let leaves = NextChange {
        at: now().now + DAY,
        member: false,
    };
    assert_eq!(change, Some(leaves));
}

#[test]
fn evidence_names_the_ten_newest_events() {
    let paid: Vec<(&str, i64)> = (1..=25).map(|days| ("paid", days)).collect();
    let project = project(json!({}), &paid);
    let (explanation, change) = explain(&project, &all_of(json!([times(20)])), 0, &now());
    let found = events(&explanation.criteria[0].found);
    assert_eq!((found.count, found.events.len()), (25, 10));
    assert_eq!(found.events[0].uuid, 0);
    // The event of the twentieth last day leaves.
    assert_eq!(change.unwrap().at, now().now + (30 - 20) * DAY);
}

#[test]
fn a_change_years_ahead_is_found() {
    let project = project(json!({"until": "2031-02-03T04:05:06Z"}), &[]);
    let leaf =
        json!({"type": "person", "key": "until", "operator": "is_date_after", "value": "-1d"});
    let (explanation, change) = explain(&project, &all_of(json!([leaf])), 0, &now());
    assert!(explanation.member);
    let change = change.unwrap();
    assert!(!change.member);
    let distance = change.at - micros("2031-02-04T04:05:06Z");
    assert!((0..=1_000_000).contains(&distance), "{distance}");
}

#[test]
fn time_changes_no_membership_without_windows() {
    let project = project(json!({"plan": "pro"}), &[]);
    let leaf = json!({"type": "person", "key": "plan", "operator": "exact", "value": "pro"});
    let (_, change) = explain(&project, &all_of(json!([leaf])), 0, &now());
    assert_eq!(change, None);
}

#[test]
fn cohorts_are_followed_and_missing_ones_have_no_members() {
    let mut project = project(json!({}), &[("paid", 3)]);
    let inner = Filter::parse(&json!({"properties": {"type": "AND", "values": [times(1)]}}));
    project.cohorts.insert(7, Reference::Filter(inner.unwrap()));
    let definition = all_of(json!([cohort(7, false), cohort(8, true)]));
    let (explanation, _) = explain(&project, &definition, 0, &now());
    assert!(!explanation.member);
    let Found::Cohort {
        cohort_id: 7,
        member: true,
        criteria,
    } = &explanation.criteria[0].found
    else {
        panic!("{explanation:?}");
    };
    assert_eq!(events(&criteria[0].found).count, 1);
    let unknown = Found::Cohort {
        cohort_id: 8,
        member: false,
        criteria: Vec::new(),
    };
    let missing = &explanation.criteria[1];
    assert_eq!((missing.holds, &missing.found), (false, &unknown));
}

#[test]
fn cohorts_that_refer_to_each_other_often_are_followed_within_limits() {
    let mut project = project(json!({}), &[]);
    for id in 1..=40 {
        let next = cohort(id + 1, false);
        let values = json!([next, next, next]);
        let filter = Filter::parse(&json!({"properties": {"type": "OR", "values": values}}));
        project
            .cohorts
            .insert(id, Reference::Filter(filter.unwrap()));
    }
    let (explanation, _) = explain(&project, &all_of(json!([cohort(1, false)])), 0, &now());
    let text = format!("{explanation:?}");
    assert!(text.matches("cohort_id").count() < 1_100);
}

#[test]
fn a_query_is_one_criterion() {
    let project = project(
        json!({"plan": "pro"}),
        &[("paid", 3), ("paid", 40), ("seen", 2)],
    );
    let query = |text: &str| Definition::Query(json!({"kind": "HogQLQuery", "query": text}));
    let paid = "SELECT person_id FROM events WHERE event = 'paid' AND properties.amount < 30";
    let (explanation, _) = explain(&project, &query(paid), 0, &now());
    let [criterion] = explanation.criteria.as_slice() else {
        panic!("{explanation:?}");
    };
    assert_eq!((criterion.path.as_str(), criterion.holds), ("query", true));
    let found = events(&criterion.found);
    assert_eq!((found.count, found.events[0].uuid), (1, 0));
    let free = "SELECT id FROM persons WHERE properties.plan = 'free'";
    let (explanation, _) = explain(&project, &query(free), 0, &now());
    assert!(!explanation.member);
    let value = Found::Value(json!({"plan": "pro"}));
    assert_eq!(explanation.criteria[0].found, value);
}
