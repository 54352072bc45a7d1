//! Which persons a pass touches: a test for each row of the table in `README.md`.

use serde_json::{Value, json};

use super::world::{Follower, World, advance};
use super::{DAY, HOUR, SECOND, all_of, behavior, cohort, now, person, settings};
use crate::cases::micros;
use crate::delta::changes::is_large;
use crate::delta::{Definition, FullReason};

/// Persons without properties.
fn persons(count: usize) -> World {
    World::of(&vec![json!({}); count])
}

fn follow(world: &World, leaves: Value) -> Follower {
    Follower::new(world, &all_of(leaves), &settings("UTC"), now())
}

fn query(world: &World, text: &str) -> Follower {
    let query = json!({"kind": "HogQLQuery", "query": text});
    Follower::of(world, Definition::Query(query), &settings("UTC"), now())
}

/// Advances to `clock`, and checks the touched persons and the members.
#[track_caller]
fn check_at(follower: &mut Follower, world: &World, clock: i64, touched: &[u32], members: &[u32]) {
    assert_eq!(
        follower.touched(world, &settings("UTC"), clock),
        touched,
        "touched"
    );
    let found: Vec<u32> = follower.members.iter().collect();
    assert_eq!(found, members, "members");
}

#[track_caller]
fn check(follower: &mut Follower, world: &World, touched: &[u32], members: &[u32]) {
    check_at(follower, world, now(), touched, members);
}

// Row 1: events of the plan's names.

#[test]
fn new_events_touch_their_persons_whatever_their_time() {
    let mut world = persons(4);
    let mut cohort = follow(&world, json!([behavior("performed_event", json!({}))]));
    world.event(0, "e", now(), json!({}));
    world.event(1, "e", now() - 6 * DAY, json!({}));
    world.event(2, "e", now() + 30 * DAY, json!({}));
    world.event(3, "other", now(), json!({}));
    check(&mut cohort, &world, &[0, 1, 2], &[0, 1]);
}

#[test]
fn second_events_of_sequences_touch_their_persons() {
    let mut world = persons(2);
    world.event(0, "e", now() - HOUR, json!({}));
    let sequence = json!({"seq_event": "f", "seq_event_type": "events", "seq_time_value": 1,
        "seq_time_interval": "day"});
    let leaf = behavior("performed_event_sequence", sequence);
    let mut cohort = follow(&world, json!([leaf]));
    world.event(0, "f", now(), json!({}));
    check(&mut cohort, &world, &[0], &[0]);
}

#[test]
fn all_events_count_if_an_action_matches_any_name() {
    let mut world = persons(2);
    world.actions.insert(1, json!([{"url": "/shop"}]));
    let action = behavior(
        "performed_event",
        json!({"key": 1, "event_type": "actions"}),
    );
    let mut cohort = follow(&world, json!([action]));
    world.event(1, "any", now(), json!({"$current_url": "https://x/shop"}));
    check(&mut cohort, &world, &[1], &[1]);
}

#[test]
fn all_events_count_if_a_query_matches_any_name() {
    let mut world = persons(2);
    let mut cohort = query(&world, "SELECT person_id FROM events WHERE event != 'x'");
    world.event(1, "any", now(), json!({}));
    check(&mut cohort, &world, &[1], &[1]);
}

// Row 2: persons that are created, merged or deleted.

#[test]
fn a_person_created_later_brings_earlier_events_along() {
    let mut world = persons(1);
    world.event(7, "e", now() - HOUR, json!({}));
    let mut cohort = follow(&world, json!([behavior("performed_event", json!({}))]));
    assert!(cohort.members.is_empty());
    world.create(7, json!({}));
    check(&mut cohort, &world, &[7], &[7]);
}

#[test]
fn a_new_person_is_a_member_of_a_negated_criterion() {
    let mut world = persons(1);
    let mut leaf = behavior("performed_event", json!({}));
    leaf["negation"] = json!(true);
    let set = person("none", "is_not_set", json!(null));
    let mut cohort = follow(&world, json!([leaf, set]));
    world.create(5, json!({}));
    check(&mut cohort, &world, &[5], &[0, 5]);
}

#[test]
fn a_merge_adds_to_a_count() {
    let mut world = persons(3);
    for person in [0, 1, 2] {
        world.event(person, "e", now() - HOUR, json!({}));
    }
    let twice = behavior("performed_event_multiple", json!({"operator_value": 2}));
    let mut cohort = follow(&world, json!([twice]));
    assert!(cohort.members.is_empty());
    world.merge(2, 0);
    check(&mut cohort, &world, &[0, 2], &[2]);
}

#[test]
fn a_deleted_person_leaves_a_cohort_of_events() {
    let mut world = persons(2);
    for person in [0, 1] {
        world.event(person, "e", now() - HOUR, json!({}));
    }
    let mut cohort = follow(&world, json!([behavior("performed_event", json!({}))]));
    world.delete(0);
    check(&mut cohort, &world, &[0], &[1]);
}

// Row 3: persons that gained or lost a distinct id.

#[test]
fn a_gained_distinct_id_brings_earlier_events_along() {
    let mut world = persons(2);
    world.event(9, "e", now() - HOUR, json!({}));
    let mut cohort = follow(&world, json!([behavior("performed_event", json!({}))]));
    world.alias(1, 9);
    check(&mut cohort, &world, &[1], &[1]);
}

#[test]
fn a_gained_distinct_id_is_tested() {
    let mut world = persons(2);
    let mut cohort = follow(
        &world,
        json!([person("distinct_id", "exact", json!("id9"))]),
    );
    world.alias(1, 9);
    check(&mut cohort, &world, &[1], &[1]);
}

// Row 4: changed persons.

#[test]
fn changed_persons_count_for_plans_that_read_persons() {
    let mut world = World::of(&[json!({}), json!({"plan": "pro"})]);
    let mut of_plan = follow(&world, json!([person("plan", "exact", json!("pro"))]));
    let mut of_event = follow(&world, json!([behavior("performed_event", json!({}))]));
    world.change(0, |person| person.properties = json!({"plan": "pro"}));
    world.change(1, |person| person.properties = json!({}));
    check(&mut of_plan, &world, &[0, 1], &[0]);
    check(&mut of_event, &world, &[], &[]);
}

#[test]
fn changed_creation_times_count() {
    let mut world = persons(2);
    let leaf = json!({"type": "person_metadata", "key": "created_at", "operator": "is_date_after",
        "value": "-7d"});
    let mut cohort = follow(&world, json!([leaf]));
    world.change(1, |person| person.created_at = now() - DAY);
    check(&mut cohort, &world, &[1], &[1]);
}

#[test]
fn persons_in_the_condition_of_a_query_count() {
    let mut world = persons(2);
    world.event(1, "e", now() - DAY, json!({}));
    let text = "SELECT person_id FROM events WHERE person.properties.plan = 'pro'";
    let mut cohort = query(&world, text);
    world.change(1, |person| person.properties = json!({"plan": "pro"}));
    check(&mut cohort, &world, &[1], &[1]);
}

// Row 5: events between an instant of the plan then and now.

#[test]
fn events_at_the_start_of_a_window_are_touched() {
    let mut world = persons(3);
    world.event(0, "e", now() - 7 * DAY + HOUR, json!({}));
    world.event(1, "e", now() - 7 * DAY + 3 * HOUR, json!({}));
    world.event(2, "other", now() - 7 * DAY + HOUR, json!({}));
    let leaf = behavior("performed_event_multiple", json!({}));
    let mut cohort = follow(&world, json!([leaf]));
    check_at(&mut cohort, &world, now() + 2 * HOUR, &[0], &[1]);
}

#[test]
fn events_within_the_clock_allowance_of_a_count_are_touched() {
    let mut world = persons(2);
    world.event(0, "e", now() + 6 * SECOND, json!({}));
    world.event(1, "e", now() + 9 * SECOND, json!({}));
    let leaf = behavior("performed_event_multiple", json!({}));
    let mut cohort = follow(&world, json!([leaf]));
    check_at(&mut cohort, &world, now() + 2 * SECOND, &[0], &[0]);
}

#[test]
fn future_events_enter_at_the_end_of_today() {
    let mut world = persons(2);
    let midnight = micros("2025-06-19T00:00:00Z");
    world.event(0, "e", midnight, json!({}));
    let mut cohort = follow(&world, json!([behavior("performed_event", json!({}))]));
    check_at(&mut cohort, &world, midnight - 1, &[], &[]);
    check_at(&mut cohort, &world, midnight, &[0], &[0]);
}

#[test]
fn starts_of_periods_are_instants() {
    let mut world = persons(3);
    // One of three days; the third day before is no period tomorrow.
    world.event(0, "e", now() - 3 * DAY, json!({}));
    world.event(1, "e", now(), json!({}));
    let periods = json!({"time_value": 1, "min_periods": 1, "total_periods": 3});
    let leaf = behavior("performed_event_regularly", periods);
    let mut cohort = follow(&world, json!([leaf]));
    let found: Vec<u32> = cohort.members.iter().collect();
    assert_eq!(found, [0]);
    check_at(&mut cohort, &world, now() + DAY, &[0, 1], &[1]);
}

#[test]
fn both_windows_of_stopped_and_restarted_are_instants() {
    let mut world = persons(2);
    world.event(0, "e", now() - 2 * DAY, json!({}));
    let nested = json!({"seq_time_value": 2, "seq_time_interval": "day"});
    let mut stopped = follow(
        &world,
        json!([behavior("stopped_performing_event", nested.clone())]),
    );
    check_at(&mut stopped, &world, now() + DAY, &[0], &[0]);
    world.event(1, "e", now() - 30 * DAY, json!({}));
    world.event(1, "e", now(), json!({}));
    let mut restarted = follow(
        &world,
        json!([behavior("restarted_performing_event", nested)]),
    );
    let found: Vec<u32> = restarted.members.iter().collect();
    assert_eq!(found, [1]);
    check_at(&mut restarted, &world, now() + 3 * DAY, &[0, 1], &[]);
}

#[test]
fn instants_of_queries_are_instants() {
    let mut world = persons(2);
    world.event(0, "e", now() - HOUR, json!({}));
    let hour = now() + HOUR;
    for (condition, before, after) in [
        ("WHERE timestamp > now() - INTERVAL 2 HOUR", true, false),
        (
            "WHERE event = 'e' AND timestamp < now() - INTERVAL 90 MINUTE",
            false,
            true,
        ),
        (
            "GROUP BY person_id HAVING min(timestamp) >= now() - INTERVAL 90 MINUTE",
            true,
            false,
        ),
        (
            "GROUP BY person_id HAVING max(timestamp) < now() - INTERVAL 90 MINUTE",
            false,
            true,
        ),
    ] {
        let mut cohort = query(&world, &format!("SELECT person_id FROM events {condition}"));
        assert_eq!(cohort.members.contains(0), before, "{condition}");
        check_at(
            &mut cohort,
            &world,
            hour,
            &[0],
            if after { &[0] } else { &[] },
        );
    }
}

#[test]
fn an_event_exactly_on_an_edge_is_touched() {
    let mut world = persons(1);
    world.event(0, "e", now() - HOUR, json!({}));
    let hours = json!({"time_value": 2, "time_interval": "hour"});
    let mut cohort = follow(&world, json!([behavior("performed_event_multiple", hours)]));
    // The window begins after the instant two hours ago, so the event is the first one of the window,
    // and then the last one before it.
    check_at(&mut cohort, &world, now() + HOUR - 2, &[], &[0]);
    check_at(&mut cohort, &world, now() + HOUR - 1, &[0], &[0]);
    check_at(&mut cohort, &world, now() + HOUR, &[0], &[]);
    let touched = cohort.touched(&world, &settings("UTC"), now() + HOUR + 1);
    assert_eq!(touched, Vec::<u32>::new());
}

#[test]
fn an_edge_moves_back_in_the_hour_that_comes_twice() {
    let mut world = persons(1);
    world.event(0, "e", micros("2025-10-25T23:45:00Z"), json!({}));
    let hours = json!({"time_value": 1, "time_interval": "hour"});
    let filter = all_of(json!([behavior("performed_event_multiple", hours)]));
    let berlin = settings("Europe/Berlin");
    // 02:59 in summer time, then 02:30 in winter time.
    let (first, second) = (
        micros("2025-10-26T00:59:00Z"),
        micros("2025-10-26T01:30:00Z"),
    );
    let mut cohort = Follower::new(&world, &filter, &berlin, first);
    assert!(cohort.members.is_empty());
    assert_eq!(cohort.touched(&world, &berlin, second), [0]);
    assert!(cohort.members.contains(0));
}

#[test]
fn an_edge_moves_back_at_the_end_of_a_month() {
    let mut world = persons(1);
    world.event(0, "e", micros("2025-02-28T12:00:00Z"), json!({}));
    let month = json!({"time_value": 1, "time_interval": "month"});
    let filter = all_of(json!([behavior("performed_event_multiple", month)]));
    let utc = settings("UTC");
    let mut cohort = Follower::new(&world, &filter, &utc, micros("2025-03-29T23:00:00Z"));
    assert!(cohort.members.is_empty());
    assert_eq!(
        cohort.touched(&world, &utc, micros("2025-03-30T01:00:00Z")),
        [0]
    );
    assert!(cohort.members.contains(0));
}

#[test]
fn the_moment_is_kept_if_the_clock_goes_back() {
    let mut world = persons(2);
    world.event(0, "e", now() - 7 * DAY, json!({}));
    let mut cohort = follow(
        &world,
        json!([behavior("performed_event_multiple", json!({}))]),
    );
    assert!(cohort.members.is_empty());
    world.event(1, "e", now(), json!({}));
    check_at(&mut cohort, &world, now() - DAY, &[1], &[1]);
    assert_eq!(cohort.state.position.now, now());
}

// Row 6: dates between a relative date then and now.

#[test]
fn a_renewal_date_in_an_event_filter_is_touched() {
    let mut world = persons(2);
    for (person, date) in [(0, "2025-06-11T16:00:00Z"), (1, "2025-06-11T18:00:00Z")] {
        world.event(person, "e", now() - DAY, json!({"renewal": date}));
    }
    let filters = json!([{"type": "event", "key": "renewal", "operator": "is_date_before",
        "value": "-7d"}]);
    let leaf = behavior("performed_event", json!({"event_filters": filters}));
    let mut cohort = follow(&world, json!([leaf]));
    check_at(&mut cohort, &world, now() + HOUR, &[0], &[0]);
}

#[test]
fn a_date_in_the_step_of_an_action_is_touched() {
    for step in [json!({"event": "e"}), json!({})] {
        let mut world = persons(2);
        world.event(
            1,
            "e",
            now() - DAY,
            json!({"renewal": "2025-06-11T16:00:00Z"}),
        );
        let mut step = step;
        step["properties"] =
            json!([{"key": "renewal", "operator": "is_date_before", "value": "-7d"}]);
        world.actions.insert(1, json!([step]));
        let action = behavior(
            "performed_event",
            json!({"key": 1, "event_type": "actions"}),
        );
        let mut cohort = follow(&world, json!([action]));
        check_at(&mut cohort, &world, now() + HOUR, &[1], &[1]);
    }
}

#[test]
fn dates_of_persons_are_touched() {
    let mut world = World::of(&[json!({"paid": "2025-06-11T16:00:00Z"}), json!({})]);
    world.change(1, |person| {
        person.created_at = micros("2025-06-11T16:00:00Z")
    });
    let paid = person("paid", "is_date_before", json!("-7d"));
    let mut cohort = follow(&world, json!([paid]));
    check_at(&mut cohort, &world, now() + HOUR, &[0], &[0]);
    let created = json!({"type": "person_metadata", "key": "created_at",
        "operator": "is_date_before", "value": "-7d"});
    let mut cohort = follow(&world, json!([created]));
    assert_eq!(Vec::from_iter(&cohort.members), [0]);
    check_at(&mut cohort, &world, now() + HOUR, &[1], &[0, 1]);
}

#[test]
fn distinct_ids_that_are_dates_are_touched() {
    let mut world = persons(2);
    world.change(1, |person| {
        person.distinct_ids.push("2025-06-11T16:00:00Z".to_owned())
    });
    let mut cohort = follow(
        &world,
        json!([person("distinct_id", "is_date_before", json!("-7d"))]),
    );
    check_at(&mut cohort, &world, now() + HOUR, &[1], &[1]);
}

#[test]
fn dates_in_queries_are_touched() {
    let mut world = World::of(&[json!({"paid": "2025-06-11T16:00:00Z"})]);
    world.event(
        0,
        "e",
        now() - DAY,
        json!({"renewal": "2025-06-11T16:00:00Z"}),
    );
    for column in ["properties.renewal", "person.properties.paid"] {
        for event in ["", "AND event = 'e'"] {
            let text = format!(
                "SELECT person_id FROM events
                 WHERE toDateTime({column}) < now() - INTERVAL 7 DAY {event}"
            );
            let mut cohort = query(&world, &text);
            assert!(cohort.members.is_empty(), "{text}");
            check_at(&mut cohort, &world, now() + HOUR, &[0], &[0]);
        }
    }
}

#[test]
fn dates_that_the_index_cannot_identify_need_a_full_evaluation() {
    let mut world = World::of(&[json!({"paid": "2025-06-11T16:00:00Z"})]);
    let mut cohort = follow(
        &world,
        json!([person("paid", "is_date_before", json!("-7d"))]),
    );
    world.hides_dates = true;
    let outcome = cohort.pass(&world, &settings("UTC"), now() + HOUR);
    assert_eq!(outcome, Err(FullReason::Dates));
}

// Row 7: touched persons of referenced cohorts.

#[test]
fn an_upload_to_a_referenced_static_cohort_touches_the_difference() {
    let mut world = persons(4);
    world.upload(1, [0, 1]);
    let mut following = follow(&world, json!([cohort(1)]));
    world.upload(1, [1, 2]);
    check(&mut following, &world, &[0, 2], &[1, 2]);
    check(&mut following, &world, &[], &[1, 2]);
}

#[test]
fn what_touches_a_referenced_cohort_touches_the_referring_one() {
    let mut world = persons(4);
    world.upload(1, [0]);
    let inner = all_of(json!([behavior("performed_event_multiple", json!({}))]));
    world.dynamic.insert(2, inner);
    let either = json!({"properties": {"type": "OR", "values": [cohort(1), cohort(2)]}});
    world.dynamic.insert(3, either);
    world.event(1, "e", now() - 7 * DAY + HOUR, json!({}));
    let mut outer = follow(&world, json!([cohort(3)]));
    assert_eq!(Vec::from_iter(&outer.members), [0, 1]);
    world.upload(1, [0, 3]);
    world.event(2, "e", now(), json!({}));
    check_at(&mut outer, &world, now() + 2 * HOUR, &[1, 2, 3], &[0, 2, 3]);
}

// Many cohorts.

#[test]
fn a_pass_looks_up_each_name_once() {
    let mut world = persons(3);
    world.event(0, "e", now() - DAY, json!({}));
    let leaf = |days: i64| {
        let window = json!({"time_value": days});
        all_of(json!([behavior("performed_event_multiple", window)]))
    };
    let settings = settings("UTC");
    let mut cohorts: Vec<Follower> = (1..20)
        .map(|days| Follower::new(&world, &leaf(days), &settings, now()))
        .collect();
    world.event(1, "e", now(), json!({}));
    world.lookups.get_mut().clear();
    let mut followers: Vec<&mut Follower> = cohorts.iter_mut().collect();
    advance(&world, &mut followers, &settings, now() + HOUR, false);
    let lookups = world.lookups.take();
    assert_eq!(lookups, ["performers Some({\"e\"})", "times of e"]);
}

#[test]
fn a_pass_before_the_next_change_looks_up_no_times() {
    let mut world = persons(2);
    world.event(0, "e", now() - DAY, json!({}));
    let settings = settings("UTC");
    let filter = all_of(json!([behavior("performed_event_multiple", json!({}))]));
    let mut cohort = Follower::new(&world, &filter, &settings, now());
    world.event(1, "e", now(), json!({}));
    world.lookups.get_mut().clear();
    let outcomes = advance(&world, &mut [&mut cohort], &settings, now() + HOUR, true);
    assert_eq!(
        outcomes[0].as_ref().unwrap().iter().collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(world.lookups.take(), ["performers Some({\"e\"})"]);
    // Neither data nor time changed a member.
    let outcomes = advance(
        &world,
        &mut [&mut cohort],
        &settings,
        now() + 2 * HOUR,
        true,
    );
    assert!(outcomes[0].as_ref().unwrap().is_empty());
    assert_eq!(world.lookups.take(), Vec::<String>::new());
}

#[test]
fn more_than_a_tenth_of_the_persons_needs_a_full_evaluation() {
    assert!(!is_large(1_000, 1_000));
    assert!(!is_large(1_001, 10_010));
    assert!(is_large(1_002, 10_010));
    assert!(!is_large(99_000, 1_000_000));
}

#[test]
fn a_pass_with_too_many_touched_persons_is_full() {
    let mut world = persons(1_200);
    let mut cohort = follow(&world, json!([behavior("performed_event", json!({}))]));
    for person in 0..1_001 {
        world.event(person, "e", now(), json!({}));
    }
    let outcome = cohort.pass(&world, &settings("UTC"), now());
    assert_eq!(outcome, Err(FullReason::Touched));
    assert_eq!(cohort.members.len(), 1_001);
}
