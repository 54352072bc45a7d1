//! The next instant at which time alone changes a member.

use serde_json::{Value, json};

use super::world::{Follower, World, advance};
use super::{DAY, HOUR, SECOND, all_of, behavior, now, person, settings};
use crate::cases::micros;
use crate::delta::Definition;

/// The first instant after today.
fn midnight() -> i64 {
    micros("2025-06-19T00:00:00Z")
}

fn world(events: &[i64]) -> World {
    let mut world = World::of(&vec![json!({}); events.len()]);
    for (person, time) in (0..).zip(events) {
        world.event(person, "e", *time, json!({}));
    }
    world
}

/// Checks the next change, and that it is the first instant with other members.
#[track_caller]
fn check(world: &World, leaf: Value, next: i64) {
    let settings = settings("UTC");
    let mut follower = Follower::new(world, &all_of(json!([leaf])), &settings, now());
    assert_eq!(
        follower.next_change,
        next,
        "{}",
        follower.next_change - now()
    );
    let members = follower.members.clone();
    follower.pass(world, &settings, next - 1).unwrap();
    assert_eq!(follower.members, members);
    assert_eq!(follower.next_change, next);
    let outcomes = advance(world, &mut [&mut follower], &settings, next, true);
    assert!(outcomes[0].is_ok());
    assert_ne!(follower.members, members);
}

/// Checks that no change is known before the end of the day, or never.
#[track_caller]
fn check_none(world: &World, leaf: Value, next: i64) {
    let follower = Follower::new(world, &all_of(json!([leaf])), &settings("UTC"), now());
    assert_eq!(follower.next_change, next);
}

#[test]
fn an_event_leaves_a_rolling_window_exactly_at_its_end() {
    let world = world(&[now() - 7 * DAY + HOUR + 5, now() - DAY]);
    let leaf = behavior("performed_event_multiple", json!({}));
    check(&world, leaf, now() + HOUR + 5);
}

#[test]
fn an_event_enters_a_rolling_window_with_the_clock_allowance() {
    let world = world(&[now() + HOUR]);
    let leaf = behavior("performed_event_multiple", json!({}));
    check(&world, leaf, now() + HOUR - 5 * SECOND + 1);
}

#[test]
fn windows_of_days_change_at_midnight() {
    let world = world(&[now() - 7 * DAY]);
    check(&world, behavior("performed_event", json!({})), midnight());
}

#[test]
fn windows_of_hours_change_with_the_hour() {
    let world = world(&[now() - 2 * HOUR]);
    let hours = json!({"time_value": 3, "time_interval": "hour"});
    let leaf = behavior("performed_event", hours);
    check(&world, leaf, micros("2025-06-18T17:00:00Z"));
}

#[test]
fn relative_dates_change_in_whole_seconds() {
    let date = |date: &str| World::of(&[json!({"paid": date})]);
    let before = person("paid", "is_date_before", json!("-7d"));
    // Before means that the whole second of the bound is greater.
    let paid = date("2025-06-11T16:00:00.25Z");
    check(&paid, before.clone(), micros("2025-06-18T16:00:01Z"));
    let paid = date("2025-06-11T16:00:00Z");
    check(&paid, before, micros("2025-06-18T16:00:01Z"));
    let after = person("paid", "is_date_after", json!("-7d"));
    check(&paid, after, micros("2025-06-18T16:00:00Z"));
}

#[test]
fn instants_of_queries_count() {
    let world = world(&[now() - HOUR]);
    let text = "SELECT person_id FROM events WHERE timestamp >= now() - INTERVAL 5400 SECOND";
    let query = Definition::Query(json!({"kind": "HogQLQuery", "query": text}));
    let follower = Follower::of(&world, query, &settings("UTC"), now());
    assert_eq!(follower.next_change, now() + HOUR / 2 + 1);
}

#[test]
fn an_idle_project_sleeps_until_the_end_of_the_day() {
    let world = world(&[now() - 100 * DAY, now() - 200 * DAY]);
    for kind in [
        "performed_event",
        "performed_event_multiple",
        "performed_event_first_time",
    ] {
        check_none(&world, behavior(kind, json!({})), midnight());
    }
    let paid = World::of(&[json!({"paid": "2020-01-01"}), json!({"paid": "2030-01-01"})]);
    check_none(
        &paid,
        person("paid", "is_date_before", json!("-7d")),
        midnight(),
    );
}

#[test]
fn a_definition_without_instants_never_changes_with_time() {
    let world = World::of(&[json!({"plan": "pro"})]);
    check_none(&world, person("plan", "exact", json!("pro")), i64::MAX);
}

#[test]
fn a_change_of_the_clock_ends_the_piece() {
    let world = world(&[micros("2025-10-25T23:45:00Z")]);
    let hours = json!({"time_value": 1, "time_interval": "hour"});
    let filter = all_of(json!([behavior("performed_event_multiple", hours)]));
    let berlin = settings("Europe/Berlin");
    let mut follower = Follower::new(&world, &filter, &berlin, micros("2025-10-26T00:50:00Z"));
    assert!(follower.members.is_empty());
    // At 03:00 summer time the clock goes back to 02:00, and the event is in the window again.
    let change = micros("2025-10-26T01:00:00Z");
    assert_eq!(follower.next_change, change);
    follower.pass(&world, &berlin, change).unwrap();
    assert!(follower.members.contains(0));
    assert_eq!(follower.next_change, micros("2025-10-26T01:45:00Z"));
}

#[test]
fn an_edge_that_crosses_a_change_of_the_clock_ends_the_piece() {
    // The window of one day begins in the night in which the clock went forward.
    let skipped = micros("2025-03-30T01:30:00Z");
    let world = world(&[skipped]);
    let day = json!({"time_value": 1, "time_interval": "day"});
    let filter = all_of(json!([behavior("performed_event_multiple", day)]));
    let berlin = settings("Europe/Berlin");
    let mut clock = micros("2025-03-30T23:00:00Z");
    let mut follower = Follower::new(&world, &filter, &berlin, clock);
    let mut wakes = 0;
    while clock < micros("2025-03-31T06:00:00Z") {
        // Each instant before the next change has the same members.
        let next = follower.next_change;
        for instant in (clock..next)
            .step_by(600 * SECOND as usize)
            .chain([next - 1])
        {
            let at = berlin.moment(instant).unwrap();
            let Ok(members) = follower.definition.plan(&at).unwrap().evaluate(&world);
            assert_eq!(members, follower.members, "{instant}");
        }
        follower.pass(&world, &berlin, next).unwrap();
        clock = next;
        wakes += 1;
    }
    assert!(wakes < 10, "{wakes}");
}
