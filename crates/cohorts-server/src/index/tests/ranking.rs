//! The order of persons: equal to a sorted list after any history, with any checkpoint, and for any reader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use cohorts_store::rankings::RankKey;
use cohorts_store::{Conn, ShardKey, events, rankings};

use super::*;
use crate::index::Caches;
use crate::index::ranking::{RankedPersons, Ranking, stored};
use crate::index::read::RowCount;

/// A small generator of random numbers, so that each history can be repeated.
struct SeedNumbers(u64);

impl SeedNumbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A project together with all its persons, as the test knows them.
struct History {
    fixture: Fixture,
    persons: BTreeMap<u32, i64>,
    next: u32,
    seq: i64,
}

impl History {
    fn new() -> Self {
        Self {
            fixture: Fixture::new(),
            persons: BTreeMap::new(),
            next: 0,
            seq: 0,
        }
    }

    fn shard_key(&self) -> ShardKey {
        self.fixture.project.shard_key()
    }

    fn run(&self, statement: &str) -> usize {
        let rows = diesel::sql_query(statement).execute(&mut *self.fixture.conn());
        rows.unwrap_or_else(|cause| panic!("{statement}: {cause}"))
    }

    /// Raises the log head together with `change`, which gets the new sequence number.
    fn write(&mut self, change: impl FnOnce(&mut Conn, ShardKey, i64)) {
        self.seq += 1;
        let (seq, shard_key) = (self.seq, self.shard_key());
        let raise = format!(
            "insert into log_heads (shard_key, seq) values ({}, {seq}) \
             on conflict (shard_key) do update set seq = excluded.seq",
            shard_key.0
        );
        cohorts_store::transaction(&mut self.fixture.conn(), |conn| {
            diesel::sql_query(raise).execute(conn).unwrap();
            change(conn, shard_key, seq);
            Ok::<_, cohorts_store::Error>(())
        })
        .unwrap();
    }

    /// Creates persons, or changes the times of persons that exist.
    fn put(&mut self, persons: &[(u32, i64)]) {
        let rows: Vec<String> = persons
            .iter()
            .map(|(ordinal, time)| format!("({ordinal}, {time})"))
            .collect();
        self.persons.extend(persons.iter().copied());
        self.write(|conn, shard_key, seq| {
            let statement = format!(
                "insert into persons (shard_key, ordinal, uuid, properties, is_identified, created_at, seq, created_seq) \
                 select {0}, v.o, md5('p' || v.o)::uuid, '{{}}', false, \
                     timestamptz 'epoch' + v.t * interval '1 microsecond', {seq}, {seq} \
                 from (values {1}) as v(o, t) \
                 on conflict (shard_key, ordinal) do update set created_at = excluded.created_at, seq = excluded.seq",
                shard_key.0,
                rows.join(", ")
            );
            diesel::sql_query(statement).execute(conn).unwrap();
        });
    }

    fn create(&mut self, numbers: &mut SeedNumbers, count: u64, times: u64) {
        let persons: Vec<(u32, i64)> = (0..count)
            .map(|_| {
                // Some ordinals are never used.
                self.next += 1 + u32::from(numbers.below(5) == 0);
                (self.next, numbers.below(times) as i64)
            })
            .collect();
        self.put(&persons);
    }

    fn some(&self, numbers: &mut SeedNumbers, count: u64) -> Vec<u32> {
        let all: Vec<u32> = self.persons.keys().copied().collect();
        if all.is_empty() {
            return Vec::new();
        }
        let mut some: Vec<u32> = (0..count)
            .map(|_| all[numbers.below(all.len() as u64) as usize])
            .collect();
        some.sort_unstable();
        some.dedup();
        some
    }

    fn retire(&mut self, ordinals: &[u32], survivor: Option<u32>) {
        let listed: Vec<String> = ordinals.iter().map(u32::to_string).collect();
        for ordinal in ordinals {
            self.persons.remove(ordinal);
        }
        self.write(|conn, shard_key, seq| {
            let statement = format!(
                "delete from persons where shard_key = {} and ordinal in ({})",
                shard_key.0,
                listed.join(", ")
            );
            diesel::sql_query(statement).execute(conn).unwrap();
            let retired = ordinals.iter().map(|ordinal| NewTombstone {
                ordinal: i64::from(*ordinal),
                uuid: None,
                merged_into: survivor.map(i64::from),
            });
            tombstones::record(conn, shard_key, seq, &retired.collect::<Vec<_>>()).unwrap();
        });
    }

    /// The keys of the persons for which `is_wanted` holds, in order.
    fn expected(&self, is_wanted: impl Fn(u32) -> bool) -> Vec<RankKey> {
        let persons = self
            .persons
            .iter()
            .filter(|(person, _)| is_wanted(**person));
        let mut keys: Vec<RankKey> = persons
            .map(|(ordinal, created_at)| RankKey {
                created_at: *created_at,
                ordinal: *ordinal,
            })
            .collect();
        keys.sort_unstable_by(|left, right| right.cmp(left));
        keys
    }

    fn ranking(&self, caches: &Caches) -> Arc<Ranking> {
        ranking(&mut self.fixture.conn(), caches, self.shard_key())
    }

    /// All persons of a selection, in pages of different lengths.
    fn listed(&self, caches: &Arc<Caches>, persons: Option<RoaringBitmap>) -> Vec<RankKey> {
        let ranked = RankedPersons::new(caches, self.ranking(caches), persons);
        let conn = &mut *self.fixture.conn();
        let (mut listed, mut place, mut length) = (Vec::new(), ranked.start(), 1);
        loop {
            let page = ranked.next(conn, place, length).unwrap();
            listed.extend(page.iter().map(|person| person.key));
            if page.len() < length {
                assert_eq!(listed.len() as u64, ranked.count());
                return listed;
            }
            place = page[length - 1].after;
            length = length % 97 + 7;
        }
    }

    /// Compares all persons, a part of them, and pages at random positions with a sorted list.
    fn check(&self, caches: &Arc<Caches>, numbers: &mut SeedNumbers) {
        assert_eq!(self.listed(caches, None), self.expected(|_| true));
        let divisor = numbers.below(40) as u32 + 2;
        let is_member = |ordinal: u32| ordinal % divisor == 1;
        let set: RoaringBitmap = (0..self.next + 100).filter(|o| is_member(*o)).collect();
        let expected = self.expected(is_member);
        assert_eq!(self.listed(caches, Some(set.clone())), expected);
        let ranked = RankedPersons::new(caches, self.ranking(caches), Some(set));
        let conn = &mut *self.fixture.conn();
        for _ in 0..5 {
            let offset = numbers.below(expected.len() as u64 + 3) as usize;
            let place = ranked.place_at(offset as u64);
            assert_eq!(place.is_some(), offset < expected.len());
            let Some(place) = place else { continue };
            let page = ranked.next(conn, place, 9).unwrap();
            let page: Vec<RankKey> = page.iter().map(|person| person.key).collect();
            let rest = &expected[offset..];
            assert_eq!(page, rest[..rest.len().min(9)]);
            // A cursor needs no person with its key.
            let cursor = RankKey {
                ordinal: numbers.below(u64::from(self.next) + 9) as u32,
                ..expected[offset]
            };
            let page = ranked.next(conn, ranked.place_after(cursor), 9).unwrap();
            let page: Vec<RankKey> = page.iter().map(|person| person.key).collect();
            let rest = expected.iter().filter(|key| **key < cursor).take(9);
            assert_eq!(page, rest.copied().collect::<Vec<_>>());
        }
        for ordinal in (0..self.next + 3).step_by(7) {
            let is_selected = is_member(ordinal) && self.persons.contains_key(&ordinal);
            assert_eq!(ranked.contains(ordinal), is_selected);
        }
    }

    fn write_checkpoints(&self, caches: &Caches) {
        self.fixture.write_checkpoints(&caches.index);
    }

    fn damage(&self, numbers: &mut SeedNumbers) {
        let bucket = "where (start_time, start_ordinal) = (select start_time, start_ordinal from ranking_buckets \
                      order by md5(start_time::text || start_ordinal) limit 1)";
        self.run(&match numbers.below(4) {
            0 => format!(
                "update ranking_buckets set ordinals = overlay(ordinals placing '\\x55'::bytea from 12) {bucket}"
            ),
            1 => format!(
                "update ranking_buckets set keys = overlay(keys placing '\\x55'::bytea from 12) {bucket}"
            ),
            2 => format!("delete from ranking_buckets {bucket}"),
            _ => "delete from rankings".to_owned(),
        });
    }

    /// The persons of the stored buckets, each with its time.
    fn stored(&self) -> Option<BTreeMap<u32, i64>> {
        let times = stored::times(&mut self.fixture.conn(), self.shard_key()).unwrap();
        times.map(|stored| stored.times.into_iter().collect())
    }
}

fn ranking(conn: &mut Conn, caches: &Caches, shard_key: ShardKey) -> Arc<Ranking> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let rows_read = RowCount::default();
    let ranking = (caches.index).ranking(conn, shard_key, deadline, &rows_read);
    ranking.map_err(|cause| cause.to_string()).unwrap()
}

/// A random step of a history.
fn change(history: &mut History, numbers: &mut SeedNumbers) {
    match numbers.below(7) {
        0 => history.create(numbers, 400, 1_000_000),
        // Many persons of one instant.
        1 => history.create(numbers, 300, 3),
        2 | 3 => history.create(numbers, 5, 1_000_000),
        4 => {
            let moved = history.some(numbers, 30).into_iter();
            let moved = moved.map(|ordinal| (ordinal, numbers.below(900_000) as i64));
            let moved: Vec<_> = moved.collect();
            if !moved.is_empty() {
                history.put(&moved);
            }
        }
        5 => {
            let touched = history.some(numbers, 30).into_iter();
            let touched: Vec<_> = touched.map(|o| (o, history.persons[&o])).collect();
            if !touched.is_empty() {
                history.put(&touched);
            }
        }
        _ => {
            let retired = history.some(numbers, 40);
            let survivor = (numbers.below(2) == 0).then_some(history.next + 1);
            if !retired.is_empty() {
                history.retire(&retired, survivor);
            }
        }
    }
}

#[test]
fn lists_equal_sorted_persons_after_any_history_with_any_checkpoint() {
    for seed in 1..4 {
        let (mut numbers, mut history) = (SeedNumbers(seed * 0x9E37_79B9), History::new());
        // Two processes with one database.
        let mut processes = [Arc::new(Caches::default()), Arc::new(Caches::default())];
        for _ in 0..40 {
            for _ in 0..=numbers.below(3) {
                change(&mut history, &mut numbers);
            }
            let process = numbers.below(2) as usize;
            match numbers.below(8) {
                0 => processes[process] = Arc::default(),
                1 => {
                    history.damage(&mut numbers);
                    processes[process] = Arc::default();
                }
                2 => processes[process].index.evict_rankings(),
                3..=5 => history.write_checkpoints(&processes[process]),
                _ => {}
            }
            if numbers.below(3) > 0 {
                history.check(&processes[process], &mut numbers);
            }
        }
        for caches in &processes {
            history.check(caches, &mut numbers);
        }
    }
}

#[test]
fn a_reader_of_an_older_snapshot_leaves_no_wrong_order_behind() {
    let (mut numbers, mut history) = (SeedNumbers(11), History::new());
    history.create(&mut numbers, 900, 1_000_000);
    let caches = Arc::new(Caches::default());
    history.check(&caches, &mut numbers);
    for round in 0..16 {
        let project = history.fixture.project;
        let limits = crate::index::read::Limits {
            deadline: Instant::now() + Duration::from_secs(60),
            memory: u64::MAX,
        };
        let conn = &mut *history.fixture.conn();
        crate::index::read::ReadTx::run(conn, project, limits, |tx| {
            tx.log_head()?;
            for _ in 0..3 {
                change(&mut history, &mut numbers);
            }
            if round % 2 == 0 {
                history.listed(&caches, None);
                history.write_checkpoints(&caches);
            }
            caches.index.evict_rankings();
            tx.with_conn(|conn| {
                let ranked =
                    RankedPersons::new(&caches, ranking(conn, &caches, project.shard_key()), None);
                let listed = ranked.next(conn, ranked.start(), usize::MAX)?;
                assert_eq!(listed.len() as u64, ranked.count());
                Ok::<_, IndexError>(())
            })
        })
        .unwrap();
        history.check(&caches, &mut numbers);
    }
}

#[test]
fn a_start_reads_checkpoints_and_the_persons_written_after_them() {
    let (mut numbers, mut history) = (SeedNumbers(3), History::new());
    history.create(&mut numbers, 1_000, 1_000_000);
    let caches = Arc::new(Caches::default());
    history.check(&caches, &mut numbers);
    history.write_checkpoints(&caches);
    let stored = rankings::find(&mut history.fixture.conn(), history.shard_key());
    assert_eq!(stored.unwrap().unwrap().through_seq, Some(history.seq));
    history.create(&mut numbers, 20, 2_000_000);
    history.retire(&[1, 2], None);
    let expected = history.expected(|_| true);
    // Without the older rows, only the checkpoint can give the result.
    let rows = history.run("delete from persons where seq <= 1");
    assert!(rows > 900);
    let started = Arc::new(Caches::default());
    assert_eq!(history.listed(&started, None), expected);
    // Bitmaps give the number and the position without orders.
    let ranked = RankedPersons::new(&started, history.ranking(&started), None);
    assert_eq!(ranked.count(), expected.len() as u64);
}

#[test]
fn the_ranking_of_an_indexed_project_is_stored_before_its_persons_are_listed() {
    let (mut numbers, mut history) = (SeedNumbers(29), History::new());
    history.create(&mut numbers, 1_000, 1_000_000);
    let caches = Arc::new(Caches::default());
    history.fixture.persons_of_x(&caches.index);
    history.write_checkpoints(&caches);
    assert_eq!(history.stored().unwrap(), history.persons);
    // Eviction alone does not make it due again.
    caches.index.set_budget(0);
    caches.index.evict(None);
    caches.index.set_budget(1 << 30);
    history.fixture.persons_of_x(&caches.index);
    history.run("update rankings set version = 99");
    history.write_checkpoints(&caches);
    let stored = rankings::find(&mut history.fixture.conn(), history.shard_key());
    assert_eq!(stored.unwrap().unwrap().version, 99);
}

#[test]
fn only_buckets_with_changes_are_written_again() {
    let (mut numbers, mut history) = (SeedNumbers(5), History::new());
    history.create(&mut numbers, 1_000, 1_000_000);
    let caches = Arc::new(Caches::default());
    history.check(&caches, &mut numbers);
    history.write_checkpoints(&caches);
    let older = |history: &History| {
        let seq = history.seq;
        history.run(&format!(
            "update ranking_buckets set through_seq = through_seq where through_seq < {seq}"
        ))
    };
    // Persons that keep their times, and new ones.
    let touched: Vec<_> = history.persons.iter().map(|(o, t)| (*o, *t)).collect();
    history.put(&touched);
    let all = older(&history);
    assert!(all > 5, "{all} buckets");
    let newest: Vec<(u32, i64)> = (0..20).map(|nth| (5_000 + nth, 2_000_000)).collect();
    history.put(&newest);
    history.next = 6_000;
    history.check(&caches, &mut numbers);
    history.write_checkpoints(&caches);
    assert_eq!(older(&history), all - 1);
    let restarted = Arc::new(Caches::default());
    history.check(&restarted, &mut numbers);
}

#[test]
fn a_round_that_ends_early_leaves_a_valid_checkpoint() {
    let (mut numbers, mut history) = (SeedNumbers(8), History::new());
    history.create(&mut numbers, 1_000, 1_000_000);
    let caches = Arc::new(Caches::default());
    history.check(&caches, &mut numbers);
    history.write_checkpoints(&caches);
    let moved: Vec<(u32, i64)> = history
        .persons
        .keys()
        .map(|o| (*o, i64::from(*o) * 7))
        .collect();
    let before = rankings::find(&mut history.fixture.conn(), history.shard_key());
    let before = before.unwrap().unwrap();
    history.put(&moved);
    history.check(&caches, &mut numbers);
    history.write_checkpoints(&caches);
    // The state of a process that ended before it recorded the end of its round.
    let seq = before.through_seq.unwrap();
    history.run(&format!("update rankings set through_seq = {seq}"));
    history.run("update ranking_buckets set ordinals = ordinals");
    history.check(&Arc::new(Caches::default()), &mut numbers);
    // Two buckets of different rounds have the same persons.
    history.run(
        "update ranking_buckets b set ordinals = o.ordinals, keys = o.keys from ranking_buckets o \
         where b.start_time = (select max(start_time) from ranking_buckets) \
             and o.start_time = (select min(start_time) from ranking_buckets where start_ordinal > 0)",
    );
    history.check(&Arc::new(Caches::default()), &mut numbers);
}

#[test]
fn erased_persons_are_in_no_stored_bucket() {
    let (mut numbers, mut history) = (SeedNumbers(9), History::new());
    history.create(&mut numbers, 1_000, 1_000_000);
    let caches = Arc::new(Caches::default());
    history.check(&caches, &mut numbers);
    history.write_checkpoints(&caches);
    let erased = history.some(&mut numbers, 20);
    history.retire(&erased, None);
    let expected: RoaringBitmap = erased.iter().copied().collect();
    let (shard_key, conn) = (history.shard_key(), &mut *history.fixture.conn());
    cohorts_store::transaction(conn, |conn| {
        stored::rewrite_without(conn, shard_key, &expected)
    })
    .unwrap();
    assert_eq!(history.stored().unwrap(), history.persons);
    // A ranking that still has these persons is not stored.
    history.check(&Arc::new(Caches::default()), &mut numbers);
    history.write_checkpoints(&caches);
    assert_eq!(history.stored().unwrap(), history.persons);
    history.check(&caches, &mut numbers);
}

#[test]
fn rankings_count_in_the_memory_budget_and_are_evicted() {
    let (mut numbers, mut history) = (SeedNumbers(7), History::new());
    history.create(&mut numbers, 3_000, 1_000_000);
    let caches = Arc::new(Caches::default());
    history.check(&caches, &mut numbers);
    let keys = (history.persons.len() * size_of::<RankKey>()) as u64;
    let full = caches.index.bytes();
    assert!(full > keys, "{full} bytes");
    // Room for the bitmaps and a few orders.
    let ranking = history.ranking(&caches);
    caches.index.set_budget(ranking.bytes() + keys / 8);
    caches.index.evict(None);
    history.check(&caches, &mut numbers);
    let bytes = caches.index.bytes();
    assert!(bytes <= caches.index.budget(), "{bytes} bytes");
    assert!(bytes > ranking.bytes());
    // Without any room, each page is still there.
    caches.index.set_budget(0);
    caches.index.evict(None);
    history.check(&caches, &mut numbers);
    assert_eq!(caches.index.bytes(), 0);
}

#[test]
fn a_build_without_memory_for_the_keys_gives_the_same_order() {
    let (mut numbers, mut history) = (SeedNumbers(13), History::new());
    history.create(&mut numbers, 2_000, 1_000_000);
    let caches = Arc::new(Caches::default());
    caches.index.set_budget(10_000);
    history.check(&caches, &mut numbers);
}

#[test]
fn a_build_continues_where_a_caller_ran_out_of_time() {
    let (mut numbers, mut history) = (SeedNumbers(17), History::new());
    history.create(&mut numbers, 2_000, 1_000_000);
    let store = &history.fixture.store;
    let conn = &mut *history.fixture.conn();
    let late = store.ranking_within(conn, history.fixture.project, Duration::ZERO);
    assert!(matches!(late, Err(IndexError::Loading(_))), "{late:?}");
    while store.caches.loads.count() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ranking = store.ranking_within(conn, history.fixture.project, Duration::ZERO);
    assert_eq!(ranking.unwrap().all.len(), 2_000);
}

#[test]
fn a_step_of_a_catch_up_hides_no_person_from_an_older_reader() {
    let (mut numbers, mut history) = (SeedNumbers(23), History::new());
    history.create(&mut numbers, 300, 1_000_000);
    let caches = Arc::new(Caches::default());
    history.check(&caches, &mut numbers);
    history.create(&mut numbers, 300, 1_000_000);
    let (seen, shard_key) = (history.persons.clone(), history.shard_key());
    cohorts_store::snapshot(&mut history.fixture.conn(), |older| {
        let head = events::log_head(older, shard_key)?;
        let again: Vec<(u32, i64)> = seen.iter().map(|(o, t)| (*o, *t)).take(100).collect();
        history.put(&again);
        let last: Vec<(u32, i64)> = seen.iter().map(|(o, t)| (*o, *t)).skip(550).collect();
        history.put(&last);
        let step = caches
            .index
            .step_ranking(&mut history.fixture.conn(), shard_key);
        assert!(step.seq == head && step.all.len() < 600);
        assert_eq!(ranking(older, &caches, shard_key).all.len(), 600);
        let ranked = RankedPersons::new(&caches, ranking(older, &caches, shard_key), None);
        let listed = ranked.next(older, ranked.start(), usize::MAX).unwrap();
        let listed: Vec<RankKey> = listed.iter().map(|person| person.key).collect();
        assert_eq!(listed, history.expected(|_| true));
        Ok::<_, cohorts_store::Error>(())
    })
    .unwrap();
    history.check(&caches, &mut numbers);
}

#[test]
fn creation_times_come_from_the_stored_ranking_and_later_rows() {
    let (mut numbers, mut history) = (SeedNumbers(19), History::new());
    history.create(&mut numbers, 1_000, 1_000_000);
    let caches = Arc::new(Caches::default());
    history.check(&caches, &mut numbers);
    history.write_checkpoints(&caches);
    history.put(&[(1, 400_000_000), (9_000, 500_000_000), (3, 1)]);
    history.retire(&[2], None);
    let leaf = json!({"type": "person_metadata", "key": "created_at", "operator": "is_date_after",
        "value": "1970-01-01 00:05:00"});
    let members = history
        .fixture
        .members(&IndexCache::default(), leaf.clone());
    assert_eq!(members, RoaringBitmap::from_iter([1, 9_000]));
    history.run("update persons set created_at = now() where seq <= 1");
    let stored = history.fixture.members(&IndexCache::default(), leaf);
    assert_eq!(stored, members, "the older rows are not read");
    let head = events::log_head(&mut history.fixture.conn(), history.shard_key());
    assert_eq!(head.unwrap(), history.seq);
}
