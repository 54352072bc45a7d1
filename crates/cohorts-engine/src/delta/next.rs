//! The next instant at which time alone changes a member.
//!
//! A piece is a span of time in which no instant of the plans moves back: it ends at the next local
//! midnight, at a change of the clock, or earlier. Within a piece an instant is constant, or moves
//! with the clock in steps of a microsecond, a second or an hour. How it moves follows from the
//! plans at both ends of the piece, so no rule of the calendar is repeated here.

use jiff::Timestamp;

use super::definitions::{Definitions, PlannedSlots};
use super::lookup;
use super::source::{DateColumn, DateQuery};
use crate::block::TimeSpan;
use crate::plan::{Slot, Subject, Turn};
use crate::source::Source;
use crate::window::{Moment, day_start};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// The steps in which instants move. Only windows of hours move in steps of an hour, and only
/// relative dates in steps of a second.
const STEPS: [i64; 3] = [1, SECOND, HOUR];

impl Definitions {
    /// Returns an instant after the moment `at`, in microseconds: before it, time alone changes no
    /// member. It is the instant at which an edge meets an event or a date, or at the latest the end
    /// of the local day.
    ///
    /// `source` must present the project as of the evaluation. What is written later is part of the
    /// next pass.
    ///
    /// # Errors
    ///
    /// Returns the error of `source` if data cannot be read.
    pub fn next_change<S: Source>(&self, source: &S, at: &Moment) -> Result<i64, S::Error> {
        let Ok(slots) = self.slots(at) else {
            return Ok(day_end(at));
        };
        if slots.slots.is_empty() && self.has_one_plan() {
            return Ok(i64::MAX);
        }
        let piece = Piece::of(self, at, &slots);
        let mut next = piece.last + 1;
        for (first, last) in slots.slots.iter().zip(&piece.slots.slots) {
            if let Some(instant) = piece.first_change(source, first, last, next)? {
                next = next.min(instant);
            }
        }
        Ok(next)
    }
}

/// A span of time from a moment on, in which instants do not move back.
struct Piece<'a> {
    at: &'a Moment,
    /// The offset of local time from UTC, in microseconds.
    offset: i64,
    /// The last instant of the piece.
    last: i64,
    /// The slots at the last instant.
    slots: PlannedSlots,
}

impl<'a> Piece<'a> {
    /// The piece up to the end of the local day, to that of the hour, or to the last instant before
    /// any slot moves in another way.
    fn of(definitions: &Definitions, at: &'a Moment, slots: &PlannedSlots) -> Piece<'a> {
        let offset = offset(at);
        let piece = |last: i64| {
            let moment = Moment {
                now: last,
                time_zone: at.time_zone.clone(),
            };
            let piece = Piece {
                at,
                offset,
                last,
                slots: definitions.slots(&moment).ok()?,
            };
            piece.is_regular(slots).then_some(piece)
        };
        let day = day_end(at) - 1;
        let hour = floor(at.now, HOUR, offset) + HOUR - 1;
        let regular = piece(day).or_else(|| piece(hour.min(day)));
        if let Some(piece) = regular {
            return piece;
        }
        // The first instant is regular, and the last one is not.
        let (mut regular, mut irregular) = (at.now, hour.min(day));
        while irregular - regular > 1 {
            let middle = regular + (irregular - regular) / 2;
            if piece(middle).is_some() {
                regular = middle;
            } else {
                irregular = middle;
            }
        }
        piece(regular).unwrap_or_else(|| Piece {
            at,
            offset,
            last: at.now,
            slots: PlannedSlots::default(),
        })
    }

    /// Whether each slot is constant from the first slots to the last ones, or moves in steps.
    fn is_regular(&self, first: &PlannedSlots) -> bool {
        let pairs = first.paired(&self.slots);
        pairs.is_ok_and(|mut pairs| {
            pairs.all(|(first, last)| {
                first.instant == last.instant || self.steps(first, last).next().is_some()
            })
        })
    }

    /// The steps in which a slot may have moved.
    fn steps(&self, first: &Slot, last: &Slot) -> impl Iterator<Item = i64> {
        let moved = last.instant - first.instant;
        let (start, end) = (self.at.now, self.last);
        let by_clock = move |step| floor(end, step, self.offset) - floor(start, step, self.offset);
        STEPS
            .into_iter()
            .filter(move |step| by_clock(*step) == moved)
    }

    /// The first instant of the piece before `end` at which a comparison with a slot changes.
    fn first_change<S: Source>(
        &self,
        source: &S,
        first: &Slot,
        last: &Slot,
        end: i64,
    ) -> Result<Option<i64>, S::Error> {
        // No instant moves faster than the clock, except within a step.
        let reach = first.instant.saturating_add(end - self.at.now + HOUR);
        let reach = last.instant.min(reach);
        if reach <= first.instant {
            return Ok(None);
        }
        let mut goals = Vec::new();
        if first.turn != Turn::Passed {
            let span = TimeSpan {
                first: first.instant + 1,
                last: reach,
            };
            goals.extend(first_value(source, self.at, first, span)?);
        }
        if first.turn != Turn::Reached {
            let span = TimeSpan {
                first: first.instant,
                last: reach - 1,
            };
            let value = first_value(source, self.at, first, span)?;
            goals.extend(value.map(|value| value + 1));
        }
        let Some(goal) = goals.into_iter().min() else {
            return Ok(None);
        };
        let instants = self.steps(first, last).map(|step| {
            let steps = (goal - first.instant + step - 1).div_euclid(step);
            floor(self.at.now, step, self.offset) + steps * step
        });
        Ok(instants.min())
    }
}

/// The first value in `span` that is compared with a slot.
pub(crate) fn first_value<S: Source>(
    source: &S,
    at: &Moment,
    slot: &Slot,
    span: TimeSpan,
) -> Result<Option<i64>, S::Error> {
    let date = |column: DateColumn| {
        let query = DateQuery {
            column: &column,
            spans: &[span],
            from: slot.from,
            at,
        };
        lookup::first_date(source, &query, span)
    };
    match &slot.subject {
        Subject::Times(names) => {
            let events = lookup::each_name(source, names)?.into_iter();
            lookup::first_of(events.map(|event| lookup::first_event(source, &event, span)))
        }
        Subject::EventDate(names, property) => {
            let events = lookup::each_name(source, names)?.into_iter();
            lookup::first_of(events.map(|event| {
                date(DateColumn::Event {
                    event,
                    property: property.clone(),
                })
            }))
        }
        Subject::PersonDate(key) => date(DateColumn::Person(key.clone())),
        Subject::CreatedAt => date(DateColumn::CreatedAt),
        Subject::DistinctId => date(DateColumn::DistinctId),
        // Each evaluation is full, so any instant will do.
        Subject::EventName => Ok(Some(span.first)),
    }
}

/// The start of the step that contains `instant`. Steps begin on the full local hour.
fn floor(instant: i64, step: i64, offset: i64) -> i64 {
    instant - (instant + offset).rem_euclid(step)
}

/// The offset of local time from UTC, in microseconds.
fn offset(at: &Moment) -> i64 {
    let now = Timestamp::from_microsecond(at.now).unwrap_or_default();
    i64::from(at.time_zone.to_offset(now).seconds()) * SECOND
}

/// The first instant after the local day, or after the next change of the clock.
fn day_end(at: &Moment) -> i64 {
    let tomorrow = at.local().and_then(|local| local.date().tomorrow().ok());
    let midnight = tomorrow.and_then(|date| day_start(date, &at.time_zone));
    let now = Timestamp::from_microsecond(at.now).unwrap_or_default();
    let change = at.time_zone.following(now).next();
    let change = change.map(|change| change.timestamp().as_microsecond());
    let ends = midnight.into_iter().chain(change);
    ends.filter(|end| *end > at.now)
        .min()
        .unwrap_or(at.now + DAY)
}
