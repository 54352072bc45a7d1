//! Delta evaluation of queries, and of cohorts that refer to dynamic cohorts by query.

use serde_json::{Value, json};

use super::world::{Follower, World};
use super::{DAY, HOUR, all_of, behavior, cohort, now, settings};
use crate::delta::{Definition, FullReason};

fn hogql(text: &str) -> Value {
    json!({"kind": "HogQLQuery", "query": text})
}

fn follow(world: &World, query: Value) -> Follower {
    let definition = Definition::Query(query);
    Follower::of(world, definition, &settings("UTC"), now())
}

#[test]
fn sums_follow_the_events_that_enter_and_leave_a_window() {
    let mut world = World::of(&[json!({}), json!({}), json!({})]);
    world.event(0, "paid", now() - 7 * DAY + HOUR, json!({"amount": 80}));
    world.event(0, "paid", now() - DAY, json!({"amount": "20.5"}));
    world.event(1, "paid", now() - DAY, json!({"amount": 99.9}));
    let having = [
        ("sum(properties.amount) > 100", vec![0], vec![1]),
        ("avg(properties.amount) < 55", vec![0], vec![0, 1]),
        ("uniq(properties.amount) = 2", vec![0], vec![1]),
        ("count(DISTINCT properties.amount) < 2", vec![1], vec![0]),
    ];
    for (having, before, after) in having {
        let mut world = world.clone();
        let mut following = follow(
            &world,
            hogql(&format!(
                "SELECT person_id FROM events WHERE event = 'paid' \
                 AND timestamp >= now() - INTERVAL 7 DAY GROUP BY person_id HAVING {having}"
            )),
        );
        assert_eq!(Vec::from_iter(&following.members), before, "{having}");
        world.event(1, "paid", now(), json!({"amount": 0.2}));
        // The first event of person 0 leaves the window.
        let later = now() + 2 * HOUR;
        assert_eq!(following.touched(&world, &settings("UTC"), later), [0, 1]);
        assert_eq!(Vec::from_iter(&following.members), after, "{having}");
        assert!(following.next_change > later);
    }
}

#[test]
fn what_touches_a_referenced_query_touches_the_referring_cohort() {
    let mut world = World::of(&[json!({}), json!({}), json!({}), json!({})]);
    world.upload(1, [0]);
    let sum = "SELECT person_id FROM events WHERE event = 'paid' AND timestamp > now() - INTERVAL 1 DAY \
               GROUP BY person_id HAVING sum(properties.amount) >= 10 \
               UNION SELECT person_id FROM cohort_people WHERE cohort_id = 1";
    world.dynamic.insert(2, hogql(sum));
    let leaf = all_of(json!([cohort(2)]));
    world.dynamic.insert(3, leaf.clone());
    world.event(1, "paid", now() - DAY + HOUR, json!({"amount": 10}));
    let query = hogql("SELECT id FROM persons WHERE id IN COHORT 3");
    let by_filter = Follower::new(&world, &leaf, &settings("UTC"), now());
    for mut outer in [by_filter, follow(&world, query)] {
        let mut world = world.clone();
        assert_eq!(Vec::from_iter(&outer.members), [0, 1]);
        assert!(outer.next_change <= now() + HOUR);
        world.upload(1, [0, 3]);
        world.event(2, "paid", now(), json!({"amount": 12}));
        let touched = outer.touched(&world, &settings("UTC"), now() + 2 * HOUR);
        assert_eq!(touched, [1, 2, 3]);
        assert_eq!(Vec::from_iter(&outer.members), [0, 2, 3]);
    }
}

#[test]
fn a_referenced_cohort_with_another_query_or_a_filter_instead_needs_a_full_evaluation() {
    let mut world = World::of(&[json!({"plan": "pro"}), json!({})]);
    world.event(1, "e", now(), json!({}));
    let persons = |condition| hogql(&format!("SELECT id FROM persons WHERE {condition}"));
    world.dynamic.insert(2, persons("properties.plan = 'pro'"));
    let filter = all_of(json!([cohort(2)]));
    let mut follower = Follower::new(&world, &filter, &settings("UTC"), now());
    assert_eq!(Vec::from_iter(&follower.members), [0]);
    let changes = [
        (persons("true"), vec![0, 1]),
        (
            all_of(json!([behavior("performed_event", json!({}))])),
            vec![1],
        ),
        (persons("properties.plan = 'pro'"), vec![0]),
    ];
    for (definition, members) in changes {
        world.dynamic.insert(2, definition);
        let outcome = follower.pass(&world, &settings("UTC"), now());
        assert_eq!(outcome, Err(FullReason::Reference));
        assert_eq!(Vec::from_iter(&follower.members), members);
        assert!(follower.touched(&world, &settings("UTC"), now()).is_empty());
    }
}
