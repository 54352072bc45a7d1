//! The engine's `Source`: a view of the project under the snapshot that it belongs to.
//!
//! A calculation sees what was committed before it began and nothing later, whatever it asks for and when.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_engine::{
    Action, EventBlock, EventQuery, Explanation, Interrupt, LeafCache, Plan, PropertyBlock,
    Reference, Source, TimesBlock,
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
pub struct Snapshot<'a, 'v> {
    reader: Rc<Reader<'a>>,
    views: &'v Views,
    view: Arc<View>,
    /// What happened before, in microseconds, is not there any more, deleted or not yet.
    oldest: i64,
}

/// Fewer people are not looked at by themselves, however much memory they take.
const FEWEST: u64 = 256;

impl<'a, 'v> Snapshot<'a, 'v> {
    /// Runs `work` on the data as it is now. Reading that takes longer than `limit` ends in `Error::TimedOut`.
    pub fn read<T>(
        conn: &mut Conn,
        views: &'v Views,
        project: ProjectId,
        limit: Duration,
        work: impl FnOnce(&Snapshot<'_, 'v>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        let mut work = Some(work);
        loop {
            let done = Reader::read(conn, project, deadline, |reader| {
                let Some(view) = views.of(&reader)? else {
                    return Ok(None);
                };
                reader.set_room(views.budget());
                let snapshot = Snapshot {
                    oldest: view.oldest(Utc::now()),
                    reader: Rc::new(reader),
                    views,
                    view,
                };
                let work = work.take();
                work.map(|work| work(&snapshot)).transpose()
            });
            views.trim(None);
            if let Some(done) = done? {
                return Ok(done);
            }
        }
    }

    /// The members of a plan. Where what it reads takes more memory than there is, it is evaluated for some people
    /// after others.
    pub fn evaluate(&self, plan: &Plan, shared: &LeafCache) -> Result<RoaringBitmap, Error> {
        match plan.evaluate_with(self, shared) {
            Err(Error::NoRoom) => {
                let mut members = RoaringBitmap::new();
                self.in_pieces(|piece| {
                    members |= plan.evaluate(piece)?;
                    Ok(())
                })?;
                Ok(members)
            }
            done => done,
        }
    }

    /// The members of a plan, and how many people meet each of its criteria.
    pub fn explain(&self, plan: &Plan) -> Result<Explanation, Error> {
        match plan.explain(self) {
            Err(Error::NoRoom) => {
                let mut total = Explanation::default();
                self.in_pieces(|piece| {
                    total.add(plan.explain(piece)?);
                    Ok(())
                })?;
                Ok(total)
            }
            done => done,
        }
    }

    /// Runs `work` for some people after others, so few at a time that what is read finds room. Whoever is a member is
    /// so by what is known of themselves.
    fn in_pieces(
        &self,
        mut work: impl FnMut(&Snapshot<'a, 'v>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut rest = parts(0..=u32::MAX, &self.view.everyone);
        while let Some(people) = rest.pop() {
            let piece = self.piece(people.clone());
            let everyone = &piece.view.everyone;
            let is_smallest = everyone.len() <= FEWEST;
            let room = if is_smallest {
                u64::MAX
            } else {
                self.views.budget()
            };
            self.reader.set_room(room);
            match work(&piece) {
                Err(Error::NoRoom) => rest.extend(parts(people, everyone)),
                done => done?,
            }
        }
        self.reader.set_room(self.views.budget());
        Ok(())
    }

    fn piece(&self, people: RangeInclusive<u32>) -> Snapshot<'a, 'v> {
        Snapshot {
            reader: Rc::clone(&self.reader),
            views: self.views,
            view: Arc::new(self.view.piece(people)),
            oldest: self.oldest,
        }
    }

    /// Makes room for what is read next, where something was read before.
    fn make_room(&self) {
        if self.reader.take_has_read() {
            self.views.trim(Some(&self.view));
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

/// A range of numbers in four, with about as many people in each.
fn parts(numbers: RangeInclusive<u32>, people: &RoaringBitmap) -> Vec<RangeInclusive<u32>> {
    let (mut parts, mut first) = (Vec::new(), *numbers.start());
    for quarter in 1..4 {
        let rank = u32::try_from(people.len() * quarter / 4).unwrap_or(u32::MAX);
        if let Some(last) = people
            .select(rank)
            .filter(|last| (first..*numbers.end()).contains(last))
        {
            parts.push(first..=last);
            first = last + 1;
        }
    }
    parts.push(first..=*numbers.end());
    parts
}

impl Interrupt for Snapshot<'_, '_> {
    type Error = Error;

    fn interrupt(&self) -> Result<(), Error> {
        match Instant::now() < self.reader.deadline() {
            true => Ok(()),
            false => Err(Error::TimedOut),
        }
    }
}

impl Source for Snapshot<'_, '_> {
    fn persons(&self) -> Result<Arc<RoaringBitmap>, Error> {
        Ok(Arc::clone(&self.view.everyone))
    }

    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Error> {
        self.make_room();
        self.view.property(&self.reader, key)
    }

    fn created_at(&self) -> Result<Arc<TimesBlock>, Error> {
        self.make_room();
        self.view.created_at(&self.reader)
    }

    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Error> {
        self.make_room();
        self.view.distinct_ids(&self.reader)
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Error> {
        self.make_room();
        let oldest = self.oldest;
        let range = (query.from.unwrap_or(i64::MIN).max(oldest), query.to);
        let (view, reader) = (&self.view, &self.reader);
        let mut blocks = match query.persons_only {
            true => view.people(reader, &query.event, range)?,
            false => view.events(reader, &query.event, range, &query.properties)?,
        };
        for block in blocks
            .iter_mut()
            .filter(|block| block.span().first < oldest)
        {
            *block = Arc::new(block.since(oldest));
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

    fn check_memory(&self, bytes: usize) -> Result<(), Error> {
        self.reader.fits(bytes)
    }
}
