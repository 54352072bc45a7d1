//! `cohorts doctor`: whether the database is fit for the service, and what is stored right.

use std::fmt;

use chrono::{TimeDelta, Utc};

use cohorts_store::{Conn, Error, health, projects, queue, segments};

use crate::Data;
use crate::index::checkpoint::mismatched_events;

/// Clocks may differ so far before leases of other replicas seem over.
const CLOCK: TimeDelta = TimeDelta::seconds(2);
/// A cohort that has waited longer for its calculation is stuck.
const WAIT: TimeDelta = TimeDelta::minutes(5);

/// What one look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub state: State,
    pub about: &'static str,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Fine,
    Repaired,
    Wrong,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Fine => "ok",
            State::Repaired => "repaired",
            State::Wrong => "WRONG",
        };
        write!(f, "{state:<9} {:<12} {}", self.about, self.text)
    }
}

fn finding(fine: bool, about: &'static str, text: String) -> Finding {
    let state = if fine { State::Fine } else { State::Wrong };
    Finding { state, about, text }
}

/// Looks at everything; `repair` sets counts right and has blocks made anew that are wrong.
pub fn examine(data: &Data, repair: bool) -> Result<Vec<Finding>, Error> {
    let conn = &mut *data.store.connection()?;
    let mut found = vec![version(conn)?, tables(conn, data)?];
    found.extend(settings(conn)?);
    found.push(clock(conn)?);
    found.push(waiting(conn)?);
    found.extend(counts(conn, repair)?);
    found.extend(blocks(conn, repair)?);
    Ok(found)
}

/// Opening the data has refused one that is too old, and brought the tables up to date.
fn version(conn: &mut Conn) -> Result<Finding, Error> {
    let version = health::setting(conn, "server_version")?;
    Ok(finding(
        true,
        "database",
        format!("PostgreSQL {version}, tables up to date"),
    ))
}

fn tables(conn: &mut Conn, data: &Data) -> Result<Finding, Error> {
    let may = health::may_change_tables(conn)?;
    let text = match (may, data.store.has_trigrams) {
        (false, _) => "the role may not change the tables, as the next version will want to",
        (true, false) => {
            "the role may change the tables; pg_trgm is missing, so searches find no typing errors"
        }
        (true, true) => "the role may change the tables, and pg_trgm is there",
    };
    Ok(finding(may, "permissions", text.to_owned()))
}

/// What is acknowledged must survive a crash.
fn settings(conn: &mut Conn) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value = health::setting(conn, name)?;
        let fine = value != "off" && value != "local";
        let rest = if fine {
            ""
        } else {
            ": a crash may lose what was acknowledged"
        };
        found.push(finding(
            fine,
            "settings",
            format!("{name} is {value}{rest}"),
        ));
    }
    let value = health::setting(conn, "max_connections")?;
    let fine = value
        .parse::<u32>()
        .is_ok_and(|most| most > cohorts_store::POOL_SIZE);
    let text = format!(
        "max_connections is {value}; each replica takes up to {}",
        cohorts_store::POOL_SIZE
    );
    found.push(finding(fine, "settings", text));
    Ok(found)
}

fn clock(conn: &mut Conn) -> Result<Finding, Error> {
    let before = Utc::now();
    let theirs = health::clock(conn)?;
    let away = (theirs - before).abs();
    let text = format!("{:.3} s from that of the database", away.as_seconds_f64());
    Ok(finding(away < CLOCK, "clock", text))
}

fn waiting(conn: &mut Conn) -> Result<Finding, Error> {
    let now = Utc::now();
    let queue::Backlog {
        count,
        waiting_since,
    } = queue::backlog(conn, now)?;
    let longest = waiting_since.map_or(TimeDelta::zero(), |since| now - since);
    let text = format!(
        "{count} cohorts wait, the first for {} s",
        longest.num_seconds()
    );
    Ok(finding(longest < WAIT, "calculation", text))
}

fn counts(conn: &mut Conn, repair: bool) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    for project in projects::all(conn)? {
        for wrong in health::miscounted(conn, project, repair)? {
            let (id, count, members) = (wrong.id, wrong.count, wrong.members);
            found.push(Finding {
                state: if repair {
                    State::Repaired
                } else {
                    State::Wrong
                },
                about: "counts",
                text: format!(
                    "cohort {id} of project {} counts {count} people and has {members}",
                    project.0
                ),
            });
        }
    }
    if found.is_empty() {
        found.push(finding(
            true,
            "counts",
            "every count is the number of members".to_owned(),
        ));
    }
    Ok(found)
}

fn blocks(conn: &mut Conn, repair: bool) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    for project in projects::all(conn)? {
        let wrong = mismatched_events(conn, project.shard_key())?;
        if repair && !wrong.is_empty() {
            cohorts_store::transaction(conn, |conn| {
                projects::lock(conn, project)?;
                segments::drop_all(conn, project.shard_key())
            })?;
        }
        found.extend(wrong.into_iter().map(|event| Finding {
            state: if repair {
                State::Repaired
            } else {
                State::Wrong
            },
            about: "blocks",
            text: format!(
                "the blocks of event {event:?} of project {} are not its rows",
                project.0
            ),
        }));
    }
    if found.is_empty() {
        found.push(finding(
            true,
            "blocks",
            "kept blocks hold what the rows do".to_owned(),
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use cohorts_store::testing::TestDatabase;
    use diesel::prelude::*;

    use super::*;
    use crate::commands::demo::{self, Size};
    use crate::config::Database;

    #[test]
    fn what_is_wrong_is_found_and_repaired() {
        let database = TestDatabase::create();
        let data = Data::open(&Database::Url(database.url())).unwrap();
        let size = Size {
            people: 2_000,
            events: 60_000,
        };
        demo::run(&data, size).unwrap();
        let conn = &mut *data.store.connection().unwrap();
        data.store.caches.index.write_checkpoints(conn);
        // The tests' own database is one that a crash may harm.
        let wrong = |repair: bool| {
            let found = examine(&data, repair).unwrap();
            let wrong = found
                .into_iter()
                .filter(|one| one.state != State::Fine && one.about != "settings");
            wrong.map(|one| one.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(wrong(false), Vec::<String>::new());
        for statement in [
            "update cohorts set count = count + 1 where id = (select min(id) from cohorts)",
            "delete from segments where (event, day) = (select event, day from segments limit 1)",
        ] {
            assert!(
                diesel::sql_query(statement).execute(conn).unwrap() > 0,
                "{statement}"
            );
        }
        let found = wrong(false);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found.iter().all(|line| line.starts_with("WRONG")),
            "{found:?}"
        );
        assert!(wrong(true).iter().all(|line| line.starts_with("repaired")));
        assert_eq!(wrong(false), Vec::<String>::new());
    }
}
