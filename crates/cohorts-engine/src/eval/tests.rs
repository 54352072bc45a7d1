//! Facts about the evaluation that the shared cases do not cover, and the comparison with a naive
//! evaluator.

mod bounds;
// The HTTP tests use the same files.
#[path = "../../../../tests/twin/generators.rs"]
pub(crate) mod generators;
#[path = "../../../../tests/twin/naive.rs"]
pub(crate) mod naive;
#[path = "../../../../tests/twin/operators.rs"]
mod operators;
pub(crate) mod random;
mod references;

use serde_json::{Value, json};

use crate::cases::{Event, Person, Project, at, micros};
use crate::{Action, Filter, Moment, plan};

fn now() -> Moment {
    at("2025-06-18T15:30:00Z", "UTC")
}

/// Persons with these properties and the ordinals from zero.
fn persons(properties: &[Value]) -> Project {
    let person = |properties: &Value| Person {
        properties: properties.clone(),
        ..Person::default()
    };
    Project {
        persons: properties.iter().map(person).collect(),
        ..Project::default()
    }
}

/// Persons with the ordinals from zero, each with events of a name at a time.
fn performers(events: &[&[(&str, &str)]]) -> Project {
    let mut project = persons(&vec![json!({}); events.len()]);
    for (person, events) in events.iter().enumerate() {
        for (name, time) in *events {
            project.events.push(event(person, name, time, json!({})));
        }
    }
    project
}

fn event(person: usize, name: &str, time: &str, properties: Value) -> Event {
    Event {
        name: name.to_owned(),
        person: person as u32,
        time: micros(time),
        properties,
    }
}

fn tree(join: &str, values: Value) -> Value {
    json!({"properties": {"type": join, "values": values}})
}

fn behavior(value: &str, more: Value) -> Value {
    let mut leaf = json!({"type": "behavioral", "value": value, "key": "e",
        "event_type": "events", "time_value": 7, "time_interval": "day"});
    for (key, value) in more.as_object().unwrap() {
        leaf[key] = value.clone();
    }
    leaf
}

#[track_caller]
fn check(project: &Project, leaf: Value, expected: &[u32]) {
    let members = project.members(&tree("AND", json!([leaf])), &now());
    assert_eq!(members.unwrap(), expected);
}

#[test]
fn events_at_one_instant_are_a_sequence_in_either_order() {
    let same = "2025-06-17T12:00:00Z";
    let project = performers(&[
        &[("e", same), ("f", same)],
        &[("f", same), ("e", same)],
        &[("f", same), ("e", "2025-06-17T12:00:00.000001Z")],
    ]);
    let sequence = json!({"seq_event": "f", "seq_event_type": "events", "seq_time_value": 1,
        "seq_time_interval": "hour"});
    check(
        &project,
        behavior("performed_event_sequence", sequence),
        &[0, 1],
    );
}

#[test]
fn one_event_is_not_both_ends_of_a_sequence() {
    let same = "2025-06-17T12:00:00Z";
    let project = performers(&[&[("e", same)], &[("e", same), ("e", same)]]);
    let sequence = json!({"seq_event": "e", "seq_event_type": "events", "seq_time_value": 1,
        "seq_time_interval": "hour"});
    check(
        &project,
        behavior("performed_event_sequence", sequence),
        &[1],
    );
}

#[test]
fn filters_of_a_sequence_apply_to_its_first_event_only() {
    let mut project = persons(&[json!({}), json!({})]);
    let (early, late) = ("2025-06-16T12:00:00Z", "2025-06-17T12:00:00Z");
    project.events = vec![
        event(0, "e", early, json!({"k": 1})),
        event(0, "e", late, json!({})),
        event(1, "e", early, json!({})),
        event(1, "e", late, json!({"k": 1})),
    ];
    let sequence = json!({"seq_event": "e", "seq_event_type": "events", "seq_time_value": 2,
        "seq_time_interval": "day",
        "event_filters": [{"type": "event", "key": "k", "operator": "exact", "value": 1}]});
    check(
        &project,
        behavior("performed_event_sequence", sequence),
        &[0],
    );
}

#[test]
fn a_month_between_events_of_a_sequence_is_thirty_days() {
    let mut project = performers(&[
        &[("e", "2025-05-01T00:00:00Z"), ("f", "2025-05-31T00:00:00Z")],
        &[
            ("e", "2025-05-01T00:00:00Z"),
            ("f", "2025-05-31T00:00:00.000001Z"),
        ],
    ]);
    project.events.reverse();
    let sequence = json!({"time_value": 90, "seq_event": "f", "seq_event_type": "events",
        "seq_time_value": 1, "seq_time_interval": "month"});
    check(
        &project,
        behavior("performed_event_sequence", sequence),
        &[0],
    );
}

#[test]
fn the_first_event_ever_must_pass_the_filters() {
    let mut project = persons(&[json!({}), json!({}), json!({})]);
    let (old, recent) = ("2025-01-01T00:00:00Z", "2025-06-17T00:00:00Z");
    project.events = vec![
        event(0, "e", recent, json!({"k": 1})),
        event(1, "e", recent, json!({"k": 2})),
        event(2, "e", old, json!({"k": 2})),
        event(2, "e", recent, json!({"k": 1})),
    ];
    let filters = json!({"event_filters": [
        {"type": "event", "key": "k", "operator": "exact", "value": 1}]});
    check(
        &project,
        behavior("performed_event_first_time", filters),
        &[0],
    );
}

#[test]
fn events_after_the_window_do_not_affect_a_first_time() {
    let project = performers(&[&[("e", "2025-06-02T00:00:00Z"), ("e", "2025-06-17T00:00:00Z")]]);
    let range = json!({"explicit_datetime": "2025-06-01", "explicit_datetime_to": "2025-06-03"});
    check(
        &project,
        behavior("performed_event_first_time", range),
        &[0],
    );
}

#[test]
fn explicit_bounds_of_counts_are_exact_and_exclusive() {
    let project = performers(&[
        &[("e", "2025-06-01T00:00:00Z")],
        &[("e", "2025-06-01T00:00:00.000001Z")],
        &[("e", "2025-06-04T23:59:59.999999Z")],
        &[("e", "2025-06-05T00:00:00Z")],
    ]);
    let range = json!({"operator": "gte", "operator_value": 1,
        "explicit_datetime": "2025-06-01", "explicit_datetime_to": "2025-06-05"});
    check(
        &project,
        behavior("performed_event_multiple", range),
        &[1, 2],
    );
}

#[test]
fn windows_of_counts_end_five_seconds_after_now() {
    let project = performers(&[
        &[("e", "2025-06-18T15:30:04.9Z")],
        &[("e", "2025-06-18T15:30:05Z")],
    ]);
    let once = json!({"operator_value": 1});
    check(
        &project,
        behavior("performed_event_multiple_times", once),
        &[0],
    );
}

#[test]
fn the_date_all_has_no_lower_bound() {
    let project = performers(&[&[("e", "1999-06-18T15:30:00Z")], &[]]);
    let all = json!({"explicit_datetime": "all"});
    check(&project, behavior("performed_event", all), &[0]);
}

#[test]
fn a_negated_count_of_at_most_one_matches_none_and_several() {
    let (late, early) = ("2025-06-17T00:00:00Z", "2025-06-16T00:00:00Z");
    let project = performers(&[&[], &[("e", late)], &[("e", late), ("e", early)]]);
    let leaf = json!({"operator": "lte", "operator_value": 1, "negation": true});
    let present = json!({"type": "person", "key": "x", "operator": "is_not_set"});
    let filters = tree(
        "AND",
        json!([present, behavior("performed_event_multiple", leaf)]),
    );
    assert_eq!(project.members(&filters, &now()).unwrap(), [0, 2]);
}

#[test]
fn an_event_that_matches_two_steps_of_an_action_counts_once() {
    let mut project = performers(&[
        &[("e", "2025-06-17T00:00:00Z")],
        &[("e", "2025-06-17T00:00:00Z"), ("f", "2025-06-17T00:00:00Z")],
    ]);
    let steps = json!({"steps": [{"event": "e"}, {}, {"event": "e"}]});
    let action: Action = serde_json::from_value(steps).unwrap();
    project.actions.insert(4, action);
    let twice = json!({"key": "4", "event_type": "actions", "operator": "gte",
        "operator_value": 2});
    check(&project, behavior("performed_event_multiple", twice), &[1]);
}

#[test]
fn urls_of_actions_match_exactly_by_pattern_or_by_part() {
    let with_url = |url: &str| json!({"$current_url": url});
    let mut project = persons(&[json!({}), json!({}), json!({}), json!({})]);
    let time = "2025-06-17T00:00:00Z";
    project.events = vec![
        event(0, "view", time, with_url("https://a.test/x")),
        event(1, "view", time, with_url("https://a.test/x/y")),
        event(2, "view", time, with_url("https://a.test/X")),
        event(3, "view", time, json!({})),
    ];
    let matching = [
        (json!("exact"), "https://a.test/x", vec![0]),
        (json!("regex"), "/x/?.$", vec![1]),
        (json!(null), "test/x", vec![0, 1]),
        (json!("regex"), "(", vec![]),
    ];
    for (url_matching, url, expected) in matching {
        let steps = json!({"steps": [{"url": url, "url_matching": url_matching}]});
        project
            .actions
            .insert(4, serde_json::from_value(steps).unwrap());
        let leaf = json!({"key": 4, "event_type": "actions"});
        check(&project, behavior("performed_event", leaf), &expected);
    }
}

#[test]
fn an_unknown_action_has_no_events() {
    let project = performers(&[&[("e", "2025-06-17T00:00:00Z")]]);
    let leaf = json!({"key": 4, "event_type": "actions", "operator_value": 1});
    check(&project, behavior("performed_event_multiple", leaf), &[]);
}

#[test]
fn a_pattern_that_cannot_be_read_is_an_error_with_either_operator() {
    let project = persons(&[json!({"x": "("}), json!({})]);
    for operator in ["regex", "not_regex"] {
        for value in [
            json!("("),
            json!(["a", "(?=a)"]),
            json!("((a{1000}){1000}){1000}"),
        ] {
            let leaf = json!({"type": "person", "key": "x", "operator": operator, "value": value});
            let error = project.members(&tree("AND", json!([leaf])), &now());
            let error = error.unwrap_err();
            assert_eq!(error.code, "invalid_regex", "{value}");
            assert_eq!(error.path, "properties.values[0]");
        }
    }
}

#[test]
fn an_empty_list_matches_all_persons_and_negated_none() {
    let project = persons(&[json!({"x": 1}), json!({})]);
    for operator in ["exact", "is_not", "icontains", "gt", "in"] {
        let mut leaf = json!({"type": "person", "key": "x", "operator": operator, "value": []});
        check(&project, leaf.clone(), &[0, 1]);
        leaf["negation"] = json!(true);
        let any = json!({"type": "person", "key": "y", "operator": "is_not_set"});
        let filters = tree("AND", json!([any, leaf]));
        assert_eq!(
            project.members(&filters, &now()).unwrap(),
            Vec::<u32>::new()
        );
    }
}

#[test]
fn the_key_distinct_id_matches_any_distinct_id_of_a_person() {
    let mut project = persons(&[json!({"distinct_id": "b"}), json!({}), json!({})]);
    project.persons[0].distinct_ids = vec!["a".to_owned(), "a2".to_owned()];
    project.persons[1].distinct_ids = vec!["b".to_owned()];
    let leaf = |operator: &str, value: &str| json!({"type": "person", "key": "distinct_id", "operator": operator, "value": value});
    check(&project, leaf("exact", "a2"), &[0]);
    check(&project, leaf("exact", "b"), &[1]);
    check(&project, leaf("is_not", "a"), &[0, 1, 2]);
    check(&project, leaf("is_not_set", ""), &[2]);
}

#[test]
fn events_and_distinct_ids_are_found_by_the_names_that_were_sent() {
    let sent = format!(" {} b", "a".repeat(199));
    let stored = "a".repeat(199);
    let time = "2025-06-17T00:00:00Z";
    let mut project = performers(&[&[(&stored, time), ("next", time)], &[("a", time)]]);
    project.persons[0].distinct_ids = vec![stored.clone()];
    project.persons[1].distinct_ids = vec!["a".to_owned()];
    for value in [json!(sent), json!(["x", sent]), json!(stored)] {
        let leaf =
            json!({"type": "person", "key": "distinct_id", "operator": "exact", "value": value});
        check(&project, leaf, &[0]);
    }
    let second = json!({"key": sent, "seq_event": " next ", "seq_event_type": "events",
        "seq_time_value": 1, "seq_time_interval": "day"});
    for leaf in [
        behavior("performed_event", json!({"key": sent})),
        behavior("performed_event_sequence", second),
    ] {
        check(&project, leaf, &[0]);
    }
    let action = Action::parse(&json!([{"event": sent}])).unwrap();
    project.actions.insert(4, action);
    let leaf = json!({"key": " 4 ", "event_type": "actions"});
    check(&project, behavior("performed_event", leaf), &[0]);
}

#[test]
fn creation_times_compare_as_instants() {
    let mut project = persons(&[json!({}), json!({"created_at": "2030-01-01"})]);
    project.persons[0].created_at = micros("2025-06-17T00:00:00Z");
    project.persons[1].created_at = micros("2025-06-01T00:00:00Z");
    let leaf = |operator: &str, value: &str| {
        json!({"type": "person_metadata", "key": "created_at", "operator": operator,
            "value": value})
    };
    check(&project, leaf("is_date_after", "-7d"), &[0]);
    check(&project, leaf("is_date_before", "-7d"), &[1]);
    check(&project, leaf("is_date_exact", "2025-06-01"), &[1]);
    check(&project, leaf("is_set", ""), &[0, 1]);
    check(&project, leaf("is_not_set", ""), &[]);
}

#[test]
fn an_explanation_counts_each_leaf_by_its_path() {
    let project = persons(&[json!({"x": 1}), json!({"x": 2}), json!({})]);
    let leaf = |value: i64, negation: bool| {
        json!({"type": "person", "key": "x", "operator": "exact", "value": value,
            "negation": negation})
    };
    let inner = json!({"type": "OR", "values": [leaf(1, false), leaf(2, false)]});
    let filters = tree("AND", json!([inner, leaf(1, true)]));
    let plan = plan(&Filter::parse(&filters).unwrap(), &now()).unwrap();
    let Ok(explanation) = plan.explain(&project);
    let counts: Vec<_> = explanation
        .leaves
        .into_iter()
        .map(|leaf| (leaf.path, leaf.persons))
        .collect();
    let expected = [
        ("properties.values[0].values[0]", 1),
        ("properties.values[0].values[1]", 1),
        ("properties.values[1]", 2),
    ];
    assert_eq!(
        counts,
        expected.map(|(path, count)| (path.to_owned(), count))
    );
}
