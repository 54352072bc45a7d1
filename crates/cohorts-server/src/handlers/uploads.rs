//! Files that are uploaded to static cohorts: whom their rows name, and what became of each row.
//!
//! A file is read and its people are looked up before anything is locked; the members then change in one transaction,
//! in which the outcome is written down.

use std::collections::HashMap;

use cohorts_api::types;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cohorts::user;
use super::people_csv::{self, IdKind, Row, Sheet};
use super::persons::set;
use super::{Service, turn};
use crate::auth::Caller;
use crate::blocking;
use crate::error::Error;
use crate::ingest;
use cohorts_store::uploads::{self, Upload, UploadOutcome, UploadWithTeammate};
use cohorts_store::{
    CohortId, Conn, JsonText, ProjectId, ShardKey, Store, events, persons, tombstones,
};

/// Rows that are looked up at a time.
const ROWS: usize = 10_000;
/// Rows that are listed because they named nobody; the others are counted.
const LISTED: usize = 100;
/// Characters that are shown of what stands in such a row.
const SHOWN: usize = 200;
/// Uploads of a cohort that are kept.
const KEPT: i64 = 100;

/// What is asked beside a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether people are made for ids that nobody has.
    pub create_people: bool,
    /// Whether members who are not in the file are taken out.
    pub replace_members: bool,
}

/// What a file says, before it is known who is a member.
#[derive(Debug)]
pub struct Named {
    pub people: RoaringBitmap,
    /// The last batch of the log before anybody was looked up.
    known: i64,
    options: Options,
    kind: IdKind,
    rows: i64,
    /// Rows whose people an earlier row named.
    repeated: i64,
    unknown: i64,
    bad: i64,
    created: i64,
    problems: Vec<Problem>,
}

/// A row that named nobody.
#[derive(Debug, Serialize, Deserialize)]
struct Problem {
    line: u64,
    is_bad: bool,
    id: String,
    reason: String,
}

impl Service {
    /// Whom the file names, if there is one.
    pub(super) async fn named(
        &self,
        project: ProjectId,
        files: Vec<cohorts_api::UploadedFile>,
        options: Options,
    ) -> Result<Option<Named>, Error> {
        let Some(file) = files.into_iter().next_back() else {
            return Ok(None);
        };
        let _turn = turn(&self.uploads).await?;
        let store = self.store.clone();
        let read = move |conn: &mut Conn| {
            let open = || Sheet::open(file.open().map_err(anyhow::Error::from)?);
            if options.create_people {
                // Nobody is made for a file that turns out to be unreadable.
                open()?.try_for_each(|row| row.map(drop))?;
            }
            Named::read(conn, &store, project, open()?, options)
        };
        blocking::read(&self.store, read).await.map(Some)
    }
}

impl Named {
    fn read(
        conn: &mut Conn,
        store: &Store,
        project: ProjectId,
        mut sheet: Sheet,
        options: Options,
    ) -> Result<Self, Error> {
        let mut named = Self {
            people: RoaringBitmap::new(),
            known: events::log_head(conn, project.shard_key())?,
            options,
            kind: sheet.kind,
            rows: 0,
            repeated: 0,
            unknown: 0,
            bad: 0,
            created: 0,
            problems: Vec::new(),
        };
        let mut has_id = false;
        loop {
            let rows = sheet.by_ref().take(ROWS).collect::<Result<Vec<_>, _>>()?;
            if rows.is_empty() {
                break;
            }
            has_id |= rows.iter().any(Row::has_id);
            named.add(conn, store, project, rows)?;
        }
        if !has_id {
            return Err(people_csv::without_ids());
        }
        log::info!(
            "an upload names {} people in {} rows",
            named.people.len(),
            named.rows
        );
        Ok(named)
    }

    fn add(
        &mut self,
        conn: &mut Conn,
        store: &Store,
        project: ProjectId,
        rows: Vec<Row>,
    ) -> Result<(), Error> {
        let good = rows.iter().filter(|row| row.fault.is_none());
        let ids: Vec<&str> = good.map(|row| row.id.as_str()).collect();
        let mut known = ordinals(conn, project, self.kind, &ids)?;
        if self.options.create_people && self.kind != IdKind::Person {
            let mut missing: Vec<&str> = ids;
            missing.retain(|id| !known.contains_key(*id) && is_distinct_id(id));
            let by_email = self.kind == IdKind::Email;
            for (id, ordinal) in ingest::create_persons(store, conn, project, &missing, by_email)? {
                self.created += i64::from(ordinal.is_new);
                known.entry(id).or_default().push(ordinal.ordinal);
            }
        }
        for row in rows {
            self.rows += 1;
            match (row.fault, known.get(&row.id)) {
                (Some(fault), _) => {
                    self.bad += 1;
                    self.list(row.line, true, &row.id, fault);
                }
                (None, None) => {
                    self.unknown += 1;
                    self.list(
                        row.line,
                        false,
                        &row.id,
                        "Nobody in the project has this id.",
                    );
                }
                (None, Some(ordinals)) => {
                    let found = set(ordinals.iter().copied())?;
                    self.repeated += i64::from(found.is_subset(&self.people));
                    self.people |= found;
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, line: u64, is_bad: bool, id: &str, reason: &str) {
        if self.problems.len() < LISTED {
            self.problems.push(Problem {
                line,
                is_bad,
                id: id.replace('\0', "\u{fffd}").chars().take(SHOWN).collect(),
                reason: reason.to_owned(),
            });
        }
    }

    /// Leaves out whoever was deleted since they were looked up, and follows those who were merged; a transaction that
    /// keeps others from being deleted calls it before the members change.
    pub fn forget(&mut self, conn: &mut Conn, shard_key: ShardKey) -> Result<(), Error> {
        let tombstones = tombstones::since(conn, shard_key, self.known)?;
        let gone = self
            .people
            .iter()
            .filter(|ordinal| tombstones.resolve(*ordinal).is_none());
        self.unknown += gone.count() as i64;
        self.people = tombstones.resolved(&self.people);
        Ok(())
    }

    /// The members after the file.
    pub fn applied(&self, members: RoaringBitmap) -> RoaringBitmap {
        match self.options.replace_members {
            true => self.people.clone(),
            false => members | &self.people,
        }
    }

    /// Writes down what became of the rows.
    pub fn record(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        cohort: CohortId,
        edit: &cohorts_store::members::MemberEdit,
    ) -> Result<types::Upload, Error> {
        let problems = serde_json::to_value(&self.problems).map_err(anyhow::Error::from)?;
        let already = self.people.intersection_len(&edit.before) as i64;
        let outcome = UploadOutcome {
            id_kind: self.kind.as_str().to_owned(),
            rows: self.rows,
            added: self.people.difference_len(&edit.before) as i64,
            already_members: already + self.repeated,
            unknown: self.unknown,
            bad_rows: self.bad,
            created_people: self.created,
            removed: edit.before.difference_len(&edit.after) as i64,
            problems: JsonText::of(&problems),
            problems_left_out: self.unknown + self.bad - self.problems.len() as i64,
        };
        let row = uploads::record(conn, cohort, &caller.teammate, &outcome)?;
        uploads::prune(conn, cohort, KEPT)?;
        Ok(shown((row, Some(caller.teammate.clone()))))
    }
}

/// Whether events can come in under it; longer ones are cut.
fn is_distinct_id(text: &str) -> bool {
    text.chars().count() <= ingest::LONGEST_NAME
}

/// Whose each of these ids is, where it is anybody's; an e-mail address may be several people's.
fn ordinals(
    conn: &mut Conn,
    project: ProjectId,
    kind: IdKind,
    ids: &[&str],
) -> Result<HashMap<String, Vec<i64>>, Error> {
    let shard_key = project.shard_key();
    let mut found: HashMap<String, Vec<i64>> = HashMap::new();
    match kind {
        IdKind::DistinctId => {
            let ordinals = persons::ordinals_by_id(conn, shard_key, ids)?.into_iter();
            found.extend(ordinals.map(|(id, ordinal)| (id, vec![ordinal])));
        }
        IdKind::Email => {
            for (email, ordinal) in persons::ordinals_by_email(conn, shard_key, ids)? {
                found.entry(email).or_default().push(ordinal);
            }
        }
        IdKind::Person => {
            // A uuid may be written in several ways.
            let read = |id: &&str| Some((Uuid::parse_str(id).ok()?, (*id).to_owned()));
            let asked: Vec<(Uuid, String)> = ids.iter().filter_map(read).collect();
            let uuids: Vec<Uuid> = asked.iter().map(|(uuid, _)| *uuid).collect();
            let ordinals = persons::ordinals_by_uuid(conn, shard_key, &uuids)?;
            let known = asked
                .into_iter()
                .filter_map(|(uuid, id)| Some((id, vec![*ordinals.get(&uuid)?])));
            found.extend(known);
        }
    }
    Ok(found)
}

/// An upload as callers see it.
pub fn shown((row, teammate): UploadWithTeammate) -> types::Upload {
    let Upload {
        id,
        created_at,
        outcome,
    } = row;
    let problems: Vec<Problem> = serde_json::from_str(&outcome.problems.0).unwrap_or_default();
    types::Upload {
        id,
        created_at,
        created_by: teammate.map(user),
        id_kind: outcome
            .id_kind
            .parse()
            .unwrap_or(types::UploadIdKind::DistinctId),
        rows: outcome.rows,
        added: outcome.added,
        already_members: outcome.already_members,
        unknown: outcome.unknown,
        bad_rows: outcome.bad_rows,
        created_people: outcome.created_people,
        removed: outcome.removed,
        problems: problems.into_iter().map(problem).collect(),
        problems_left_out: outcome.problems_left_out,
    }
}

fn problem(problem: Problem) -> types::UploadProblem {
    types::UploadProblem {
        line: problem.line as i64,
        outcome: match problem.is_bad {
            true => types::UploadProblemOutcome::Bad,
            false => types::UploadProblemOutcome::Unknown,
        },
        id: problem.id,
        reason: problem.reason,
    }
}
