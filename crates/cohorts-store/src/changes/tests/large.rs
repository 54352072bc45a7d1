//! Memberships of very many persons.

use cohorts_engine::chunks;
use roaring::RoaringBitmap;

use super::super::{Cause, FeedPosition, NewMembers, compact, feed, heads, publish, stage};
use super::LoggedProject;
use crate::{StoreError, members, transaction};

/// Chunks of more than a billion ordinals.
const CHUNKS: u32 = 20_000;

/// The first ordinal of each chunk, plus `offset`.
fn one_in_each_chunk(offset: u32) -> RoaringBitmap {
    (0..CHUNKS).map(|chunk| (chunk << 16) + offset).collect()
}

#[test]
fn members_among_a_billion_persons_are_written_edited_read_and_compacted() {
    let fixture = LoggedProject::new(1);
    let conn = &mut *fixture.store.connection().unwrap();
    let (project, shard_key) = (fixture.project, fixture.project.shard_key());
    let cohort = fixture.cohorts[0].id();
    let first = one_in_each_chunk(9);
    assert_eq!(chunks::split(&first).len(), CHUNKS as usize);
    let second = &first | one_in_each_chunk(10);
    let none = RoaringBitmap::new();
    for (base, before, after) in [(0, &none, &first), (1, &first, &second)] {
        transaction(conn, |conn| {
            let attempt = 1;
            let new = NewMembers {
                cohort,
                base,
                attempt,
                before,
                after,
            };
            let staged = stage(conn, shard_key, &[new])?.remove(0);
            publish(conn, shard_key, &[(&staged, Cause::Data)])?;
            crate::queue::publish_edit(conn, cohort, staged.version, staged.count)?;
            Ok::<_, StoreError>(())
        })
        .unwrap();
    }
    assert_eq!(members::read(conn, shard_key, cohort, 2).unwrap(), second);
    assert_eq!(members::read(conn, shard_key, cohort, 1).unwrap(), first);

    let persons = |conn: &mut _| {
        let mut position = FeedPosition::default();
        let mut read = Vec::new();
        loop {
            let page = feed(conn, project, None, position, 9_999).unwrap().unwrap();
            for (row, changes) in page.changes {
                assert!(changes.iter().all(|change| change.has_entered));
                let ordinals = changes.into_iter().map(|change| change.ordinal);
                read.extend(ordinals.map(|ordinal| (row.number, ordinal)));
            }
            position = page.position;
            if !page.has_more {
                return read;
            }
        }
    };
    let expected = first.iter().map(|ordinal| (1, ordinal));
    let added = one_in_each_chunk(10);
    let expected = expected.chain(added.iter().map(|ordinal| (2, ordinal)));
    assert_eq!(persons(conn), expected.collect::<Vec<_>>());

    fixture.move_into_one_minute("2 hours");
    let head = heads(conn, &[project]).unwrap().remove(0);
    let merged = compact::compact_next(conn, &head, chrono::Utc::now()).unwrap();
    assert_eq!(merged, Some(1));
    let expected = second.iter().map(|ordinal| (2, ordinal));
    assert_eq!(persons(conn), expected.collect::<Vec<_>>());
}

#[test]
fn a_change_larger_than_memory_for_small_ones_is_read_and_compacted_in_parts() {
    let fixture = LoggedProject::new(1);
    let conn = &mut *fixture.store.connection().unwrap();
    let shard_key = fixture.project.shard_key();
    let cohort = fixture.cohorts[0].id();
    // Chunks without runs, so each takes 8 KiB: 20 MiB in two windows.
    let chunks = (0..1_300_u32).chain(2_000..3_300);
    let all: RoaringBitmap = chunks
        .flat_map(|chunk| (0..1_u32 << 15).map(move |nth| (chunk << 16) + nth * 2))
        .collect();
    let odd = RoaringBitmap::from_iter([1_u32, 7, 200_000_001]);
    let mut states = vec![RoaringBitmap::new(), all.clone(), &all | &odd];
    states.push(&states[2] - RoaringBitmap::from_iter([7_u32, 4]));
    for (base, pair) in states.windows(2).enumerate() {
        transaction(conn, |conn| {
            let new = NewMembers {
                cohort,
                base: base as i64,
                attempt: 1,
                before: &pair[0],
                after: &pair[1],
            };
            let staged = stage(conn, shard_key, &[new])?.remove(0);
            publish(conn, shard_key, &[(&staged, Cause::Data)])?;
            crate::queue::publish_edit(conn, cohort, staged.version, staged.count)
        })
        .unwrap();
    }
    let read_some = |conn: &mut _, after| {
        let position = FeedPosition { number: 1, after };
        let page = feed(conn, fixture.project, None, position, 5)
            .unwrap()
            .unwrap();
        page.changes[0]
            .1
            .iter()
            .map(|change| change.ordinal)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        read_some(conn, Some(131_068)),
        [131_070, 131_072, 131_074, 131_076, 131_078]
    );
    assert_eq!(read_some(conn, Some(85_196_798))[0], 2_000 << 16);
    fixture.move_into_one_minute("2 hours");
    assert_eq!(fixture.compact_all(), 2);
    fixture.check();
    let mut replayed = RoaringBitmap::new();
    super::super::replay(conn, fixture.project, cohort, 0, &mut replayed).unwrap();
    assert!(replayed == states[3]);
}
