//! `cohorts import`: events and persons from NDJSON files, through the same path as captured events.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use anyhow::{Context, anyhow, bail, ensure};
use parking_lot::Mutex;
use uuid::Uuid;

use super::output::{counted, print};
use super::progress::Progress;
use crate::Data;
use crate::ingest::{self, Arrival, Committed, Denied, Item};
use cohorts_store::{Lane, ProjectId, projects};

mod reader;

use reader::{Line, Lines};

/// The most items of one commit.
const BATCH_ITEMS: usize = 40_000;
/// The most bytes of the lines of one commit.
const BATCH_BYTES: usize = 24 << 20;
/// Bad lines that are printed. Further ones are only counted.
const MAX_PRINTED_LINES: u64 = 20;

/// The result of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Events that were added.
    pub added: u64,
    /// Events that were in the log before.
    pub duplicates: u64,
    /// Lines of person exports, one per distinct id.
    pub person_lines: u64,
    /// Lines that are not valid items.
    pub refused: u64,
    pub denied: Denied,
}

impl Imported {
    fn add(&mut self, items: &[Item], committed: &Committed) {
        let is_person = |item: &&Item| item.exported_person.is_some();
        let person_lines = items.iter().filter(is_person).count();
        self.person_lines += person_lines as u64;
        self.added += committed.added as u64;
        self.duplicates += (items.len() - person_lines - committed.added) as u64;
        self.denied.add(committed.denied);
    }

    fn progress_message(&self) -> String {
        let events = counted(self.added + self.duplicates, "event");
        match self.person_lines {
            0 => events,
            count => format!("{events}, {}", counted(count, "distinct id")),
        }
    }

    /// One line per result.
    fn report(&self) -> String {
        let added = counted(self.added, "event");
        let duplicates = counted(self.duplicates, "duplicate");
        let mut lines = vec![format!("{added} imported, {duplicates}")];
        if self.person_lines > 0 {
            let ids = counted(self.person_lines, "distinct id");
            lines.push(format!("{ids} of persons imported"));
        }
        if self.denied.merges > 0 {
            let merges = counted(self.denied.merges, "merge");
            lines.push(format!("{merges} of identified persons denied"));
        }
        if self.denied.properties > 0 {
            let changes = counted(self.denied.properties, "property change");
            lines.push(format!("{changes} denied: too many properties"));
        }
        if self.denied.distinct_ids > 0 {
            let links = counted(self.denied.distinct_ids, "link");
            lines.push(format!("{links} denied: too many distinct ids"));
        }
        lines.join("\n")
    }
}

/// Imports files and prints the result.
///
/// # Errors
///
/// Fails if a file cannot be read, or if lines were refused; the other lines are imported.
pub fn run(data: &Data, project: i64, files: &[String]) -> anyhow::Result<()> {
    let imported = import(data, project, files)?;
    print(imported.report())?;
    let refused = counted(imported.refused, "line");
    ensure!(imported.refused == 0, "{refused} could not be read");
    Ok(())
}

/// Imports files into a project; `-` is standard input. A line is an item as in the `batch` of a capture request, or a
/// line of PostHog's exports of events or persons. Lines that cannot be read are printed to standard error and skipped.
/// A repeated import adds nothing: the uuid of an item without one is derived from its text.
fn import(data: &Data, project: i64, files: &[String]) -> anyhow::Result<Imported> {
    let project = ProjectId(project);
    let row = projects::find(&mut *data.store.connection()?, project)?;
    row.with_context(|| format!("there is no project {}", project.0))?;
    let mut imported = Imported::default();
    for file in files {
        let lines = reader::open(file)?;
        import_lines(data, project, lines, &mut imported)?;
    }
    Ok(imported)
}

/// Reads and parses on one thread, and commits on this one.
fn import_lines(
    data: &Data,
    project: ProjectId,
    lines: Lines,
    imported: &mut Imported,
) -> anyhow::Result<()> {
    let name = lines.name().to_owned();
    let read = lines.progress();
    let progress = Mutex::new(Progress::new(&name, read.total()));
    let refused = AtomicU64::new(0);
    let (send, batches) = mpsc::sync_channel::<Vec<Item>>(1);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let send = send;
            let refuse = |line: u64, cause: anyhow::Error| {
                if refused.fetch_add(1, Ordering::Relaxed) < MAX_PRINTED_LINES {
                    let message = format!("{name}, line {line}: {cause}");
                    progress.lock().print(&message);
                }
            };
            read_lines(project, lines, &send, refuse)
        });
        let store = data.store.in_lane(Lane::Writers);
        for batch in batches {
            let committed = ingest::commit_in_halves(&store, project, &batch)?;
            imported.add(&batch, &committed);
            let message = imported.progress_message();
            progress.lock().set(read.read(), message);
        }
        let result = reading.join();
        result.map_err(|_| anyhow!("the reading thread panicked"))?
    })?;
    imported.refused += refused.into_inner();
    Ok(())
}

/// Sends the items in batches. Ends early if the receiver is gone.
fn read_lines(
    project: ProjectId,
    lines: Lines,
    send: &SyncSender<Vec<Item>>,
    refuse: impl Fn(u64, anyhow::Error),
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH_ITEMS);
    let mut bytes = 0;
    // The first distinct id of each exported person. The person's other ids are linked to it.
    let mut first_ids: HashMap<Uuid, String> = HashMap::new();
    for line in lines {
        let line = line?;
        match parse(project, &line) {
            Ok(mut item) => {
                if let Some(person) = item.exported_person {
                    match first_ids.entry(person) {
                        Entry::Occupied(first_id) => item.link_to(first_id.get()),
                        Entry::Vacant(entry) => drop(entry.insert(item.distinct_id.clone())),
                    }
                }
                bytes += line.text.len();
                batch.push(item);
            }
            Err(cause) => refuse(line.number, cause),
        }
        if batch.len() == BATCH_ITEMS || bytes > BATCH_BYTES {
            bytes = 0;
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ITEMS));
            if send.send(full).is_err() {
                return Ok(());
            }
        }
    }
    // A receiver that is gone has failed, and returns its error.
    let _ = send.send(batch);
    Ok(())
}

fn parse(project: ProjectId, line: &Line) -> anyhow::Result<Item> {
    let Ok(text) = std::str::from_utf8(&line.text) else {
        bail!("it is not UTF-8");
    };
    let uuid = || {
        let text = format!("{}/{text}", project.0);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
    };
    Item::read(text, &Arrival::of_file(), uuid).map_err(|refusal| anyhow!("{refusal}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_for_each_result_that_occurred() {
        let mut imported = Imported {
            added: 1,
            ..Imported::default()
        };
        assert_eq!(imported.report(), "1 event imported, 0 duplicates");
        imported.person_lines = 2;
        imported.denied.merges = 1;
        imported.denied.properties = 3;
        let lines: Vec<String> = imported.report().lines().map(str::to_owned).collect();
        assert_eq!(
            lines[1..],
            [
                "2 distinct ids of persons imported",
                "1 merge of identified persons denied",
                "3 property changes denied: too many properties"
            ]
        );
    }
}
