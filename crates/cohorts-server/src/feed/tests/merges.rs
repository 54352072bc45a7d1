//! Readers keep the right persons while merges move survivors to other ordinals.

use std::collections::BTreeSet;

use cohorts_store::persons;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::*;

const HISTORIES: u64 = 4;
const STEPS: usize = 40;
const PERSONS: usize = 6;
/// The ids with which a person keeps its ordinal in a merge into another one.
const MANY_IDS: usize = 70;

/// A reader of the feed, with the members that follow from what it has read.
#[derive(Clone)]
struct FeedReader {
    cursor: FeedCursor,
    members: BTreeSet<Uuid>,
}

impl FeedReader {
    fn new(cursor: FeedCursor) -> Self {
        Self {
            cursor,
            members: BTreeSet::new(),
        }
    }

    /// Reads a page. Returns whether more rows are available.
    fn read(&mut self, fixture: &FeedFixture, limit: usize) -> bool {
        let page = fixture.page(&self.cursor, limit).unwrap();
        for row in page.rows {
            let uuid = row.change.person.uuid;
            match row.change.change {
                ChangeKind::Entered => self.members.insert(uuid),
                ChangeKind::Left => self.members.remove(&uuid),
            };
        }
        self.cursor = page.cursor;
        page.has_more
    }

    /// The members after all changes.
    fn finish(&mut self, fixture: &FeedFixture) -> &BTreeSet<Uuid> {
        while self.read(fixture, 100) {}
        &self.members
    }
}

impl FeedFixture {
    /// A reader that has read nothing.
    fn reader(&self) -> FeedReader {
        FeedReader::new(self.feed().now(&mut self.conn()).unwrap())
    }

    /// Gives a person many ids.
    fn widen(&self, id: &str, nth: usize) {
        let alias = |alias| {
            format!(
                r#"{{"event": "$create_alias", "distinct_id": "{id}", "properties": {{"alias": "{id}-{nth}-{alias}"}}}}"#
            )
        };
        self.capture((0..MANY_IDS).map(alias));
    }

    fn merge(&self, from: &str, into: &str) {
        let merge = format!(
            r#"{{"event": "$merge_dangerously", "distinct_id": "{into}", "properties": {{"alias": "{from}"}}}}"#
        );
        self.capture(std::iter::once(merge));
    }

    fn ordinal(&self, id: &str) -> u32 {
        let shard_key = self.project.shard_key();
        let owners = persons::owners(&mut self.conn(), shard_key, &[id]).unwrap();
        owners[id].ordinal.try_into().unwrap()
    }

    /// The members as a new reader gets them.
    fn members(&self) -> BTreeSet<Uuid> {
        let mut reader = FeedReader::new(self.feed().start());
        reader.finish(self).clone()
    }
}

#[test]
fn a_person_who_left_before_a_move_leaves_under_the_uuid_that_readers_know() {
    for member in ["p0", "p1"] {
        let fixture = FeedFixture::new(2);
        fixture.widen("p0", 0);
        let (merged, member) = (fixture.ordinal("p0"), fixture.ordinal(member));
        let mut reader = fixture.reader();
        fixture.set([member]);
        assert_eq!(reader.finish(&fixture).len(), 1);
        fixture.set([]);
        fixture.merge("p0", "p1");
        assert_eq!(fixture.ordinal("p1"), merged, "the survivor has moved");
        assert!(reader.finish(&fixture).is_empty());
        fixture.set([merged]);
        assert_eq!(reader.finish(&fixture), &fixture.members());
    }
}

#[test]
fn a_member_who_moves_between_the_pages_of_a_snapshot_is_not_lost() {
    let fixture = FeedFixture::new(2);
    fixture.widen("p0", 0);
    let (merged, survivor) = (fixture.ordinal("p0"), fixture.ordinal("p1"));
    assert!(merged < survivor);
    fixture.set([merged, survivor]);
    let mut reader = FeedReader::new(fixture.feed().start());
    reader.read(&fixture, 1);
    assert_eq!(reader.members.len(), 1);
    fixture.merge("p0", "p1");
    assert_eq!(fixture.ordinal("p1"), merged, "the survivor has moved");
    assert_eq!(reader.finish(&fixture), &fixture.members());
    assert_eq!(reader.members.len(), 1);
}

#[test]
fn changes_on_both_sides_of_a_move_are_not_compacted_together() {
    let fixture = FeedFixture::new(2);
    fixture.widen("p0", 0);
    let before = fixture.ordinal("p0");
    let start = fixture.reader();
    fixture.set([before]);
    let mut reader = start.clone();
    reader.finish(&fixture);
    fixture.set([]);
    fixture.merge("p0", "p1");
    fixture.set([before]);
    fixture.set([]);
    fixture.compact();
    assert!(reader.finish(&fixture).is_empty());
    let mut all = start;
    assert!(all.finish(&fixture).is_empty());
}

#[test]
fn readers_of_random_histories_with_moves_end_with_the_members() {
    let mut moves = 0;
    for seed in 0..HISTORIES {
        let rng = &mut StdRng::seed_from_u64(seed);
        let fixture = FeedFixture::new(PERSONS);
        let mut readers = vec![fixture.reader()];
        let mut ids: Vec<String> = (0..PERSONS).map(|id| format!("p{id}")).collect();
        for nth in 0..STEPS {
            let (from, into) = (rng.random_range(0..PERSONS), rng.random_range(0..PERSONS));
            match rng.random_range(0..10) {
                0..3 if from != into => {
                    if rng.random_bool(0.7) {
                        fixture.widen(&ids[from], nth);
                    }
                    let before = fixture.ordinal(&ids[into]);
                    fixture.merge(&ids[from], &ids[into]);
                    moves += usize::from(fixture.ordinal(&ids[into]) != before);
                    ids[from] = format!("q{nth}");
                    let event = format!(r#"{{"event": "x", "distinct_id": "q{nth}"}}"#);
                    fixture.capture(std::iter::once(event));
                }
                3 => {
                    let read = readers[rng.random_range(0..readers.len())].clone();
                    readers.push(read);
                }
                4 => fixture.compact(),
                _ => {
                    let all = ids.iter().map(|id| fixture.ordinal(id));
                    let members: Vec<u32> = all.filter(|_| rng.random_bool(0.4)).collect();
                    fixture.set(members);
                }
            }
            for reader in &mut readers {
                if rng.random_bool(0.3) {
                    reader.read(&fixture, rng.random_range(1..4));
                }
            }
        }
        let members = fixture.members();
        for reader in &mut readers {
            assert_eq!(reader.finish(&fixture), &members, "seed {seed}");
        }
    }
    assert!(moves > 10, "{moves} moves");
}
