//! CSV files for static cohorts: the persons that the rows identify, and the outcome of each row.
//!
//! A file is read, and its persons are looked up, before anything is locked. The members then change in one transaction,
//! which also records the outcome.

use std::collections::HashMap;

use cohorts_api::{UploadPermit, types};
use cohorts_engine::is_too_long;
use cohorts_store::changes::MemberEdit;
use cohorts_store::uploads::{self, UploadOutcome};
use cohorts_store::{
    CohortId, Conn, JsonText, ProjectId, ShardKey, Store, cohorts, events, persons, tombstones,
};
use roaring::RoaringBitmap;

use super::person_file::{self, Column, FileRow, IdKind, Layout, PersonFile};
use super::present::{RowProblem, UploadedColumn};
use super::{Service, lookup, present};
use crate::auth::Caller;
use crate::error::Error;
use crate::ingest;
use crate::shares::ShareOwner;

/// The largest file that is received for a dynamic cohort, before the fields after it are known.
const SMALL_FILE: u64 = 16 << 20;
/// Rows that one statement looks up.
const ROWS: usize = 10_000;
/// Rows without a person that a report lists; the others are counted.
const LISTED_PROBLEMS: usize = 100;
/// Characters of an id that a report shows.
const SHOWN_CHARS: usize = 200;
/// Reports that the store keeps for each cohort.
const KEPT_REPORTS: i64 = 100;

/// The options that a request sends with its file.
#[derive(Clone, Copy, Debug, Default)]
pub struct UploadOptions {
    /// Whether ids without a person get a new person.
    pub create_persons: bool,
    /// Whether members that are not in the file are removed.
    pub replace_members: bool,
    /// Whether a file without any person of the project may remove all members.
    pub allow_empty: bool,
}

/// The persons that a file identifies, before they become members.
#[derive(Debug)]
pub struct UploadedPersons {
    pub persons: RoaringBitmap,
    /// The log head before the first look-up.
    seen_seq: i64,
    options: UploadOptions,
    layout: Layout,
    rows: i64,
    /// Rows with persons of an earlier row.
    repeated: i64,
    unknown: i64,
    bad: i64,
    created: i64,
    /// Distinct ids that were cut because they are too long.
    truncated: u64,
    problems: Vec<RowProblem>,
}

impl Service {
    /// Admits a file: the cohort in the path takes one, the project has a share of the uploads left, and the disk has room.
    ///
    /// `fields` are those before the file. They can make the cohort static.
    pub(super) async fn permit_upload(
        &self,
        caller: &Caller,
        cohort: Option<&str>,
        fields: &[(String, String)],
        length: Option<u64>,
    ) -> Result<UploadPermit, Error> {
        let project = caller.project.id();
        let mut expected = length;
        if let Some(id) = cohort {
            let id = CohortId(id.parse().map_err(|_| Error::NotFound)?);
            let find = move |conn: &mut Conn| Ok(cohorts::find(conn, project, id)?);
            let (row, _) = self.read(project, find).await?.ok_or(Error::NotFound)?;
            if !row.definition.is_static && !fields.iter().any(|(name, _)| name == "is_static") {
                expected = Some(length_before_kind(length)?);
            }
        }
        let permit = self
            .shares
            .uploads
            .acquire(ShareOwner::Project(project))
            .await?;
        let space = self.upload_disk.take(expected)?;
        let max_bytes = usize::try_from(space.bytes).unwrap_or(usize::MAX);
        Ok(UploadPermit::new(max_bytes, (space, permit)))
    }

    /// Reads the last of the uploaded files; returns `None` without a file.
    pub(super) async fn read_upload(
        &self,
        project: ProjectId,
        files: Vec<cohorts_api::UploadedFile>,
        options: UploadOptions,
    ) -> Result<Option<UploadedPersons>, Error> {
        let Some(file) = files.into_iter().next_back() else {
            return Ok(None);
        };
        let store = self.store.clone();
        let read = move |conn: &mut Conn| {
            let open = || PersonFile::open(file.open().map_err(anyhow::Error::from)?);
            if options.create_persons {
                // An unreadable file must create no persons.
                open()?.try_for_each(|row| row.map(drop))?;
            }
            UploadedPersons::read(conn, &store, project, open()?, options)
        };
        let persons = self.read(project, read).await?;
        self.metrics.truncated("distinct_id", persons.truncated);
        Ok(Some(persons))
    }
}

/// The length of a file for a dynamic cohort. A field after a small file may make the cohort static.
fn length_before_kind(length: Option<u64>) -> Result<u64, Error> {
    if length.is_some_and(|length| length > SMALL_FILE) {
        let detail = "A CSV file can only be uploaded to a static cohort. Send the field `is_static` before a large file.";
        return Err(Error::field("csv", detail));
    }
    Ok(SMALL_FILE)
}

impl UploadedPersons {
    fn new(options: UploadOptions, layout: Layout, seen_seq: i64) -> Self {
        Self {
            persons: RoaringBitmap::new(),
            seen_seq,
            options,
            layout,
            rows: 0,
            repeated: 0,
            unknown: 0,
            bad: 0,
            created: 0,
            truncated: 0,
            problems: Vec::new(),
        }
    }

    /// Reads a file, and looks its persons up.
    pub fn read(
        conn: &mut Conn,
        store: &Store,
        project: ProjectId,
        mut file: PersonFile,
        options: UploadOptions,
    ) -> Result<Self, Error> {
        let seen_seq = events::log_head(conn, project.shard_key())?;
        let mut upload = Self::new(options, file.layout.clone(), seen_seq);
        let mut has_id = false;
        loop {
            let rows = file.by_ref().take(ROWS).collect::<Result<Vec<_>, _>>()?;
            if rows.is_empty() {
                break;
            }
            has_id |= rows.iter().any(FileRow::has_id);
            let ordinals = upload.look_up(conn, store, project, &rows)?;
            for row in rows {
                upload.add(row, &ordinals)?;
            }
        }
        let may_be_empty = options.replace_members && options.allow_empty;
        if !has_id && !may_be_empty {
            return Err(person_file::no_ids());
        }
        upload.check_replacement()?;
        let (persons, rows) = (upload.persons.len(), upload.rows);
        log::info!("upload: {persons} persons in {rows} rows");
        Ok(upload)
    }

    /// Fails if the file would remove all members because it was misread or names no person.
    fn check_replacement(&self) -> Result<(), Error> {
        let UploadOptions {
            replace_members,
            allow_empty,
            ..
        } = self.options;
        if replace_members && !allow_empty && self.persons.is_empty() {
            let kind = self.layout.kind.as_str();
            return Err(Error::field(
                "csv",
                format!(
                    "No row of the file names a person of the project by its {kind}, so `replace_members` would remove \
                     all members. Nothing was changed. Set `allow_empty` to true if that is intended."
                ),
            ));
        }
        Ok(())
    }

    /// The ordinals of the persons with each id. Creates missing persons if the request asks for that.
    fn look_up(
        &mut self,
        conn: &mut Conn,
        store: &Store,
        project: ProjectId,
        rows: &[FileRow],
    ) -> Result<HashMap<String, Vec<i64>>, Error> {
        let valid = rows.iter().filter(|row| row.fault.is_none());
        let mut ids: Vec<&str> = valid.map(|row| row.id.as_str()).collect();
        let mut ordinals = lookup::ordinals_by_id(conn, project, self.layout.kind, &ids)?;
        if self.options.create_persons && self.layout.kind != IdKind::Person {
            ids.retain(|id| !ordinals.contains_key(*id) && !is_too_long(id));
            ordinals.extend(self.create(conn, store, project, &ids)?);
        }
        Ok(ordinals)
    }

    /// Creates a person for each of these ids that has none. One address in several spellings is one person, who keeps
    /// the first spelling.
    fn create(
        &mut self,
        conn: &mut Conn,
        store: &Store,
        project: ProjectId,
        ids: &[&str],
    ) -> Result<Vec<(String, Vec<i64>)>, Error> {
        let by_email = self.layout.kind == IdKind::Email;
        let spellings = match by_email {
            true => persons::first_spellings(conn, ids)?,
            false => HashMap::new(),
        };
        let firsts: Vec<&str> = ids
            .iter()
            .map(|id| spellings.get(*id).map_or(*id, String::as_str))
            .collect();
        let created = ingest::create_persons(store, conn, project, &firsts, by_email)?;
        self.created += created.values().filter(|person| person.is_new).count() as i64;
        let pairs = ids.iter().zip(&firsts);
        Ok(pairs
            .filter_map(|(id, first)| Some(((*id).to_owned(), vec![created.get(*first)?.ordinal])))
            .collect())
    }

    fn add(&mut self, row: FileRow, ordinals: &HashMap<String, Vec<i64>>) -> Result<(), Error> {
        self.rows += 1;
        self.truncated += u64::from(row.is_truncated);
        if let Some(fault) = row.fault {
            self.bad += 1;
            self.list_problem(&row, fault);
        } else if let Some(ordinals) = ordinals.get(&row.id) {
            let persons = lookup::ordinal_set(ordinals.iter().copied())?;
            self.repeated += i64::from(persons.is_subset(&self.persons));
            self.persons |= persons;
        } else {
            self.unknown += 1;
            self.list_problem(&row, "No person of the project has this id.");
        }
        Ok(())
    }

    fn list_problem(&mut self, row: &FileRow, reason: &str) {
        if self.problems.len() < LISTED_PROBLEMS {
            let id = row.id.replace('\0', "\u{fffd}");
            self.problems.push(RowProblem {
                line: row.line,
                is_bad: row.fault.is_some(),
                id: id.chars().take(SHOWN_CHARS).collect(),
                reason: reason.to_owned(),
            });
        }
    }

    /// Removes the persons that were deleted since the look-up, and replaces merged persons by their survivors. The
    /// transaction that changes the members calls it under a lock that prevents further deletions.
    pub fn resolve(&mut self, conn: &mut Conn, shard_key: ShardKey) -> Result<(), Error> {
        let tombstones = tombstones::since(conn, shard_key, self.seen_seq)?;
        let deleted = self
            .persons
            .iter()
            .filter(|ordinal| tombstones.resolve(*ordinal).is_none());
        self.unknown += deleted.count() as i64;
        self.persons = tombstones.resolved(&self.persons);
        Ok(())
    }

    /// The members after the upload.
    pub fn applied(&self, members: RoaringBitmap) -> RoaringBitmap {
        if self.options.replace_members {
            self.persons.clone()
        } else {
            members | &self.persons
        }
    }

    /// Records the outcome of the rows.
    pub fn record(
        &self,
        conn: &mut Conn,
        caller: &Caller,
        cohort: CohortId,
        edit: &MemberEdit,
    ) -> Result<types::Upload, Error> {
        let outcome = self.outcome(edit)?;
        let row = uploads::record(conn, cohort, &caller.teammate, &outcome)?;
        uploads::prune(conn, cohort, KEPT_REPORTS)?;
        Ok(present::upload((row, Some(caller.teammate.clone()))))
    }

    fn outcome(&self, edit: &MemberEdit) -> Result<UploadOutcome, Error> {
        let problems = serde_json::to_value(&self.problems).map_err(anyhow::Error::from)?;
        let columns: Vec<UploadedColumn> =
            self.layout.columns.iter().map(uploaded_column).collect();
        let columns = serde_json::to_value(&columns).map_err(anyhow::Error::from)?;
        let already_members = self.persons.intersection_len(&edit.before) as i64;
        Ok(UploadOutcome {
            id_kind: self.layout.kind.as_str().to_owned(),
            delimiter: Some(char::from(self.layout.delimiter).to_string()),
            file_columns: Some(JsonText::of(&columns)),
            rows: self.rows,
            added: self.persons.difference_len(&edit.before) as i64,
            already_members: already_members + self.repeated,
            unknown: self.unknown,
            bad_rows: self.bad,
            created_people: self.created,
            removed: edit.before.difference_len(&edit.after) as i64,
            problems: JsonText::of(&problems),
            problems_left_out: self.unknown + self.bad - self.problems.len() as i64,
        })
    }
}

fn uploaded_column(column: &Column) -> UploadedColumn {
    UploadedColumn {
        name: column.name.clone(),
        used_as: column.kind.map(|kind| kind.as_str().to_owned()),
    }
}
