//! Looks up doubtful names in the rows: those that a deletion or a change has removed somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cohorts_store::definitions::{self, CatalogueEntry, Check, DefinitionHead};
use cohorts_store::{Conn, Error, ProjectId, ShardKey, scan, transaction};

use super::follow::{STEP_ROWS, read_rows};
use super::kinds::ValueKinds;
use super::{CatalogueCache, CatalogueNames, Evidence, load};

/// Checks that are done together.
const CHECKS_AT_ONCE: i64 = 1_000;
/// The first events or persons that are read for a check. Each further read takes four times as many, up to [`MAX_ROWS`].
const FIRST_ROWS: i64 = 100;
const MAX_ROWS: i64 = 20_000;
/// With fewer writes since the rows were read, and few rows, the rest is read under the lock on the head. An import waits for
/// this lock.
const FEW_WRITES: i64 = 200;

/// What is left after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rechecked {
    /// No check is due.
    All,
    /// Some checks may be due.
    Some,
}

/// The kinds of values that were found in rows.
#[derive(Default)]
struct Found(BTreeMap<CatalogueEntry, ValueKinds>);

impl Found {
    fn add(&mut self, definition: CatalogueEntry, kinds: ValueKinds) {
        self.0.entry(definition).or_default().add(kinds);
    }

    fn add_evidence(&mut self, evidence: Evidence) {
        for (event, properties) in evidence.events {
            for (name, kinds) in properties {
                self.add(CatalogueEntry::EventProperty(event.clone(), name), kinds);
            }
            self.add(CatalogueEntry::Event(event), ValueKinds::NONE);
        }
        for (name, kinds) in evidence.persons {
            self.add(CatalogueEntry::PersonProperty(name), kinds);
        }
    }

    fn has_all(&self, definition: &CatalogueEntry, names: &CatalogueNames) -> bool {
        let kinds = names.kinds(definition).unwrap_or_default();
        self.0
            .get(definition)
            .is_some_and(|found| found.contains(kinds))
    }
}

impl CatalogueCache {
    /// Does some of the checks of a project that are due: removes names and kinds of values that no row has any more.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn recheck(&self, conn: &mut Conn, project: ProjectId) -> Result<Rechecked, Error> {
        let (shard_key, catalogue) = (project.shard_key(), self.of(project));
        let before = definitions::head(conn, shard_key)?;
        let checks = definitions::checks(conn, shard_key, before.through_seq, CHECKS_AT_ONCE)?;
        if checks.is_empty() {
            return Ok(Rechecked::All);
        }
        let known = catalogue.lock().names_of(before.version);
        let Some(names) = known else {
            load(conn, project, &catalogue)?;
            return Ok(Rechecked::Some);
        };
        let doubtful = names.known(checks.iter().map(|(definition, _)| definition));
        let mut recheck = Recheck {
            shard_key,
            found: look_up(conn, shard_key, &doubtful, &names)?,
            through: before.through_seq,
            checks,
            doubtful,
        };
        recheck.catch_up(conn)?;
        let (names, head) = transaction(conn, |conn| recheck.store(conn, before, &names))?;
        catalogue.lock().replace(Arc::new(names), head);
        Ok(Rechecked::Some)
    }
}

/// Checks that were looked up.
struct Recheck {
    shard_key: ShardKey,
    checks: Vec<Check>,
    doubtful: BTreeSet<CatalogueEntry>,
    found: Found,
    /// The values of writes up to this sequence number count.
    through: i64,
}

impl Recheck {
    /// Adds the values of the writes that came meanwhile, except the last few.
    fn catch_up(&mut self, conn: &mut Conn) -> Result<(), Error> {
        loop {
            let head = definitions::head(conn, self.shard_key)?;
            let span = (self.through, head.through_seq);
            let end = scan::step_end(conn, self.shard_key, span, STEP_ROWS)?;
            let is_one_step = end >= head.through_seq;
            if is_one_step && head.through_seq - self.through < FEW_WRITES {
                return Ok(());
            }
            self.add_writes(conn, end)?;
        }
    }

    fn add_writes(&mut self, conn: &mut Conn, through: i64) -> Result<(), Error> {
        let none = CatalogueNames::default();
        let evidence = read_rows(conn, self.shard_key, (self.through, through), &none)?;
        self.found.add_evidence(evidence);
        self.through = through;
        Ok(())
    }

    /// Stores the result under the lock on the head, and returns the new names.
    fn store(
        &mut self,
        conn: &mut Conn,
        before: DefinitionHead,
        names: &CatalogueNames,
    ) -> Result<(CatalogueNames, DefinitionHead), Error> {
        let shard_key = self.shard_key;
        let head = definitions::lock_head(conn, shard_key)?;
        self.add_writes(conn, head.through_seq)?;
        let mut names = if head.version == before.version {
            names.clone()
        } else {
            CatalogueNames::new(definitions::all(conn, shard_key)?)
        };
        let mut changed = Vec::new();
        for definition in &self.doubtful {
            let (found, known) = (self.found.0.get(definition), names.kinds(definition));
            if known.is_some() && known != found.copied() {
                changed.push((definition.clone(), found.copied()));
            }
        }
        names.replace(&changed);
        let (removed, narrowed): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|(_, kinds)| kinds.is_none());
        let removed = removed.into_iter().map(|(removed, _)| removed);
        let narrowed = narrowed.into_iter();
        let narrowed = narrowed.filter_map(|(narrowed, kinds)| Some((narrowed, kinds?.bits())));
        definitions::delete(conn, shard_key, &removed.collect::<Vec<_>>())?;
        definitions::write(conn, shard_key, &narrowed.collect::<Vec<_>>())?;
        definitions::finish_checks(conn, shard_key, &self.checks)?;
        let head = DefinitionHead {
            version: head.version + 1,
            is_full: head.is_full && !names.has_room(),
            ..head
        };
        definitions::set_head(conn, shard_key, head)?;
        Ok((names, head))
    }
}

/// Looks for all doubtful definitions in the rows, until each is found with all kinds of values that it had.
fn look_up(
    conn: &mut Conn,
    shard_key: ShardKey,
    doubtful: &BTreeSet<CatalogueEntry>,
    names: &CatalogueNames,
) -> Result<Found, Error> {
    let mut found = Found::default();
    let mut of_events: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut of_persons = Vec::new();
    for definition in doubtful {
        match definition {
            CatalogueEntry::Event(event) => {
                of_events.entry(event).or_default();
            }
            CatalogueEntry::EventProperty(event, name) => {
                of_events.entry(event).or_default().push(name.clone());
            }
            CatalogueEntry::PersonProperty(name) => of_persons.push(name.clone()),
        }
    }
    for (event, keys) in of_events {
        look_up_event(conn, shard_key, event, keys, names, &mut found)?;
    }
    look_up_persons(conn, shard_key, of_persons, names, &mut found)?;
    Ok(found)
}

fn look_up_event(
    conn: &mut Conn,
    shard_key: ShardKey,
    event: &str,
    mut keys: Vec<String>,
    names: &CatalogueNames,
    found: &mut Found,
) -> Result<(), Error> {
    if !definitions::has_event(conn, shard_key, event)? {
        return Ok(());
    }
    found.add(CatalogueEntry::Event(event.to_owned()), ValueKinds::NONE);
    let pair = |key: &String| CatalogueEntry::EventProperty(event.to_owned(), key.clone());
    let (mut after, mut limit) = (None, FIRST_ROWS);
    while !keys.is_empty() {
        let rows = definitions::event_values(conn, shard_key, (event, &keys), after, limit)?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = Some(last.place());
        for row in &rows {
            add_values(found, &keys, &row.values, pair);
        }
        keys.retain(|key| !found.has_all(&pair(key), names));
        limit = (limit * 4).min(MAX_ROWS);
    }
    Ok(())
}

fn look_up_persons(
    conn: &mut Conn,
    shard_key: ShardKey,
    mut keys: Vec<String>,
    names: &CatalogueNames,
    found: &mut Found,
) -> Result<(), Error> {
    let property = |key: &String| CatalogueEntry::PersonProperty(key.clone());
    let (mut after, mut limit) = (-1, FIRST_ROWS);
    while !keys.is_empty() {
        let rows = definitions::person_values(conn, shard_key, &keys, after, limit)?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = last.ordinal;
        for row in &rows {
            add_values(found, &keys, &row.values, property);
        }
        keys.retain(|key| !found.has_all(&property(key), names));
        limit = (limit * 4).min(MAX_ROWS);
    }
    Ok(())
}

fn add_values(
    found: &mut Found,
    keys: &[String],
    values: &[Option<String>],
    definition: impl Fn(&String) -> CatalogueEntry,
) {
    for (key, value) in keys.iter().zip(values) {
        if let Some(value) = value {
            found.add(definition(key), ValueKinds::of(value));
        }
    }
}
