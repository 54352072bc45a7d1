//! People and events from files: NDJSON in the wire format of a batch's items, the way that captured events come.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use anyhow::{Context, anyhow, bail};
use uuid::Uuid;

use super::progress::Progress;
use crate::Data;
use crate::ingest::{self, Arrival, Committed, Denied, Item};
use cohorts_store::{ProjectId, projects};

mod reader;

use reader::{Line, Lines};

/// Items of one commit, and the length of their lines together.
const BATCH: usize = 40_000;
const BATCH_BYTES: usize = 24 << 20;
/// Bad lines that are named; the others are only counted.
const NAMED: u64 = 20;

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Events that were not there before.
    pub added: u64,
    /// Events that were there already.
    pub known: u64,
    /// Lines of people, each a distinct id and what is known of its person.
    pub people: u64,
    /// Lines that cannot be read as an item.
    pub refused: u64,
    /// What events asked of people and did not get.
    pub denied: Denied,
}

impl Imported {
    fn add(&mut self, items: &[Item], kept: &Committed) {
        let is_person = |item: &&Item| item.exported_person.is_some();
        let people = items.iter().filter(is_person).count();
        self.people += people as u64;
        self.added += kept.added as u64;
        self.known += (items.len() - people - kept.added) as u64;
        self.denied.add(kept.denied);
    }

    fn so_far(&self) -> String {
        let events = self.added + self.known;
        match self.people {
            0 => format!("{events} events"),
            people => format!("{events} events, {people} ids of people"),
        }
    }
}

/// Imports files into a project; `-` is standard input. Lines are items as in the `batch` of a capture request, or
/// those of PostHog's exports of events or of people. A line that cannot be read is named on standard error and
/// passed over. Importing a file again adds nothing: an item without a `uuid` gets one from its text.
pub fn import(data: &Data, project: i64, files: &[String]) -> anyhow::Result<Imported> {
    let project = ProjectId(project);
    let found = projects::find(&mut *data.store.connection()?, project)?;
    found.with_context(|| format!("there is no project {}", project.0))?;
    let mut imported = Imported::default();
    for file in files {
        let lines = reader::open(file)?;
        import_lines(data, project, lines, &mut imported)?;
    }
    Ok(imported)
}

/// One thread reads and another writes.
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
            let refuse = |line: u64, why: anyhow::Error| {
                if refused.fetch_add(1, Ordering::Relaxed) < NAMED {
                    lock(&progress).say(&format!("{name}, line {line}: {why}"));
                }
            };
            read_lines(project, lines, &send, refuse)
        });
        for batch in batches {
            let committed = ingest::commit_in_halves(&data.store, project, &batch)?;
            imported.add(&batch, &committed);
            lock(&progress).set(read.read(), imported.so_far());
        }
        let ended = reading.join();
        ended.map_err(|_| anyhow!("the reading thread panicked"))?
    })?;
    imported.refused += refused.into_inner();
    Ok(())
}

fn lock<'a>(progress: &'a Mutex<Progress>) -> MutexGuard<'a, Progress> {
    progress
        .lock()
        .expect("nothing panics while it shows progress")
}

/// Ends early where nobody takes the batches any more.
fn read_lines(
    project: ProjectId,
    lines: Lines,
    send: &SyncSender<Vec<Item>>,
    refuse: impl Fn(u64, anyhow::Error),
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut size = 0;
    // The first distinct id of each person of an export of people: the others are tied to it.
    let mut people: HashMap<Uuid, String> = HashMap::new();
    for line in lines {
        let line = line?;
        match item(project, &line) {
            Ok(mut item) => {
                if let Some(person) = item.exported_person {
                    match people.entry(person) {
                        Entry::Occupied(first) => item.is_of(first.get()),
                        Entry::Vacant(first) => drop(first.insert(item.distinct_id.clone())),
                    }
                }
                size += line.text.len();
                batch.push(item);
            }
            Err(why) => refuse(line.number, why),
        }
        if batch.len() == BATCH || size > BATCH_BYTES {
            size = 0;
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            if send.send(full).is_err() {
                return Ok(());
            }
        }
    }
    // Whoever does not take it has failed, and says why.
    let _ = send.send(batch);
    Ok(())
}

fn item(project: ProjectId, line: &Line) -> anyhow::Result<Item> {
    let Ok(text) = std::str::from_utf8(&line.text) else {
        bail!("it is not in UTF-8");
    };
    let identity = || {
        let text = format!("{}/{text}", project.0);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
    };
    Item::read(text, &Arrival::of_file(), identity).map_err(|refusal| anyhow::anyhow!("{refusal}"))
}
