//! Memberships of very many persons, in a new database.

use super::*;
use crate::testing::TestDatabase;
use crate::{StoreError, transaction};

/// Chunks of more than a billion ordinals.
const CHUNKS: u32 = 20_000;

/// The first ordinal of each chunk, plus `offset`.
fn one_in_each_chunk(offset: u32) -> RoaringBitmap {
    (0..CHUNKS).map(|chunk| (chunk << 16) + offset).collect()
}

#[test]
fn members_among_a_billion_persons_are_written_edited_and_read() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (shard_key, cohort) = (ProjectId(1).shard_key(), CohortId(7));
    let written = one_in_each_chunk(9);
    let changed = chunks::split(&written);
    assert_eq!(changed.len(), CHUNKS as usize);
    transaction(conn, |conn| write(conn, shard_key, cohort, 0, 1, &changed)).unwrap();
    assert_eq!(read(conn, shard_key, cohort, 1).unwrap(), written);
    assert!(read(conn, shard_key, cohort, 0).unwrap().is_empty());

    let edited = &written | one_in_each_chunk(10);
    let changed = chunks::changed(&written, &edited);
    transaction(conn, |conn| {
        replace(conn, shard_key, cohort, 1, &changed)?;
        Ok::<_, StoreError>(())
    })
    .unwrap();
    assert_eq!(read(conn, shard_key, cohort, 1).unwrap(), edited);
}
