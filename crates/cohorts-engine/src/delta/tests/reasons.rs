//! Why a cohort is evaluated fully.

use serde_json::{Value, json};

use super::world::{Follower, World};
use super::{HOUR, all_of, behavior, cohort, now, person, settings};
use crate::Filter;
use crate::delta::{Definition, EvaluationState, FullReason, SEMANTICS, Settings};

fn world() -> World {
    let mut world = World::of(&[json!({"plan": "pro"}), json!({})]);
    world.upload(1, [0]);
    world
        .dynamic
        .insert(2, all_of(json!([person("plan", "is_set", json!(null))])));
    world.actions.insert(1, json!([{"event": "e"}]));
    world
}

fn follow(world: &World, leaf: Value) -> Follower {
    Follower::new(world, &all_of(json!([leaf])), &settings("UTC"), now())
}

/// Checks the reason of the next pass, and that the pass after it is no full evaluation.
#[track_caller]
fn check(follower: &mut Follower, world: &World, settings: &Settings, reason: FullReason) {
    assert_eq!(follower.pass(world, settings, now() + HOUR), Err(reason));
    assert!(follower.pass(world, settings, now() + 2 * HOUR).is_ok());
}

#[test]
fn an_edited_definition_needs_a_full_evaluation() {
    let world = world();
    let mut follower = follow(&world, cohort(1));
    let edited = Filter::parse(&all_of(json!([cohort(2)]))).unwrap();
    follower.definition = Definition::Filter(edited);
    check(
        &mut follower,
        &world,
        &settings("UTC"),
        FullReason::Definition,
    );
}

#[test]
fn an_edited_or_deleted_action_needs_a_full_evaluation() {
    let mut world = world();
    let action = behavior(
        "performed_event",
        json!({"key": 1, "event_type": "actions"}),
    );
    let mut follower = follow(&world, action);
    world.event(1, "f", now(), json!({}));
    world.actions.insert(1, json!([{"event": "f"}]));
    check(&mut follower, &world, &settings("UTC"), FullReason::Action);
    assert!(follower.members.contains(1));
    world.actions.clear();
    check(&mut follower, &world, &settings("UTC"), FullReason::Action);
    world.actions.insert(1, json!([{"event": "f"}]));
    check(&mut follower, &world, &settings("UTC"), FullReason::Action);
}

#[test]
fn an_action_of_a_referenced_cohort_counts() {
    let mut world = world();
    let action = behavior(
        "performed_event",
        json!({"key": 1, "event_type": "actions"}),
    );
    world.dynamic.insert(3, all_of(json!([action])));
    let mut follower = follow(&world, cohort(3));
    world.actions.insert(1, json!([{"event": "f"}]));
    check(&mut follower, &world, &settings("UTC"), FullReason::Action);
}

#[test]
fn an_edited_referenced_cohort_needs_a_full_evaluation() {
    let mut world = world();
    let either = json!({"properties": {"type": "OR", "values": [cohort(2)]}});
    world.dynamic.insert(3, either);
    let mut follower = follow(&world, cohort(3));
    assert!(follower.members.contains(0));
    let unset = person("plan", "is_not_set", json!(null));
    world.dynamic.insert(2, all_of(json!([unset])));
    check(
        &mut follower,
        &world,
        &settings("UTC"),
        FullReason::Reference,
    );
    assert!(follower.members.contains(1));
}

#[test]
fn a_deleted_restored_or_converted_reference_needs_a_full_evaluation() {
    let mut world = world();
    let mut follower = follow(&world, cohort(1));
    let list = world.lists.remove(&1).unwrap();
    check(
        &mut follower,
        &world,
        &settings("UTC"),
        FullReason::Reference,
    );
    world.lists.insert(1, list);
    check(
        &mut follower,
        &world,
        &settings("UTC"),
        FullReason::Reference,
    );
    world.lists.remove(&1);
    world.dynamic.insert(1, all_of(json!([cohort(2)])));
    check(
        &mut follower,
        &world,
        &settings("UTC"),
        FullReason::Reference,
    );
}

#[test]
fn a_referenced_cohort_that_fails_or_recovers_needs_a_full_evaluation() {
    let mut world = world();
    let mut follower = follow(&world, cohort(2));
    let recovered = world.dynamic[&2].clone();
    // No calendar reaches so far back.
    let failing = behavior(
        "performed_event",
        json!({"time_value": 20_000, "time_interval": "year"}),
    );
    world.dynamic.insert(2, all_of(json!([failing])));
    check(
        &mut follower,
        &world,
        &settings("UTC"),
        FullReason::Reference,
    );
    assert!(follower.members.is_empty());
    world.dynamic.insert(2, recovered);
    check(
        &mut follower,
        &world,
        &settings("UTC"),
        FullReason::Reference,
    );
    assert!(follower.members.contains(0));
}

#[test]
fn a_referenced_cohort_that_recovers_as_time_passes_needs_a_full_evaluation() {
    let mut world = world();
    let window = json!({"time_value": 12_024, "time_interval": "year"});
    let inner = behavior("performed_event_multiple", window);
    world.dynamic.insert(2, all_of(json!([inner])));
    world.event(0, "e", now() - 1_000 * HOUR, json!({}));
    // The window begins before the first day of the calendar, and later on its third day.
    let early = crate::cases::micros("2025-01-01T12:00:00Z");
    let late = crate::cases::micros("2025-01-03T12:00:00Z");
    let settings = settings("UTC");
    let filter = all_of(json!([cohort(2)]));
    let mut follower = Follower::new(&world, &filter, &settings, early);
    assert!(follower.next_change <= late);
    assert_eq!(
        follower.pass(&world, &settings, late),
        Err(FullReason::Reference)
    );
}

#[test]
fn a_changed_time_zone_needs_a_full_evaluation() {
    let mut world = world();
    world.event(0, "e", now() - 16 * HOUR, json!({}));
    let today = json!({"explicit_datetime": "-0d"});
    let mut follower = follow(&world, behavior("performed_event", today));
    assert!(follower.members.is_empty());
    check(
        &mut follower,
        &world,
        &settings("Asia/Kolkata"),
        FullReason::Settings,
    );
}

#[test]
fn changed_test_accounts_or_retention_need_a_full_evaluation() {
    let world = world();
    let mut follower = follow(&world, cohort(1));
    let mut changed = settings("UTC");
    changed.test_accounts = crate::delta::Fingerprint::of(&json!([{"key": "email"}]));
    check(&mut follower, &world, &changed, FullReason::Settings);
    changed.retention_days = Some(30);
    check(&mut follower, &world, &changed, FullReason::Settings);
}

#[test]
fn a_deletion_by_retention_needs_one_full_evaluation() {
    let mut world = world();
    world.event(0, "e", now() - 50 * HOUR, json!({}));
    let mut follower = follow(&world, behavior("performed_event", json!({})));
    assert!(follower.members.contains(0));
    let mut after = settings("UTC");
    after.deleted_before = Some(now() - 10 * HOUR);
    world.delete_events_before(now() - 10 * HOUR);
    check(&mut follower, &world, &after, FullReason::Retention);
    assert!(follower.members.is_empty());
}

#[test]
fn members_of_another_meaning_of_the_language_need_a_full_evaluation() {
    let world = world();
    let mut follower = follow(&world, cohort(1));
    follower.state.semantics = SEMANTICS + 1;
    check(
        &mut follower,
        &world,
        &settings("UTC"),
        FullReason::Semantics,
    );
}

#[test]
fn a_log_that_went_back_needs_a_full_evaluation() {
    let world = world();
    let mut follower = follow(&world, cohort(1));
    follower.state.position.seq += 1;
    check(
        &mut follower,
        &world,
        &settings("UTC"),
        FullReason::Position,
    );
}

#[test]
fn a_comparison_that_has_instants_at_midnight_only_needs_a_full_evaluation() {
    let mut world = world();
    let midnight = crate::cases::micros("2025-06-19T00:00:00Z");
    world.event(0, "e", midnight - HOUR, json!({}));
    let text = "SELECT person_id FROM events WHERE toDate(timestamp) = now() - INTERVAL 1 DAY";
    let query = Definition::Query(json!({"kind": "HogQLQuery", "query": text}));
    let mut follower = Follower::of(&world, query, &settings("UTC"), midnight - 1);
    let outcome = follower.pass(&world, &settings("UTC"), midnight);
    assert_eq!(outcome, Err(FullReason::Instants));
    assert!(follower.members.contains(0));
}

#[test]
fn a_state_survives_storage() {
    let world = world();
    let leaves = json!([
        cohort(1),
        cohort(2),
        cohort(9),
        behavior(
            "performed_event",
            json!({"key": 1, "event_type": "actions"})
        )
    ]);
    let follower = Follower::new(&world, &all_of(leaves), &settings("UTC"), now());
    let text = serde_json::to_string(&follower.state).unwrap();
    let stored: EvaluationState = serde_json::from_str(&text).unwrap();
    assert_eq!(stored, follower.state);
    assert_eq!(stored.check_advance(&follower.state), Ok(()));
}
