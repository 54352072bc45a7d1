//! `cohorts import`: events and persons from NDJSON files, through the same path as captured events.

use std::sync::mpsc::{self, SyncSender};
use std::thread;

use anyhow::{Context, anyhow, ensure};
use parking_lot::Mutex;

use super::output::{counted, print};
use super::progress::Progress;
use crate::Data;
use crate::calculation::tell_services;
use crate::config::quarter_of_memory;
use crate::index::IndexedStore;
use crate::index::catalogue::HeadMoves;
use crate::index::columns::write_all;
use crate::ingest::{self, Item};
use cohorts_store::{Lane, ProjectId, projects};

mod amplitude;
mod columns;
mod formats;
mod mixpanel;
mod parser;
mod posthog;
mod reader;
mod record;
mod segment;
mod summary;

use columns::{CommittedBatch, SegmentImport};
use parser::LineParser;
use reader::Lines;
use summary::Imported;

/// The most items of one commit.
const BATCH_ITEMS: usize = if cfg!(test) { 400 } else { 40_000 };
/// The most bytes of the lines of one commit.
const BATCH_BYTES: usize = 24 << 20;
/// The most memory of cached distinct ids: about nine million. Each id that is not cached costs a look-up in a large index.
const MAX_ID_BYTES: u64 = 512 << 20;
/// Bad lines that are printed. Further ones are only counted.
const MAX_PRINTED_LINES: u64 = 20;

/// Imports files and prints the result.
///
/// # Errors
///
/// Fails if a file cannot be read, or if lines were refused; the other lines are imported.
pub fn run(data: &Data, project: i64, files: &[String]) -> anyhow::Result<()> {
    let imported = import(data, project, files)?;
    print(imported.report())?;
    let refused = counted(imported.refused, "line");
    ensure!(
        imported.refused == 0,
        "{refused} could not be read and were left out; correct them and import the file again"
    );
    Ok(())
}

/// Imports files into a project; `-` is standard input. Lines that cannot be read are printed to standard error and
/// skipped. A repeated import adds no event: the uuid of an event without one is derived from the id that its vendor
/// gave it, or from the line.
fn import(data: &Data, project: i64, files: &[String]) -> anyhow::Result<Imported> {
    let project = ProjectId(project);
    let row = projects::find(&mut *data.store.connection()?, project)?;
    row.with_context(|| format!("there is no project {}", project.0))?;
    let budget = MAX_ID_BYTES.min(quarter_of_memory() / 2);
    data.store.caches.distinct_ids.set_budget(budget);
    let mut imported = Imported::default();
    let mut parser = LineParser::new(project);
    let mut segments = SegmentImport::begin(&data.store, project);
    follow_names(&data.store, project);
    for file in files {
        let lines = reader::open(file)?;
        let parts = (&mut parser, &mut segments);
        import_lines(data, project, lines, parts, &mut imported)?;
    }
    segments.finish();
    tell_services(&data.store, project);
    imported.deleted_persons = parser.deleted_persons();
    write_checkpoints(data, project);
    Ok(imported)
}

/// Adds the names of the committed items to the catalogue. If this fails, the service adds them later.
fn follow_names(store: &IndexedStore, project: ProjectId) {
    let followed = store.connection().and_then(|mut conn| {
        let catalogue = &store.caches.catalogue;
        catalogue.follow(&mut conn, project, HeadMoves::All)
    });
    if let Err(cause) = followed {
        log::debug!("the names of a batch are not in the catalogue yet: {cause}");
    }
}

/// Writes the checkpoints of persons, their properties and their order. Without them, the first question on a property and
/// the first page take longer.
fn write_checkpoints(data: &Data, project: ProjectId) {
    let mut progress = Progress::new("persons", None);
    let written = data.store.connection().map_err(Into::into);
    let written = written.and_then(|mut conn| {
        write_all(&mut conn, project, |done, all| {
            progress.set(done as u64, format!("{done} of {all} parts of the persons"));
        })?;
        progress.set(0, "the order of the persons".to_owned());
        data.store.caches.index.store_ranking(&mut conn, project)
    });
    if let Err(cause) = written {
        progress.print(&format!(
            "the import is complete, but checkpoints of persons were not written, so first questions take longer: {cause}"
        ));
    }
}

/// The items of lines, and the formats that were recognized in the file so far.
struct ParsedBatch {
    items: Vec<Item>,
    formats: Option<String>,
}

/// Reads and parses on one thread, commits on this one, and builds segments on another.
fn import_lines(
    data: &Data,
    project: ProjectId,
    lines: Lines,
    (parser, segments): (&mut LineParser, &mut SegmentImport),
    imported: &mut Imported,
) -> anyhow::Result<()> {
    let name = lines.name().to_owned();
    let read = lines.progress();
    let progress = Mutex::new(Progress::new(&name, read.total()));
    let (send, batches) = mpsc::sync_channel::<ParsedBatch>(1);
    parser.start_file();
    let refused = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let refuse = |line: u64, cause: anyhow::Error| {
                progress
                    .lock()
                    .print(&format!("{name}, line {line}: {cause}"));
            };
            read_lines(lines, &mut *parser, send, refuse)
        });
        let (send_committed, committed_batches) = mpsc::sync_channel::<CommittedBatch>(1);
        scope.spawn(|| {
            committed_batches
                .into_iter()
                .for_each(|batch| segments.add(&batch));
        });
        let store = data.store.in_lane(Lane::Writers);
        for ParsedBatch { items, formats } in batches {
            let mut written = Vec::new();
            let committed = ingest::commit_in_halves(&store, project, &items, &mut written)?;
            imported.add(&items, &committed);
            follow_names(&store, project);
            send_committed
                .send(CommittedBatch { items, written })
                .map_err(|_| anyhow!("the thread of the segments panicked"))?;
            let messages = [Some(imported.progress_message()), formats];
            let messages: Vec<String> = messages.into_iter().flatten().collect();
            progress.lock().set(read.read(), messages.join(", "));
        }
        let result = reading.join();
        result.map_err(|_| anyhow!("the reading thread panicked"))?
    })?;
    imported.refused += refused;
    if let Some(formats) = parser.format_message() {
        progress.lock().print(&format!("{name}: {formats}"));
    }
    Ok(())
}

/// Sends the items in batches, and returns the number of refused lines. Ends early if the receiver is gone.
fn read_lines(
    lines: Lines,
    parser: &mut LineParser,
    send: SyncSender<ParsedBatch>,
    print_refusal: impl Fn(u64, anyhow::Error),
) -> anyhow::Result<u64> {
    let mut items = Vec::with_capacity(BATCH_ITEMS);
    let (mut bytes, mut refused) = (0, 0);
    for line in lines {
        let line = line?;
        match parser.parse(&line.text) {
            Ok(more) => {
                bytes += line.text.len();
                items.extend(more);
            }
            Err(cause) => {
                refused += 1;
                if refused <= MAX_PRINTED_LINES {
                    print_refusal(line.number, cause);
                }
            }
        }
        if items.len() >= BATCH_ITEMS || bytes > BATCH_BYTES {
            bytes = 0;
            let items = std::mem::replace(&mut items, Vec::with_capacity(BATCH_ITEMS));
            let formats = parser.format_message();
            if send.send(ParsedBatch { items, formats }).is_err() {
                return Ok(refused);
            }
        }
    }
    let formats = parser.format_message();
    // A receiver that is gone has failed, and returns its error.
    let _ = send.send(ParsedBatch { items, formats });
    Ok(refused)
}
