//! The columnar store of events: segments by name and UTC day, and the head up to which they contain the log.
//!
//! A writer locks the head, adds segments and moves the head in one transaction, so every event up to the head is in
//! exactly one segment. Deleted persons stay in segments until these are rewritten; readers mask them. The bytes are
//! packed by the caller.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};

use crate::schema::{segment_heads, segments};
use crate::{Conn, Result, ShardKey, projects, transaction};

/// The most rows, and about the most bytes, of one INSERT.
const INSERT_ROWS: usize = 500;
const INSERT_BYTES: usize = 8 << 20;

/// How far the segments follow the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentHead {
    /// Every event up to this sequence number is in a segment; 0 if there are no segments.
    pub through_seq: i64,
    /// Until this time, only the import that claimed the segments writes them.
    pub claimed_until: Option<DateTime<Utc>>,
}

/// The place of a segment among those of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentPlace {
    /// The UTC day of the events, counted from 1970.
    pub day: i64,
    /// The end of the span of the log.
    pub seq: i64,
    /// Distinguishes the segments of a day and a span.
    pub part: i64,
}

/// A segment with its packed bytes.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its place.
    pub place: SegmentPlace,
    /// The number of events.
    pub row_count: i64,
    /// The packed persons and times.
    pub data: Vec<u8>,
    /// The packed properties; empty if they were not read.
    pub properties: Vec<u8>,
}

/// A segment without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize {
    /// Its place.
    pub place: SegmentPlace,
    /// The number of events.
    pub row_count: i64,
    /// The size of the persons and times, in bytes.
    pub data: i64,
    /// The size of the properties, in bytes.
    pub properties: i64,
}

/// The head of a shard key.
///
/// # Errors
///
/// Fails if the database fails.
pub fn head(conn: &mut Conn, shard_key: ShardKey) -> Result<SegmentHead> {
    let row: Option<(i64, Option<DateTime<Utc>>)> = segment_heads::table
        .find(shard_key.0)
        .select((segment_heads::through_seq, segment_heads::claimed_until))
        .first(conn)
        .optional()?;
    Ok(row.map(SegmentHead::from).unwrap_or_default())
}

impl From<(i64, Option<DateTime<Utc>>)> for SegmentHead {
    fn from((through_seq, claimed_until): (i64, Option<DateTime<Utc>>)) -> Self {
        Self {
            through_seq,
            claimed_until,
        }
    }
}

/// Locks the head until the transaction ends, and returns it. All writers of segments take this lock first.
///
/// # Errors
///
/// [`StoreError::ProjectGone`](crate::StoreError::ProjectGone) if the project is deleted; fails if the database fails.
pub fn lock_head(conn: &mut Conn, shard_key: ShardKey) -> Result<SegmentHead> {
    projects::hold(conn, shard_key.project())?;
    lock_row(conn, shard_key)
}

/// Locks the row of the head, which is created if it is missing.
fn lock_row(conn: &mut Conn, shard_key: ShardKey) -> Result<SegmentHead> {
    loop {
        diesel::insert_into(segment_heads::table)
            .values((
                segment_heads::shard_key.eq(shard_key.0),
                segment_heads::through_seq.eq(0),
            ))
            .on_conflict_do_nothing()
            .execute(conn)?;
        let row: Option<(i64, Option<DateTime<Utc>>)> = segment_heads::table
            .find(shard_key.0)
            .select((segment_heads::through_seq, segment_heads::claimed_until))
            .for_update()
            .first(conn)
            .optional()?;
        // Another transaction may have deleted the row in between.
        if let Some(row) = row {
            return Ok(row.into());
        }
    }
}

/// Moves the head, which the caller has locked.
///
/// # Errors
///
/// Fails if the database fails.
pub fn set_head(conn: &mut Conn, shard_key: ShardKey, through_seq: i64) -> Result<()> {
    diesel::update(segment_heads::table.find(shard_key.0))
        .set(segment_heads::through_seq.eq(through_seq))
        .execute(conn)?;
    Ok(())
}

/// Claims the segments for an import until `until`; `None` ends the claim.
///
/// # Errors
///
/// As [`lock_head`].
pub fn claim(conn: &mut Conn, shard_key: ShardKey, until: Option<DateTime<Utc>>) -> Result<()> {
    transaction(conn, |conn| {
        lock_head(conn, shard_key)?;
        diesel::update(segment_heads::table.find(shard_key.0))
            .set(segment_heads::claimed_until.eq(until))
            .execute(conn)?;
        Ok(())
    })
}

/// Adds segments of any names, each with the name of its events. The caller has locked the head.
///
/// # Errors
///
/// Fails if the database fails, or if there is a segment at one of the places.
pub fn insert(conn: &mut Conn, shard_key: ShardKey, new: &[(String, Segment)]) -> Result<()> {
    let mut rest = new;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(_, segment): &&(String, Segment)| {
            let is_first = bytes == 0;
            bytes += segment.data.len() + segment.properties.len() + 1;
            is_first || bytes <= INSERT_BYTES
        };
        let count = rest.iter().take(INSERT_ROWS).take_while(fits).count();
        let (batch, later) = rest.split_at(count);
        let rows: Vec<_> = batch
            .iter()
            .map(|(event, segment)| {
                (
                    segments::shard_key.eq(shard_key.0),
                    segments::event.eq(event),
                    segments::day.eq(segment.place.day),
                    segments::seq.eq(segment.place.seq),
                    segments::part.eq(segment.place.part),
                    segments::row_count.eq(segment.row_count),
                    segments::data.eq(&segment.data),
                    segments::properties.eq(&segment.properties),
                )
            })
            .collect();
        diesel::insert_into(segments::table)
            .values(rows)
            .execute(conn)?;
        rest = later;
    }
    Ok(())
}

pub(crate) const SIZES: &str = "\
    select day, seq, part, row_count, octet_length(data)::bigint as data, \
        octet_length(properties)::bigint as properties \
    from segments where shard_key = $1 and event = $2 and day >= $3 and ($4 is null or day < $4) \
    order by day, seq, part";

#[derive(QueryableByName)]
struct RawSize {
    #[diesel(sql_type = BigInt)]
    day: i64,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = BigInt)]
    part: i64,
    #[diesel(sql_type = BigInt)]
    row_count: i64,
    #[diesel(sql_type = BigInt)]
    data: i64,
    #[diesel(sql_type = BigInt)]
    properties: i64,
}

/// The segments of a name from a day on, up to the day before `until_day`, sorted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn sizes(
    conn: &mut Conn,
    shard_key: ShardKey,
    event: &str,
    from_day: i64,
    until_day: Option<i64>,
) -> Result<Vec<SegmentSize>> {
    let rows: Vec<RawSize> = diesel::sql_query(SIZES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Text, _>(event)
        .bind::<BigInt, _>(from_day)
        .bind::<Nullable<BigInt>, _>(until_day)
        .load(conn)?;
    let size = |row: RawSize| SegmentSize {
        place: SegmentPlace {
            day: row.day,
            seq: row.seq,
            part: row.part,
        },
        row_count: row.row_count,
        data: row.data,
        properties: row.properties,
    };
    Ok(rows.into_iter().map(size).collect())
}

pub(crate) const READ: &str = "\
    select day, seq, part, row_count, data, case when $9 then properties else ''::bytea end as properties \
    from segments where shard_key = $1 and event = $2 \
        and (day, seq, part) >= ($3, $4, $5) and (day, seq, part) <= ($6, $7, $8) order by day, seq, part";

#[derive(QueryableByName)]
struct RawSegment {
    #[diesel(sql_type = BigInt)]
    day: i64,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = BigInt)]
    part: i64,
    #[diesel(sql_type = BigInt)]
    row_count: i64,
    #[diesel(sql_type = Binary)]
    data: Vec<u8>,
    #[diesel(sql_type = Binary)]
    properties: Vec<u8>,
}

/// The segments of a name from the first to the last place, sorted, with or without their properties.
///
/// # Errors
///
/// Fails if the database fails.
pub fn read(
    conn: &mut Conn,
    shard_key: ShardKey,
    event: &str,
    (first, last): (SegmentPlace, SegmentPlace),
    with_properties: bool,
) -> Result<Vec<Segment>> {
    let rows: Vec<RawSegment> = diesel::sql_query(READ)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Text, _>(event)
        .bind::<BigInt, _>(first.day)
        .bind::<BigInt, _>(first.seq)
        .bind::<BigInt, _>(first.part)
        .bind::<BigInt, _>(last.day)
        .bind::<BigInt, _>(last.seq)
        .bind::<BigInt, _>(last.part)
        .bind::<Bool, _>(with_properties)
        .load(conn)?;
    let segment = |row: RawSegment| Segment {
        place: SegmentPlace {
            day: row.day,
            seq: row.seq,
            part: row.part,
        },
        row_count: row.row_count,
        data: row.data,
        properties: row.properties,
    };
    Ok(rows.into_iter().map(segment).collect())
}

/// Deletes the segment of a name at a place. The caller has locked the head.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete(
    conn: &mut Conn,
    shard_key: ShardKey,
    event: &str,
    place: SegmentPlace,
) -> Result<()> {
    let SegmentPlace { day, seq, part } = place;
    let row = segments::table.find((shard_key.0, event, day, seq, part));
    diesel::delete(row).execute(conn)?;
    Ok(())
}

pub(crate) const NEXT_NAME: &str =
    "select min(event) as name from segments where shard_key = $1 and event > $2";

#[derive(QueryableByName)]
struct SegmentName {
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
}

/// The names of events with segments. Each name costs one index look-up.
///
/// # Errors
///
/// Fails if the database fails.
pub fn names(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<String>> {
    let (mut names, mut last) = (Vec::new(), String::new());
    loop {
        let next: SegmentName = diesel::sql_query(NEXT_NAME)
            .bind::<BigInt, _>(shard_key.0)
            .bind::<Text, _>(&last)
            .get_result(conn)?;
        let Some(name) = next.name else {
            return Ok(names);
        };
        last.clone_from(&name);
        names.push(name);
    }
}

pub(crate) const CROWDED_DAYS: &str = "\
    select event, day from segments where shard_key = $1 and row_count < $2 \
    group by event, day having count(*) >= $3 order by count(*) desc, event, day limit $4";

#[derive(QueryableByName)]
struct RawDay {
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = BigInt)]
    day: i64,
}

/// Up to `limit` names and days with at least `count` segments of less than `rows` rows, those with the most segments first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn crowded_days(
    conn: &mut Conn,
    shard_key: ShardKey,
    (rows, count): (i64, i64),
    limit: i64,
) -> Result<Vec<(String, i64)>> {
    let days: Vec<RawDay> = diesel::sql_query(CROWDED_DAYS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(rows)
        .bind::<BigInt, _>(count)
        .bind::<BigInt, _>(limit)
        .load(conn)?;
    Ok(days.into_iter().map(|row| (row.event, row.day)).collect())
}

/// Drops all segments of a shard key. Writers begin again with the first event.
///
/// # Errors
///
/// Fails if the database fails.
pub fn drop_all(conn: &mut Conn, shard_key: ShardKey) -> Result<()> {
    transaction(conn, |conn| {
        // A writer that holds the lock commits first, and its segments are dropped too.
        lock_row(conn, shard_key)?;
        diesel::delete(segments::table.filter(segments::shard_key.eq(shard_key.0)))
            .execute(conn)?;
        diesel::delete(segment_heads::table.find(shard_key.0)).execute(conn)?;
        Ok(())
    })
}
