//! Deleted and merged persons in feeds.

use reqwest::Method;
use serde_json::{Value, json};

use super::{add, apply, cursor, feed_of, members, page, read_all, static_cohort, with_persons};
use crate::harness::{Project, any_of, person, rows};

/// The persons of rows.
fn persons(rows: &[Value]) -> Vec<Value> {
    rows.iter().map(|row| row["person"].clone()).collect()
}

fn delete(project: &Project, uuid: &str) {
    let deleted = project.ask(Method::DELETE, &format!("persons/{uuid}/"), None);
    assert_eq!(deleted.status, 204, "{}", deleted.text);
}

#[test]
fn deleted_person_leaves_and_has_only_the_uuid() {
    let project = with_persons(2);
    let cohort = static_cohort(&project);
    let start = cursor(&page(&project, &feed_of(cohort), ""));
    add(&project, cohort, &["d0", "d1"]);
    let uuid = project.person("d0");
    delete(&project, &uuid);
    let (rows, _) = read_all(&project, &feed_of(cohort), &start, 10);
    let deleted = json!({"uuid": uuid, "distinct_ids": [], "deleted": true});
    let alive = json!({"uuid": project.person("d1"), "distinct_ids": ["d1"]});
    assert_eq!(persons(&rows), [deleted.clone(), alive, deleted]);
    assert_eq!(rows[2]["change"], "left");
    assert_eq!(rows[2]["cause"], "person_deleted");
    let mut followed = Default::default();
    apply(&mut followed, &rows);
    assert_eq!(followed, members(&project, cohort));
}

#[test]
fn merged_person_leaves_with_the_uuid_of_the_survivor() {
    let project = with_persons(3);
    let (listed, filters) = (
        static_cohort(&project),
        any_of(json!([person("number", "gte", 0)])),
    );
    let dynamic = project.cohort(json!({"filters": filters}));
    project.settle(dynamic);
    add(&project, listed, &["d0", "d1"]);
    let feeds = [listed, dynamic];
    let mut followed = super::Members::new();
    let mut ends = Vec::new();
    for cohort in feeds {
        let (rows, end) = read_all(&project, &feed_of(cohort), "from=start", 10);
        apply(&mut followed, &rows);
        ends.push(end);
    }
    let (merged, survivor) = (project.person("d1"), project.person("d2"));
    let merge = |id: &str, other: &str| json!({"event": "$merge_dangerously", "distinct_id": id, "properties": {"alias": other}});
    project.capture(json!([merge("d2", "d1")]));
    project.patch(&format!("cohorts/{dynamic}/"), json!({}));
    project.settle(dynamic);
    let tombstone = json!({"uuid": merged, "distinct_ids": [], "merged_into": survivor});
    for (cohort, end) in feeds.into_iter().zip(&ends) {
        let (rows, _) = read_all(&project, &feed_of(cohort), end, 10);
        let left: Vec<_> = rows.iter().filter(|row| row["change"] == "left").collect();
        assert_eq!(left.len(), 1, "{rows:?}");
        assert_eq!(left[0]["person"], tombstone);
        apply(&mut followed, &rows);
    }
    let expected: super::Members = feeds
        .into_iter()
        .flat_map(|id| members(&project, id))
        .collect();
    assert_eq!(followed, expected);
    // The survivor of a chain is the last one, and a person merged into a deleted one is deleted.
    project.capture(json!([merge("d0", "d2")]));
    let (rows, _) = read_all(&project, &feed_of(listed), "from=2026-01-01", 10);
    let last = project.person("d0");
    let tombstone = json!({"uuid": merged, "distinct_ids": [], "merged_into": last});
    assert!(persons(&rows).contains(&tombstone), "{rows:?}");
    delete(&project, &last);
    let (rows, _) = read_all(&project, &feed_of(listed), "from=2026-01-01", 10);
    let tombstone = json!({"uuid": merged, "distinct_ids": [], "deleted": true});
    assert!(persons(&rows).contains(&tombstone), "{rows:?}");
}

/// The survivor has few distinct ids, so it moves to the ordinal of the merged person.
#[test]
fn survivor_that_moves_keeps_its_uuid_in_the_feed() {
    let project = with_persons(2);
    let alias = |number: usize| json!({"event": "$create_alias", "distinct_id": "d0", "properties": {"alias": format!("a{number}")}});
    project.capture((0..80).map(alias).collect());
    let cohort = static_cohort(&project);
    add(&project, cohort, &["d0", "d1"]);
    let (merged, survivor) = (project.person("d0"), project.person("d1"));
    let (before, end) = read_all(&project, &feed_of(cohort), "from=start", 10);
    project.capture(json!([
        {"event": "$merge_dangerously", "distinct_id": "d1", "properties": {"alias": "d0"}}
    ]));
    assert_eq!(project.person("d0"), survivor);
    let (rows, _) = read_all(&project, &feed_of(cohort), &end, 10);
    let tombstone = json!({"uuid": merged, "distinct_ids": [], "merged_into": survivor});
    let left = rows.iter().filter(|row| row["change"] == "left");
    let left: Vec<_> = left.map(|row| &row["person"]).collect();
    assert_eq!(left, [&tombstone], "{rows:?}");
    let mut followed = super::Members::new();
    apply(&mut followed, &before);
    apply(&mut followed, &rows);
    assert_eq!(followed, members(&project, cohort));
    let (all, _) = read_all(&project, &feed_of(cohort), "from=2026-01-01", 10);
    let mut replayed = super::Members::new();
    apply(&mut replayed, &all);
    assert_eq!(replayed, followed);
}

/// Cohorts with criteria that hold for the merged person, for the survivor, for both, or for one of them only before the merge.
#[test]
fn survivor_that_moves_replaces_the_merged_person_in_every_feed() {
    let project = with_persons(3);
    let alias = |number: usize| json!({"event": "$create_alias", "distinct_id": "d0", "properties": {"alias": format!("a{number}")}});
    project.capture((0..80).map(alias).collect());
    let set = |id: &str, name: &str| json!({"event": "$set", "distinct_id": id, "properties": {"$set": {name: 1, "shared": id}}});
    project.capture(json!([set("d0", "of_merged"), set("d1", "of_survivor")]));
    let criteria = [
        person("of_merged", "exact", 1),
        person("of_survivor", "exact", 1),
        person("number", "gte", 0),
        person("shared", "exact", "d0"),
        person("shared", "exact", "d1"),
        person("number", "exact", 0),
        person("number", "exact", 1),
        person("number", "exact", 2),
    ];
    let mut cohorts: Vec<i64> = criteria
        .into_iter()
        .map(|one| project.cohort(json!({"filters": any_of(json!([one]))})))
        .collect();
    for cohort in &cohorts {
        project.settle(*cohort);
    }
    let listed = static_cohort(&project);
    add(&project, listed, &["d0"]);
    cohorts.push(listed);
    let ends: Vec<_> = cohorts
        .iter()
        .map(|cohort| read_all(&project, &feed_of(*cohort), "from=start", 10))
        .collect();
    project.capture(json!([
        {"event": "$merge_dangerously", "distinct_id": "d1", "properties": {"alias": "d0"}}
    ]));
    for (nth, (cohort, (before, end))) in cohorts.iter().zip(&ends).enumerate() {
        if *cohort != listed {
            project.patch(&format!("cohorts/{cohort}/"), json!({}));
            project.settle(*cohort);
        }
        let (rows, _) = read_all(&project, &feed_of(*cohort), end, 10);
        let mut followed = super::Members::new();
        apply(&mut followed, before);
        apply(&mut followed, &rows);
        assert_eq!(followed, members(&project, *cohort), "{nth}: {rows:?}");
        let (all, _) = read_all(&project, &feed_of(*cohort), "from=2026-01-01", 10);
        let mut replayed = super::Members::new();
        apply(&mut replayed, &all);
        assert_eq!(replayed, followed, "{nth}: {all:?}");
    }
}

/// The survivor is new in the batch and moves, so it gets the uuid that readers know.
#[test]
fn survivor_that_is_new_and_moves_is_the_merged_person_in_feeds() {
    let project = with_persons(1);
    let alias = |number: usize| json!({"event": "$create_alias", "distinct_id": "d0", "properties": {"alias": format!("a{number}")}});
    project.capture((0..80).map(alias).collect());
    let cohort = static_cohort(&project);
    add(&project, cohort, &["d0"]);
    let (before, end) = read_all(&project, &feed_of(cohort), "from=start", 10);
    project.capture(json!([
        {"event": "x", "distinct_id": "new"},
        {"event": "$merge_dangerously", "distinct_id": "new", "properties": {"alias": "d0"}}
    ]));
    assert_eq!(project.person("new"), project.person("d0"));
    let (rows, _) = read_all(&project, &feed_of(cohort), &end, 10);
    let mut followed = super::Members::new();
    apply(&mut followed, &before);
    apply(&mut followed, &rows);
    assert_eq!(followed, members(&project, cohort));
}

#[test]
fn distinct_ids_are_those_of_lists_of_persons() {
    let project = with_persons(1);
    let alias = |number: usize| json!({"event": "$create_alias", "distinct_id": "d0", "properties": {"alias": format!("z{number:02}")}});
    project.capture((0..15).map(alias).collect());
    let cohort = static_cohort(&project);
    add(&project, cohort, &["d0"]);
    let page = page(&project, &feed_of(cohort), "from=start");
    let listed = project.get(&format!("cohorts/{cohort}/persons/")).json();
    let ids = &rows(&page)[0]["person"]["distinct_ids"];
    assert_eq!(*ids, listed["results"][0]["distinct_ids"]);
    assert_eq!(ids.as_array().map(Vec::len), Some(10));
}
