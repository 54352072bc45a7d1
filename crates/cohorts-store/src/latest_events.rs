//! The events of one person, the newest first.
//!
//! The index of events begins with the day, so the days of the project are looked up one by one, from the last one back,
//! many in one statement. A statement without enough events is followed by one for more days.

use std::ops::ControlFlow;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use diesel::dsl;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Date, Jsonb, Nullable, Text, Timestamptz};
use uuid::Uuid;

use crate::schema::events;
use crate::{Conn, JsonText, Result, ShardKey};

/// The pairs of a day and an ordinal that the first statement looks up. Most persons have events on the last days.
const FIRST_LOOK_UPS: usize = 32;
/// The most pairs of a statement.
const MAX_LOOK_UPS: usize = 4_096;
/// The pairs of a statement, divided by those of the statement before it.
const GROWTH: usize = 4;

/// OFFSET 0 makes each pair of a day and an ordinal a look-up in the index.
pub(crate) const LATEST: &str = "\
    select e.uuid, e.identity, e.timestamp, e.event, e.distinct_id, e.properties \
    from unnest($2) as d(day) cross join unnest($3) as o(ordinal) cross join lateral ( \
        select uuid, identity, timestamp, event, distinct_id, properties from events \
        where shard_key = $1 and day = d.day and ordinal = o.ordinal offset 0) e \
    where e.timestamp >= $4 and (e.timestamp, e.uuid, e.identity) < ($5, $6, $7) and ($8 is null or e.event = $8) \
    order by e.timestamp desc, e.uuid desc, e.identity desc limit $9";

/// The position of an event in the order of all events. No two events of a project have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPosition {
    /// The time.
    pub timestamp: DateTime<Utc>,
    /// The sender's id of the event.
    pub uuid: Uuid,
    /// The hash of the name and the distinct id.
    pub identity: i64,
}

impl EventPosition {
    /// The position before all events of a time, and after all earlier ones.
    pub fn at(timestamp: DateTime<Utc>) -> Self {
        Self {
            timestamp,
            uuid: Uuid::nil(),
            identity: i64::MIN,
        }
    }
}

/// An event with all of its properties.
#[derive(Clone, Debug, QueryableByName)]
pub struct LatestEvent {
    /// The sender's id of the event.
    #[diesel(sql_type = diesel::sql_types::Uuid)]
    pub uuid: Uuid,
    /// The hash of the name and the distinct id.
    #[diesel(sql_type = BigInt)]
    pub identity: i64,
    /// The time.
    #[diesel(sql_type = Timestamptz)]
    pub timestamp: DateTime<Utc>,
    /// The name.
    #[diesel(sql_type = Text)]
    pub event: String,
    /// The sender's id of the person.
    #[diesel(sql_type = Text)]
    pub distinct_id: String,
    /// A JSON object.
    #[diesel(sql_type = Jsonb)]
    pub properties: JsonText,
}

impl LatestEvent {
    /// The position of the event.
    pub fn position(&self) -> EventPosition {
        EventPosition {
            timestamp: self.timestamp,
            uuid: self.uuid,
            identity: self.identity,
        }
    }
}

/// Which events of a person to read.
#[derive(Clone, Debug)]
pub struct LatestScan {
    /// The ordinals under which the events were written: that of the person, and those that were merged into it.
    pub ordinals: Vec<i64>,
    /// The name of the events; `None` means every name.
    pub name: Option<String>,
    /// The earliest time.
    pub from: DateTime<Utc>,
    /// Only events before this position are read.
    pub before: EventPosition,
}

/// Reads the events of a scan in steps, each with a statement for some days.
#[derive(Clone, Debug)]
pub struct LatestReader {
    scan: LatestScan,
    /// The last day that was not read.
    through: NaiveDate,
    look_ups: usize,
}

impl LatestReader {
    /// A reader that has read nothing.
    pub fn new(scan: LatestScan) -> Self {
        Self {
            through: scan.before.timestamp.date_naive(),
            look_ups: FIRST_LOOK_UPS,
            scan,
        }
    }

    /// The position that the reader has reached after a whole day: no event of the scan before it was read.
    pub fn position(&self) -> EventPosition {
        let next = self.through.succ_opt().unwrap_or(NaiveDate::MAX);
        EventPosition::at(next.and_time(NaiveTime::MIN).and_utc())
    }

    /// Calls `each` with the newest of the further events, at most `limit` of them, from the next days. Breaks if `each`
    /// does, and after the last event.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn read_days(
        &mut self,
        conn: &mut Conn,
        shard_key: ShardKey,
        limit: usize,
        mut each: impl FnMut(LatestEvent) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let scan = &self.scan;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let days = (self.look_ups / scan.ordinals.len().max(1)).max(1);
        let span = (scan.from.date_naive(), self.through);
        let days = previous_days(conn, shard_key, span, days)?;
        let before = scan.before;
        let rows = diesel::sql_query(LATEST)
            .bind::<BigInt, _>(shard_key.0)
            .bind::<Array<Date>, _>(&days)
            .bind::<Array<BigInt>, _>(&scan.ordinals)
            .bind::<Timestamptz, _>(scan.from)
            .bind::<Timestamptz, _>(before.timestamp)
            .bind::<diesel::sql_types::Uuid, _>(before.uuid)
            .bind::<BigInt, _>(before.identity)
            .bind::<Nullable<Text>, _>(&scan.name)
            .bind::<BigInt, _>(limit)
            .load_iter::<LatestEvent, PgRowByRowLoadingMode>(conn)?;
        for row in rows {
            if each(row?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let Some(through) = days.last().and_then(NaiveDate::pred_opt) else {
            return Ok(ControlFlow::Break(()));
        };
        self.through = through;
        self.look_ups = (self.look_ups * GROWTH).min(MAX_LOOK_UPS);
        Ok(ControlFlow::Continue(()))
    }
}

/// At most `limit` consecutive days, the last one first: those up to `through` that have events begin with it. Empty if no
/// day from `from` on has events.
fn previous_days(
    conn: &mut Conn,
    shard_key: ShardKey,
    (from, through): (NaiveDate, NaiveDate),
    limit: usize,
) -> Result<Vec<NaiveDate>> {
    let between = events::table
        .filter(events::shard_key.eq(shard_key.0))
        .filter(events::day.ge(from))
        .filter(events::day.le(through));
    let ends: (Option<NaiveDate>, Option<NaiveDate>) = between
        .select((dsl::min(events::day), dsl::max(events::day)))
        .first(conn)?;
    let (Some(first), Some(last)) = ends else {
        return Ok(Vec::new());
    };
    let days = last.iter_days().rev().take(limit);
    Ok(days.take_while(|day| *day >= first).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProjectId;
    use crate::events::{NewEvent, append};
    use crate::testing::TestDatabase;

    const NEVER: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn new_event<'a>(
        (number, ordinal): (u128, i64),
        event: &'a str,
        time: &str,
        properties: &'a JsonText,
    ) -> NewEvent<'a> {
        let timestamp: DateTime<Utc> = time.parse().unwrap();
        NewEvent {
            shard_key: ProjectId(1).shard_key().0,
            uuid: Uuid::from_u128(number),
            identity: 1,
            day: timestamp.date_naive(),
            seq: 1,
            ordinal,
            event,
            distinct_id: "d",
            timestamp,
            properties,
        }
    }

    fn scan(from: DateTime<Utc>, before: EventPosition, name: Option<&str>) -> LatestScan {
        LatestScan {
            ordinals: vec![7, 8],
            name: name.map(str::to_owned),
            from,
            before,
        }
    }

    /// The numbers of the events of a scan, at most `limit` of them, and how many statements read them.
    fn read(conn: &mut Conn, scan: LatestScan, limit: usize) -> (Vec<u128>, usize) {
        let (mut numbers, mut statements) = (Vec::new(), 0);
        let mut reader = LatestReader::new(scan);
        loop {
            statements += 1;
            let rest = limit - numbers.len();
            let end = reader.read_days(conn, ProjectId(1).shard_key(), rest, |event| {
                numbers.push(event.uuid.as_u128());
                if numbers.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
            if end.unwrap().is_break() {
                return (numbers, statements);
            }
        }
    }

    #[test]
    fn events_come_newest_first_across_days_ordinals_and_gaps() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let properties = JsonText("{}".to_owned());
        let event = |key: (u128, i64), name, time| new_event(key, name, time, &properties);
        append(
            conn,
            &[
                event((5, 7), "paid", "1971-06-01T00:00:00Z"),
                event((4, 8), "paid", "2026-03-01T12:00:00Z"),
                event((3, 7), "seen", "2026-03-01T12:00:00Z"),
                event((2, 9), "paid", "2026-03-01T12:00:00Z"),
                event((1, 7), "paid", "2026-03-01T12:00:00.000001Z"),
                event((6, 7), "seen", "9999-12-31T23:59:59Z"),
            ],
        )
        .unwrap();
        let end = EventPosition::at(DateTime::<Utc>::MAX_UTC);
        let all = vec![6, 1, 4, 3, 5];
        assert_eq!(read(conn, scan(NEVER, end, None), 9).0, all);
        assert_eq!(read(conn, scan(NEVER, end, Some("paid")), 9).0, [1, 4, 5]);
        assert_eq!(read(conn, scan(NEVER, end, None), 2).0, [6, 1]);
        // A page after each event begins with the next one.
        for (nth, number) in all.iter().enumerate() {
            let times = ["9999-12-31T23:59:59Z", "2026-03-01T12:00:00.000001Z"];
            let time = match number {
                5 => "1971-06-01T00:00:00Z",
                _ => times.get(nth).unwrap_or(&"2026-03-01T12:00:00Z"),
            };
            let before = EventPosition {
                timestamp: time.parse().unwrap(),
                uuid: Uuid::from_u128(*number),
                identity: 1,
            };
            let rest = read(conn, scan(NEVER, before, None), 9).0;
            assert_eq!(rest, all[nth + 1..], "after {number}");
        }
        let noon: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(read(conn, scan(noon, end, None), 9).0, [6, 1, 4, 3]);
        let before = EventPosition::at(noon);
        assert_eq!(read(conn, scan(NEVER, before, None), 9).0, [5]);
        assert_eq!(read(conn, scan(noon, before, None), 9).0, []);
    }

    #[test]
    fn one_statement_reads_the_last_days_and_few_read_years() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let properties = JsonText("{}".to_owned());
        let first: NaiveDate = "2020-01-01".parse().unwrap();
        let times: Vec<String> = first
            .iter_days()
            .take(2_000)
            .map(|day| format!("{day}T00:00:00Z"))
            .collect();
        let event = |(nth, time): (usize, &String)| {
            let ordinal = if nth == 0 || nth > 1_990 { 7 } else { 9 };
            new_event((nth as u128, ordinal), "x", time, &properties)
        };
        let events: Vec<_> = times.iter().enumerate().map(event).collect();
        append(conn, &events).unwrap();
        let end = EventPosition::at(DateTime::<Utc>::MAX_UTC);
        let (numbers, statements) = read(conn, scan(NEVER, end, None), 3);
        assert_eq!((numbers, statements), (vec![1_999, 1_998, 1_997], 1));
        // A scan before the position of a reader goes on after the days that were read.
        let mut reader = LatestReader::new(scan(NEVER, end, None));
        let mut count = 0;
        let step = reader.read_days(conn, ProjectId(1).shard_key(), 99, |_| {
            count += 1;
            ControlFlow::Continue(())
        });
        assert!(step.unwrap().is_continue());
        assert_eq!(count, 9);
        assert_eq!(read(conn, scan(NEVER, reader.position(), None), 9).0, [0]);
        // 16, 64, 256, 1,024 and 2,048 days.
        let (numbers, statements) = read(conn, scan(NEVER, end, None), 10);
        assert_eq!((numbers[9], statements), (0, 5));
    }
}
