//! Segments give the results of the rows, whatever happened to the events, the persons and the segments themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cohorts_engine::{Filter, LeafCache, Moment, plan};
use cohorts_store::{events, persons, projects, segments, transaction};
use diesel::prelude::*;
use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::super::IndexError;
use super::super::read::RowCount;
use super::super::segments::compaction::rewrite_without;
use super::super::segments::{MIN_EVENTS, SegmentWrite, SegmentWriter, mismatched_events};
use super::super::snapshot::Snapshot;
use super::{DAMAGE, Fixture, IndexCache, Numbers, did_x, did_x_since, item, merge, set_plan};
use crate::ingest::{Arrival, Item};

/// An event of a few persons and names, at times long before, in and long after June 2025.
fn random_event(numbers: &mut Numbers) -> Item {
    let value = [
        "1",
        "1.50",
        "2e2",
        "\"a\\u00e9\"",
        "\"v1\"",
        "null",
        "true",
        r#"["v1", 2]"#,
        r#"{"long": 1, "b": {"z": 1, "c": 2}}"#,
    ];
    let (name, person) = (
        ["x", "x", "y"][numbers.below(3) as usize],
        numbers.below(40),
    );
    let value = value[numbers.below(value.len() as u64) as usize];
    let key = ["at", "b", "c"][numbers.below(3) as usize];
    let date = match numbers.below(20) {
        0 => "2026-11-01".to_owned(),
        1 => "2024-12-31".to_owned(),
        _ => format!("2025-06-{:02}", numbers.below(9) + 1),
    };
    let (hour, micros) = (numbers.below(24), numbers.below(3));
    let text = format!(
        r#"{{"event": "{name}", "distinct_id": "p{person}", "timestamp": "{date}T{hour:02}:00:00.00000{micros}Z",
            "properties": {{"{key}": {value}, "at{}": "v1", "$set": {{"plan": "v{}"}}}}}}"#,
        numbers.below(4),
        numbers.below(9)
    );
    Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
}

fn leaves() -> Vec<Value> {
    let property = |key: &str, operator: &str, value: Value| {
        let filter = json!([{"type": "event", "key": key, "operator": operator, "value": value}]);
        did_x(
            "performed_event",
            &json!({"event_filters": filter, "time_value": 10}),
        )
    };
    let mut leaves = vec![
        did_x_since(1),
        did_x_since(6),
        property("at", "exact", json!(["v1", "1.5", "200"])),
        property("at", "icontains", json!("é")),
        property("b", "icontains", json!(r#"{"b":{"c":2,"z":1}"#)),
        property("b", "is_set", json!("")),
        property("c", "is_not_set", json!("")),
        property("at1", "exact", json!("v1")),
        property("$set", "is_set", json!("")),
    ];
    for count in [3, 9, 30, 90] {
        let more = json!({"operator": "gte", "operator_value": count, "time_value": 10});
        leaves.push(did_x("performed_event_multiple", &more));
    }
    let sequence = json!({"seq_event": "y", "seq_event_type": "events", "seq_time_value": 3, "seq_time_interval": "day", "time_value": 10});
    leaves.push(did_x("performed_event_sequence", &sequence));
    leaves
}

impl Fixture {
    fn all_members(&self, cache: &IndexCache) -> Vec<RoaringBitmap> {
        leaves()
            .into_iter()
            .map(|leaf| self.members(cache, leaf))
            .collect()
    }

    /// The members by the rows alone.
    fn by_rows(&self) -> Vec<RoaringBitmap> {
        let hide = |conn: &mut _| {
            diesel::sql_query("update segment_heads set through_seq = -through_seq").execute(conn)
        };
        hide(&mut *self.conn()).unwrap();
        let members = self.all_members(&IndexCache::default());
        hide(&mut *self.conn()).unwrap();
        members
    }

    fn delete_person(&self, id: &str) {
        let shard_key = self.project.shard_key();
        let conn = &mut *self.conn();
        let ordinals = persons::ordinals_by_id(conn, shard_key, &[id]).unwrap();
        let Some(ordinal) = ordinals.into_values().next() else {
            return;
        };
        let ordinals = cohorts_store::tombstones::with_merged(conn, shard_key, &[ordinal]).unwrap();
        transaction(conn, |conn| {
            let seq = events::begin_write(conn, shard_key)?;
            events::delete_of_persons(conn, shard_key, &ordinals, 0)?;
            persons::delete(conn, shard_key, seq, ordinal)
        })
        .unwrap();
    }

    fn mismatched(&self) -> Vec<String> {
        mismatched_events(&mut self.conn(), self.project.shard_key()).unwrap()
    }

    fn segment_count(&self) -> usize {
        let sizes = |name: &String| {
            let shard_key = self.project.shard_key();
            segments::sizes(&mut self.conn(), shard_key, name, i64::MIN, None)
                .unwrap()
                .len()
        };
        let names = segments::names(&mut self.conn(), self.project.shard_key()).unwrap();
        names.iter().map(sizes).sum()
    }

    fn writer(&self) -> SegmentWriter {
        let writer = SegmentWriter::begin(&mut self.conn(), self.project, 1 << 20);
        writer.unwrap().unwrap()
    }

    pub(super) fn log_head(&self) -> i64 {
        events::log_head(&mut self.conn(), self.project.shard_key()).unwrap()
    }

    fn retention(&self, days: Option<i32>) {
        projects::set_retention(&mut self.conn(), self.project, days).unwrap();
    }
}

/// One random step of a history. `cache` is that of the running process.
fn random_step(fixture: &Fixture, numbers: &mut Numbers, cache: &mut IndexCache) {
    match numbers.below(12) {
        0..=4 => {
            let count = [30, 500, 1_100][numbers.below(3) as usize];
            let items: Vec<Item> = (0..count).map(|_| random_event(numbers)).collect();
            fixture.commit(&items);
        }
        5 => fixture.commit(&[merge(
            numbers.below(40) as usize,
            numbers.below(40) as usize,
        )]),
        6 => fixture.delete_person(&format!("p{}", numbers.below(40))),
        7 => *cache = IndexCache::default(),
        8 if numbers.below(4) == 0 => {
            fixture.retention(Some(400));
            fixture.write_checkpoints(cache);
            fixture.retention(None);
        }
        9 if fixture.segment_count() > 0 => {
            let order = if numbers.below(2) == 0 { "min" } else { "max" };
            fixture.change(&format!(
                "update segments {DAMAGE} where day = (select {order}(day) from segments)"
            ));
        }
        _ => fixture.write_checkpoints(cache),
    }
}

#[test]
fn random_histories_give_the_same_members_from_segments_as_from_rows() {
    for seed in 0..2 {
        let fixture = Fixture::with_cohorts();
        let (mut numbers, mut cache) = (Numbers(seed), IndexCache::default());
        let mut with_segments = 0;
        for step in 0..18 {
            random_step(&fixture, &mut numbers, &mut cache);
            if step % 6 != 5 {
                continue;
            }
            let expected = fixture.by_rows();
            assert_eq!(
                fixture.all_members(&cache),
                expected,
                "seed {seed}, step {step}"
            );
            let restarted = IndexCache::default();
            assert_eq!(
                fixture.all_members(&restarted),
                expected,
                "seed {seed}, step {step}, restart"
            );
            if step == 17 {
                restarted.set_budget(60_000);
                let members = fixture.all_members(&restarted);
                assert_eq!(members, expected, "seed {seed}, in ranges of persons");
            }
            with_segments += usize::from(fixture.segments_through() > 0);
            // A damaged segment is written again, because it was read.
            fixture.write_checkpoints(&restarted);
            fixture.write_checkpoints(&cache);
            assert_eq!(
                fixture.mismatched(),
                Vec::<String>::new(),
                "seed {seed}, step {step}"
            );
        }
        assert!(with_segments > 1, "{with_segments} checks had segments");
    }
}

#[test]
fn a_question_about_a_property_that_is_left_out_is_answered_from_rows() {
    let fixture = Fixture::new();
    let items: Vec<Item> = (0..3_000)
        .map(|nth| {
            let more = format!(r#", "properties": {{"k{}": "v1", "at": "v1"}}"#, nth % 600);
            // All on one day.
            item("x", nth * 9, &more)
        })
        .collect();
    fixture.commit(&items);
    let evaluate = || {
        let leaf = |key: &str| {
            let filter = json!([{"type": "event", "key": key, "operator": "exact", "value": "v1"}]);
            did_x("performed_event", &json!({"event_filters": filter}))
        };
        let keys = ["k5", "k250", "k599", "at", "other"];
        let members = keys.map(|key| fixture.members(&IndexCache::default(), leaf(key)).len());
        members.to_vec()
    };
    assert_eq!(evaluate(), [5, 5, 5, 3_000, 0]);
    fixture.write_segments();
    assert!(fixture.segment_count() > 0);
    assert_eq!(evaluate(), [5, 5, 5, 3_000, 0]);
    fixture.change("delete from events");
    let without_rows = evaluate();
    assert_eq!((without_rows[3], without_rows[2]), (3_000, 0));
}

/// The number of event rows that a first evaluation reads.
fn rows_read(fixture: &Fixture) -> u64 {
    let filters = json!({"properties": {"type": "OR", "values": leaves()[..2].to_vec()}});
    let now = Moment::utc(1_770_000_000_000_000);
    let plan = plan(&Filter::parse(&filters).unwrap(), &now).unwrap();
    let (cache, rows): (_, RowCount) = (IndexCache::default(), Arc::default());
    let limit = std::time::Duration::from_secs(60);
    let conn = &mut *fixture.conn();
    Snapshot::read_counting(conn, &cache, fixture.project, limit, &rows, |snapshot| {
        snapshot.evaluate(&plan, &LeafCache::default())
    })
    .map_err(|cause: IndexError| cause.to_string())
    .unwrap();
    rows.load(Ordering::Relaxed)
}

#[test]
fn only_the_rows_beyond_the_head_are_read_and_a_long_tail_is_read_by_name() {
    let fixture = Fixture::with_events(4_000, 100);
    assert!(rows_read(&fixture) >= 3_000);
    fixture.write_segments();
    assert_eq!(rows_read(&fixture), 0);
    fixture.commit(
        &(0..17_000)
            .map(|id| item("y", id % 50, ""))
            .collect::<Vec<_>>(),
    );
    // The segments are far behind, and the rows of `x` are fewer than those beyond the head.
    let rows = rows_read(&fixture);
    assert!((3_000..5_000).contains(&rows), "{rows} rows");
    fixture.write_segments();
    assert_eq!(
        (rows_read(&fixture), fixture.segments_through()),
        (0, fixture.log_head())
    );
}

#[test]
fn of_two_writers_one_wins_and_the_other_continues_at_its_head() {
    let fixture = Fixture::with_events(2_000, 100);
    let conn = &mut *fixture.conn();
    let (mut first, mut second) = (fixture.writer(), fixture.writer());
    assert!(first.add_rows(conn, fixture.log_head()).unwrap());
    assert!(second.add_rows(conn, fixture.log_head()).unwrap());
    assert_eq!(first.write(conn).unwrap(), SegmentWrite::Written);
    assert_eq!(second.write(conn).unwrap(), SegmentWrite::Overtaken);
    assert_eq!(second.through(), fixture.log_head());
    fixture.commit(
        &(0..MIN_EVENTS as usize)
            .map(|id| set_plan(id, 1))
            .collect::<Vec<_>>(),
    );
    assert!(second.add_rows(conn, fixture.log_head()).unwrap());
    assert_eq!(second.write(conn).unwrap(), SegmentWrite::Written);
    assert_eq!(fixture.mismatched(), Vec::<String>::new());

    fixture.retention(Some(4_000));
    assert_eq!(first.write(conn).unwrap(), SegmentWrite::Ended);
    assert!(
        SegmentWriter::begin(conn, fixture.project, 1)
            .unwrap()
            .is_none()
    );
    assert_eq!(
        (fixture.segments_through(), fixture.segment_count()),
        (0, 0)
    );
}

#[test]
fn a_writer_leaves_out_persons_that_were_deleted_after_it_took_their_events() {
    let fixture = Fixture::with_events(2_000, 100);
    let conn = &mut *fixture.conn();
    let mut writer = fixture.writer();
    assert!(writer.add_rows(conn, fixture.log_head()).unwrap());
    fixture.delete_person("p3");
    assert_eq!(writer.write(conn).unwrap(), SegmentWrite::Written);
    let sizes = segments::sizes(conn, fixture.project.shard_key(), "x", i64::MIN, None).unwrap();
    let rows: i64 = sizes.iter().map(|size| size.row_count).sum();
    assert_eq!(rows, 1_980);
    assert_eq!(fixture.mismatched(), Vec::<String>::new());
}

#[test]
fn segments_that_an_import_has_claimed_are_left_to_it() {
    let fixture = Fixture::with_events(2_000, 100);
    let shard_key = fixture.project.shard_key();
    let claim = |until| segments::claim(&mut fixture.conn(), shard_key, until).unwrap();
    let cache = IndexCache::default();
    claim(Some(chrono::Utc::now() + chrono::TimeDelta::hours(1)));
    fixture.write_checkpoints(&cache);
    assert_eq!(fixture.segments_through(), 0);
    claim(Some(chrono::Utc::now() - chrono::TimeDelta::hours(1)));
    fixture.write_checkpoints(&cache);
    assert_eq!(fixture.segments_through(), fixture.log_head());
}

#[test]
fn small_segments_of_a_day_are_compacted() {
    let fixture = Fixture::with_cohorts();
    let mut numbers = Numbers(7);
    for _ in 0..12 {
        let items: Vec<Item> = (0..MIN_EVENTS)
            .map(|_| random_event(&mut numbers))
            .collect();
        fixture.commit(&items);
        let conn = &mut *fixture.conn();
        let mut writer = fixture.writer();
        writer.add_rows(conn, fixture.log_head()).unwrap();
        writer.write(conn).unwrap();
    }
    let (before, expected) = (fixture.segment_count(), fixture.by_rows());
    // A run has a time limit, and leaves the rest to the next run.
    let cache = IndexCache::default();
    let mut after = before;
    loop {
        fixture.write_checkpoints(&cache);
        let count = std::mem::replace(&mut after, fixture.segment_count());
        if count == after {
            break;
        }
    }
    assert!(after < before / 4, "{before} segments became {after}");
    assert_eq!(fixture.mismatched(), Vec::<String>::new());
    fixture.change("update events set properties = '{}'");
    let members = fixture.all_members(&IndexCache::default());
    // The filter on `$set` reads rows.
    assert_eq!(members[..8], expected[..8]);
}

#[test]
fn events_of_a_person_are_removed_from_segments_without_the_rows() {
    let fixture = Fixture::with_events(2_000, 100);
    fixture.write_segments();
    let conn = &mut *fixture.conn();
    let shard_key = fixture.project.shard_key();
    let ordinals = persons::ordinals_by_id(conn, shard_key, &["p3", "p5"]).unwrap();
    let ordinals: RoaringBitmap = ordinals
        .into_values()
        .map(|ordinal| ordinal as u32)
        .collect();
    fixture.change("delete from events");
    let sizes = segments::sizes(conn, shard_key, "x", i64::MIN, None).unwrap();
    let rows =
        |sizes: &[segments::SegmentSize]| -> i64 { sizes.iter().map(|size| size.row_count).sum() };
    for size in &sizes {
        rewrite_without(conn, fixture.project, "x", size.place.day, &ordinals).unwrap();
    }
    let left = segments::sizes(conn, shard_key, "x", i64::MIN, None).unwrap();
    assert_eq!((rows(&sizes), rows(&left)), (2_000, 1_960));
    let members = fixture.after_start();
    assert_eq!((members.len(), members.is_disjoint(&ordinals)), (98, true));
}
