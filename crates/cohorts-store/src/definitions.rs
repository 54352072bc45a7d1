//! The catalogue: the names of events and properties of a project, and the kinds of their values.
//!
//! The definitions follow the log: all writes up to the sequence number of the head are in them. A writer locks the head,
//! writes definitions and moves the head in one transaction. A write of the log that removes values from events or persons
//! adds checks: a background task looks whether the names are still in use, and then deletes or narrows the definitions.

mod evidence;

use std::collections::BTreeSet;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::schema::{definition_checks, definition_heads, definitions, log_heads};
use crate::{Conn, INSERT_ROWS, Result, ShardKey, projects, transaction};

#[cfg(test)]
pub(crate) use evidence::{EVENT_VALUES, PERSON_VALUES, WHOLE_PERSONS};
pub use evidence::{
    EventPlace, EventValues, PersonValues, event_values, has_event, person_values, whole_persons,
};

/// What a definition names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CatalogueEntry {
    /// An event.
    Event(String),
    /// The name of an event, and the name of one of its properties. In a check, an empty second name means every property of
    /// the event.
    EventProperty(String, String),
    /// A property of persons.
    PersonProperty(String),
}

const EVENT: i16 = 1;
const EVENT_PROPERTY: i16 = 2;

impl CatalogueEntry {
    fn columns(&self) -> (i16, &str, &str) {
        match self {
            Self::Event(event) => (EVENT, event, ""),
            Self::EventProperty(event, name) => (EVENT_PROPERTY, event, name),
            Self::PersonProperty(name) => (3, "", name),
        }
    }

    fn of_columns(kind: i16, event: String, name: String) -> Self {
        match kind {
            EVENT => Self::Event(event),
            EVENT_PROPERTY => Self::EventProperty(event, name),
            _ => Self::PersonProperty(name),
        }
    }
}

/// How far the definitions of a shard key follow the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = definition_heads)]
pub struct DefinitionHead {
    /// All writes of the log up to this sequence number are in the definitions.
    pub through_seq: i64,
    /// Changes with each change of the definitions.
    pub version: i64,
    /// Whether names are missing because there are too many.
    pub is_full: bool,
}

/// The head of a shard key.
///
/// # Errors
///
/// Fails if the database fails.
pub fn head(conn: &mut Conn, shard_key: ShardKey) -> Result<DefinitionHead> {
    let row = definition_heads::table
        .find(shard_key.0)
        .select(DefinitionHead::as_select())
        .first(conn)
        .optional()?;
    Ok(row.unwrap_or_default())
}

/// The head of a shard key, and its [`unfinished`] writes.
///
/// # Errors
///
/// Fails if the database fails.
pub fn head_and_unfinished(
    conn: &mut Conn,
    shard_key: ShardKey,
) -> Result<(DefinitionHead, Vec<i64>)> {
    let row = definition_heads::table
        .find(shard_key.0)
        .select((DefinitionHead::as_select(), definition_heads::unfinished))
        .first(conn)
        .optional()?;
    Ok(row.unwrap_or_default())
}

/// Locks the head until the transaction ends, and returns it.
///
/// # Errors
///
/// [`StoreError::ProjectGone`](crate::StoreError::ProjectGone) if the project is deleted; fails if the database fails.
pub fn lock_head(conn: &mut Conn, shard_key: ShardKey) -> Result<DefinitionHead> {
    projects::hold(conn, shard_key.project())?;
    lock_head_of_live_project(conn, shard_key)
}

/// As [`lock_head`], if the caller knows that the project is not deleted meanwhile.
fn lock_head_of_live_project(conn: &mut Conn, shard_key: ShardKey) -> Result<DefinitionHead> {
    diesel::insert_into(definition_heads::table)
        .values((
            definition_heads::shard_key.eq(shard_key.0),
            definition_heads::through_seq.eq(0),
            definition_heads::version.eq(0),
            definition_heads::is_full.eq(false),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok(definition_heads::table
        .find(shard_key.0)
        .select(DefinitionHead::as_select())
        .for_update()
        .first(conn)?)
}

/// The sequence numbers of the writes in two halves that have begun, and are not known to be complete. If one was
/// interrupted, a later write has the same number and does not know the rows of the first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn unfinished(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<i64>> {
    Ok(head_and_unfinished(conn, shard_key)?.1)
}

fn set_unfinished(conn: &mut Conn, shard_key: ShardKey, unfinished: &[i64]) -> Result<()> {
    diesel::update(definition_heads::table.find(shard_key.0))
        .set(definition_heads::unfinished.eq(unfinished))
        .execute(conn)?;
    Ok(())
}

/// Notes, in a commit of its own, that a write in two halves begins. The caller has locked the log head in another
/// transaction, and waits: this must not take a lock that a writer may hold while it waits for the log head. Returns
/// whether no earlier write with this number was interrupted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn begin_halves(conn: &mut Conn, shard_key: ShardKey, seq: i64) -> Result<bool> {
    transaction(conn, |conn| {
        lock_head_of_live_project(conn, shard_key)?;
        let mut seqs = unfinished(conn, shard_key)?;
        let is_first = !seqs.contains(&seq);
        if is_first {
            seqs.push(seq);
            set_unfinished(conn, shard_key, &seqs)?;
        }
        Ok(is_first)
    })
}

/// Notes that a write in two halves is complete, in the transaction that moves the log head.
///
/// # Errors
///
/// Fails if the database fails.
pub fn finish_halves(conn: &mut Conn, shard_key: ShardKey, seq: i64) -> Result<()> {
    lock_head_of_live_project(conn, shard_key)?;
    let mut seqs = unfinished(conn, shard_key)?;
    seqs.retain(|unfinished| *unfinished != seq);
    set_unfinished(conn, shard_key, &seqs)
}

/// Forgets the unfinished writes up to a sequence number, after their rows were read. The caller has locked the head.
///
/// # Errors
///
/// Fails if the database fails.
pub fn forget_unfinished(conn: &mut Conn, shard_key: ShardKey, through: i64) -> Result<()> {
    let seqs = unfinished(conn, shard_key)?;
    let later: Vec<i64> = seqs.iter().copied().filter(|seq| *seq > through).collect();
    if later.len() < seqs.len() {
        set_unfinished(conn, shard_key, &later)?;
    }
    Ok(())
}

/// Changes how far the definitions follow the log. The caller has locked the head.
///
/// # Errors
///
/// Fails if the database fails.
pub fn set_head(conn: &mut Conn, shard_key: ShardKey, head: DefinitionHead) -> Result<()> {
    diesel::update(definition_heads::table.find(shard_key.0))
        .set((
            definition_heads::through_seq.eq(head.through_seq),
            definition_heads::version.eq(head.version),
            definition_heads::is_full.eq(head.is_full),
        ))
        .execute(conn)?;
    Ok(())
}

/// The shard keys among `shard_keys` with writes of the log beyond the head.
///
/// # Errors
///
/// Fails if the database fails.
pub fn behind(conn: &mut Conn, shard_keys: &[ShardKey]) -> Result<Vec<ShardKey>> {
    let keys: Vec<i64> = shard_keys.iter().map(|key| key.0).collect();
    let keys: Vec<i64> = log_heads::table
        .left_join(definition_heads::table.on(definition_heads::shard_key.eq(log_heads::shard_key)))
        .filter(log_heads::shard_key.eq_any(keys))
        .filter(
            definition_heads::through_seq
                .nullable()
                .is_null()
                .or(definition_heads::through_seq
                    .nullable()
                    .lt(log_heads::seq.nullable())),
        )
        .select(log_heads::shard_key)
        .load(conn)?;
    Ok(keys.into_iter().map(ShardKey).collect())
}

/// All definitions of a shard key, each with the bits of the kinds of its values.
///
/// # Errors
///
/// Fails if the database fails.
pub fn all(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<(CatalogueEntry, i16)>> {
    let rows: Vec<(i16, String, String, i16)> = definitions::table
        .filter(definitions::shard_key.eq(shard_key.0))
        .select((
            definitions::kind,
            definitions::event,
            definitions::name,
            definitions::value_kinds,
        ))
        .load(conn)?;
    let definition =
        |(kind, event, name, bits)| (CatalogueEntry::of_columns(kind, event, name), bits);
    Ok(rows.into_iter().map(definition).collect())
}

/// Adds definitions, or replaces the kinds of their values. The caller has locked the head.
///
/// # Errors
///
/// Fails if the database fails.
pub fn write(
    conn: &mut Conn,
    shard_key: ShardKey,
    changed: &[(CatalogueEntry, i16)],
) -> Result<()> {
    let row = |(definition, bits): &(CatalogueEntry, i16)| {
        let (kind, event, name) = definition.columns();
        (
            definitions::shard_key.eq(shard_key.0),
            definitions::kind.eq(kind),
            definitions::event.eq(event.to_owned()),
            definitions::name.eq(name.to_owned()),
            definitions::value_kinds.eq(*bits),
        )
    };
    for rows in changed.chunks(INSERT_ROWS) {
        diesel::insert_into(definitions::table)
            .values(rows.iter().map(row).collect::<Vec<_>>())
            .on_conflict((
                definitions::shard_key,
                definitions::kind,
                definitions::event,
                definitions::name,
            ))
            .do_update()
            .set(definitions::value_kinds.eq(diesel::upsert::excluded(definitions::value_kinds)))
            .execute(conn)?;
    }
    Ok(())
}

/// Deletes definitions. The deletion of an event deletes its properties. The caller has locked the head.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete(conn: &mut Conn, shard_key: ShardKey, deleted: &[CatalogueEntry]) -> Result<()> {
    for definition in deleted {
        let (kind, event, name) = definition.columns();
        let rows = definitions::table.filter(definitions::shard_key.eq(shard_key.0));
        if kind == EVENT {
            let rows = rows.filter(definitions::kind.eq_any([EVENT, EVENT_PROPERTY]));
            diesel::delete(rows.filter(definitions::event.eq(event))).execute(conn)?;
        } else {
            let row = definitions::table.find((shard_key.0, kind, event, name));
            diesel::delete(row).execute(conn)?;
        }
    }
    Ok(())
}

/// Adds checks of definitions with values that a write of the log has removed somewhere. `seq` is the sequence number of the
/// write, or the last one before.
///
/// # Errors
///
/// Fails if the database fails.
pub fn add_checks(
    conn: &mut Conn,
    shard_key: ShardKey,
    seq: i64,
    doubtful: &BTreeSet<CatalogueEntry>,
) -> Result<()> {
    let row = |definition: &CatalogueEntry| {
        let (kind, event, name) = definition.columns();
        (
            definition_checks::shard_key.eq(shard_key.0),
            definition_checks::kind.eq(kind),
            definition_checks::event.eq(event.to_owned()),
            definition_checks::name.eq(name.to_owned()),
            definition_checks::seq.eq(seq),
        )
    };
    let rows: Vec<_> = doubtful.iter().map(row).collect();
    for rows in rows.chunks(INSERT_ROWS) {
        diesel::insert_into(definition_checks::table)
            .values(rows)
            .on_conflict((
                definition_checks::shard_key,
                definition_checks::kind,
                definition_checks::event,
                definition_checks::name,
            ))
            .do_update()
            .set(definition_checks::seq.eq(sql::<BigInt>(
                "greatest(definition_checks.seq, excluded.seq)",
            )))
            .execute(conn)?;
    }
    Ok(())
}

/// The shard keys among `shard_keys` with checks.
///
/// # Errors
///
/// Fails if the database fails.
pub fn with_checks(conn: &mut Conn, shard_keys: &[ShardKey]) -> Result<Vec<ShardKey>> {
    let keys: Vec<i64> = shard_keys.iter().map(|key| key.0).collect();
    let keys: Vec<i64> = definition_checks::table
        .filter(definition_checks::shard_key.eq_any(keys))
        .select(definition_checks::shard_key)
        .distinct()
        .load(conn)?;
    Ok(keys.into_iter().map(ShardKey).collect())
}

/// A definition to check, and the sequence number of the write that requires it.
pub type Check = (CatalogueEntry, i64);

/// The first checks of writes up to sequence number `through`, at most `limit`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn checks(
    conn: &mut Conn,
    shard_key: ShardKey,
    through: i64,
    limit: i64,
) -> Result<Vec<Check>> {
    let rows: Vec<(i16, String, String, i64)> = definition_checks::table
        .filter(definition_checks::shard_key.eq(shard_key.0))
        .filter(definition_checks::seq.le(through))
        .order((
            definition_checks::kind,
            definition_checks::event,
            definition_checks::name,
        ))
        .limit(limit)
        .select((
            definition_checks::kind,
            definition_checks::event,
            definition_checks::name,
            definition_checks::seq,
        ))
        .load(conn)?;
    let check = |(kind, event, name, seq)| (CatalogueEntry::of_columns(kind, event, name), seq);
    Ok(rows.into_iter().map(check).collect())
}

/// Deletes checks that are done, unless a later write requires them again.
///
/// # Errors
///
/// Fails if the database fails.
pub fn finish_checks(conn: &mut Conn, shard_key: ShardKey, done: &[Check]) -> Result<()> {
    for (definition, seq) in done {
        let (kind, event, name) = definition.columns();
        let row = definition_checks::table.find((shard_key.0, kind, event, name));
        diesel::delete(row.filter(definition_checks::seq.le(*seq))).execute(conn)?;
    }
    Ok(())
}

/// Deletes all definitions of a shard key. They are a bounded number of rows.
///
/// # Errors
///
/// Fails if the database fails.
pub fn drop_all(conn: &mut Conn, shard_key: ShardKey) -> Result<()> {
    transaction(conn, |conn| {
        let of_key = definitions::table.filter(definitions::shard_key.eq(shard_key.0));
        diesel::delete(of_key).execute(conn)?;
        let of_key = definition_checks::table.filter(definition_checks::shard_key.eq(shard_key.0));
        diesel::delete(of_key).execute(conn)?;
        diesel::delete(definition_heads::table.find(shard_key.0)).execute(conn)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProjectId;
    use crate::testing::TestDatabase;

    #[test]
    fn unfinished_writes_are_noted_once_and_forgotten_up_to_a_number() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let key = ProjectId(1).shard_key();
        assert!(begin_halves(conn, key, 5).unwrap());
        assert!(!begin_halves(conn, key, 5).unwrap());
        for seq in [7, 9] {
            assert!(begin_halves(conn, key, seq).unwrap());
        }
        finish_halves(conn, key, 7).unwrap();
        assert_eq!(unfinished(conn, key).unwrap(), [5, 9]);
        forget_unfinished(conn, key, 8).unwrap();
        assert_eq!(
            head_and_unfinished(conn, key).unwrap(),
            (DefinitionHead::default(), vec![9])
        );
    }
}
