//! The events of one person, for explanations of a membership.
//!
//! The index of events begins with the day, so the days of the project are looked up one by one, many in one statement.

use chrono::{DateTime, NaiveDate, Utc};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Date, Nullable, Text, Timestamptz};
use uuid::Uuid;

use crate::events::next_days;
use crate::{Conn, Result, ShardKey, StoreError};

/// The most days that a statement names. Each costs a look-up per ordinal.
const DAYS_AT_ONCE: usize = 1_000;

/// OFFSET 0 makes each pair of a day and an ordinal a look-up in the index.
pub(crate) const OF_PERSON: &str = "\
    select e.uuid, e.timestamp, e.event, \
        array(select (e.properties -> key)::text from unnest($6) with ordinality as keys(key, nth) order by nth) \
            as properties \
    from unnest($2) as d(day) cross join unnest($3) as o(ordinal) cross join lateral ( \
        select uuid, timestamp, event, properties from events \
        where shard_key = $1 and day = d.day and ordinal = o.ordinal offset 0) e \
    where e.timestamp >= $4 and ($5 is null or e.event = any($5))";

/// Which events of a person to read.
#[derive(Clone, Debug)]
pub struct PersonScan<'a> {
    /// The ordinals under which the events were written: that of the person, and those that were merged into it.
    pub ordinals: &'a [i64],
    /// The names of the events; `None` means every name.
    pub names: Option<Vec<String>>,
    /// The earliest time.
    pub from: DateTime<Utc>,
    /// The keys of the properties to return.
    pub properties: Vec<String>,
}

/// An event of a person.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct EventOfPerson {
    /// The sender's id of the event.
    #[diesel(sql_type = diesel::sql_types::Uuid)]
    pub uuid: Uuid,
    /// The name.
    #[diesel(sql_type = Text)]
    pub event: String,
    /// The time.
    #[diesel(sql_type = Timestamptz)]
    pub timestamp: DateTime<Utc>,
    /// The values of the requested properties as JSON text, in the order of the request.
    #[diesel(sql_type = Array<Nullable<Text>>)]
    pub properties: Vec<Option<String>>,
}

/// Calls `each` with each event of a scan, in any order.
///
/// # Errors
///
/// Returns the first error of `each`, and fails if the database fails.
pub fn of_person<E: From<StoreError>>(
    conn: &mut Conn,
    shard_key: ShardKey,
    scan: &PersonScan<'_>,
    mut each: impl FnMut(EventOfPerson) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = Some(scan.from.date_naive());
    while let Some(first) = from {
        let days = next_days(conn, shard_key, first, DAYS_AT_ONCE)?;
        let rows = diesel::sql_query(OF_PERSON)
            .bind::<BigInt, _>(shard_key.0)
            .bind::<Array<Date>, _>(&days)
            .bind::<Array<BigInt>, _>(scan.ordinals)
            .bind::<Timestamptz, _>(scan.from)
            .bind::<Nullable<Array<Text>>, _>(scan.names.as_ref())
            .bind::<Array<Text>, _>(&scan.properties)
            .load_iter::<EventOfPerson, PgRowByRowLoadingMode>(conn)
            .map_err(StoreError::from)?;
        for row in rows {
            each(row.map_err(StoreError::from)?)?;
        }
        from = days.last().and_then(NaiveDate::succ_opt);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{NewEvent, append};
    use crate::testing::TestDatabase;
    use crate::{JsonText, ProjectId};

    #[test]
    fn events_are_found_by_ordinals_names_and_time_whatever_their_days() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let shard_key = ProjectId(1).shard_key();
        let event =
            |ordinal: i64, event: &'static str, time: &str, properties: &'static JsonText| {
                let timestamp: DateTime<Utc> = time.parse().unwrap();
                NewEvent {
                    shard_key: shard_key.0,
                    uuid: Uuid::now_v7(),
                    identity: 1,
                    day: timestamp.date_naive(),
                    seq: 1,
                    ordinal,
                    event,
                    distinct_id: "d",
                    timestamp,
                    properties,
                }
            };
        let properties: &'static JsonText =
            Box::leak(Box::new(JsonText(r#"{"a": 1, "b": "x"}"#.to_owned())));
        let events = [
            event(7, "paid", "1971-06-01T00:00:00Z", properties),
            event(8, "paid", "2026-03-01T12:00:00Z", properties),
            event(9, "paid", "2026-03-01T12:00:00Z", properties),
            event(7, "seen", "2026-03-02T12:00:00Z", properties),
            event(7, "paid", "9999-12-31T00:00:00Z", properties),
        ];
        append(conn, &events).unwrap();
        let mut read = |names: Option<&[&str]>, from: &str| {
            let mut found = Vec::new();
            let scan = PersonScan {
                ordinals: &[7, 8],
                names: names.map(|names| names.iter().map(ToString::to_string).collect()),
                from: from.parse().unwrap(),
                properties: vec!["b".to_owned(), "c".to_owned()],
            };
            of_person(conn, shard_key, &scan, |event| {
                assert_eq!(event.properties, [Some(r#""x""#.to_owned()), None]);
                found.push(event.uuid);
                Ok::<_, StoreError>(())
            })
            .unwrap();
            found.sort_unstable();
            found
        };
        let expected =
            |nths: &[usize]| -> Vec<Uuid> { nths.iter().map(|nth| events[*nth].uuid).collect() };
        assert_eq!(read(None, "1900-01-01T00:00:00Z"), expected(&[0, 1, 3, 4]));
        assert_eq!(
            read(Some(&["paid"]), "2026-03-01T12:00:00Z"),
            expected(&[1, 4])
        );
        assert_eq!(
            read(Some(&["paid"]), "2026-03-01T12:00:01Z"),
            expected(&[4])
        );
    }
}
