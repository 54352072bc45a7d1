//! Random histories of all writers against a model: replay from any number ends with the members, bit for bit.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use cohorts_engine::chunks;
use roaring::RoaringBitmap;

use super::super::{
    Cause, FeedPosition, MemberDelta, as_of, compact, feed, replay, retention, snapshot,
};
use super::{ALL, LoggedProject};
use crate::cohorts::Cohort;

const COHORTS: usize = 3;
/// Histories with a database, and changes of each.
const HISTORIES: u64 = 12;
const STEPS: usize = 60;
/// Replays of one check.
const REPLAYS: usize = 12;
/// Histories without a database.
const PURE_HISTORIES: u64 = 10_000;

/// Random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// A few persons of three chunks in two windows.
    fn persons(&mut self) -> RoaringBitmap {
        let count = self.below(5);
        let starts = [0, 65_530, 70_000_000];
        let person = |_| (starts[self.below(3)] + self.below(12)) as u32;
        (0..count).map(person).collect()
    }

    fn changed(&mut self, members: &RoaringBitmap) -> RoaringBitmap {
        let added = members | self.persons();
        added - self.persons()
    }
}

#[test]
fn differences_of_random_histories_are_merged_replayed_and_undone_exactly() {
    for seed in 0..PURE_HISTORIES {
        let mut random = Random(seed);
        let mut states = vec![random.persons()];
        for nth in 0..8 {
            let next = random.changed(&states[nth]);
            states.push(next);
        }
        // Differences between states, each with the indexes of the states around it.
        let mut deltas: Vec<(usize, usize, MemberDelta)> = (0..8)
            .map(|nth| {
                (
                    nth,
                    nth + 1,
                    MemberDelta::between(&states[nth], &states[nth + 1]),
                )
            })
            .collect();
        for _ in 0..random.below(8) {
            let nth = random.below(deltas.len() - 1);
            let (_, end, next) = deltas.remove(nth + 1);
            deltas[nth].1 = end;
            deltas[nth].2.extend(&next);
        }
        for (from, state) in states.iter().enumerate() {
            let mut members = state.clone();
            for (_, _, delta) in deltas.iter().filter(|(_, end, _)| *end > from) {
                delta.apply(&mut members);
            }
            assert_eq!(members, states[8], "seed {seed}, replay from {from}");
        }
        let mut members = states[8].clone();
        for (start, end, delta) in deltas.iter().rev() {
            assert_eq!(members, states[*end], "seed {seed}, state {end}");
            assert!(
                delta.entered.is_disjoint(&delta.left)
                    && delta.reverted.is_subset(&delta.persons())
            );
            delta.undo(&mut members);
            assert_eq!(members, states[*start], "seed {seed}, undone to {start}");
            let mut joined = MemberDelta::default();
            for slice in delta.slices() {
                assert_eq!(
                    slice
                        .delta
                        .persons()
                        .min()
                        .map(chunks::chunk_of)
                        .map(u32::from),
                    Some(slice.first_chunk)
                );
                joined.join(slice.delta);
            }
            assert_eq!(&joined, delta, "seed {seed}");
        }
    }
}

/// A history with what the members were after each number of the log.
struct LogHistory {
    fixture: LoggedProject,
    random: Random,
    members: [RoaringBitmap; COHORTS],
    /// The members of all cohorts after each number; the first is before all changes.
    after: Vec<[RoaringBitmap; COHORTS]>,
    /// A worker that has a claim, and what it evaluated.
    claimed: Option<(usize, Cohort)>,
}

impl LogHistory {
    fn new(seed: u64) -> Self {
        Self {
            fixture: LoggedProject::new(COHORTS),
            random: Random(seed),
            members: Default::default(),
            after: vec![Default::default()],
            claimed: None,
        }
    }

    /// Records the state if it has changed.
    fn record(&mut self, members: [RoaringBitmap; COHORTS]) {
        let changed = (0..COHORTS).filter(|nth| members[*nth] != self.members[*nth]);
        let changed: Vec<usize> = changed.collect();
        // The numbers of one transaction follow each other in the order of cohorts.
        for nth in changed {
            self.members[nth] = members[nth].clone();
            self.after.push(self.members.clone());
        }
    }

    fn step(&mut self) {
        let nth = self.random.below(COHORTS);
        let mut members = self.members.clone();
        match self.random.below(12) {
            0..=4 => {
                let after = self.random.changed(&members[nth]);
                let causes = [Cause::Upload, Cause::Manual, Cause::Merge];
                let cause = causes[self.random.below(3)];
                self.fixture.edit(nth, cause, |_| after.clone());
                members[nth] = after;
            }
            5..=6 => {
                let persons = self.random.persons();
                let list: Vec<u32> = persons.iter().collect();
                self.fixture.remove(&list);
                for members in &mut members {
                    *members -= &persons;
                }
            }
            7 => self.claimed = Some((nth, self.claim(nth))),
            8 => self.stage_only(),
            _ => {
                let is_edited = self.random.below(3) == 0;
                let edit = self.random.persons();
                let published = self.stage_and_publish(is_edited.then_some(&edit));
                if let Some((nth, is_published, after)) = published {
                    if is_edited {
                        let mut edited = members.clone();
                        edited[nth] |= &edit;
                        members[nth] = edited[nth].clone();
                        self.record(edited);
                    }
                    if is_published {
                        members[nth] = after;
                    }
                }
            }
        }
        self.record(members);
    }

    /// Claims a cohort as a worker does after another one has died.
    fn claim(&mut self, nth: usize) -> Cohort {
        self.fixture
            .execute("update cohorts set lease_until = null, is_calculating = false");
        self.fixture.claim(nth)
    }

    /// Stages members of the claimed cohort, and does not publish them.
    fn stage_only(&mut self) {
        if let Some((nth, claimed)) = self.claimed.clone() {
            let after = self.random.changed(&self.members[nth]);
            self.fixture.stage(&claimed, &after);
        }
    }

    /// Stages members of the claimed cohort, perhaps edits the cohort in between, and publishes.
    fn stage_and_publish(
        &mut self,
        edit: Option<&RoaringBitmap>,
    ) -> Option<(usize, bool, RoaringBitmap)> {
        let (nth, claimed) = self.claimed.take()?;
        let after = self.random.changed(&self.members[nth]);
        let staged = self.fixture.stage(&claimed, &after)?;
        if let Some(persons) = edit {
            self.fixture
                .edit(nth, Cause::Upload, |members| members | persons);
        }
        let is_published = self.fixture.publish(&claimed, &staged, Cause::Data);
        Some((nth, is_published, after))
    }

    /// Replays from random numbers, and reads the feed in pages of random sizes.
    fn check(&mut self, case: &str) {
        for nth in 0..COHORTS {
            assert_eq!(self.fixture.members(nth), self.members[nth], "{case}");
        }
        self.fixture.check();
        let head = self.fixture.head();
        assert_eq!(head.number as usize, self.after.len() - 1, "{case}");
        let conn = &mut *self.fixture.conn();
        for _ in 0..REPLAYS {
            let number = self.random.below(self.after.len());
            let nth = self.random.below(COHORTS);
            let (project, cohort) = (self.fixture.project, self.fixture.cohorts[nth].id());
            let mut members = self.after[number][nth].clone();
            let number = number as i64;
            let through = replay(conn, project, cohort, number, &mut members).unwrap();
            if number < head.expired_through {
                assert_eq!(through, None, "{case}, {number}");
            } else {
                assert_eq!(through, Some(head.number), "{case}, {number}");
                assert_eq!(members, self.members[nth], "{case}, from {number}");
            }
        }
        let from = head.expired_through as usize;
        let number = from + self.random.below(self.after.len() - from);
        self.check_feed(number, case);
    }

    fn check_feed(&mut self, number: usize, case: &str) {
        let conn = &mut *self.fixture.conn();
        let mut members = self.after[number].clone();
        let mut position = FeedPosition::after(number as i64);
        loop {
            let limit = 1 + self.random.below(6);
            let page = feed(conn, self.fixture.project, None, position, limit);
            let page = page.unwrap().unwrap();
            for (row, changes) in page.changes {
                let nth = self
                    .fixture
                    .cohorts
                    .iter()
                    .position(|cohort| cohort.id == row.cohort_id);
                for change in changes {
                    let members = &mut members[nth.unwrap()];
                    if change.has_entered {
                        members.insert(change.ordinal);
                    } else {
                        members.remove(change.ordinal);
                    }
                }
            }
            position = page.position;
            if !page.has_more {
                break;
            }
        }
        assert_eq!(members, self.members, "{case}, feed from {number}");
        for (nth, cohort) in self.fixture.cohorts.iter().enumerate() {
            let now = snapshot(conn, self.fixture.project, cohort.id(), ALL)
                .unwrap()
                .unwrap();
            assert_eq!(
                (now.members, now.position),
                (self.members[nth].clone(), position)
            );
        }
    }

    /// Spreads the changes over three days, and returns the time of each number.
    fn spread(&mut self) -> Vec<DateTime<Utc>> {
        // The database has microseconds.
        let now = Utc::now().duration_trunc(TimeDelta::seconds(1)).unwrap();
        let start = now - TimeDelta::days(3);
        let mut time = start;
        let mut times = vec![time];
        let day = 3 * 86_400 / self.after.len();
        for number in 1..self.after.len() {
            let gap = match self.random.below(4) {
                0 => day * 2,
                1 => 90,
                _ => 7,
            };
            time = (time + TimeDelta::seconds(gap as i64)).min(now);
            self.fixture.execute(&format!(
                "update member_changes set published_at = '{}' where number = {number}",
                time.to_rfc3339()
            ));
            times.push(time);
        }
        times
    }
}

#[test]
fn replay_of_random_histories_from_any_number_ends_with_the_members() {
    let (mut merged, mut deleted) = (0, 0);
    for seed in 0..HISTORIES {
        let mut history = LogHistory::new(seed);
        for _ in 0..STEPS {
            history.step();
        }
        history.check(&format!("seed {seed}"));
        let times = history.spread();
        let conn = &mut *history.fixture.conn();
        // Without compaction, the members at each time are exact.
        for (number, time) in times.iter().enumerate() {
            // Of changes at the same time, the last counts.
            let number = times
                .iter()
                .rposition(|other| other == time)
                .unwrap_or(number);
            for (nth, cohort) in history.fixture.cohorts.iter().enumerate() {
                let members = as_of(conn, history.fixture.project, cohort.id(), *time).unwrap();
                assert_eq!(
                    members.as_ref(),
                    Some(&history.after[number][nth]),
                    "seed {seed}, {number}"
                );
            }
        }
        // A process may die at any moment of the compaction.
        let head = history.fixture.head();
        for _ in 0..3 {
            let now = Utc::now();
            merged += compact::compact_next(conn, &head, now)
                .unwrap()
                .unwrap_or(0);
        }
        history.check(&format!("seed {seed}, partly compacted"));
        merged += history.fixture.compact_all();
        history.check(&format!("seed {seed}, compacted"));
        let time = times[history.random.below(times.len())];
        let head = history.fixture.head();
        deleted += retention::delete_oldest(conn, &head, time, 1_000).unwrap();
        history.check(&format!("seed {seed}, shortened"));
        for _ in 0..STEPS / 4 {
            history.step();
        }
        history.check(&format!("seed {seed}, continued"));
    }
    assert!(
        merged > 100 && deleted > 10,
        "{merged} merged, {deleted} deleted"
    );
}
