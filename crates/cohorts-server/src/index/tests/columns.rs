//! Which columns are stored, and which are loaded together.

use cohorts_store::outages::Outages;
use diesel::RunQueryDsl;
use serde_json::{Value, json};

use super::super::live::drop_unread_columns;
use super::{
    Fixture, IndexCache, Item, did_x, has_property, item, set_plan, with_plan_and_with_event,
};

/// A criterion on events `x` that have the properties `keys`.
fn did_x_with(keys: &[&str]) -> Value {
    let filters: Vec<Value> = keys
        .iter()
        .map(|key| json!({"type": "event", "key": key, "operator": "exact", "value": "v1"}))
        .collect();
    did_x("performed_event", &json!({"event_filters": filters}))
}

/// A project with 12,000 events `x` and `y` of as many persons, all with the properties `a`, `b` and `c`.
fn with_properties() -> Fixture {
    let fixture = Fixture::new();
    let items: Vec<Item> = (0..24_000)
        .map(|nth| {
            let (id, value) = (nth / 2, nth % 7);
            let more = format!(
                r#", "properties": {{"a": "v{value}", "b": "v{}", "c": "v{}", "$set": {{"a": 1, "b": 2}}}}"#,
                id % 3,
                id % 2
            );
            item(if nth % 2 == 0 { "x" } else { "y" }, id, &more)
        })
        .collect();
    fixture.commit(&items);
    fixture
}

#[test]
fn only_person_properties_that_live_cohorts_read_are_stored() {
    let fixture = with_properties();
    let leaves = [
        did_x_with(&["a"]),
        did_x_with(&["a", "b"]),
        has_property("a"),
        has_property("b"),
        json!({"type": "behavioral", "key": "y", "value": "performed_event", "event_type": "events",
            "time_value": 1, "time_interval": "year"}),
    ];
    let evaluate = |cache: &IndexCache| leaves.clone().map(|leaf| fixture.members(cache, leaf));
    let cache = IndexCache::default();
    let expected = evaluate(&cache);
    fixture.write_checkpoints(&cache);
    let all = vec!["x".to_owned(), "y".to_owned()];
    let stored = (all.clone(), vec![]);
    assert_eq!(fixture.stored_names(), stored, "no cohort reads them");

    fixture.add_cohort(&leaves[0]);
    fixture.add_cohort(&leaves[2]);
    let cache = IndexCache::default();
    assert_eq!(evaluate(&cache), expected);
    fixture.write_checkpoints(&cache);
    let stored = (all.clone(), vec!["a".to_owned()]);
    assert_eq!(fixture.stored_names(), stored);
    drop_unread_columns(&mut fixture.conn(), &Outages::default()).unwrap();
    assert_eq!(fixture.stored_names(), stored);

    fixture.change("update cohorts set deleted = true");
    fixture.add_cohort(&has_property("b"));
    drop_unread_columns(&mut fixture.conn(), &Outages::default()).unwrap();
    // Properties of persons stay, as long as there are not too many.
    assert_eq!(fixture.stored_names(), (all, vec!["a".to_owned()]));
    assert_eq!(evaluate(&IndexCache::default()), expected);
}

#[test]
fn columns_that_cohorts_read_together_are_in_memory_once() {
    let fixture = with_properties();
    let sets: [&[&str]; 5] = [&[], &["a"], &["b"], &["a", "b"], &["b", "c"]];
    for keys in sets {
        fixture.add_cohort(&did_x_with(keys));
    }
    let evaluate = |cache: &IndexCache| sets.map(|keys| fixture.members(cache, did_x_with(keys)));
    let cache = IndexCache::default();
    let expected = evaluate(&cache);
    assert!(expected.iter().all(|members| !members.is_empty()));
    // The columns of all cohorts are in memory once.
    assert_eq!(cache.all()[0].1.events.all().len(), 2);
    fixture.write_checkpoints(&cache);

    // Only the segments can give the result, also for a range of persons.
    fixture.commit(&[item("z", 1, "")]);
    fixture.change("update events set properties = '{}'");
    assert_eq!(evaluate(&IndexCache::default()), expected);
    let cache = IndexCache::default();
    cache.set_budget(60_000);
    assert_eq!(evaluate(&cache), expected);
}

#[test]
fn segments_have_properties_that_no_cohort_reads() {
    let fixture = with_properties();
    let evaluate = || {
        let cache = IndexCache::default();
        [&["b"][..], &["a", "c"], &["none"]].map(|keys| fixture.members(&cache, did_x_with(keys)))
    };
    let expected = evaluate();
    assert!(!expected[0].is_empty() && !expected[1].is_empty() && expected[2].is_empty());
    fixture.write_checkpoints(&IndexCache::default());
    fixture.change("delete from events");
    assert_eq!(evaluate(), expected);
}

#[test]
fn a_property_that_cannot_be_stored_does_not_keep_events_from_being_stored() {
    let fixture = Fixture::with_cohorts();
    let items: Vec<Item> = (0..12_000).map(|nth| set_plan(nth, nth % 300)).collect();
    fixture.commit(&items);
    let cache = IndexCache::default();
    with_plan_and_with_event(&fixture, &cache);
    diesel::sql_query("alter table property_checkpoints add constraint full_disk check (false)")
        .execute(&mut *fixture.conn())
        .unwrap();
    fixture.write_checkpoints(&cache);
    let (events, properties) = fixture.stored_names();
    assert_eq!((events.is_empty(), properties.is_empty()), (false, true));
}
