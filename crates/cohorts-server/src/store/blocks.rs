//! The engine's `Source`, answered straight from rows under one snapshot.
//!
//! A calculation sees what was committed before it began and nothing later, whatever it asks for and when.
//! Blocks that were asked for once are kept until it ends.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_engine::{
    Action, EventBlock, EventBlockBuilder, EventQuery, PropertyBlock, PropertyBlockBuilder,
    Reference, Source, TimesBlock,
};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use roaring::RoaringBitmap;

use super::forgotten::{self, Forgotten};
use super::schema::{distinct_ids, persons};
use super::{CohortId, Conn, ProjectId, actions, cohorts, events, members, projects};
use crate::error::Error;

const PROPERTY: &str = "\
    select number, (properties -> $2)::text as value from persons where place = $1 and properties ? $2";
/// The properties come as JSON text, in the order asked for.
const EVENTS: &str = "\
    select number, timestamp, \
        array(select (properties -> key)::text from unnest($5) with ordinality as wanted(key, nth) order by nth) \
            as properties \
    from events \
    where place = $1 and event = $2 and ($3 is null or timestamp >= $3) and timestamp <= $4";
const NEXT_NAME: &str = "select min(event) as name from events where place = $1 and event > $2";

#[derive(QueryableByName)]
struct PropertyRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct NameRow {
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Timestamptz)]
    timestamp: DateTime<Utc>,
    #[diesel(sql_type = Array<Nullable<Text>>)]
    properties: Vec<Option<String>>,
}

/// The data of one project as of one instant.
///
/// Dynamic cohorts that a filter refers to are given by their definitions, so that they are evaluated at the
/// same moment; static ones by their members.
pub struct Snapshot<'a> {
    conn: RefCell<&'a mut Conn>,
    project: ProjectId,
    deadline: Instant,
    everyone: OnceCell<Arc<RoaringBitmap>>,
    forgotten: OnceCell<Rc<Forgotten>>,
    /// What happened before is not there any more, deleted or not yet.
    oldest: OnceCell<Option<DateTime<Utc>>>,
    properties: RefCell<HashMap<String, Arc<PropertyBlock>>>,
    events: RefCell<HashMap<EventQuery, Arc<EventBlock>>>,
}

impl Snapshot<'_> {
    /// Runs `work` on the data as it is now. Reading that takes longer than `limit` ends in `Error::TimedOut`.
    pub fn read<T>(
        conn: &mut Conn,
        project: ProjectId,
        limit: Duration,
        work: impl FnOnce(&Snapshot<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        conn.build_transaction()
            .read_only()
            .repeatable_read()
            .run(|conn| {
                work(&Snapshot {
                    conn: RefCell::new(conn),
                    project,
                    deadline: Instant::now() + limit,
                    everyone: OnceCell::new(),
                    forgotten: OnceCell::new(),
                    oldest: OnceCell::new(),
                    properties: RefCell::default(),
                    events: RefCell::default(),
                })
            })
    }

    /// The last batch of the log that the snapshot holds.
    pub fn head(&self) -> Result<i64, Error> {
        self.ask(|conn| Ok(events::head(conn, self.project.place())?))
    }

    /// Reads something else of the same instant, with what is left of the time.
    pub fn ask<T>(&self, read: impl FnOnce(&mut Conn) -> Result<T, Error>) -> Result<T, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
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
        let mut conn = self.conn.borrow_mut();
        diesel::sql_query("select set_config('statement_timeout', $1, true)")
            .bind::<Text, _>(left.as_millis().max(1).to_string())
            .execute(*conn)?;
        read(&mut conn)
    }

    fn place(&self) -> i64 {
        self.project.place().0
    }

    /// Whose the numbers of merged people are.
    fn forgotten(&self) -> Result<Rc<Forgotten>, Error> {
        let place = self.project.place();
        let read = || self.ask(|conn| Ok(forgotten::all(conn, place)?));
        once(&self.forgotten, || Ok(Rc::new(read()?)))
    }

    /// When the oldest event may have happened.
    fn oldest(&self) -> Result<Option<DateTime<Utc>>, Error> {
        once(&self.oldest, || {
            let project = self.ask(|conn| Ok(projects::find(conn, self.project)?))?;
            Ok(project.and_then(|project| project.oldest_event(Utc::now())))
        })
    }

    fn read_property(&self, key: &str) -> Result<PropertyBlock, Error> {
        let mut block = PropertyBlockBuilder::new();
        self.ask(|conn| {
            let rows = diesel::sql_query(PROPERTY)
                .bind::<BigInt, _>(self.place())
                .bind::<Text, _>(key)
                .load_iter::<PropertyRow, PgRowByRowLoadingMode>(conn)?;
            for row in rows {
                let row = row?;
                block.push_raw(person(row.number)?, &row.value);
            }
            Ok(())
        })?;
        Ok(block.finish())
    }

    fn read_events(&self, query: &EventQuery) -> Result<EventBlock, Error> {
        let mut block = EventBlockBuilder::new(&query.properties);
        let from = query.from.map(instant).max(self.oldest()?);
        let forgotten = self.forgotten()?;
        self.ask(|conn| {
            let rows = diesel::sql_query(EVENTS)
                .bind::<BigInt, _>(self.place())
                .bind::<Text, _>(&query.event)
                .bind::<Nullable<Timestamptz>, _>(from)
                .bind::<Timestamptz, _>(instant(query.to))
                .bind::<Array<Text>, _>(&query.properties)
                .load_iter::<EventRow, PgRowByRowLoadingMode>(conn)?;
            for row in rows {
                let row = row?;
                let time = row.timestamp.timestamp_micros();
                let properties = row.properties.iter().map(Option::as_deref);
                if let Some(person) = forgotten.owner(person(row.number)?) {
                    block.push_raw(person, time, properties);
                }
            }
            Ok(())
        })?;
        Ok(block.finish())
    }
}

impl Source for Snapshot<'_> {
    type Error = Error;

    fn everyone(&self) -> Result<Arc<RoaringBitmap>, Error> {
        once(&self.everyone, || {
            let numbers: Vec<i64> = self.ask(|conn| {
                let own = persons::table.filter(persons::place.eq(self.place()));
                Ok(own.select(persons::number).load(conn)?)
            })?;
            let everyone = numbers.into_iter().map(person);
            Ok(Arc::new(everyone.collect::<Result<RoaringBitmap, _>>()?))
        })
    }

    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Error> {
        kept(&self.properties, key.to_owned(), || self.read_property(key))
    }

    fn created_at(&self) -> Result<Arc<TimesBlock>, Error> {
        let rows: Vec<(i64, DateTime<Utc>)> = self.ask(|conn| {
            let own = persons::table.filter(persons::place.eq(self.place()));
            Ok(own
                .select((persons::number, persons::created_at))
                .load(conn)?)
        })?;
        let rows = rows
            .into_iter()
            .map(|(number, time)| Ok((person(number)?, time.timestamp_micros())));
        Ok(Arc::new(TimesBlock::new(
            rows.collect::<Result<Vec<_>, Error>>()?,
        )))
    }

    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Error> {
        let rows: Vec<(i64, String)> = self.ask(|conn| {
            let own = distinct_ids::table.filter(distinct_ids::place.eq(self.place()));
            Ok(own
                .select((distinct_ids::number, distinct_ids::distinct_id))
                .load(conn)?)
        })?;
        let mut block = PropertyBlockBuilder::new();
        for (number, id) in rows {
            block.push(person(number)?, &id.into());
        }
        Ok(Arc::new(block.finish()))
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Error> {
        let block = kept(&self.events, query.clone(), || self.read_events(query))?;
        Ok(vec![block])
    }

    /// From one name to the next, which costs the same however many events there are.
    fn event_names(&self) -> Result<Vec<String>, Error> {
        let mut names = vec![String::new()];
        self.ask(|conn| {
            while let Some(last) = names.last() {
                let next: NameRow = diesel::sql_query(NEXT_NAME)
                    .bind::<BigInt, _>(self.place())
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

    fn cohort(&self, id: i64) -> Result<Option<Reference>, Error> {
        self.ask(|conn| {
            let Some((cohort, _)) = cohorts::find(conn, self.project, CohortId(id))? else {
                return Ok(None);
            };
            if cohort.definition.is_static {
                let place = self.project.place();
                let members = members::read(conn, place, cohort.id(), cohort.member_version)?;
                return Ok(Some(Reference::Members(Arc::new(members))));
            }
            // What cannot be read cannot be calculated, and has no members to refer to.
            Ok(cohort.definition.filter().ok().map(Reference::Filter))
        })
    }

    fn action(&self, id: i64) -> Result<Option<Action>, Error> {
        let found = self.ask(|conn| Ok(actions::find(conn, self.project, id)?))?;
        let live = found.filter(|(action, _)| !action.fields.deleted);
        // Steps are checked before they are stored.
        Ok(live.and_then(|(action, _)| Action::parse(&action.fields.steps.parse()).ok()))
    }

    fn checkpoint(&self) -> Result<(), Error> {
        match Instant::now() < self.deadline {
            true => Ok(()),
            false => Err(Error::TimedOut),
        }
    }
}

/// What is read once and kept.
fn once<T: Clone>(cell: &OnceCell<T>, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    if let Some(value) = cell.get() {
        return Ok(value.clone());
    }
    let value = read()?;
    Ok(cell.get_or_init(|| value).clone())
}

/// A block that is read once and kept.
fn kept<K: Eq + Hash, B>(
    blocks: &RefCell<HashMap<K, Arc<B>>>,
    key: K,
    read: impl FnOnce() -> Result<B, Error>,
) -> Result<Arc<B>, Error> {
    if let Some(block) = blocks.borrow().get(&key) {
        return Ok(Arc::clone(block));
    }
    let block = Arc::new(read()?);
    blocks.borrow_mut().insert(key, Arc::clone(&block));
    Ok(block)
}

fn person(number: i64) -> Result<u32, Error> {
    let number = u32::try_from(number).map_err(anyhow::Error::from)?;
    Ok(number)
}

/// An instant of the engine's; beyond what a database can compare, its nearest end.
fn instant(micros: i64) -> DateTime<Utc> {
    const YEAR_ONE: i64 = -62_135_596_800_000_000;
    DateTime::from_timestamp_micros(micros.max(YEAR_ONE)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
