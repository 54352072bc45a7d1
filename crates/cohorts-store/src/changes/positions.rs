//! Positions in the log by time, and whether a position that was read earlier still belongs to the log.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use super::{ChangeHead, FeedPosition};
use crate::schema::member_changes as changes;
use crate::{Conn, ProjectId, Result, ShardKey};

/// The position before the first change after a time; `None` if some of the changes after it are deleted.
///
/// The caller reads in a [`crate::snapshot`], with the head of the same snapshot.
///
/// # Errors
///
/// Fails if the database fails.
pub fn position_at(
    conn: &mut Conn,
    head: &ChangeHead,
    time: DateTime<Utc>,
) -> Result<Option<FeedPosition>> {
    if time < head.complete_since {
        return Ok(None);
    }
    let shard_key = head.project().shard_key();
    // Times never fall with rising numbers. The changes up to `before` are not after the time, and those above `last` are.
    let (mut before, mut last) = (head.expired_through, head.number);
    while before < last {
        let middle = before + (last - before) / 2;
        match first_above(conn, shard_key, middle)? {
            Some((number, published_at)) if published_at <= time => before = number.min(last),
            _ => last = middle,
        }
    }
    Ok(Some(FeedPosition::after(before)))
}

/// The number and the time of the first change above a number.
fn first_above(
    conn: &mut Conn,
    shard_key: ShardKey,
    number: i64,
) -> Result<Option<(i64, DateTime<Utc>)>> {
    Ok(changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .filter(changes::number.gt(number))
        .order(changes::number)
        .select((changes::number, changes::published_at))
        .first(conn)
        .optional()?)
}

/// The time of the last change up to a number.
fn time_through(
    conn: &mut Conn,
    shard_key: ShardKey,
    number: i64,
) -> Result<Option<DateTime<Utc>>> {
    Ok(changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .filter(changes::number.le(number))
        .order(changes::number.desc())
        .select(changes::published_at)
        .first(conn)
        .optional()?)
}

/// Whether the log is the one in which a reader has reached a number, when the last change of the log had a time. After
/// a restore from a backup, the numbers that were lost are given to later changes.
///
/// # Errors
///
/// Fails if the database fails.
pub fn is_same_log(
    conn: &mut Conn,
    project: ProjectId,
    head: Option<&ChangeHead>,
    (number, time): (i64, DateTime<Utc>),
) -> Result<bool> {
    let Some(head) = head else {
        return Ok(number == 0);
    };
    if head.number < number || head.published_at < time {
        return Ok(false);
    }
    if head.published_at == time {
        return Ok(true);
    }
    let newest = time_through(conn, project.shard_key(), number)?;
    Ok(newest.is_none_or(|newest| newest <= time))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::changes::heads::{self, take_numbers};
    use crate::changes::rows::{self, ChangeRow};
    use crate::testing::TestDatabase;
    use crate::{changes, projects};

    fn add(conn: &mut Conn, project: ProjectId, number: i64, published_at: DateTime<Utc>) {
        let row = ChangeRow {
            number,
            cohort_id: 1,
            base_version: number - 1,
            version: number,
            attempt: 0,
            cause: "data".to_owned(),
            published_at,
            entered: 1,
            left: 0,
            count: number,
            bytes: 0,
        };
        rows::insert(conn, project.shard_key(), &[row]).unwrap();
    }

    #[test]
    fn a_time_leads_to_the_first_change_after_it() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let start = Utc::now();
        let at = |second: i64| start + TimeDelta::seconds(second);
        take_numbers(conn, project.shard_key(), 40, 0).unwrap();
        // Some numbers have no row: compaction deletes rows.
        for (number, second) in [(3, 1), (4, 1), (17, 2), (30, 5)] {
            add(conn, project, number, at(second));
        }
        let position = |conn: &mut Conn, second: i64| {
            let head = changes::heads(conn, &[project]).unwrap().remove(0);
            let position = position_at(conn, &head, at(second)).unwrap();
            position.map(|position| position.number)
        };
        for (second, last) in [(0, 0), (1, 4), (2, 17), (4, 17), (5, 30), (9, 30)] {
            let number = position(conn, second).unwrap();
            let next = first_above(conn, project.shard_key(), number).unwrap();
            let expected = first_above(conn, project.shard_key(), last).unwrap();
            assert_eq!(next, expected, "{second}");
        }
        heads::expired(conn, project.shard_key(), 4, at(1)).unwrap();
        assert_eq!(position(conn, 0), None);
        assert!(position(conn, 1).is_some());
    }

    #[test]
    fn a_log_that_was_restored_is_another_log() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let head = |conn: &mut Conn| changes::heads(conn, &[project]).unwrap().pop();
        let is_same = |conn: &mut Conn, number: i64, time: DateTime<Utc>| {
            let head = head(conn);
            is_same_log(conn, project, head.as_ref(), (number, time)).unwrap()
        };
        assert!(is_same(conn, 0, DateTime::UNIX_EPOCH));
        assert!(!is_same(conn, 3, Utc::now()));
        let publish = |conn: &mut Conn, number: i64| {
            let taken = take_numbers(conn, project.shard_key(), 1, 0).unwrap();
            assert_eq!(taken.last, number);
            add(conn, project, number, taken.published_at);
            taken.published_at
        };
        publish(conn, 1);
        let kept = publish(conn, 2);
        assert!(is_same(conn, 2, kept) && is_same(conn, 1, kept));
        // A reader has seen numbers 3 and 4 before they were lost.
        let lost = Utc::now();
        assert!(!is_same(conn, 4, lost));
        for number in 3..6 {
            publish(conn, number);
        }
        assert!(!is_same(conn, 4, lost) && !is_same(conn, 3, lost));
        assert!(is_same(conn, 2, lost) && is_same(conn, 2, kept) && !is_same(conn, 4, Utc::now()));
    }
}
