//! Sums, averages and numbers of values in HAVING: exact, and independent of the order of events.

use serde_json::{Value, json};

use super::{hogql, members, now, project, refused};
use crate::cases::{Event, Person, Project, micros};
use crate::plan_query;

/// A person for each list of values, with an event for each value of the property `x`.
fn with_values(lists: &[&[Value]]) -> Project {
    let events = (0..).zip(lists).flat_map(|(person, values)| {
        values.iter().map(move |value| Event {
            name: "e".to_owned(),
            person,
            time: micros("2025-06-10T12:00:00Z"),
            properties: json!({"x": value}),
        })
    });
    Project {
        persons: vec![Person::default(); lists.len()],
        events: events.collect(),
        ..Project::default()
    }
}

#[track_caller]
fn selected(project: &Project, having: &str) -> Vec<u32> {
    let text = format!("SELECT person_id FROM events GROUP BY person_id HAVING {having}");
    let plan = plan_query(&hogql(&text), &now()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let Ok(members) = plan.evaluate(project);
    members.iter().collect()
}

/// Ada paid 30 and 5, Dora 100.
#[test]
fn persons_are_selected_by_sums_and_averages() {
    for (having, expected) in [
        ("sum(properties.amount) > 34", vec![0, 3]),
        ("sum(properties.amount) = 35", vec![0]),
        (
            "sum(toFloat(properties.amount)) BETWEEN 35 AND 99.5",
            vec![0],
        ),
        ("sum(e.properties['amount']) IN (35, 100)", vec![0, 3]),
        ("avg(properties.amount) = 17.5", vec![0]),
        ("17.5 < avg(properties.amount)", vec![3]),
        ("avg(toFloat(properties.amount)) <= 17.5", vec![0]),
        ("uniq(properties.amount) = 2", vec![0]),
        ("count(DISTINCT properties.amount) >= 1", vec![0, 3]),
        (
            "count(distinct toString(properties.amount)) IN (1, 3)",
            vec![3],
        ),
        ("not sum(properties.amount) > 34", vec![]),
        ("sum(properties.other) >= 0", vec![]),
        (
            "sum(properties.other) < 0 OR sum(properties.amount) = 100",
            vec![3],
        ),
        ("uniq(properties.other) = 0 AND count() = 2", vec![0]),
    ] {
        let text = format!(
            "SELECT person_id FROM events e WHERE event = 'paid' GROUP BY person_id HAVING {having}"
        );
        assert_eq!(members(&hogql(&text)), expected, "{text}");
    }
    let named = "SELECT person_id, sum(properties.amount) AS total, avg(properties.amount) AS mean FROM events \
                 WHERE event = 'paid' AND timestamp > now() - INTERVAL 1 MONTH \
                 GROUP BY person_id HAVING total > 30 AND mean < 20 ORDER BY total DESC";
    assert_eq!(members(&hogql(named)), [0]);
}

#[test]
fn an_event_without_a_number_does_not_count() {
    let values = [
        json!("12.5"),
        json!(7.5),
        json!("x"),
        json!(true),
        Value::Null,
        json!([5]),
    ];
    let project = with_values(&[&values, &[json!("x")], &[json!(0)]]);
    assert_eq!(selected(&project, "sum(properties.x) = 20"), [0]);
    assert_eq!(selected(&project, "avg(properties.x) = 10"), [0]);
    // A sum of no numbers is missing, as for a property without a value.
    assert_eq!(selected(&project, "sum(properties.x) = 0"), [2]);
    assert_eq!(selected(&project, "sum(properties.x) != 0"), [0, 1]);
    assert_eq!(selected(&project, "avg(properties.x) < 1"), [2]);
    assert_eq!(selected(&project, "uniq(properties.x) = 5"), [0]);
}

#[test]
fn values_are_different_if_their_texts_are() {
    let project = with_values(&[
        &[json!(1), json!("1"), json!(1.0)],
        &[json!("a"), json!("A"), json!(""), Value::Null],
        &[Value::Null],
    ]);
    assert_eq!(selected(&project, "uniq(properties.x) = 1"), [0]);
    assert_eq!(selected(&project, "count(DISTINCT properties.x) = 3"), [1]);
    assert_eq!(selected(&project, "count(DISTINCT properties.x) < 1"), [2]);
}

#[test]
fn sums_are_exact_in_any_order() {
    let ten = vec![json!(0.1); 10];
    let mut large = vec![
        json!(1e300),
        json!(1),
        json!(-1e300),
        json!(i64::MAX),
        json!(1e-300),
    ];
    for turn in 0..5 {
        large.rotate_left(turn % 2 + 1);
        let project = with_values(&[&ten, &large, &[json!(33.33), json!("33.33"), json!(33.34)]]);
        assert_eq!(selected(&project, "sum(properties.x) = 1"), [0]);
        assert_eq!(selected(&project, "avg(properties.x) = 0.1"), [0]);
        assert_eq!(selected(&project, "sum(properties.x) = 100"), [2]);
        assert_eq!(
            selected(&project, "sum(properties.x) > 9223372036854775808"),
            [1]
        );
        assert_eq!(selected(&project, "sum(properties.x) <= 100.00"), [0, 2]);
    }
    let thirds = with_values(&[&[json!(1), json!(0), json!(0)]]);
    assert_eq!(
        selected(&thirds, "avg(properties.x) = 0.3333333333333333"),
        Vec::<u32>::new()
    );
    assert_eq!(
        selected(&thirds, "avg(properties.x) > 0.3333333333333333"),
        [0]
    );
}

#[test]
fn other_aggregates_are_refused_by_name() {
    for (having, construct) in [
        (
            "sum(DISTINCT properties.x) > 1",
            "the function sum(DISTINCT properties.x)",
        ),
        (
            "sum(person.properties.x) > 1",
            "the function sum(person.properties.x)",
        ),
        ("sum(timestamp) > 1", "the function sum(timestamp)"),
        ("sum(1) > 1", "the function sum(1)"),
        ("sum() > 1", "the function sum()"),
        (
            "uniq(properties.x, properties.y) > 1",
            "the function uniq(properties.x, properties.y)",
        ),
        ("uniq(event) > 1", "the function uniq(event)"),
        (
            "count(properties.x) > 1",
            "the function count(properties.x)",
        ),
        (
            "count(DISTINCT person.properties.x) > 1",
            "the function count(DISTINCT person.properties.x)",
        ),
        (
            "median(properties.x) > 1",
            "the function median(properties.x)",
        ),
        (
            "sum(properties.x) > '1'",
            "this comparison of the sum of the event property 'x'",
        ),
        (
            "avg(properties.x) = 'a'",
            "this comparison of the average of the event property 'x'",
        ),
        (
            "avg(properties.x) IS NULL",
            "this test of avg(properties.x)",
        ),
        (
            "uniq(properties.x) > 1.5",
            "this comparison of the number of values of the event property 'x'",
        ),
        (
            "toFloat(sum(properties.x)) > 1",
            "the function toFloat(sum(properties.x))",
        ),
        (
            "sum(properties.x) > sum(properties.y)",
            "a comparison of two columns",
        ),
    ] {
        let text = format!("SELECT person_id FROM events GROUP BY person_id HAVING {having}");
        let expected = format!("query: {construct} is not supported in the query of a cohort");
        assert_eq!(refused(&hogql(&text)), expected, "{text}");
    }
    for (text, construct) in [
        (
            "SELECT sum(properties.x) FROM events",
            "sum(properties.x) without GROUP BY the person",
        ),
        (
            "SELECT person_id FROM events WHERE uniq(properties.x) > 1",
            "this test of the number of values of the event property 'x'",
        ),
        (
            "SELECT id FROM persons WHERE sum(properties.x) > 1",
            "the function sum(properties.x)",
        ),
    ] {
        let expected = format!("query: {construct} is not supported in the query of a cohort");
        assert_eq!(refused(&hogql(text)), expected, "{text}");
    }
}

#[test]
fn a_name_in_having_has_a_longest_length() {
    let key = "x".repeat(1_001);
    let text =
        format!("SELECT person_id FROM events GROUP BY person_id HAVING sum(properties.{key}) > 1");
    let sentence = refused(&hogql(&text));
    assert!(sentence.contains("a name has 1001 bytes"), "{sentence}");
}

#[test]
fn values_of_several_names_and_blocks_are_summed_together() {
    let mut project = project();
    let mut refund = project.events[0].clone();
    refund.name = "refund".to_owned();
    refund.properties = json!({"amount": -5});
    project.events.push(refund);
    assert_eq!(selected(&project, "sum(properties.amount) = 30"), [0]);
    assert_eq!(selected(&project, "uniq(properties.amount) = 3"), [0]);
}
