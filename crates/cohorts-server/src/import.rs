//! People and events from files: NDJSON in the wire format of a batch's items, the way that captured events come.

use anyhow::{Context, bail};
use uuid::Uuid;

use crate::Data;
use crate::ingest::{self, Arrival, Item};
use crate::progress::Progress;
use crate::store::{ProjectId, projects};

mod reader;

use reader::{Line, Lines};

/// Items of one commit.
const BATCH: usize = 2_000;
/// Bad lines that are named; the others are only counted.
const NAMED: u64 = 20;

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Events that were not there before.
    pub added: u64,
    /// Events that were there already.
    pub known: u64,
    /// Lines that cannot be read as an item.
    pub refused: u64,
}

/// Imports files into a project; `-` is standard input. A line that cannot be read is named on standard error and
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

fn import_lines(
    data: &Data,
    project: ProjectId,
    lines: Lines,
    imported: &mut Imported,
) -> anyhow::Result<()> {
    let name = lines.name().to_owned();
    let read = lines.progress();
    let mut progress = Progress::new(&name, read.total());
    let mut batch = Vec::with_capacity(BATCH);
    for line in lines {
        let line = line?;
        match item(project, &line) {
            Ok(item) => batch.push(item),
            Err(why) => {
                imported.refused += 1;
                if imported.refused <= NAMED {
                    progress.say(&format!("{name}, line {}: {why}", line.number));
                }
            }
        }
        if batch.len() == BATCH {
            keep(data, project, &mut batch, imported)?;
            let events = imported.added + imported.known;
            progress.set(read.read(), format!("{events} events"));
        }
    }
    keep(data, project, &mut batch, imported)
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

fn keep(
    data: &Data,
    project: ProjectId,
    batch: &mut Vec<Item>,
    imported: &mut Imported,
) -> anyhow::Result<()> {
    let added = ingest::keep(&data.store, project, batch)?.added as u64;
    imported.added += added;
    imported.known += batch.len() as u64 - added;
    batch.clear();
    Ok(())
}
