//! The limits of what an explanation reads of one person.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cohorts_engine::explain::{EventRows, PersonRows};
use cohorts_store::persons::{self, Person};

use super::*;
use crate::index::IndexResult;
use crate::index::person::{MAX_BYTES, MAX_EVENTS, OnePersonReader};
use crate::index::read::{Limits, ReadTx};

/// The number of events of a person that an explanation reads, with these properties.
fn events_of(fixture: &Fixture, person: &Person, properties: &[&str]) -> IndexResult<usize> {
    let limits = Limits {
        deadline: Instant::now() + Duration::from_secs(60),
        memory: u64::MAX,
    };
    ReadTx::run(&mut fixture.conn(), fixture.project, limits, |tx| {
        let reader = OnePersonReader::new(tx, person)?;
        let properties = properties.iter().map(ToString::to_string);
        let events = reader.events(&EventRows {
            names: Some(BTreeSet::from(["x".to_owned()])),
            from: i64::MIN,
            properties: properties.collect(),
        })?;
        Ok(events.len())
    })
}

/// Adds rows of events `x` with these properties to the ordinal.
fn add_rows(fixture: &Fixture, ordinal: i64, count: usize, properties: &str) {
    fixture.change(&format!(
        "insert into events (shard_key, uuid, identity, day, seq, ordinal, event, distinct_id, timestamp, properties) \
         select {}, gen_random_uuid(), 1, '2025-06-01', 1, {ordinal}, 'x', 'p0', '2025-06-01', {properties} \
         from generate_series(1, {count})",
        fixture.project.shard_key().0
    ));
}

#[test]
fn an_explanation_reads_a_limited_number_of_events_and_bytes() {
    let fixture = Fixture::with_events(2, 2);
    let shard_key = fixture.project.shard_key();
    let person = |id: &str| {
        let conn = &mut *fixture.conn();
        let ordinal = persons::ordinals_by_id(conn, shard_key, &[id]).unwrap()[id];
        let mut persons = persons::by_ordinals(conn, shard_key, &[ordinal]).unwrap();
        persons.remove(0)
    };
    let (many, large) = (person("p0"), person("p1"));
    add_rows(&fixture, many.ordinal, MAX_EVENTS - 1, "'{}'");
    assert_eq!(events_of(&fixture, &many, &[]).unwrap(), MAX_EVENTS);
    add_rows(&fixture, many.ordinal, 1, "'{}'");
    let result = events_of(&fixture, &many, &[]);
    assert!(
        matches!(result, Err(IndexError::TooManyEvents)),
        "{result:?}"
    );

    let text = "jsonb_build_object('t', repeat('a', 1 << 20))";
    add_rows(&fixture, large.ordinal, MAX_BYTES >> 20, text);
    assert!(events_of(&fixture, &large, &["other"]).is_ok());
    let result = events_of(&fixture, &large, &["t"]);
    assert!(
        matches!(result, Err(IndexError::TooManyEvents)),
        "{result:?}"
    );
}
