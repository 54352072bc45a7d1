//! A pass: finds the touched persons of many cohorts together.
//!
//! First each cohort adds what it needs to know, then the pass looks up each name, property and
//! cohort once, and finally each cohort gets its set of persons.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use super::definitions::{Definitions, SlotPairs};
use super::source::{ChangeSource, DateColumn, LogSpan, VersionSpan};
use super::state::{CohortState, EvaluationState, FullReason, Position, Settings};
use crate::block::TimeSpan;
use crate::plan::{Names, Slot, Subject};
use crate::source::PlannedReads;
use crate::window::Moment;

/// A full evaluation is cheaper if more than one in this number of persons is touched.
const MAX_TOUCHED_SHARE: u64 = 10;
/// Up to this number of touched persons, no full evaluation is needed in small projects.
const MIN_TOUCHED: u64 = 1_000;

/// One advance of the cohorts of a project from one position to another.
///
/// ```text
/// let mut pass = Pass::new(&source, from, to, &settings);
/// let needs = pass.add(&definitions, Some(&state), next_change)?;   // for each cohort
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
    wanted: Result<Wanted, FullReason>,
}

impl Needs {
    /// The state of the members after the pass.
    pub fn state(&self) -> &EvaluationState {
        &self.state
    }
}

/// The questions of one cohort, or of all.
#[derive(Clone, Debug)]
struct Wanted {
    /// The names of events with new performers.
    names: Names,
    /// Whether changed persons count.
    persons: bool,
    /// Spans of the times of events, by name; `None` means every name.
    times: BTreeMap<Option<String>, BTreeSet<TimeSpan>>,
    dates: BTreeMap<DateColumn, BTreeSet<TimeSpan>>,
    members: BTreeSet<(i64, VersionSpan)>,
    /// Columns of dates of every name, by property, with the earliest event.
    dates_of_every_event: BTreeMap<String, DatesOfEvents>,
}

#[derive(Clone, Debug, Default)]
struct DatesOfEvents {
    from: i64,
    spans: BTreeSet<TimeSpan>,
}

/// What changed between two positions.
pub struct Changes {
    /// The number of persons of the project.
    persons: u64,
    performers: BTreeMap<String, RoaringBitmap>,
    /// Persons that count for every cohort.
    identities: RoaringBitmap,
    changed_persons: RoaringBitmap,
    times: BTreeMap<(Option<String>, TimeSpan), RoaringBitmap>,
    /// `None` means that the persons cannot be identified.
    dates: BTreeMap<(DateColumn, TimeSpan), Option<RoaringBitmap>>,
    members: BTreeMap<(i64, VersionSpan), Option<RoaringBitmap>>,
    dates_of_every_event: BTreeMap<(String, TimeSpan), Option<RoaringBitmap>>,
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
    /// alone changes no member.
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
            wanted.add_slivers(earlier.paired(&later)?)?;
        }
        Ok(wanted)
    }

    /// Looks up everything that the cohorts need, each name, property and cohort once.
    ///
    /// # Errors
    ///
    /// Returns the error of the source if data cannot be read.
    pub fn find(self) -> Result<Changes, S::Error> {
        let source = self.source;
        let mut changes = Changes {
            persons: source.persons()?.len(),
            performers: BTreeMap::new(),
            identities: RoaringBitmap::new(),
            changed_persons: RoaringBitmap::new(),
            times: BTreeMap::new(),
            dates: BTreeMap::new(),
            members: BTreeMap::new(),
            dates_of_every_event: BTreeMap::new(),
        };
        self.find_written(&mut changes)?;
        self.find_times(&mut changes)?;
        self.find_dates(&mut changes)?;
        for (id, versions) in self.wanted.members {
            let persons = source.changed_members(id, versions)?;
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
        if self
            .wanted
            .names
            .as_ref()
            .is_none_or(|names| !names.is_empty())
        {
            changes.performers = self.source.performers(span, self.wanted.names.as_ref())?;
        }
        Ok(())
    }

    fn find_times(&self, changes: &mut Changes) -> Result<(), S::Error> {
        self.source.expect(self.wanted.reads());
        for (name, spans) in &self.wanted.times {
            let spans = Vec::from_iter(spans.iter().copied());
            let mut found = vec![RoaringBitmap::new(); spans.len()];
            for event in self.names_of(name)? {
                let persons = self.source.persons_between(&event, &spans)?;
                add_each(&mut found, persons);
            }
            let keys = spans.into_iter().map(|span| (name.clone(), span));
            changes.times.extend(keys.zip(found));
        }
        Ok(())
    }

    fn names_of(&self, name: &Option<String>) -> Result<Vec<String>, S::Error> {
        match name {
            Some(name) => Ok(vec![name.clone()]),
            None => self.source.event_names(),
        }
    }

    fn find_dates(&self, changes: &mut Changes) -> Result<(), S::Error> {
        let Some(at) = self.settings.moment(self.to.now) else {
            return Ok(());
        };
        for (column, spans) in &self.wanted.dates {
            let spans = Vec::from_iter(spans.iter().copied());
            let found = self.source.persons_with_dates(column, &spans, &at)?;
            let keys = spans.iter().map(|span| (column.clone(), *span));
            changes.dates.extend(keys.zip(each(found, spans.len())));
        }
        for (property, wanted) in &self.wanted.dates_of_every_event {
            let spans = Vec::from_iter(wanted.spans.iter().copied());
            let mut found = Some(vec![RoaringBitmap::new(); spans.len()]);
            for event in self.source.event_names()? {
                let column = DateColumn::Event {
                    event,
                    property: property.clone(),
                    from: wanted.from,
                };
                let persons = self.source.persons_with_dates(&column, &spans, &at)?;
                match (&mut found, persons) {
                    (Some(found), Some(persons)) => add_each(found, persons),
                    _ => found = None,
                }
            }
            let keys = spans.iter().map(|span| (property.clone(), *span));
            let found = each(found, spans.len());
            changes.dates_of_every_event.extend(keys.zip(found));
        }
        Ok(())
    }
}

fn add_each(all: &mut [RoaringBitmap], more: Vec<RoaringBitmap>) {
    all.iter_mut()
        .zip(more)
        .for_each(|(all, more)| *all |= more);
}

/// One answer per span.
fn each(found: Option<Vec<RoaringBitmap>>, spans: usize) -> Vec<Option<RoaringBitmap>> {
    match found {
        Some(found) => found.into_iter().map(Some).collect(),
        None => vec![None; spans],
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

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            names: Some(BTreeSet::new()),
            persons: false,
            times: BTreeMap::new(),
            dates: BTreeMap::new(),
            members: BTreeSet::new(),
            dates_of_every_event: BTreeMap::new(),
        }
    }
}

impl Wanted {
    fn add(&mut self, other: &Wanted) {
        self.names = match (self.names.take(), &other.names) {
            (Some(names), Some(more)) => Some(&names | more),
            _ => None,
        };
        self.persons |= other.persons;
        for (name, spans) in &other.times {
            self.times.entry(name.clone()).or_default().extend(spans);
        }
        for (column, spans) in &other.dates {
            self.dates.entry(column.clone()).or_default().extend(spans);
        }
        self.members.extend(&other.members);
        for (property, wanted) in &other.dates_of_every_event {
            for span in &wanted.spans {
                self.add_dates_of_every_event(property, wanted.from, *span);
            }
        }
    }

    /// Adds the spans between the instants of two moments.
    fn add_slivers(&mut self, slots: SlotPairs) -> Result<(), FullReason> {
        let mut slivers: BTreeMap<&Subject, (i64, Vec<TimeSpan>)> = BTreeMap::new();
        for (then, now) in slots {
            if let Some(sliver) = sliver(then, now) {
                let from = then.from.min(now.from);
                let (earliest, spans) = slivers.entry(&now.subject).or_insert((from, Vec::new()));
                *earliest = from.min(*earliest);
                spans.push(sliver);
            }
        }
        for (subject, (from, spans)) in slivers {
            for span in merged(spans) {
                self.add_sliver(subject, from, span)?;
            }
        }
        Ok(())
    }

    fn add_sliver(
        &mut self,
        subject: &Subject,
        from: i64,
        span: TimeSpan,
    ) -> Result<(), FullReason> {
        let column = match subject {
            Subject::Times(None) => {
                self.times.entry(None).or_default().insert(span);
                return Ok(());
            }
            Subject::Times(Some(names)) => {
                for name in names {
                    let spans = self.times.entry(Some(name.clone())).or_default();
                    spans.insert(span);
                }
                return Ok(());
            }
            Subject::EventDate(None, property) => {
                self.add_dates_of_every_event(property, from, span);
                return Ok(());
            }
            Subject::EventDate(Some(names), property) => {
                for event in names {
                    let column = DateColumn::Event {
                        event: event.clone(),
                        property: property.clone(),
                        from,
                    };
                    self.dates.entry(column).or_default().insert(span);
                }
                return Ok(());
            }
            Subject::PersonDate(key) => DateColumn::Person(key.clone()),
            Subject::CreatedAt => DateColumn::CreatedAt,
            Subject::DistinctId => DateColumn::DistinctId,
            Subject::EventName => return Err(FullReason::Dates),
        };
        self.dates.entry(column).or_default().insert(span);
        Ok(())
    }

    fn add_dates_of_every_event(&mut self, property: &str, from: i64, span: TimeSpan) {
        let first = || DatesOfEvents {
            from,
            spans: BTreeSet::new(),
        };
        let wanted = self.dates_of_every_event.entry(property.to_owned());
        let wanted = wanted.or_insert_with(first);
        wanted.from = from.min(wanted.from);
        wanted.spans.insert(span);
    }

    /// The events that the source will be asked for.
    fn reads(&self) -> PlannedReads {
        let mut reads = PlannedReads::default();
        for (name, spans) in &self.times {
            if let (Some(name), Some(first)) = (name, spans.first()) {
                reads.events.insert((name.clone(), Vec::new()), first.first);
            }
        }
        reads
    }
}

/// The closed span between an instant at two moments; `None` if it is the same. At the end of
/// summer time, and at the end of a month, the later moment may have the smaller instant.
fn sliver(then: &Slot, now: &Slot) -> Option<TimeSpan> {
    let span = TimeSpan {
        first: then.instant.min(now.instant),
        last: then.instant.max(now.instant),
    };
    (span.first < span.last).then_some(span)
}

/// The spans in rising order; those that touch are one.
fn merged(mut spans: Vec<TimeSpan>) -> Vec<TimeSpan> {
    spans.sort_unstable();
    let mut merged: Vec<TimeSpan> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(span.last);
            }
            _ => merged.push(span),
        }
    }
    merged
}

impl Changes {
    /// The touched persons of a cohort: all whose membership may differ, and others.
    ///
    /// # Errors
    ///
    /// Returns the reason why the cohort must be evaluated fully.
    pub fn touched(&self, needs: &Needs) -> Result<RoaringBitmap, FullReason> {
        let wanted = needs.wanted.as_ref().map_err(|reason| *reason)?;
        let mut touched = self.identities.clone();
        if wanted.persons {
            touched |= &self.changed_persons;
        }
        let is_wanted = |name: &str| {
            wanted
                .names
                .as_ref()
                .is_none_or(|names| names.contains(name))
        };
        for (name, persons) in &self.performers {
            if is_wanted(name) {
                touched |= persons;
            }
        }
        for (name, spans) in &wanted.times {
            for span in spans {
                if let Some(persons) = self.times.get(&(name.clone(), *span)) {
                    touched |= persons;
                }
            }
        }
        self.add_dates(wanted, &mut touched)?;
        for key in &wanted.members {
            let persons = self.members.get(key).and_then(Option::as_ref);
            touched |= persons.ok_or(FullReason::Reference)?;
        }
        if is_large(touched.len(), self.persons) {
            return Err(FullReason::Touched);
        }
        Ok(touched)
    }

    fn add_dates(&self, wanted: &Wanted, touched: &mut RoaringBitmap) -> Result<(), FullReason> {
        let mut add = |persons: Option<&Option<RoaringBitmap>>| {
            let persons = persons.and_then(Option::as_ref);
            *touched |= persons.ok_or(FullReason::Dates)?;
            Ok(())
        };
        for (column, spans) in &wanted.dates {
            for span in spans {
                add(self.dates.get(&(column.clone(), *span)))?;
            }
        }
        for (property, wanted) in &wanted.dates_of_every_event {
            for span in &wanted.spans {
                add(self.dates_of_every_event.get(&(property.clone(), *span)))?;
            }
        }
        Ok(())
    }
}

/// Whether so large a part of the persons is touched that a full evaluation is cheaper.
pub(super) fn is_large(touched: u64, persons: u64) -> bool {
    touched > MIN_TOUCHED && touched > persons / MAX_TOUCHED_SHARE
}
