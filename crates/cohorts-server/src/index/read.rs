//! The rows that views are made of, read under one snapshot and within a time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_engine::{EventBlock, EventBlockBuilder, PropertyBlock, PropertyBlockBuilder};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::tombstones::{self, Tombstones};
use super::schema::{distinct_ids, persons};
use super::sealed::{self, KeptDay, LogKey, Sealed, SealedProperty};
use super::{Conn, ProjectId, events, projects};
use crate::error::Error;

const PROPERTY: &str = "\
    select number, (properties -> $2)::text as value from persons \
    where place = $1 and number between $3 and $4 and properties ? $2";
/// The properties come as JSON text, in the order asked for. A plan made for any batch takes a third of all people for
/// later than it, and would look at each but for the order.
const CHANGED: &str = "\
    select number, created_at, \
        array(select (properties -> key)::text from unnest($3) with ordinality as wanted(key, nth) order by nth) \
            as properties \
    from persons where place = $1 and batch > $2 order by batch limit $4";
const EVENTS: &str = "\
    select number, timestamp, event, \
        array(select (properties -> key)::text from unnest($5) with ordinality as wanted(key, nth) order by nth) \
            as properties \
    from events \
    where place = $1 and event = $2 and timestamp >= $3 and ($4 is null or timestamp < $4) and batch <= $6 \
        and (number between $7 and $8 or number = any($9))";
/// Few batches have few events, which a fresh database does not know: it would look for the names first.
const BETWEEN: &str = "\
    select number, timestamp, event, \
        array(select (properties -> key)::text from unnest($5) with ordinality as wanted(key, nth) order by nth) \
            as properties \
    from (select * from events where place = $1 and batch > $2 and batch <= $3 offset 0) e \
    where event = any($4)";
const NEXT_NAME: &str = "select min(event) as name from events where place = $1 and event > $2";

diesel::define_sql_function! {
    /// Sets something until the transaction ends.
    fn set_config(name: Text, value: Text, is_local: Bool) -> Text;
}

#[derive(QueryableByName)]
struct PropertyRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct PersonRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Array<Nullable<Text>>)]
    properties: Vec<Option<String>>,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Timestamptz)]
    timestamp: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = Array<Nullable<Text>>)]
    properties: Vec<Option<String>>,
}

#[derive(QueryableByName)]
struct NameRow {
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
}

/// Somebody as a batch left them, with some properties as JSON text.
pub struct Changed {
    pub number: u32,
    pub created_at: i64,
    pub properties: Vec<Option<String>>,
}

/// How many days events are kept, and how often that was changed.
pub type Retention = (Option<i32>, i64);

/// What is kept of a log, by UTC day; no days where one of them is damaged.
type Kept = (Sealed, Option<BTreeMap<i64, Vec<EventBlock>>>);

/// An event, with some properties as JSON text.
pub struct Happened {
    pub number: u32,
    pub name: String,
    pub time: i64,
    pub properties: Vec<Option<String>>,
}

/// The people that are looked at: all, or a part whose data takes less memory.
#[derive(Clone, Debug)]
pub struct Among {
    pub people: RangeInclusive<u32>,
    /// Other numbers under which their events may stand.
    pub numbers: Vec<i64>,
}

impl Among {
    pub fn everybody() -> Among {
        Among {
            people: 0..=u32::MAX,
            numbers: Vec::new(),
        }
    }

    fn bounds(&self) -> (i64, i64) {
        (
            i64::from(*self.people.start()),
            i64::from(*self.people.end()),
        )
    }
}

/// How many days of kept blocks are read at a time.
pub const DAYS: usize = 16;
/// How many rows are read before it is asked again whether they fit.
const ROWS: usize = 1_024;

/// Reads rows of one project under the snapshot of a connection.
pub struct Reader<'a> {
    conn: RefCell<&'a mut Conn>,
    pub project: ProjectId,
    deadline: Cell<Instant>,
    /// The memory that one thing which is read may take, in bytes.
    room: Cell<u64>,
    /// The time that a statement has by what the database was told.
    limit: Cell<Duration>,
    /// Whether anything was read since that was asked last.
    has_read: Cell<bool>,
}

impl Reader<'_> {
    /// Runs `work` on the data as it is now, until a deadline.
    pub fn read<T>(
        conn: &mut Conn,
        project: ProjectId,
        deadline: Instant,
        work: impl FnOnce(Reader<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut transaction = conn.build_transaction().read_only().repeatable_read();
        transaction.run(|conn| {
            work(Reader {
                conn: RefCell::new(conn),
                project,
                deadline: Cell::new(deadline),
                room: Cell::new(u64::MAX),
                limit: Cell::new(Duration::ZERO),
                has_read: Cell::new(false),
            })
        })
    }

    /// Until when all that is asked for must be read.
    pub fn deadline(&self) -> Instant {
        self.deadline.get()
    }

    /// Gives what comes next time of its own.
    pub fn set_deadline(&self, deadline: Instant) {
        self.deadline.set(deadline);
    }

    /// Says that there is more in memory than before, though nothing was read.
    pub fn set_has_read(&self) {
        self.has_read.set(true);
    }

    /// Whether anything was read since this was asked last.
    pub fn take_has_read(&self) -> bool {
        self.has_read.take()
    }

    /// From now on what is read may take so much memory, or it ends in `Error::NoRoom`.
    pub fn set_room(&self, bytes: u64) {
        self.room.set(bytes);
    }

    /// An error where what is read would take more memory than it may.
    pub fn fits(&self, bytes: usize) -> Result<(), Error> {
        match bytes as u64 <= self.room.get() {
            true => Ok(()),
            false => Err(Error::NoRoom),
        }
    }

    /// Reads something else of the same instant, with what is left of the time.
    pub fn ask<T>(&self, read: impl FnOnce(&mut Conn) -> Result<T, Error>) -> Result<T, Error> {
        let left = self.deadline().saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut);
        }
        self.ask_within(left, read)
    }

    /// Reads something else of the same instant, with so much time for each statement.
    pub fn ask_within<T>(
        &self,
        left: Duration,
        read: impl FnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.has_read.set(true);
        let mut conn = self.conn.borrow_mut();
        // One that was set a moment ago will do.
        let set = self.limit.get();
        if left > set || left < set / 10 * 9 {
            let timeout = left.as_millis().max(1).to_string();
            // Planned as for any project, as where events are written.
            let plans = set_config("plan_cache_mode", "force_generic_plan", true);
            diesel::select((set_config("statement_timeout", timeout, true), plans))
                .execute(*conn)?;
            self.limit.set(left);
        }
        read(&mut conn)
    }

    fn shard_key(&self) -> i64 {
        self.project.shard_key().0
    }

    /// The last batch of the log that the snapshot holds.
    pub fn head(&self) -> Result<i64, Error> {
        self.ask(|conn| Ok(events::log_head(conn, self.project.shard_key())?))
    }

    /// How many days events are kept, and how often that was changed.
    pub fn retention(&self) -> Result<Retention, Error> {
        let project = self.ask(|conn| Ok(projects::find(conn, self.project)?))?;
        let project = project.ok_or(Error::ProjectNotFound)?;
        Ok((project.event_retention_days, project.retention_changes))
    }

    /// Everybody, from what is kept of them and what came later, or from their rows.
    pub fn everyone(&self, head: i64, most: usize) -> Result<RoaringBitmap, Error> {
        let kept = self.ask(|conn| Ok(sealed::people(conn, self.project.shard_key())?))?;
        if let Some((batch, people)) = kept.filter(|(batch, _)| *batch <= head)
            && let Some(changed) = self.changed_people(batch, &[], most)?
        {
            let changed: RoaringBitmap = changed.iter().map(|person| person.number).collect();
            return Ok((people | changed) - self.tombstones_since(batch)?.gone);
        }
        self.everyone_by_rows()
    }

    fn everyone_by_rows(&self) -> Result<RoaringBitmap, Error> {
        let mut everyone = RoaringBitmap::new();
        self.ask(|conn| {
            let own = persons::table.filter(persons::place.eq(self.shard_key()));
            let numbers = own
                .select(persons::number)
                .order(persons::number)
                .load_iter::<i64, PgRowByRowLoadingMode>(conn)?;
            for number in numbers {
                everyone.insert(person(number?)?);
            }
            Ok(())
        })?;
        Ok(everyone)
    }

    pub fn tombstones_since(&self, batch: i64) -> Result<Tombstones, Error> {
        self.ask(|conn| Ok(tombstones::since(conn, self.project.shard_key(), batch)?))
    }

    /// When people were created.
    pub fn created_at(&self, among: &Among) -> Result<Vec<(u32, i64)>, Error> {
        let (first, last) = among.bounds();
        let rows: Vec<(i64, DateTime<Utc>)> = self.ask(|conn| {
            let own = persons::table.filter(persons::place.eq(self.shard_key()));
            let own = own.filter(persons::number.between(first, last));
            Ok(own
                .select((persons::number, persons::created_at))
                .load(conn)?)
        })?;
        let rows = rows.into_iter();
        rows.map(|(number, time)| Ok((person(number)?, time.timestamp_micros())))
            .collect()
    }

    pub fn property(&self, key: &str, among: &Among) -> Result<PropertyBlock, Error> {
        let (first, last) = among.bounds();
        let mut block = PropertyBlockBuilder::new();
        self.ask(|conn| {
            let rows = diesel::sql_query(PROPERTY)
                .bind::<BigInt, _>(self.shard_key())
                .bind::<Text, _>(key)
                .bind::<BigInt, _>(first)
                .bind::<BigInt, _>(last)
                .load_iter::<PropertyRow, PgRowByRowLoadingMode>(conn)?;
            for (nth, row) in rows.enumerate() {
                let row = row?;
                block.push_raw(person(row.number)?, &row.value);
                if nth % ROWS == 0 {
                    self.fits(block.bytes())?;
                }
            }
            self.fits(block.bytes())
        })?;
        Ok(block.finish())
    }

    pub fn distinct_ids(&self, among: &Among) -> Result<PropertyBlock, Error> {
        let (first, last) = among.bounds();
        let mut block = PropertyBlockBuilder::new();
        self.ask(|conn| {
            let own = distinct_ids::table.filter(distinct_ids::place.eq(self.shard_key()));
            let own = own.filter(distinct_ids::number.between(first, last));
            let rows = own
                .select((distinct_ids::number, distinct_ids::distinct_id))
                .load_iter::<(i64, String), PgRowByRowLoadingMode>(conn)?;
            for (nth, row) in rows.enumerate() {
                let (number, id) = row?;
                block.push(person(number)?, &id.into());
                if nth % ROWS == 0 {
                    self.fits(block.bytes())?;
                }
            }
            self.fits(block.bytes())
        })?;
        Ok(block.finish())
    }

    /// From one name to the next, which costs the same however many events there are.
    pub fn event_names(&self) -> Result<Vec<String>, Error> {
        let mut names = vec![String::new()];
        self.ask(|conn| {
            while let Some(last) = names.last() {
                let next: NameRow = diesel::sql_query(NEXT_NAME)
                    .bind::<BigInt, _>(self.shard_key())
                    .bind::<Text, _>(last)
                    .get_result(conn)?;
                match next.name {
                    Some(name) => names.push(name),
                    None => break,
                }
            }
            Ok(())
        })?;
        Ok(names)
    }

    /// People whom batches after that one wrote; nothing if they are more than so many.
    pub fn changed_people(
        &self,
        batch: i64,
        keys: &[String],
        most: usize,
    ) -> Result<Option<Vec<Changed>>, Error> {
        let mut people = Vec::new();
        self.ask(|conn| {
            let rows = diesel::sql_query(CHANGED)
                .bind::<BigInt, _>(self.shard_key())
                .bind::<BigInt, _>(batch)
                .bind::<Array<Text>, _>(keys)
                .bind::<BigInt, _>(most as i64 + 1)
                .load_iter::<PersonRow, PgRowByRowLoadingMode>(conn)?;
            for row in rows {
                let row = row?;
                people.push(Changed {
                    number: person(row.number)?,
                    created_at: row.created_at.timestamp_micros(),
                    properties: row.properties,
                });
            }
            Ok(())
        })?;
        Ok((people.len() <= most).then_some(people))
    }

    /// Events of some names that batches after one, up to another, wrote; nothing if all of these are more than so many.
    pub fn events_between(
        &self,
        after: i64,
        head: i64,
        names: &[String],
        properties: &[String],
        most: usize,
    ) -> Result<Option<Vec<Happened>>, Error> {
        let mut events = Vec::new();
        if after == head {
            return Ok(Some(events));
        }
        if self.count_between(after, head, most)? > most as i64 {
            return Ok(None);
        }
        self.ask(|conn| {
            let rows = diesel::sql_query(BETWEEN)
                .bind::<BigInt, _>(self.shard_key())
                .bind::<BigInt, _>(after)
                .bind::<BigInt, _>(head)
                .bind::<Array<Text>, _>(names)
                .bind::<Array<Text>, _>(properties)
                .load_iter::<EventRow, PgRowByRowLoadingMode>(conn)?;
            for row in rows {
                let row = row?;
                events.push(Happened {
                    number: person(row.number)?,
                    name: row.event,
                    time: row.timestamp.timestamp_micros(),
                    properties: row.properties,
                });
            }
            Ok(())
        })?;
        Ok(Some(events))
    }

    /// How many events batches after one, up to another, wrote, or one more than so many.
    fn count_between(&self, after: i64, head: i64, most: usize) -> Result<i64, Error> {
        let place = self.project.shard_key();
        self.ask(|conn| {
            Ok(events::count_between(
                conn,
                place,
                (after, head),
                most as i64 + 1,
            )?)
        })
    }

    /// What is kept of a log beside its rows, if it reaches back to a day; of each day what `among` takes from it.
    pub fn sealed_log(
        &self,
        key: &LogKey,
        from: i64,
        among: impl Fn(EventBlock) -> EventBlock + Sync,
    ) -> Result<Option<Kept>, Error> {
        let place = self.project.shard_key();
        self.ask(|conn| {
            let sealed = sealed::log(conn, place, key)?;
            let Some((sealed, kept)) = sealed.filter(|(sealed, _)| sealed.from <= from) else {
                return Ok(None);
            };
            let (mut days, mut bytes) = (BTreeMap::new(), 0);
            let Some(wanted) = sealed::days(conn, place, key, kept, from)? else {
                return Ok(Some((sealed, None)));
            };
            // Few at a time, as what is packed takes memory too.
            for some in wanted.chunks(DAYS) {
                let Some(some) = sealed::blocks(conn, place, key, some)? else {
                    return Ok(Some((sealed, None)));
                };
                let some = some.into_par_iter();
                let own = |(day, blocks): KeptDay| {
                    (day, blocks.into_iter().map(&among).collect::<Vec<_>>())
                };
                let some: Vec<KeptDay> = some.map(own).collect();
                let blocks = some.iter().flat_map(|(_, blocks)| blocks);
                bytes += blocks.map(EventBlock::bytes).sum::<usize>();
                self.fits(bytes)?;
                days.extend(some);
            }
            Ok(Some((sealed, Some(days))))
        })
    }

    /// What is kept of a property of people beside their rows, and as of which batch.
    pub fn sealed_property(&self, key: &str) -> Result<Option<SealedProperty>, Error> {
        let found = self.ask(|conn| Ok(sealed::property(conn, self.project.shard_key(), key)?))?;
        if let Some((_, Some(block))) = &found {
            self.fits(block.bytes())?;
        }
        Ok(found)
    }

    /// The events of a name by UTC day, from a day on and before another one, under the numbers that people have now.
    pub fn days(
        &self,
        name: &str,
        (from, until): (i64, Option<i64>),
        properties: &[String],
        head: i64,
        among: &Among,
        owner: impl Fn(u32) -> Option<u32>,
    ) -> Result<BTreeMap<i64, EventBlock>, Error> {
        let (first, last) = among.bounds();
        let mut days: BTreeMap<i64, EventBlockBuilder> = BTreeMap::new();
        self.ask(|conn| {
            let rows = diesel::sql_query(EVENTS)
                .bind::<BigInt, _>(self.shard_key())
                .bind::<Text, _>(name)
                .bind::<Timestamptz, _>(start_of(from))
                .bind::<Nullable<Timestamptz>, _>(until.map(start_of))
                .bind::<Array<Text>, _>(properties)
                .bind::<BigInt, _>(head)
                .bind::<BigInt, _>(first)
                .bind::<BigInt, _>(last)
                .bind::<Array<BigInt>, _>(&among.numbers)
                .load_iter::<EventRow, PgRowByRowLoadingMode>(conn)?;
            for (nth, row) in rows.enumerate() {
                let row = row?;
                let time = row.timestamp.timestamp_micros();
                if let Some(person) = owner(person(row.number)?) {
                    let day = days.entry(super::logs::day_of(time));
                    let block = day.or_insert_with(|| EventBlockBuilder::new(properties));
                    block.push_raw(person, time, row.properties.iter().map(Option::as_deref));
                }
                if nth % ROWS == 0 {
                    self.fits(days.values().map(EventBlockBuilder::bytes).sum())?;
                }
            }
            self.fits(days.values().map(EventBlockBuilder::bytes).sum())
        })?;
        let days = days.into_iter();
        Ok(days.map(|(day, block)| (day, block.finish())).collect())
    }
}

fn person(number: i64) -> Result<u32, Error> {
    let number = u32::try_from(number).map_err(anyhow::Error::from)?;
    Ok(number)
}

/// When a UTC day begins.
pub fn start_of(day: i64) -> DateTime<Utc> {
    instant(day.saturating_mul(super::logs::DAY))
}

/// An instant of the engine's; beyond what a database can compare, its nearest end.
fn instant(micros: i64) -> DateTime<Utc> {
    const YEAR_ONE: i64 = -62_135_596_800_000_000;
    DateTime::from_timestamp_micros(micros.max(YEAR_ONE)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
