//! The engine's `Source`: a view of the project under the snapshot that it belongs to.
//!
//! A calculation sees what was committed before it began and nothing later, whatever it asks for and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_engine::{
    Action, EventBlock, EventQuery, PropertyBlock, Reference, Source, TimesBlock,
};
use roaring::RoaringBitmap;

use super::reader::Reader;
use super::views::{View, Views};
use super::{CohortId, Conn, ProjectId, actions, cohorts, members};
use crate::error::Error;

/// The data of one project as of one instant.
///
/// Dynamic cohorts that a filter refers to are given by their definitions, so that they are evaluated at the
/// same moment; static ones by their members.
pub struct Snapshot<'a> {
    reader: Reader<'a>,
    view: Arc<View>,
    /// What happened before, in microseconds, is not there any more, deleted or not yet.
    oldest: i64,
}

impl<'a> Snapshot<'a> {
    /// Runs `work` on the data as it is now. Reading that takes longer than `limit` ends in `Error::TimedOut`.
    pub fn read<T>(
        conn: &mut Conn,
        views: &Views,
        project: ProjectId,
        limit: Duration,
        work: impl FnOnce(&Snapshot<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        let mut work = Some(work);
        loop {
            let done = Reader::read(conn, project, deadline, |reader| {
                let Some(view) = views.of(&reader)? else {
                    return Ok(None);
                };
                let snapshot = Snapshot {
                    oldest: view.oldest(Utc::now()),
                    reader,
                    view,
                };
                let work = work.take();
                work.map(|work| work(&snapshot)).transpose()
            });
            views.trim();
            if let Some(done) = done? {
                return Ok(done);
            }
        }
    }

    /// The last batch of the log that the snapshot holds.
    pub fn head(&self) -> i64 {
        self.view.head
    }

    /// Reads other rows of the same instant.
    pub fn reader(&self) -> &Reader<'a> {
        &self.reader
    }

    /// Reads something else of the same instant, with what is left of the time.
    pub fn ask<T>(&self, read: impl FnOnce(&mut Conn) -> Result<T, Error>) -> Result<T, Error> {
        self.reader.ask(read)
    }
}

impl Source for Snapshot<'_> {
    type Error = Error;

    fn everyone(&self) -> Result<Arc<RoaringBitmap>, Error> {
        Ok(Arc::clone(&self.view.everyone))
    }

    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Error> {
        self.view.property(&self.reader, key)
    }

    fn created_at(&self) -> Result<Arc<TimesBlock>, Error> {
        self.view.created_at(&self.reader)
    }

    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Error> {
        self.view.distinct_ids(&self.reader)
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Error> {
        let oldest = self.oldest;
        let range = (query.from.unwrap_or(i64::MIN).max(oldest), query.to);
        let mut blocks = self
            .view
            .events(&self.reader, &query.event, range, &query.properties)?;
        if let Some(first) = blocks.first_mut().filter(|block| block.span().0 < oldest) {
            *first = Arc::new(first.since(oldest));
        }
        Ok(blocks)
    }

    fn event_names(&self) -> Result<Vec<String>, Error> {
        Ok(self.view.names(&self.reader)?.to_vec())
    }

    fn cohort(&self, id: i64) -> Result<Option<Reference>, Error> {
        let project = self.reader.project;
        self.ask(|conn| {
            let Some((cohort, _)) = cohorts::find(conn, project, CohortId(id))? else {
                return Ok(None);
            };
            if cohort.definition.is_static {
                let place = project.place();
                let members = members::read(conn, place, cohort.id(), cohort.member_version)?;
                return Ok(Some(Reference::Members(Arc::new(members))));
            }
            // What cannot be read cannot be calculated, and has no members to refer to.
            Ok(cohort.definition.filter().ok().map(Reference::Filter))
        })
    }

    fn action(&self, id: i64) -> Result<Option<Action>, Error> {
        let found = self.ask(|conn| Ok(actions::find(conn, self.reader.project, id)?))?;
        let live = found.filter(|(action, _)| !action.fields.deleted);
        // Steps are checked before they are stored.
        Ok(live.and_then(|(action, _)| Action::parse(&action.fields.steps.parse()).ok()))
    }

    fn checkpoint(&self) -> Result<(), Error> {
        match Instant::now() < self.reader.deadline() {
            true => Ok(()),
            false => Err(Error::TimedOut),
        }
    }
}
