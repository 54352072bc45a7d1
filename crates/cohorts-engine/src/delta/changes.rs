//! What changed between the two positions of a pass, and the touched persons of each cohort.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::pass::Needs;
use super::source::VersionSpan;
use super::state::FullReason;
use super::wanted::Wanted;
use crate::block::TimeSpan;
use crate::plan::Subject;

/// A full evaluation is cheaper if more than one in this number of persons is touched.
const MAX_TOUCHED_SHARE: u64 = 10;
/// Up to this number of touched persons, no full evaluation is needed in small projects.
const MIN_TOUCHED: u64 = 1_000;

/// What changed between the two positions of a [`Pass`](super::Pass).
#[derive(Default)]
pub struct Changes {
    /// The number of persons of the project.
    pub(super) persons: u64,
    pub(super) performers: BTreeMap<String, RoaringBitmap>,
    /// Persons that count for every cohort.
    pub(super) identities: RoaringBitmap,
    pub(super) changed_persons: RoaringBitmap,
    /// `None` means that the persons cannot be identified.
    pub(super) spans: BTreeMap<Subject, Option<BTreeMap<TimeSpan, RoaringBitmap>>>,
    /// `None` means that the difference is unknown.
    pub(super) members: BTreeMap<(i64, VersionSpan), Option<RoaringBitmap>>,
}

impl Changes {
    /// The touched persons of a cohort: every person with another membership, and others.
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
        match &wanted.names {
            Some(names) => {
                let performers = names.iter().filter_map(|name| self.performers.get(name));
                performers.for_each(|persons| touched |= persons);
            }
            None => self
                .performers
                .values()
                .for_each(|persons| touched |= persons),
        }
        self.add_spans(wanted, &mut touched)?;
        for key in &wanted.members {
            let persons = self.members.get(key).and_then(Option::as_ref);
            touched |= persons.ok_or(FullReason::Reference)?;
        }
        if is_large(touched.len(), self.persons) {
            return Err(FullReason::Touched);
        }
        Ok(touched)
    }

    fn add_spans(&self, wanted: &Wanted, touched: &mut RoaringBitmap) -> Result<(), FullReason> {
        for (subject, spans) in &wanted.spans {
            let found = self.spans.get(subject).and_then(Option::as_ref);
            let found = found.ok_or(FullReason::Dates)?;
            for span in &spans.spans {
                *touched |= found.get(span).ok_or(FullReason::Dates)?;
            }
        }
        Ok(())
    }
}

/// Whether so large a part of the persons is touched that a full evaluation is cheaper.
pub(super) fn is_large(touched: u64, persons: u64) -> bool {
    touched > MIN_TOUCHED && touched > persons / MAX_TOUCHED_SHARE
}
