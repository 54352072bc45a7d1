//! Checkpoints of rankings: the persons of a shard key in the order of lists, divided into buckets, as packed bytes.
//!
//! Several processes may write them. Each write names the version that it builds upon, and raises it. Everything here is
//! derived from rows, and may be dropped at any time.

use chrono::{DateTime, Utc};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use roaring::RoaringBitmap;

use crate::scan::ordinal;
use crate::schema::{persons, ranking_buckets, rankings};
use crate::{Conn, INSERT_ROWS, Result, ShardKey};

/// The position of a person in the order of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RankKey {
    /// The time of creation, in microseconds since 1970.
    pub created_at: i64,
    /// The person's ordinal.
    pub ordinal: u32,
}

impl RankKey {
    /// The smallest key.
    pub const MIN: Self = Self {
        created_at: i64::MIN,
        ordinal: 0,
    };
}

/// `through_seq` while buckets are missing.
const UNWRITTEN: i64 = -1;

/// The state of a stored ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRanking {
    /// The last sequence number of the log that all buckets together contain; `None` while buckets are missing.
    pub through_seq: Option<i64>,
    /// The number of writes.
    pub version: i64,
    /// The number of buckets.
    pub buckets: i64,
}

/// A bucket, with packed bytes.
#[derive(Clone, Debug)]
pub struct StoredBucket {
    /// The smallest key of the bucket.
    pub start: RankKey,
    /// The last sequence number of the log that the bucket contains.
    pub through_seq: i64,
    /// The ordinals of its persons.
    pub ordinals: Vec<u8>,
    /// The keys of its persons, in order; empty if they were not requested.
    pub keys: Vec<u8>,
}

/// A person, and the write that changed it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankedRow {
    /// The position of the person.
    pub key: RankKey,
    /// The sequence number that last wrote the person.
    pub seq: i64,
}

/// The state of the stored ranking, if there is one.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find(conn: &mut Conn, shard_key: ShardKey) -> Result<Option<StoredRanking>> {
    let row: Option<(i64, i64, i64)> = rankings::table
        .find(shard_key.0)
        .select((rankings::through_seq, rankings::version, rankings::buckets))
        .first(conn)
        .optional()?;
    Ok(row.map(StoredRanking::from))
}

impl From<(i64, i64, i64)> for StoredRanking {
    fn from((through_seq, version, buckets): (i64, i64, i64)) -> Self {
        Self {
            through_seq: (through_seq != UNWRITTEN).then_some(through_seq),
            version,
            buckets,
        }
    }
}

/// Calls `each` with each bucket, without its keys, from the newest persons to the oldest.
///
/// # Errors
///
/// Fails if the database fails.
pub fn buckets(
    conn: &mut Conn,
    shard_key: ShardKey,
    mut each: impl FnMut(StoredBucket),
) -> Result<()> {
    type Row = (i64, i64, i64, Vec<u8>);
    let rows = ranking_buckets::table
        .filter(ranking_buckets::shard_key.eq(shard_key.0))
        .select((
            ranking_buckets::start_time,
            ranking_buckets::start_ordinal,
            ranking_buckets::through_seq,
            ranking_buckets::ordinals,
        ))
        .order((
            ranking_buckets::start_time.desc(),
            ranking_buckets::start_ordinal.desc(),
        ))
        .load_iter::<Row, PgRowByRowLoadingMode>(conn)?;
    for row in rows {
        let (created_at, start_ordinal, through_seq, ordinals) = row?;
        each(StoredBucket {
            start: RankKey {
                created_at,
                ordinal: ordinal(start_ordinal)?,
            },
            through_seq,
            ordinals,
            keys: Vec::new(),
        });
    }
    Ok(())
}

/// A bucket with its keys.
///
/// # Errors
///
/// Fails if the database fails.
pub fn bucket(
    conn: &mut Conn,
    shard_key: ShardKey,
    start: RankKey,
) -> Result<Option<StoredBucket>> {
    let row: Option<(i64, Vec<u8>, Vec<u8>)> = ranking_buckets::table
        .find((shard_key.0, start.created_at, i64::from(start.ordinal)))
        .select((
            ranking_buckets::through_seq,
            ranking_buckets::ordinals,
            ranking_buckets::keys,
        ))
        .first(conn)
        .optional()?;
    Ok(row.map(|(through_seq, ordinals, keys)| StoredBucket {
        start,
        through_seq,
        ordinals,
        keys,
    }))
}

/// The outcome of the beginning of a new stored ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// All buckets are deleted, and this version may write new ones.
    Begun(i64),
    /// Another process has written this state, or is writing it.
    Taken(StoredRanking),
}

/// Deletes all buckets, so that new ones may be written, in the transaction of the caller. `unusable` is the version of a
/// stored ranking that is damaged, or that its writer has given up.
///
/// # Errors
///
/// Fails if the database fails.
pub fn begin(conn: &mut Conn, shard_key: ShardKey, unusable: Option<i64>) -> Result<Begin> {
    let stored = lock(conn, shard_key)?;
    if stored.version != 0 && unusable != Some(stored.version) {
        return Ok(Begin::Taken(stored));
    }
    let rows = ranking_buckets::table.filter(ranking_buckets::shard_key.eq(shard_key.0));
    diesel::delete(rows).execute(conn)?;
    let version = set(conn, shard_key, UNWRITTEN, stored.version)?;
    Ok(Begin::Begun(version))
}

/// Writes buckets in place of the bucket `replaced`, in the transaction of the caller. Returns the new version; `None` if
/// the stored version is not `version`, and then writes nothing.
///
/// # Errors
///
/// Fails if the database fails.
pub fn write(
    conn: &mut Conn,
    shard_key: ShardKey,
    version: i64,
    replaced: Option<RankKey>,
    buckets: &[StoredBucket],
) -> Result<Option<i64>> {
    let stored = lock(conn, shard_key)?;
    if stored.version != version {
        return Ok(None);
    }
    if let Some(start) = replaced {
        diesel::delete(ranking_buckets::table.find((
            shard_key.0,
            start.created_at,
            i64::from(start.ordinal),
        )))
        .execute(conn)?;
    }
    for bucket in buckets {
        diesel::insert_into(ranking_buckets::table)
            .values((
                ranking_buckets::shard_key.eq(shard_key.0),
                ranking_buckets::start_time.eq(bucket.start.created_at),
                ranking_buckets::start_ordinal.eq(i64::from(bucket.start.ordinal)),
                ranking_buckets::through_seq.eq(bucket.through_seq),
                ranking_buckets::ordinals.eq(&bucket.ordinals),
                ranking_buckets::keys.eq(&bucket.keys),
            ))
            .execute(conn)?;
    }
    let through_seq = stored.through_seq.unwrap_or(UNWRITTEN);
    set(conn, shard_key, through_seq, version).map(Some)
}

/// Records that the buckets contain all persons as of `through_seq`, in the transaction of the caller. Returns the new
/// version; `None` if the stored version is not `version`, and then changes nothing.
///
/// # Errors
///
/// Fails if the database fails.
pub fn complete(
    conn: &mut Conn,
    shard_key: ShardKey,
    version: i64,
    through_seq: i64,
) -> Result<Option<i64>> {
    if lock(conn, shard_key)?.version != version {
        return Ok(None);
    }
    set(conn, shard_key, through_seq, version).map(Some)
}

/// Replaces the contents of a bucket, in the transaction of the caller. Its sequence number and the version stay, so
/// other processes may still build upon them.
///
/// # Errors
///
/// Fails if the database fails.
pub fn rewrite(conn: &mut Conn, shard_key: ShardKey, bucket: &StoredBucket) -> Result<()> {
    let row = ranking_buckets::table.find((
        shard_key.0,
        bucket.start.created_at,
        i64::from(bucket.start.ordinal),
    ));
    diesel::update(row)
        .set((
            ranking_buckets::ordinals.eq(&bucket.ordinals),
            ranking_buckets::keys.eq(&bucket.keys),
        ))
        .execute(conn)?;
    Ok(())
}

/// Locks the row of the stored ranking, which is created if it is missing, until the transaction ends.
///
/// # Errors
///
/// Fails if the database fails.
pub fn lock(conn: &mut Conn, shard_key: ShardKey) -> Result<StoredRanking> {
    diesel::insert_into(rankings::table)
        .values((
            rankings::shard_key.eq(shard_key.0),
            rankings::through_seq.eq(UNWRITTEN),
            rankings::version.eq(0_i64),
            rankings::buckets.eq(0_i64),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    let row: (i64, i64, i64) = rankings::table
        .find(shard_key.0)
        .select((rankings::through_seq, rankings::version, rankings::buckets))
        .for_update()
        .first(conn)?;
    Ok(row.into())
}

fn set(conn: &mut Conn, shard_key: ShardKey, through_seq: i64, version: i64) -> Result<i64> {
    let next = version + 1;
    let buckets: i64 = ranking_buckets::table
        .filter(ranking_buckets::shard_key.eq(shard_key.0))
        .count()
        .get_result(conn)?;
    diesel::update(rankings::table.find(shard_key.0))
        .set((
            rankings::through_seq.eq(through_seq),
            rankings::version.eq(next),
            rankings::buckets.eq(buckets),
        ))
        .execute(conn)?;
    Ok(next)
}

/// Drops the stored ranking, in the transaction of the caller.
///
/// # Errors
///
/// Fails if the database fails.
pub fn drop_all(conn: &mut Conn, shard_key: ShardKey) -> Result<()> {
    let key = shard_key.0;
    diesel::delete(ranking_buckets::table.filter(ranking_buckets::shard_key.eq(key)))
        .execute(conn)?;
    diesel::delete(rankings::table.find(key)).execute(conn)?;
    Ok(())
}

/// The persons with these ordinals, in any order.
///
/// # Errors
///
/// Fails if the database fails.
pub fn rows(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &RoaringBitmap,
) -> Result<Vec<RankedRow>> {
    let (Some(first), Some(last)) = (ordinals.min(), ordinals.max()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    if u64::from(last - first) < 2 * ordinals.len() {
        let span = persons::ordinal.between(i64::from(first), i64::from(last));
        let rows: Vec<PersonKeyRow> = of_shard(shard_key.0).filter(span).load(conn)?;
        add_rows(&mut found, rows)?;
        found.retain(|row| ordinals.contains(row.key.ordinal));
        return Ok(found);
    }
    let ordinals: Vec<i64> = ordinals.iter().map(i64::from).collect();
    for chunk in ordinals.chunks(10 * INSERT_ROWS) {
        let rows: Vec<PersonKeyRow> = of_shard(shard_key.0)
            .filter(persons::ordinal.eq_any(chunk))
            .load(conn)?;
        add_rows(&mut found, rows)?;
    }
    Ok(found)
}

/// Ordinal, time of creation, and last sequence number of a person.
type PersonKeyRow = (i64, DateTime<Utc>, i64);

#[diesel::dsl::auto_type]
fn of_shard(shard_key: i64) -> _ {
    persons::table
        .filter(persons::shard_key.eq(shard_key))
        .select((persons::ordinal, persons::created_at, persons::seq))
}

fn add_rows(found: &mut Vec<RankedRow>, rows: Vec<PersonKeyRow>) -> Result<()> {
    for (person, created_at, seq) in rows {
        let key = RankKey {
            created_at: created_at.timestamp_micros(),
            ordinal: ordinal(person)?,
        };
        found.push(RankedRow { key, seq });
    }
    Ok(())
}

/// The highest ordinal of a person.
///
/// # Errors
///
/// Fails if the database fails.
pub fn last_ordinal(conn: &mut Conn, shard_key: ShardKey) -> Result<Option<u32>> {
    let last: Option<i64> = persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .select(persons::ordinal)
        .order(persons::ordinal.desc())
        .first(conn)
        .optional()?;
    last.map(ordinal).transpose()
}

/// The end of the next step from sequence number `after` towards `through`: a step has at most `most` persons, but always
/// one write of the log.
///
/// # Errors
///
/// Fails if the database fails.
pub fn step_end(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
    most: usize,
) -> Result<i64> {
    let next: Option<i64> = persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .filter(persons::seq.gt(after).and(persons::seq.le(through)))
        .select(persons::seq)
        .order(persons::seq)
        .offset(most as i64)
        .first(conn)
        .optional()?;
    Ok(next.map_or(through, |seq| (seq - 1).max(after + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;

    const SHARD_KEY: ShardKey = ShardKey(65_536);

    fn bucket_at(created_at: i64) -> StoredBucket {
        StoredBucket {
            start: RankKey {
                created_at,
                ordinal: 7,
            },
            through_seq: 1,
            ordinals: vec![1],
            keys: vec![2],
        }
    }

    fn starts(conn: &mut Conn) -> Vec<i64> {
        let mut starts = Vec::new();
        buckets(conn, SHARD_KEY, |bucket| {
            starts.push(bucket.start.created_at)
        })
        .unwrap();
        starts
    }

    #[test]
    fn a_write_needs_the_version_that_it_builds_upon() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let Begin::Begun(version) = begin(conn, SHARD_KEY, None).unwrap() else {
            panic!("the first writer begins");
        };
        let parts = [bucket_at(1), bucket_at(2)];
        let next = write(conn, SHARD_KEY, version, None, &parts).unwrap();
        let next = next.expect("a new version");
        assert_eq!(starts(conn), [2, 1]);
        let late = write(conn, SHARD_KEY, version, None, &[bucket_at(3)]);
        assert_eq!(late.unwrap(), None);
        let stored = find(conn, SHARD_KEY).unwrap().expect("a ranking");
        assert_eq!((stored.through_seq, stored.version), (None, next));
        let replaced = write(conn, SHARD_KEY, next, Some(parts[0].start), &[bucket_at(0)]);
        let next = replaced.unwrap().expect("a new version");
        assert_eq!(starts(conn), [2, 0]);
        assert_eq!(complete(conn, SHARD_KEY, version, 9).unwrap(), None);
        let last = complete(conn, SHARD_KEY, next, 9).unwrap();
        let stored = find(conn, SHARD_KEY).unwrap().expect("a ranking");
        assert_eq!((stored.through_seq, Some(stored.version)), (Some(9), last));
        assert_eq!(stored.buckets, 2);
    }

    #[test]
    fn another_writer_begins_only_in_place_of_an_unusable_version() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let Begin::Begun(version) = begin(conn, SHARD_KEY, None).unwrap() else {
            panic!("the first writer begins");
        };
        write(conn, SHARD_KEY, version, None, &[bucket_at(1)]).unwrap();
        let Begin::Taken(stored) = begin(conn, SHARD_KEY, Some(version)).unwrap() else {
            panic!("the first writer has gone on");
        };
        let begun = begin(conn, SHARD_KEY, Some(stored.version)).unwrap();
        assert!(matches!(begun, Begin::Begun(_)), "{begun:?}");
        assert_eq!(starts(conn), Vec::<i64>::new());
        drop_all(conn, SHARD_KEY).unwrap();
        assert_eq!(find(conn, SHARD_KEY).unwrap(), None);
    }
}
