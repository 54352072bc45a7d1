//! The next instant at which time alone changes the membership of one person.
//!
//! The instants of the plans move past the dates of the person. Spans of days in which no instant
//! comes near a date are skipped; in the others, [`Definitions::next_change`] gives the next instant
//! at which anything may change, and an evaluation there says whether it does.

use super::{Explainer, PersonRows, PersonSource};
use crate::block::TimeSpan;
use crate::delta::{Definitions, PlannedSlots, first_value};
use crate::window::Moment;

const DAY: i64 = 86_400_000_000;
/// Instants that are examined.
const MAX_STEPS: usize = 10_000;
/// How far ahead changes are looked for.
const HORIZON: i64 = 36_525 * DAY;
/// An instant of a plan may move back by less than this, at the end of a month or of summer time.
const MARGIN: i64 = 2 * DAY;
/// Every instant that moves at all moves within this time.
const FAR: i64 = 400 * DAY;

/// A change of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextChange {
    /// The instant, in microseconds since the Unix epoch.
    pub at: i64,
    /// The membership from then on.
    pub member: bool,
}

impl<R: PersonRows> Explainer<'_, R> {
    /// Returns the next instant after the moment `at` at which time alone changes the membership,
    /// which is `member` at that moment. `None` means that there is no such instant within 100 years,
    /// or that more than 10,000 instants would have to be examined.
    ///
    /// # Errors
    ///
    /// Returns the error of the source if data cannot be read, or if the evaluation is interrupted.
    pub fn next_change(&self, at: &Moment, member: bool) -> Result<Option<NextChange>, R::Error> {
        let (mut now, end) = (at.clone(), at.now.saturating_add(HORIZON));
        for _ in 0..MAX_STEPS {
            self.source.rows().interrupt()?;
            let quiet = Quiet::of(&self.definitions, &now);
            if let Some(later) = quiet.last_moment(self.source)? {
                now = later;
            } else {
                let next = self.definitions.next_change(self.source, &now)?;
                now = moved(&now, next);
                match self.is_member(&now)? {
                    Some(later) if later != member => {
                        return self.confirmed(&now, member);
                    }
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
            if now.now >= end {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The change at `now`, if the membership was `member` just before.
    fn confirmed(&self, now: &Moment, member: bool) -> Result<Option<NextChange>, R::Error> {
        let before = self.is_member(&moved(now, now.now - 1))?;
        let change = NextChange {
            at: now.now,
            member: !member,
        };
        Ok((before == Some(member)).then_some(change))
    }

    /// Whether the person is a member; `None` if there is no plan for the moment.
    fn is_member(&self, at: &Moment) -> Result<Option<bool>, R::Error> {
        let Ok(plan) = self.definitions.plan(at) else {
            return Ok(None);
        };
        Ok(Some(!plan.evaluate(self.source)?.is_empty()))
    }
}

/// A search for the longest span from a moment on in which no date of the person is met.
struct Quiet<'a> {
    definitions: &'a Definitions,
    now: &'a Moment,
    slots: Option<(PlannedSlots, PlannedSlots)>,
}

impl<'a> Quiet<'a> {
    fn of(definitions: &'a Definitions, now: &'a Moment) -> Quiet<'a> {
        let slots = definitions.slots(now).ok();
        let far = definitions.slots(&moved(now, now.now + FAR)).ok();
        Quiet {
            definitions,
            now,
            slots: slots.zip(far),
        }
    }

    /// The last moment of the span; `None` if the span is shorter than a day.
    fn last_moment<R: PersonRows>(
        &self,
        source: &PersonSource<R>,
    ) -> Result<Option<Moment>, R::Error> {
        let mut last = None;
        let mut length = DAY;
        while length <= HORIZON {
            let later = moved(self.now, self.now.now + length);
            if !self.is_quiet_until(&later, source)? {
                break;
            }
            last = Some(later);
            length *= 2;
        }
        Ok(last)
    }

    fn is_quiet_until<R: PersonRows>(
        &self,
        later: &Moment,
        source: &PersonSource<R>,
    ) -> Result<bool, R::Error> {
        let (Some((first, far)), Ok(last)) = (&self.slots, self.definitions.slots(later)) else {
            return Ok(false);
        };
        let (Ok(pairs), Ok(_)) = (first.paired(&last), first.paired(far)) else {
            return Ok(false);
        };
        for ((first, last), far) in pairs.zip(&far.slots) {
            if first.instant == last.instant && first.instant == far.instant {
                continue;
            }
            let span = TimeSpan {
                first: first.instant.min(last.instant).saturating_sub(MARGIN),
                last: first.instant.max(last.instant).saturating_add(MARGIN),
            };
            if first_value(source, later, first, span)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn moved(at: &Moment, now: i64) -> Moment {
    Moment {
        now,
        time_zone: at.time_zone.clone(),
    }
}
