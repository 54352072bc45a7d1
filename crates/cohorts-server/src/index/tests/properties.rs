//! Checkpoints of properties in parts: loading, writing, import, masks of deleted persons, and their erasure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use cohorts_store::columns as stored_columns;
use cohorts_store::tombstones::Tombstones;
use cohorts_store::{erasures, events, frames, persons};
use diesel::sql_types::{BigInt, Bytea};

use super::*;
use crate::index::columns::erasure::ErasureBatch;
use crate::index::columns::{PART_BITS, write_all};
use crate::index::read::RowCount;

const PERSONS: usize = 12_000;

#[derive(QueryableByName)]
struct OrdinalNumber {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct PackedBytes {
    #[diesel(sql_type = Bytea)]
    data: Vec<u8>,
}

fn numbers(fixture: &Fixture, statement: &str) -> Vec<i64> {
    let rows: Vec<OrdinalNumber> = diesel::sql_query(statement)
        .load(&mut *fixture.conn())
        .unwrap();
    rows.into_iter().map(|row| row.number).collect()
}

/// The sequence numbers of the stored parts of `plan`.
fn parts_of_plan(fixture: &Fixture) -> Vec<i64> {
    numbers(
        fixture,
        "select through_seq as number from property_checkpoints where property = 'plan' order by part",
    )
}

/// A project with a plan for each person, a checkpoint, and other values in the rows.
fn with_plans() -> (Fixture, IndexCache) {
    let fixture = Fixture::with_cohorts();
    let items: Vec<Item> = (0..PERSONS).map(|nth| set_plan(nth, nth % 300)).collect();
    fixture.commit(&items);
    let cache = IndexCache::default();
    plans(&fixture, &cache);
    fixture.write_checkpoints(&cache);
    assert_eq!(parts_of_plan(&fixture).len(), (PERSONS >> PART_BITS) + 1);
    (fixture, cache)
}

/// The persons with plan `v7` or `v8`.
fn plans(fixture: &Fixture, cache: &IndexCache) -> RoaringBitmap {
    let plan = json!({"type": "person", "key": "plan", "operator": "exact", "value": ["v7", "v8"]});
    fixture.members(cache, plan)
}

fn in_part(persons: &RoaringBitmap, part: u32) -> RoaringBitmap {
    let mut ordinals = RoaringBitmap::new();
    ordinals.insert_range(part << PART_BITS..(part + 1) << PART_BITS);
    persons & ordinals
}

#[test]
fn only_parts_that_are_damaged_or_missing_are_read_from_rows_and_written_again() {
    let (fixture, cache) = with_plans();
    let expected = plans(&fixture, &cache);
    fixture.change(r#"update persons set properties = '{"plan": "v8"}' where seq <= 1"#);
    assert_eq!(plans(&fixture, &IndexCache::default()), expected);
    fixture.change(&format!(
        "update property_checkpoints {DAMAGE} where part = 1"
    ));
    fixture.change("delete from property_checkpoints where part = 2");
    let cache = IndexCache::default();
    let mixed = plans(&fixture, &cache);
    assert_eq!(in_part(&mixed, 0), in_part(&expected, 0));
    assert_eq!(in_part(&mixed, 1).len(), 1 << PART_BITS);
    assert_eq!(in_part(&mixed, 2).len(), PERSONS as u64 - (2 << PART_BITS));
    fixture.write_checkpoints(&cache);
    fixture.change("delete from persons");
    assert_eq!(plans(&fixture, &IndexCache::default()), mixed);
}

#[test]
fn a_part_is_written_when_one_in_a_hundred_of_its_persons_has_changed() {
    let (fixture, _) = with_plans();
    let rewrite = |changed: usize, first: usize| {
        let items: Vec<Item> = (first..first + changed)
            .map(|nth| set_plan(nth, 7))
            .collect();
        fixture.commit(&items);
        let cache = IndexCache::default();
        let members = plans(&fixture, &cache);
        fixture.write_checkpoints(&cache);
        assert_eq!(plans(&fixture, &IndexCache::default()), members);
        parts_of_plan(&fixture)
    };
    // Ordinals rise with the distinct ids.
    let head = || events::log_head(&mut fixture.conn(), fixture.project.shard_key()).unwrap();
    let first = parts_of_plan(&fixture);
    assert_eq!(rewrite(20, 0), first, "few have changed");
    assert_eq!(rewrite(20, 30), first);
    let second = rewrite(30, 60);
    assert_eq!(second, [head(), first[1], first[2]]);
    // Since the oldest part, more than a hundredth of all persons have changed, so all parts are brought to the index.
    let packed = || -> Vec<Vec<u8>> {
        let rows = "select data from property_checkpoints where property = 'plan' order by part";
        let rows: Vec<PackedBytes> = diesel::sql_query(rows).load(&mut *fixture.conn()).unwrap();
        rows.into_iter().map(|row| row.data).collect()
    };
    let before = packed();
    assert_eq!(rewrite(60, 100), [head(); 3]);
    let after = packed();
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
}

/// Deletes persons as a request does.
fn delete(fixture: &Fixture, ordinals: &[i64]) {
    let shard_key = fixture.project.shard_key();
    cohorts_store::transaction(&mut fixture.conn(), |conn| {
        projects::lock(conn, fixture.project)?;
        let seq = events::begin_write(conn, shard_key)?;
        let retired = tombstones::with_merged(conn, shard_key, ordinals)?;
        let mut deleted = events::delete_of_persons(conn, shard_key, &retired, 0)?.days;
        for ordinal in ordinals {
            persons::delete(conn, shard_key, seq, *ordinal)?;
        }
        for ordinal in retired {
            deleted.entry(ordinal).or_default();
        }
        erasures::record(conn, shard_key, seq, &deleted)
    })
    .unwrap();
}

/// Whether a checkpoint contains a text.
fn is_stored(fixture: &Fixture, text: &str) -> bool {
    ["property_checkpoints", "segments", "person_checkpoints"]
        .iter()
        .any(|table| {
            let rows = format!("select data from {table}");
            let rows: Vec<PackedBytes> =
                diesel::sql_query(rows).load(&mut *fixture.conn()).unwrap();
            rows.iter().any(|row| {
                let bytes = frames::unpack(&row.data).unwrap();
                bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            })
        })
}

fn pending(fixture: &Fixture) -> i64 {
    let keys = [fixture.project.shard_key()];
    erasures::count(&mut fixture.conn(), &keys).unwrap().pending
}

fn erase(fixture: &Fixture) {
    let conn = &mut *fixture.conn();
    while let Some(mut batch) = ErasureBatch::begin(conn, fixture.project).unwrap() {
        while !batch.run(conn, Instant::now()).unwrap() {}
    }
}

/// A project with checkpoints of persons, plans and events. Ordinal 50 and those of `secrets` have a value of their own.
fn with_secrets(secrets: &[usize]) -> Fixture {
    let fixture = Fixture::with_cohorts();
    let items: Vec<Item> = (0..PERSONS)
        .map(
            |nth| match secrets.iter().position(|secret| *secret == nth) {
                Some(secret) => set_plan(nth, 9_990 + secret),
                None => set_plan(nth, nth % 300),
            },
        )
        .collect();
    fixture.commit(&items);
    let cache = IndexCache::default();
    with_plan_and_with_event(&fixture, &cache);
    fixture.write_checkpoints(&cache);
    assert!(is_stored(&fixture, "v9990"));
    fixture
}

#[test]
fn deleted_persons_are_masked_at_once_and_erased_later() {
    let fixture = with_secrets(&[7, 5_000]);
    let old = IndexCache::default();
    plans(&fixture, &old);
    // Person 5,000 was merged into person 7, so its values are in another part under its own ordinal.
    fixture.commit(&[merge(7, 5_000)]);
    let survivor = numbers(
        &fixture,
        "select ordinal as number from distinct_ids where distinct_id = 'p7'",
    );
    let before = parts_of_plan(&fixture);
    delete(&fixture, &survivor);
    assert_eq!(
        parts_of_plan(&fixture),
        before,
        "a deletion touches no checkpoint"
    );
    let expected = {
        let is_plan = "properties ->> 'plan' in ('v7', 'v8')";
        let rows = format!("select ordinal as number from persons where {is_plan}");
        let rows = numbers(&fixture, &rows).into_iter();
        rows.map(|ordinal| ordinal as u32)
            .collect::<RoaringBitmap>()
    };
    assert_eq!(plans(&fixture, &IndexCache::default()), expected);
    // An index from before the deletion writes nothing.
    let is_secret = || ["v9990", "v9991"].map(|text| is_stored(&fixture, text));
    fixture.change("delete from property_checkpoints where part = 0");
    fixture.write_checkpoints(&old);
    assert_eq!(parts_of_plan(&fixture), before[1..]);
    assert_eq!((is_secret(), pending(&fixture)), ([false, true], 2));
    let in_segments = || {
        let rows = "select sum(row_count)::bigint as number from segments";
        numbers(&fixture, rows)[0]
    };
    let events = in_segments();
    erase(&fixture);
    assert_eq!((is_secret(), pending(&fixture)), ([false, false], 0));
    assert_eq!(in_segments(), events - 2, "each had an event");
    assert_eq!(plans(&fixture, &IndexCache::default()), expected);
    fixture.write_checkpoints(&old);
    plans(&fixture, &old);
    fixture.write_checkpoints(&old);
    assert_eq!(is_secret(), [false, false]);
}

#[test]
fn an_erasure_continues_after_an_interruption_and_beside_another_process() {
    let fixture = with_secrets(&[1, 5_000, 9_000]);
    let ordinals = numbers(
        &fixture,
        "select ordinal as number from persons where properties ->> 'plan' like 'v999_' order by 1",
    );
    assert_eq!(ordinals.len(), 3);
    let conn = &mut *fixture.conn();
    let begin = |conn: &mut PooledConn| ErasureBatch::begin(conn, fixture.project).unwrap();
    delete(&fixture, &ordinals[..2]);
    // The first process is killed after one part.
    let mut killed = begin(&mut fixture.conn()).unwrap();
    assert!(!killed.run(conn, Instant::now()).unwrap());
    drop(killed);
    assert_eq!(pending(&fixture), 2);
    // Two others have different persons to erase from the same parts.
    let mut other = begin(&mut fixture.conn()).unwrap();
    delete(&fixture, &ordinals[2..]);
    let mut both = begin(&mut fixture.conn()).unwrap();
    std::thread::scope(|scope| {
        for batch in [&mut other, &mut both] {
            let mut conn = fixture.conn();
            scope.spawn(move || while !batch.run(&mut conn, Instant::now()).unwrap() {});
        }
    });
    assert_eq!(pending(&fixture), 0);
    for text in ["v9990", "v9991", "v9992"] {
        assert!(!is_stored(&fixture, text), "{text}");
    }
    assert!(begin(&mut fixture.conn()).is_none());
}

#[test]
fn an_interrupted_deletion_is_not_pending() {
    let fixture = with_secrets(&[7]);
    let shard_key = fixture.project.shard_key();
    let conn = &mut *fixture.conn();
    let deleted = events::delete_of_persons(conn, shard_key, &[7], 0)
        .unwrap()
        .days;
    // The eighth of June 2025.
    assert_eq!(deleted[&7], BTreeSet::from([("x".to_owned(), 20_247)]));
    erasures::record(conn, shard_key, 0, &deleted).unwrap();
    assert!(
        ErasureBatch::begin(conn, fixture.project)
            .unwrap()
            .is_none()
    );
    let keys = [shard_key];
    let counts = erasures::count(conn, &keys).unwrap();
    assert_eq!((counts.pending, counts.interrupted), (0, 1));
    assert!(erasures::shard_keys(conn, &keys).unwrap().is_empty());
    // The repetition finds no events, and keeps those that were recorded.
    delete(&fixture, &[7]);
    let recorded = erasures::pending(conn, shard_key, 10).unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].events, deleted[&7]);
    erase(&fixture);
    assert!(!is_stored(&fixture, "v9990"));
}

/// The next of some numbers that look random.
fn next(state: &mut u64, limit: u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) % limit) as usize
}

/// The persons with plan `v7` or `v8`, and those with an event `x`, from the rows.
fn from_rows(fixture: &Fixture) -> [RoaringBitmap; 2] {
    let set = |numbers: Vec<i64>| -> RoaringBitmap {
        numbers.into_iter().map(|ordinal| ordinal as u32).collect()
    };
    let plans = "select ordinal as number from persons where properties ->> 'plan' in ('v7', 'v8')";
    let events = set(numbers(
        fixture,
        "select distinct ordinal as number from events where event = 'x'",
    ));
    let tombstones: Tombstones =
        tombstones::all(&mut fixture.conn(), fixture.project.shard_key()).unwrap();
    [set(numbers(fixture, plans)), tombstones.resolved(&events)]
}

#[test]
fn random_histories_give_the_results_of_the_rows() {
    let (fixture, cache) = with_plans();
    let mut caches = [cache, IndexCache::default(), IndexCache::default()];
    let mut state = 7;
    for step in 0..60 {
        let many = 1 + next(&mut state, 80);
        let mut someone = || next(&mut state, PERSONS as u64 + 50);
        match step % 6 {
            0 | 3 => {
                let first = someone();
                let items = (first..first + many).map(|nth| set_plan(nth, nth % 9));
                fixture.commit(&items.collect::<Vec<_>>());
            }
            1 => fixture.commit(&[merge(someone(), someone()), merge(someone(), someone())]),
            2 => {
                let ordinals = format!(
                    "select ordinal as number from persons where ordinal >= {} order by ordinal limit 2",
                    someone()
                );
                delete(&fixture, &numbers(&fixture, &ordinals));
            }
            4 if step % 4 == 0 => erase(&fixture),
            4 => {
                let part = someone() >> PART_BITS;
                let damage = format!("update property_checkpoints {DAMAGE} where part = {part}");
                diesel::sql_query(damage)
                    .execute(&mut *fixture.conn())
                    .unwrap();
            }
            _ => caches[step % 3] = IndexCache::default(),
        }
        let expected = from_rows(&fixture);
        let cache = &caches[next(&mut state, 3)];
        let actual = [plans(&fixture, cache), fixture.persons_of_x(cache)];
        assert_eq!(actual, expected, "step {step}");
        fixture.write_checkpoints(&caches[next(&mut state, 3)]);
        if step % 5 == 0 {
            assert_eq!(
                plans(&fixture, &IndexCache::default()),
                expected[0],
                "step {step}"
            );
        }
    }
}

/// An item of a person that sets `count` properties `a0`, `a1` and so on, and perhaps a rare one.
fn set_many(id: usize, count: usize, rare: Option<&str>) -> Item {
    let values = (0..count).map(|nth| (format!("a{nth}"), format!("value {nth} {id}")));
    let values = values.chain(rare.map(|name| (name.to_owned(), "r".to_owned())));
    let values: BTreeMap<String, String> = values.collect();
    item(
        "x",
        id,
        &format!(r#", "properties": {{"$set": {}}}"#, json!(values)),
    )
}

/// The number of rows that the evaluation of a criterion on `key` reads, and the members.
fn rows_read(fixture: &Fixture, key: &str) -> (u64, RoaringBitmap) {
    let filters = json!({"properties": {"type": "OR", "values": [has_property(key)]}});
    let now = Moment::utc(1_770_000_000_000_000);
    let plan = plan(&Filter::parse(&filters).unwrap(), &now).unwrap();
    let (cache, rows) = (IndexCache::default(), RowCount::default());
    let limit = Duration::from_secs(60);
    let conn = &mut *fixture.conn();
    let members =
        Snapshot::read_counting(conn, &cache, fixture.project, limit, &rows, |snapshot| {
            snapshot.evaluate(&plan, &LeafCache::default())
        });
    let members = members.map_err(|cause: IndexError| cause.to_string());
    (
        rows.load(std::sync::atomic::Ordering::Relaxed),
        members.unwrap(),
    )
}

#[test]
fn all_properties_are_written_after_an_import_with_bounded_memory() {
    let fixture = Fixture::new();
    let items: Vec<Item> = (0..PERSONS)
        .map(|nth| set_many(nth, 4, (nth == PERSONS - 3).then_some("rare")))
        .collect();
    fixture.commit(&items);
    let (rows, _) = rows_read(&fixture, "a1");
    assert!(rows >= 10_000, "{rows} rows without checkpoints");
    let mut calls = Vec::new();
    let write = |calls: &mut Vec<(usize, usize)>| {
        let progress = |done, all| calls.push((done, all));
        write_all(&mut fixture.conn(), fixture.project, progress).unwrap()
    };
    let written = write(&mut calls);
    assert_eq!((written.properties, written.parts), (5, 3));
    assert_eq!(calls, [(0, 3), (1, 3), (2, 3)]);
    // Only the checkpoints can give the result, also for parts in which no person has the property.
    fixture.change("update persons set properties = '{}'");
    for (key, count) in [("a0", PERSONS), ("a3", PERSONS), ("rare", 1)] {
        let (rows, members) = rows_read(&fixture, key);
        assert_eq!((rows, members.len()), (0, count as u64), "{key}");
    }
    // Nothing is read again until enough has changed.
    assert_eq!(write(&mut calls).parts, 0);
    let items: Vec<Item> = (0..60).map(|nth| set_many(nth, 3, None)).collect();
    fixture.commit(&items);
    assert_eq!(write(&mut calls).parts, 1);
}

#[test]
fn the_most_frequent_properties_are_written_and_an_unread_one_stays() {
    let fixture = Fixture::new();
    let items: Vec<Item> = (0..PERSONS)
        .map(|nth| set_many(nth, if nth % 2 == 0 { 6 } else { 12 }, None))
        .collect();
    fixture.commit(&items);
    let written = write_all(&mut fixture.conn(), fixture.project, |_, _| ()).unwrap();
    assert_eq!(written.properties, 8, "the limit of tests");
    let names = || {
        let names = stored_columns::properties(&mut fixture.conn(), fixture.project.shard_key());
        names.unwrap().into_iter().collect::<BTreeSet<String>>()
    };
    let stored = names();
    assert!(
        (0..6).all(|nth| stored.contains(&format!("a{nth}"))),
        "{stored:?}"
    );
    super::super::live::drop_unread_columns(&mut fixture.conn(), &Outages::default()).unwrap();
    assert_eq!(names(), stored);
    // A loaded property with a checkpoint is refreshed, whether a live cohort reads it or not.
    let items: Vec<Item> = (0..2_000).map(|nth| set_plan(nth, 1)).collect();
    fixture.commit(&items);
    let cache = IndexCache::default();
    fixture.members(&cache, has_property("a1"));
    fixture.members(&cache, has_property("plan"));
    fixture.write_checkpoints(&cache);
    let seqs = |name: &str| {
        let rows = format!(
            "select through_seq as number from property_checkpoints where property = '{name}' order by part"
        );
        numbers(&fixture, &rows)
    };
    let head = events::log_head(&mut fixture.conn(), fixture.project.shard_key()).unwrap();
    assert_eq!(seqs("a1")[0], head);
    assert!(seqs("a2")[0] < head && seqs("plan").is_empty());
}

#[test]
fn a_deletion_while_an_import_writes_leaves_no_values() {
    let fixture = Fixture::new();
    let items: Vec<Item> = (0..PERSONS)
        .map(|nth| set_many(nth, 2, (nth % 4_000 == 17).then_some("secret")))
        .collect();
    fixture.commit(&items);
    let mut is_deleted = false;
    write_all(&mut fixture.conn(), fixture.project, |done, _| {
        if done == 1 && !is_deleted {
            is_deleted = true;
            delete(&fixture, &[17, 4_017, 8_017]);
        }
    })
    .unwrap();
    let is_stored = |id: usize| is_stored(&fixture, &format!("value 1 {id}"));
    // The first part was written before the deletion.
    assert_eq!([4_017, 8_017].map(is_stored), [true, false]);
    erase(&fixture);
    assert_eq!([4_017, 8_017].map(is_stored), [false, false]);
    let expected = fixture.members(&IndexCache::default(), has_property("secret"));
    assert_eq!(expected.len(), 0);
    assert_eq!(
        fixture
            .members(&IndexCache::default(), has_property("a0"))
            .len(),
        PERSONS as u64 - 3
    );
}

#[test]
fn ranges_of_persons_read_whole_parts_within_the_memory_limit() {
    let (fixture, cache) = with_plans();
    let expected = plans(&fixture, &cache);
    fixture.change("update persons set properties = '{}' where seq <= 1");
    let (mut budget, mut smallest) = (registry::DEFAULT_BUDGET, 0);
    while budget > 90_000 {
        let cache = IndexCache::default();
        cache.set_budget(budget);
        let members = plans(&fixture, &cache);
        assert!(cache.bytes() <= budget);
        if members == expected {
            smallest = budget;
        }
        budget = budget * 3 / 4;
    }
    assert!(smallest < 300_000, "{smallest} bytes");
}
