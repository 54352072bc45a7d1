//! A pass: finds the touched persons of many cohorts together.
//!
//! First each cohort adds what it needs to know, then the pass looks up each name, property and
//! cohort once, and finally each cohort gets its set of persons.

use roaring::RoaringBitmap;

use super::changes::Changes;
use super::definitions::Definitions;
use super::lookup;
use super::source::{ChangeSource, DateColumn, DateQuery, LogSpan, VersionSpan};
use super::state::{CohortState, EvaluationState, FullReason, Position, Settings};
use super::wanted::{Spans, Wanted};
use crate::block::TimeSpan;
use crate::plan::Subject;
use crate::window::Moment;

/// One advance of the cohorts of a project from one position to another.
///
/// ```text
/// let mut pass = Pass::new(&source, from, to, &settings);
/// let needs = pass.add(&definitions, Some(&state), next_change);    // for each cohort
/// let changes = pass.find()?;
/// match changes.touched(&needs) {                                   // for each cohort
///     Ok(touched) => plan.advance(&members, &touched, &source, &cache)?,
///     Err(reason) => plan.evaluate(&source)?,
/// }
/// ```
pub struct Pass<'a, S> {
    source: &'a S,
    from: Position,
    to: Position,
    settings: &'a Settings,
    wanted: Wanted,
}

/// What a cohort needs to know for its touched persons.
#[derive(Clone, Debug)]
pub struct Needs {
    state: EvaluationState,
    pub(super) wanted: Result<Wanted, FullReason>,
}

impl Needs {
    /// The state of the members after the pass.
    pub fn state(&self) -> &EvaluationState {
        &self.state
    }
}

impl<'a, S: ChangeSource> Pass<'a, S> {
    /// A pass over the data of `source`, which is as of `to`. See [`Position::advanced`] for `to`.
    pub fn new(source: &'a S, from: Position, to: Position, settings: &'a Settings) -> Pass<'a, S> {
        Pass {
            source,
            from,
            to,
            settings,
            wanted: Wanted::default(),
        }
    }

    /// Adds a cohort with its definitions as of the end of the pass, and the state of its members.
    /// `next_change` is [`Definitions::next_change`] of that state, if it is known: until then, time
    /// alone changes no member. It stays valid after a pass before that instant that touched no
    /// person of the cohort.
    pub fn add(
        &mut self,
        definitions: &Definitions,
        then: Option<&EvaluationState>,
        next_change: Option<i64>,
    ) -> Needs {
        let state = definitions.state(self.to, self.settings);
        let wanted = self.wanted_by(definitions, then, &state, next_change);
        if let Ok(wanted) = &wanted {
            self.wanted.add(wanted);
        }
        Needs { state, wanted }
    }

    fn wanted_by(
        &self,
        definitions: &Definitions,
        then: Option<&EvaluationState>,
        now: &EvaluationState,
        next_change: Option<i64>,
    ) -> Result<Wanted, FullReason> {
        let then = then.ok_or(FullReason::NoState)?;
        then.check_advance(now)?;
        if then.position != self.from {
            return Err(FullReason::Position);
        }
        let mut wanted = Wanted {
            names: definitions.names.clone(),
            persons: definitions.reads_persons,
            members: changed_versions(then, now).collect(),
            ..Wanted::default()
        };
        if next_change.is_none_or(|next| next <= self.to.now) {
            let at = |now| self.settings.moment(now).ok_or(FullReason::Plan);
            let slots = |moment: Moment| {
                let slots = definitions.slots(&moment);
                slots.map_err(|_| FullReason::Plan)
            };
            let (earlier, later) = (slots(at(self.from.now)?)?, slots(at(self.to.now)?)?);
            wanted.add_slivers(earlier.paired(&later)?);
        }
        Ok(wanted)
    }

    /// Looks up everything that the cohorts need, each name, property and cohort once.
    ///
    /// # Errors
    ///
    /// Returns the error of the source if data cannot be read.
    pub fn find(self) -> Result<Changes, S::Error> {
        let mut changes = Changes {
            persons: self.source.persons()?.len(),
            ..Changes::default()
        };
        self.find_written(&mut changes)?;
        self.find_spans(&mut changes)?;
        for (id, versions) in self.wanted.members {
            let persons = self.source.changed_members(id, versions)?;
            changes.members.insert((id, versions), persons);
        }
        Ok(changes)
    }

    /// What was written in the span of the log.
    fn find_written(&self, changes: &mut Changes) -> Result<(), S::Error> {
        let span = LogSpan {
            after: self.from.seq,
            through: self.to.seq,
        };
        if span.after == span.through {
            return Ok(());
        }
        changes.identities = self.source.changed_identities(span)?;
        changes.identities |= self.source.changed_distinct_ids(span)?;
        if self.wanted.persons {
            changes.changed_persons = self.source.changed_persons(span)?;
        }
        let names = self.wanted.names.as_ref();
        if names.is_none_or(|names| !names.is_empty()) {
            changes.performers = self.source.performers(span, names)?;
        }
        Ok(())
    }

    fn find_spans(&self, changes: &mut Changes) -> Result<(), S::Error> {
        if self.wanted.spans.is_empty() {
            return Ok(());
        }
        self.source.expect(self.wanted.reads());
        for (subject, wanted) in &self.wanted.spans {
            let spans = Vec::from_iter(wanted.spans.iter().copied());
            let found = self.persons_in(subject, wanted, &spans)?;
            let found = found.map(|found| spans.into_iter().zip(found).collect());
            changes.spans.insert(subject.clone(), found);
        }
        Ok(())
    }

    /// For each span, the persons with a value of the subject in it; `None` if they are unknown.
    fn persons_in(
        &self,
        subject: &Subject,
        wanted: &Spans,
        spans: &[TimeSpan],
    ) -> Result<Option<Vec<RoaringBitmap>>, S::Error> {
        let Some(at) = &self.settings.moment(self.to.now) else {
            return Ok(None);
        };
        let of_persons = |column: &DateColumn| {
            self.source.persons_with_dates(&DateQuery {
                column,
                spans,
                from: i64::MIN,
                at,
            })
        };
        let (names, property) = match subject {
            Subject::Times(names) => (names, None),
            Subject::EventDate(names, property) => (names, Some(property)),
            Subject::EventName => return Ok(None),
            Subject::PersonDate(key) => return of_persons(&DateColumn::Person(key.clone())),
            Subject::CreatedAt => return of_persons(&DateColumn::CreatedAt),
            Subject::DistinctId => return of_persons(&DateColumn::DistinctId),
        };
        let mut all = vec![RoaringBitmap::new(); spans.len()];
        for event in lookup::each_name(self.source, names)? {
            let found = match property {
                None => Some(self.source.persons_between(&event, spans)?),
                Some(property) => self.source.persons_with_dates(&DateQuery {
                    column: &DateColumn::Event {
                        event,
                        property: property.clone(),
                    },
                    spans,
                    from: wanted.from,
                    at,
                })?,
            };
            let Some(found) = found else {
                return Ok(None);
            };
            all.iter_mut()
                .zip(found)
                .for_each(|(all, more)| *all |= more);
        }
        Ok(Some(all))
    }
}

/// The static cohorts with another version than before.
fn changed_versions(
    then: &EvaluationState,
    now: &EvaluationState,
) -> impl Iterator<Item = (i64, VersionSpan)> {
    now.cohorts
        .iter()
        .filter_map(|(id, now)| match (then.cohorts.get(id)?, now) {
            (CohortState::Members(then), CohortState::Members(now)) if then != now => {
                let (then, now) = (*then, *now);
                Some((*id, VersionSpan { then, now }))
            }
            _ => None,
        })
}
