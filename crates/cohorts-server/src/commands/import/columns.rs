//! The segments of imported events, built from the batches in memory while the import writes.
//!
//! A failure here never fails the import: the service writes the segments later, from rows.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use cohorts_store::{Conn, Error, Lane, ProjectId, segments};

use crate::index::IndexedStore;
use crate::index::segments::{MIN_EVENTS, SegmentWrite, SegmentWriter};
use crate::ingest::{Item, WrittenEvents};

/// The memory of the events of one write of segments, in bytes.
const MAX_BYTES: usize = 256 << 20;
/// How long other processes leave the segments to the import after its last batch.
const CLAIM: TimeDelta = TimeDelta::seconds(60);
/// The pause between two claims.
const CLAIM_EVERY: Duration = Duration::from_secs(15);

/// A batch with the writes of the log that contain its events.
pub struct CommittedBatch {
    pub items: Vec<Item>,
    pub written: Vec<WrittenEvents>,
}

/// Builds and writes the segments of an import.
pub struct SegmentImport {
    store: IndexedStore,
    project: ProjectId,
    /// `None` if the project has no segments, or after a failure.
    writer: Option<SegmentWriter>,
    claimed: Option<Instant>,
    /// Events that were added to the log.
    added: usize,
    /// Whether this import has written segments.
    has_written: bool,
}

impl SegmentImport {
    pub fn begin(store: &IndexedStore, project: ProjectId) -> Self {
        let mut import = Self {
            store: store.in_lane(Lane::Writers),
            project,
            writer: None,
            claimed: None,
            added: 0,
            has_written: false,
        };
        import.attempt(|import, conn| {
            import.writer = SegmentWriter::begin(conn, project, import.max_bytes())?;
            Ok(())
        });
        import
    }

    fn max_bytes(&self) -> usize {
        if cfg!(test) { 1 << 19 } else { MAX_BYTES }
    }

    /// Adds a batch that is committed. The events of a small import stay rows: another import, or the service, finds them
    /// there.
    pub fn add(&mut self, batch: &CommittedBatch) {
        let events = batch.written.iter();
        self.added += events.map(|written| written.events.len()).sum::<usize>();
        if self.writer.is_some() && self.added as i64 >= MIN_EVENTS {
            self.attempt(|import, conn| {
                import.claim(conn)?;
                let mut written = batch.written.iter();
                written.try_for_each(|written| import.add_write(conn, &batch.items, written))
            });
        }
    }

    /// Writes the rest, and lets other processes write segments again.
    pub fn finish(mut self) {
        if self.writer.is_some() && self.added as i64 >= MIN_EVENTS {
            self.attempt(|import, conn| {
                if import.has_written || SegmentWriter::is_due(conn, import.project)? {
                    import.write(conn)?;
                }
                Ok(())
            });
        }
        if self.claimed.is_some() {
            let shard_key = self.project.shard_key();
            self.attempt(|_, conn| segments::claim(conn, shard_key, None));
        }
    }

    /// Runs `work`. After an error, this import writes no segments any more.
    fn attempt(&mut self, work: impl FnOnce(&mut Self, &mut Conn) -> Result<(), Error>) {
        let conn = self.store.connection();
        if let Err(cause) = conn.and_then(|mut conn| work(self, &mut conn)) {
            log::warn!(
                "the import builds no segments, the service will write them from rows: {cause}"
            );
            self.writer = None;
        }
    }

    fn claim(&mut self, conn: &mut Conn) -> Result<(), Error> {
        if self
            .claimed
            .is_none_or(|time| time.elapsed() >= CLAIM_EVERY)
        {
            let until = Utc::now() + CLAIM;
            segments::claim(conn, self.project.shard_key(), Some(until))?;
            self.claimed = Some(Instant::now());
        }
        Ok(())
    }

    fn add_write(
        &mut self,
        conn: &mut Conn,
        items: &[Item],
        written: &WrittenEvents,
    ) -> Result<(), Error> {
        // Writes of others, and what an interrupted write left, are read from rows.
        let last_row = written.seq - i64::from(written.is_complete);
        self.add_rows(conn, last_row)?;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if writer.through() < written.seq {
            writer.add_write(written.events.iter().map(|(position, ordinal)| {
                let item = &items[*position];
                let time = item.timestamp.timestamp_micros();
                (&*item.event, *ordinal, time, &*item.properties.0)
            }))?;
        }
        if writer.is_full() {
            self.write(conn)?;
        }
        Ok(())
    }

    fn add_rows(&mut self, conn: &mut Conn, through: i64) -> Result<(), Error> {
        while let Some(writer) = &mut self.writer
            && !writer.add_rows(conn, through)?
        {
            self.write(conn)?;
        }
        Ok(())
    }

    /// Writes segments. If another process was first, the next batch continues at its head.
    fn write(&mut self, conn: &mut Conn) -> Result<(), Error> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        match writer.write(conn)? {
            SegmentWrite::Written => self.has_written = true,
            SegmentWrite::Overtaken => {}
            SegmentWrite::Ended => self.writer = None,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{events, projects};
    use diesel::RunQueryDsl;
    use tempfile::TempDir;

    use super::super::import;
    use super::*;
    use crate::Data;
    use crate::config::Database;
    use crate::index::registry::IndexCache;
    use crate::index::segments::mismatched_events;
    use crate::ingest::{Arrival, commit};

    struct ImportFixture {
        data: Data,
        project: ProjectId,
        directory: TempDir,
        // Dropped after the data, which has connections to it.
        _database: TestDatabase,
    }

    impl ImportFixture {
        fn new() -> Self {
            let database = TestDatabase::create();
            let data = Data::open(&Database::Url(database.url())).unwrap();
            let conn = &mut *data.store.connection().unwrap();
            let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
            Self {
                data,
                project,
                directory: TempDir::new().unwrap(),
                _database: database,
            }
        }

        /// A file with an event for each number.
        fn file(&self, numbers: std::ops::Range<u32>) -> String {
            let line = |nth: u32| {
                format!(
                    r#"{{"event": "e{}", "distinct_id": "p{}", "timestamp": "2025-06-{:02}T10:00:00Z", "properties": {{"n": {nth}, "a": {}, "b": {{"long": 1, "c": "v{}"}}}}}}"#,
                    nth % 3,
                    nth % 200,
                    nth % 9 + 1,
                    nth % 50,
                    nth % 4
                )
            };
            let path = self.directory.path().join(format!("{numbers:?}"));
            let lines: Vec<String> = numbers.map(line).collect();
            fs::write(&path, lines.join("\n")).unwrap();
            path.display().to_string()
        }

        fn import(&self, numbers: std::ops::Range<u32>) -> u64 {
            let file = self.file(numbers);
            import(&self.data, self.project.0, &[file]).unwrap().added
        }

        /// The log head, and the head of the segments, which equal the rows.
        fn heads(&self) -> (i64, i64) {
            let conn = &mut *self.data.store.connection().unwrap();
            let shard_key = self.project.shard_key();
            assert_eq!(
                mismatched_events(conn, shard_key).unwrap(),
                Vec::<String>::new()
            );
            let through = segments::head(conn, shard_key).unwrap().through_seq;
            (events::log_head(conn, shard_key).unwrap(), through)
        }

        fn change(&self, statement: &str) {
            let conn = &mut *self.data.store.connection().unwrap();
            assert!(
                diesel::sql_query(statement).execute(conn).unwrap() > 0,
                "{statement}"
            );
        }
    }

    #[test]
    fn every_event_of_an_import_is_in_a_segment_when_it_ends() {
        let fixture = ImportFixture::new();
        assert_eq!(fixture.import(0..900), 900);
        let (log, through) = fixture.heads();
        assert_eq!(through, 0, "a small project has no segments");
        assert_eq!(fixture.import(600..20_000), 19_100);
        let (end, through) = fixture.heads();
        assert!(end > log && through == end, "{through} of {end}");
        assert_eq!(fixture.import(0..20_000), 0);
        assert_eq!(fixture.import(20_000..20_050), 50);
        let (end, later) = fixture.heads();
        assert_eq!(later, through);
        assert!(end > through);
    }

    #[test]
    fn segments_are_complete_while_others_write_events_and_segments() {
        let fixture = ImportFixture::new();
        let is_importing = AtomicBool::new(true);
        // The other threads also end if this one panics.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        thread::scope(|scope| {
            let _stop = Stop(&is_importing);
            scope.spawn(|| {
                let mut nth = 0;
                while is_importing.load(Ordering::Relaxed) {
                    let text = format!(r#"{{"event": "e1", "distinct_id": "p{}"}}"#, nth % 300);
                    let item = Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap();
                    commit(&fixture.data.store, fixture.project, &[item]).unwrap();
                    nth += 1;
                }
            });
            scope.spawn(|| {
                let (cache, conn) = (
                    IndexCache::default(),
                    &mut *fixture.data.store.connection().unwrap(),
                );
                let shard_key = fixture.project.shard_key();
                while is_importing.load(Ordering::Relaxed) {
                    // As if the import had stopped for a minute.
                    segments::claim(conn, shard_key, None).unwrap();
                    cache.write_checkpoints(conn, &Default::default());
                }
            });
            assert_eq!(fixture.import(0..16_000), 16_000);
        });
        let (_, through) = fixture.heads();
        assert!(through > 0);
    }

    #[test]
    fn an_import_that_was_killed_continues_with_valid_segments() {
        let fixture = ImportFixture::new();
        fixture.import(0..4_000);
        // A kill before the segments of the last writes: they are read from rows.
        fixture.change("delete from segments where seq > 0");
        fixture.change("update segment_heads set through_seq = 0");
        // A kill after the first half of the last write: some of its events are there, and the head is before it.
        fixture.change(
            "delete from events where seq = (select max(seq) from events) and ordinal % 2 = 0",
        );
        fixture.change("update log_heads set seq = seq - 1");
        let added = fixture.import(0..12_000);
        assert!((8_100..8_400).contains(&added), "{added}");
        let (end, through) = fixture.heads();
        assert_eq!(end, through);
    }
}
