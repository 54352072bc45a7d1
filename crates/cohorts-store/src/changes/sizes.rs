//! Sizes of cohorts over time: one row per span, with the size at its end and the persons who entered and left in it.
//!
//! A publication writes the row of its minute. Rows of minutes older than a day are added up to hours, and those of hours
//! older than 90 days to UTC days, which are never deleted. So each change is counted in exactly one row.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::upsert::excluded;

use super::rows::ChangeRow;
use crate::schema::cohort_sizes as sizes;
use crate::{CohortId, Conn, INSERT_ROWS, ProjectId, Result, ShardKey, transaction};

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
/// How long sizes by the minute are kept.
const MINUTES_AGE: TimeDelta = TimeDelta::days(1);
/// How long sizes by the hour are kept.
const HOURS_AGE: TimeDelta = TimeDelta::days(90);

/// The size of a cohort at the end of a span with changes.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = sizes)]
pub struct CohortSize {
    /// The id of the cohort.
    pub cohort_id: i64,
    /// The start of the span.
    pub at: DateTime<Utc>,
    /// The length of the span.
    pub seconds: i64,
    /// The number of members at the end of the span.
    pub count: i64,
    /// How many persons entered in the span.
    pub entered: i64,
    /// How many persons left in the span.
    pub left: i64,
}

/// The start of the span that contains a time.
pub(super) fn start_of_span(time: DateTime<Utc>, seconds: i64) -> DateTime<Utc> {
    let start = time.duration_trunc(TimeDelta::seconds(seconds));
    start.unwrap_or(time)
}

/// Adds changes to the rows of their minutes.
pub(super) fn record(conn: &mut Conn, shard_key: ShardKey, changes: &[ChangeRow]) -> Result<()> {
    let minutes = changes.iter().map(|change| CohortSize {
        cohort_id: change.cohort_id,
        at: start_of_span(change.published_at, MINUTE),
        seconds: MINUTE,
        count: change.count,
        entered: change.entered,
        left: change.left,
    });
    write(conn, shard_key, &minutes.collect::<Vec<_>>())
}

/// Adds rows to the stored ones, with the count of the later one. No two rows have the same cohort and time.
fn write(conn: &mut Conn, shard_key: ShardKey, rows: &[CohortSize]) -> Result<()> {
    for rows in rows.chunks(INSERT_ROWS) {
        let values = rows.iter().map(|row| {
            (
                sizes::shard_key.eq(shard_key.0),
                sizes::cohort_id.eq(row.cohort_id),
                sizes::at.eq(row.at),
                sizes::seconds.eq(row.seconds),
                sizes::count.eq(row.count),
                sizes::entered.eq(row.entered),
                sizes::left.eq(row.left),
            )
        });
        diesel::insert_into(sizes::table)
            .values(values.collect::<Vec<_>>())
            .on_conflict((sizes::shard_key, sizes::cohort_id, sizes::at))
            .do_update()
            .set((
                sizes::count.eq(excluded(sizes::count)),
                sizes::entered.eq(sizes::entered + excluded(sizes::entered)),
                sizes::left.eq(sizes::left + excluded(sizes::left)),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// The recorded sizes of a cohort from `from` until before `to`, in order.
///
/// # Errors
///
/// Fails if the database fails.
pub fn read(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<CohortSize>> {
    Ok(sizes::table
        .filter(sizes::shard_key.eq(project.shard_key().0))
        .filter(sizes::cohort_id.eq(cohort.0))
        .filter(sizes::at.ge(from).and(sizes::at.lt(to)))
        .order(sizes::at)
        .select(CohortSize::as_select())
        .load(conn)?)
}

/// The last recorded size of a cohort with a span that begins before `time`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn last_before(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    time: DateTime<Utc>,
) -> Result<Option<CohortSize>> {
    Ok(sizes::table
        .filter(sizes::shard_key.eq(project.shard_key().0))
        .filter(sizes::cohort_id.eq(cohort.0))
        .filter(sizes::at.lt(time))
        .order(sizes::at.desc())
        .select(CohortSize::as_select())
        .first(conn)
        .optional()?)
}

/// The first recorded size of a cohort.
///
/// # Errors
///
/// Fails if the database fails.
pub fn first(conn: &mut Conn, project: ProjectId, cohort: CohortId) -> Result<Option<CohortSize>> {
    Ok(sizes::table
        .filter(sizes::shard_key.eq(project.shard_key().0))
        .filter(sizes::cohort_id.eq(cohort.0))
        .order(sizes::at)
        .select(CohortSize::as_select())
        .first(conn)
        .optional()?)
}

/// Adds up the oldest minutes of a project to an hour, or the oldest hours to a day, if they are old enough at `now`.
/// Returns the number of replaced rows; 0 if none are old enough.
///
/// # Errors
///
/// Fails if the database fails.
pub fn roll_up(conn: &mut Conn, project: ProjectId, now: DateTime<Utc>) -> Result<usize> {
    let shard_key = project.shard_key();
    for (seconds, span, age) in [(MINUTE, HOUR, MINUTES_AGE), (HOUR, DAY, HOURS_AGE)] {
        let oldest: Option<DateTime<Utc>> = sizes::table
            .filter(sizes::shard_key.eq(shard_key.0))
            .filter(sizes::seconds.eq(seconds))
            .order(sizes::at)
            .select(sizes::at)
            .first(conn)
            .optional()?;
        let start = oldest.map(|time| start_of_span(time, span));
        let old = start.filter(|start| *start + TimeDelta::seconds(span) <= now - age);
        if let Some(start) = old {
            return transaction(conn, |conn| {
                roll_up_span(conn, shard_key, seconds, (start, span))
            });
        }
    }
    Ok(0)
}

fn roll_up_span(
    conn: &mut Conn,
    shard_key: ShardKey,
    seconds: i64,
    (start, span): (DateTime<Utc>, i64),
) -> Result<usize> {
    let rows = sizes::table
        .filter(sizes::shard_key.eq(shard_key.0))
        .filter(sizes::seconds.eq(seconds))
        .filter(sizes::at.ge(start))
        .filter(sizes::at.lt(start + TimeDelta::seconds(span)));
    let mut rows: Vec<CohortSize> = diesel::delete(rows)
        .returning(CohortSize::as_returning())
        .get_results(conn)?;
    rows.sort_unstable_by_key(|row| row.at);
    let mut sums: BTreeMap<i64, CohortSize> = BTreeMap::new();
    for row in &rows {
        let sum = sums.entry(row.cohort_id).or_insert(CohortSize {
            cohort_id: row.cohort_id,
            at: start,
            seconds: span,
            count: 0,
            entered: 0,
            left: 0,
        });
        sum.count = row.count;
        sum.entered += row.entered;
        sum.left += row.left;
    }
    write(conn, shard_key, &sums.into_values().collect::<Vec<_>>())?;
    Ok(rows.len())
}

/// Deletes sizes of a cohort that no longer exists, at most about `limit` of them, and returns their number.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete(conn: &mut Conn, project: ProjectId, cohort: CohortId, limit: i64) -> Result<usize> {
    let of_cohort = sizes::table
        .filter(sizes::shard_key.eq(project.shard_key().0))
        .filter(sizes::cohort_id.eq(cohort.0));
    let times: Vec<DateTime<Utc>> = of_cohort.limit(limit).select(sizes::at).load(conn)?;
    let rows = of_cohort.filter(sizes::at.eq_any(times));
    Ok(diesel::delete(rows).execute(conn)?)
}

/// The cohorts with sizes in a project.
pub(super) fn cohorts(conn: &mut Conn, project: ProjectId) -> Result<Vec<i64>> {
    Ok(sizes::table
        .filter(sizes::shard_key.eq(project.shard_key().0))
        .select(sizes::cohort_id)
        .distinct()
        .load(conn)?)
}

/// The number of recorded sizes of these cohorts.
///
/// # Errors
///
/// Fails if the database fails.
pub fn count(conn: &mut Conn, project: ProjectId, cohorts: &[i64]) -> Result<i64> {
    Ok(sizes::table
        .filter(sizes::shard_key.eq(project.shard_key().0))
        .filter(sizes::cohort_id.eq_any(cohorts))
        .count()
        .get_result(conn)?)
}
