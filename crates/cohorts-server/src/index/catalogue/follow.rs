//! Brings the stored definitions up to the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cohorts_store::definitions::{self, DefinitionHead};
use cohorts_store::{Conn, Error, ProjectId, ShardKey, events, scan, transaction};
use parking_lot::Mutex;

use super::names::Additions;
use super::{Catalogue, CatalogueCache, CatalogueNames, Evidence, load};

/// The most events, and the most persons, that are read at once.
pub(super) const STEP_ROWS: usize = if cfg!(test) { 100 } else { 1 << 16 };
/// The longest time of a call, about.
const CALL_LIMIT: Duration = Duration::from_millis(500);
/// The pause between two moves of the head without a new name.
const MOVE_INTERVAL: Duration = Duration::from_secs(10);

/// Which moves of the head are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadMoves {
    /// Those with new names, with rows that were read, and one every ten seconds.
    Needed,
    /// All.
    All,
}

/// The state of the definitions after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The sequence number up to which all names are stored.
    pub through: i64,
    /// The last sequence number of the log.
    pub log_head: i64,
    /// Whether names are missing because there are too many, since this call.
    pub became_full: bool,
    /// Whether all names of the log are stored.
    pub is_complete: bool,
}

/// Evidence of the writes up to a sequence number.
struct Gathered {
    evidence: Evidence,
    through: i64,
    /// Whether rows were read.
    has_read: bool,
    /// The unfinished writes that were known. The names of those up to `through` are from rows.
    unfinished: Vec<i64>,
}

impl CatalogueCache {
    /// Stores the names of the writes beyond the head, or of some of them if there are many.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn follow(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        moves: HeadMoves,
    ) -> Result<Followed, Error> {
        let (shard_key, catalogue) = (project.shard_key(), self.of(project));
        let (head, unfinished) = definitions::head_and_unfinished(conn, shard_key)?;
        let log_head = events::log_head(conn, shard_key)?;
        if catalogue.lock().names_of(head.version).is_none() {
            load(conn, project, &catalogue)?;
        }
        catalogue.lock().forget_through(head.through_seq);
        let span = (head.through_seq, log_head);
        let gathered = gather(conn, shard_key, &catalogue, span, unfinished)?;
        let is_complete = gathered.through == log_head;
        let mut followed = Followed {
            through: head.through_seq,
            log_head,
            became_full: false,
            is_complete,
        };
        if gathered.through == head.through_seq {
            return Ok(followed);
        }
        let is_new = !gathered.evidence.is_empty()
            || gathered.has_read
            || gathered.evidence.leaves_out && !head.is_full;
        let moved = catalogue.lock().moved;
        let is_due = moved.is_none_or(|moved| moved.elapsed() >= MOVE_INTERVAL);
        if !is_new && !is_due && moves == HeadMoves::Needed {
            return Ok(followed);
        }
        match store(conn, project, &catalogue, head, gathered)? {
            Some(stored) => {
                followed.became_full = stored.is_full && !head.is_full;
                followed.through = stored.through_seq;
            }
            // Another process was first.
            None => followed.is_complete = false,
        }
        Ok(followed)
    }
}

/// The evidence of the writes in a span of the log: from memory, or from rows.
fn gather(
    conn: &mut Conn,
    shard_key: ShardKey,
    catalogue: &Mutex<Catalogue>,
    (after, log_head): (i64, i64),
    unfinished: Vec<i64>,
) -> Result<Gathered, Error> {
    let start = Instant::now();
    let names = Arc::clone(&catalogue.lock().names);
    let mut gathered = Gathered {
        evidence: Evidence::default(),
        through: after,
        has_read: false,
        unfinished,
    };
    while gathered.through < log_head && start.elapsed() < CALL_LIMIT {
        let unread = gathered.take_waiting(&catalogue.lock(), log_head);
        if gathered.through < unread {
            let span = (gathered.through, unread);
            let end = scan::step_end(conn, shard_key, span, STEP_ROWS)?;
            let read = read_rows(conn, shard_key, (gathered.through, end), &names)?;
            gathered.evidence.extend(read);
            gathered.has_read = true;
            gathered.through = end;
        }
    }
    Ok(gathered)
}

impl Gathered {
    /// Takes the next evidence from memory. Returns the last write before further evidence, or `log_head`: the writes up to
    /// it are read from rows.
    fn take_waiting(&mut self, catalogue: &Catalogue, log_head: i64) -> i64 {
        for (seq, evidence) in catalogue.waiting.range(self.through + 1..=log_head) {
            // Rows of an interrupted write have the number too.
            if self.unfinished.contains(seq) {
                return *seq;
            }
            if *seq != self.through + 1 {
                return seq - 1;
            }
            self.evidence.extend(evidence.clone());
            self.through = *seq;
        }
        log_head
    }

    /// Whether the evidence of a write came from memory although an interrupted write has its number.
    fn has_missed(&self, unfinished: &[i64]) -> bool {
        let mut read = unfinished.iter().filter(|seq| **seq <= self.through);
        read.any(|seq| !self.unfinished.contains(seq))
    }
}

/// The evidence of the rows in a span of the log that `known` does not have.
pub(super) fn read_rows(
    conn: &mut Conn,
    shard_key: ShardKey,
    span: (i64, i64),
    known: &CatalogueNames,
) -> Result<Evidence, Error> {
    let mut evidence = Evidence::default();
    scan::whole_events(conn, shard_key, span, |event| {
        evidence.add_event(&event.name, &event.properties, known);
        Ok::<_, Error>(())
    })?;
    definitions::whole_persons(conn, shard_key, span, |properties| {
        evidence.add_person(properties, known);
    })?;
    Ok(evidence)
}

/// Stores evidence and moves the head; `None` if another process has moved it, or has changed the definitions.
fn store(
    conn: &mut Conn,
    project: ProjectId,
    catalogue: &Mutex<Catalogue>,
    before: DefinitionHead,
    mut gathered: Gathered,
) -> Result<Option<DefinitionHead>, Error> {
    let (names, generation) = {
        let catalogue = catalogue.lock();
        (catalogue.names_of(before.version), catalogue.generation)
    };
    let Some(mut names) = names else {
        return Ok(None);
    };
    let shard_key = project.shard_key();
    let mut additions = Additions {
        is_full: gathered.evidence.leaves_out,
        ..Additions::default()
    };
    let evidence = std::mem::take(&mut gathered.evidence);
    if !evidence.is_empty() {
        additions = Arc::make_mut(&mut names).add(evidence);
    }
    let head = DefinitionHead {
        through_seq: gathered.through,
        version: before.version + i64::from(!additions.changed.is_empty()),
        is_full: before.is_full || additions.is_full,
    };
    let is_stored = transaction(conn, |conn| {
        if definitions::lock_head(conn, shard_key)? != before {
            return Ok(false);
        }
        if gathered.has_missed(&definitions::unfinished(conn, shard_key)?) {
            return Ok(false);
        }
        definitions::forget_unfinished(conn, shard_key, gathered.through)?;
        definitions::write(conn, shard_key, &additions.changed)?;
        definitions::set_head(conn, shard_key, head)?;
        Ok::<_, Error>(true)
    })?;
    if !is_stored {
        return Ok(None);
    }
    let mut catalogue = catalogue.lock();
    catalogue.moved = Some(Instant::now());
    if catalogue.generation == generation {
        catalogue.names = names;
        catalogue.version = Some(head.version);
        catalogue.is_full = head.is_full;
        catalogue.forget_through(head.through_seq);
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_write_that_was_not_known_is_missed_up_to_the_end_only() {
        let gathered = Gathered {
            evidence: Evidence::default(),
            through: 5,
            has_read: true,
            unfinished: vec![3],
        };
        for (unfinished, has_missed) in [
            (vec![], false),
            (vec![3], false),
            (vec![3, 5], true),
            (vec![3, 6], false),
        ] {
            assert_eq!(
                gathered.has_missed(&unfinished),
                has_missed,
                "{unfinished:?}"
            );
        }
    }
}
