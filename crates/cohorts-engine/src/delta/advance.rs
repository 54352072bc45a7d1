//! From the members of an earlier position to those of a later one.

use roaring::RoaringBitmap;

use crate::block::intersection;
use crate::eval::LeafCache;
use crate::plan::Plan;
use crate::source::Source;

/// The difference between two sets of members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// The persons that became members.
    pub entered: RoaringBitmap,
    /// The persons that are no longer members.
    pub left: RoaringBitmap,
}

impl Advance {
    /// Whether the members are the same.
    pub fn is_empty(&self) -> bool {
        self.entered.is_empty() && self.left.is_empty()
    }

    /// Changes the earlier members to the later ones.
    pub fn apply(&self, members: &mut RoaringBitmap) {
        *members |= &self.entered;
        *members -= &self.left;
    }
}

impl Plan {
    /// Evaluates the plan for the persons `touched`, and compares with the members of an earlier
    /// position. Every person with another membership must be in `touched`.
    ///
    /// `cache` is a [`LeafCache::within`] for this plan and others. If it does not cover `touched`,
    /// the plan is evaluated without it.
    ///
    /// # Errors
    ///
    /// Returns the error of `source` if data cannot be read, or if the evaluation is interrupted.
    pub fn advance<S: Source>(
        &self,
        members: &RoaringBitmap,
        touched: &RoaringBitmap,
        source: &S,
        cache: &LeafCache,
    ) -> Result<Advance, S::Error> {
        if touched.is_empty() {
            return Ok(Advance::default());
        }
        let now = if cache.covers(touched) {
            self.evaluate_with(source, cache)? & touched
        } else {
            self.evaluate_with(source, &LeafCache::within([], touched.clone()))?
        };
        let then = intersection(members, touched);
        Ok(Advance {
            entered: &now - &then,
            left: then - now,
        })
    }
}
