//! Moves of persons to other ordinals.
//!
//! The survivor of a merge may move to the ordinal of the merged person, and the uuid of the merged person then belongs to
//! the ordinal that the survivor has left. The log has ordinals and readers see uuids, so each cohort with one of the two
//! gets a change, even if the same ordinals are members as before. Earlier changes keep their persons ([`super::names`]).

use roaring::RoaringBitmap;

use super::delta::MemberDelta;
use super::write::{NewMembers, StagedMembers, publish, stage_deltas};
use super::{Cause, names, prune_all};
use crate::cohorts::{self, LockedCohort};
use crate::{CohortId, Conn, ProjectId, Result, members, queue};

/// A person who moved.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The ordinal that the person has left.
    pub from: u32,
    /// The ordinal of the person now. It was that of a person merged into this one.
    pub into: u32,
}

/// Moves members to their new ordinals in all cohorts of a project, and publishes that they entered under their new ordinal
/// and left under the old one.
///
/// The caller has locked the project.
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn move_persons(conn: &mut Conn, project: ProjectId, moves: &[Move]) -> Result<()> {
    let ordinals = moves.iter().flat_map(|moved| [moved.from, moved.into]);
    let ordinals: RoaringBitmap = ordinals.collect();
    let shard_key = project.shard_key();
    let locked = cohorts::lock_all(conn, project)?;
    let left: Vec<i64> = moves.iter().map(|moved| moved.from.into()).collect();
    names::record_moves(conn, shard_key, &left)?;
    let near = members::near(conn, shard_key, &locked, &ordinals)?;
    let cohorts = locked.iter();
    let cohorts = cohorts.filter_map(|cohort| Some((cohort, near.get(&cohort.id)?)));
    let moved = cohorts
        .filter(|(_, before)| !before.is_disjoint(&ordinals))
        .map(|(cohort, before)| MovedMembers::new(cohort, before, moves));
    let moved: Vec<MovedMembers<'_>> = moved.collect();
    if moved.is_empty() {
        return Ok(());
    }
    let new: Vec<NewMembers<'_>> = moved.iter().map(MovedMembers::new_members).collect();
    let deltas = moved.iter().map(|moved| moved.delta.clone());
    let mut staged = stage_deltas(conn, shard_key, &new, deltas.collect())?;
    for (staged, moved) in staged.iter_mut().zip(&moved) {
        staged.count = moved.count();
    }
    queue::publish_removals(conn, &staged)?;
    let changes = staged.iter().map(|staged| (staged, Cause::Merge));
    let changes: Vec<(&StagedMembers, Cause)> = changes.collect();
    publish(conn, shard_key, &changes)?;
    prune_all(conn, shard_key, &staged)
}

/// A cohort with a moved person, and its members in the chunks of the moved persons.
struct MovedMembers<'a> {
    cohort: &'a LockedCohort,
    before: &'a RoaringBitmap,
    after: RoaringBitmap,
    delta: MemberDelta,
}

impl<'a> MovedMembers<'a> {
    fn new(cohort: &'a LockedCohort, before: &'a RoaringBitmap, moves: &[Move]) -> Self {
        let mut after = before.clone();
        let mut delta = MemberDelta::default();
        for Move { from, into } in moves {
            let had_old = after.remove(*from);
            let had_new = after.contains(*into);
            if had_old || had_new {
                after.insert(*into);
                delta.left.insert(*from);
                // Also if both were members: a reader of the pages of a snapshot may have passed the new ordinal before the
                // move, and reaches the old one after it.
                delta.entered.insert(*into);
            }
        }
        delta.reverted = (&delta.entered & before) | (&delta.left - before);
        Self {
            cohort,
            before,
            after,
            delta,
        }
    }

    fn new_members(&self) -> NewMembers<'_> {
        NewMembers {
            cohort: CohortId(self.cohort.id),
            base: self.cohort.member_version,
            attempt: self.cohort.attempt,
            before: self.before,
            after: &self.after,
        }
    }

    /// The number of members in all chunks.
    fn count(&self) -> i64 {
        let (before, after) = (self.before.len() as i64, self.after.len() as i64);
        self.cohort.count.unwrap_or(before) + after - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The change of a cohort with these members when the person of ordinal 2 moves to ordinal 1.
    fn delta(before: &[u32]) -> (Vec<u32>, MemberDelta) {
        let cohort = LockedCohort {
            id: 1,
            is_static: false,
            member_version: 1,
            count: None,
            attempt: 1,
        };
        let moves = [Move { from: 2, into: 1 }];
        let before = RoaringBitmap::from_iter(before);
        let moved = MovedMembers::new(&cohort, &before, &moves);
        let mut undone = moved.after.clone();
        moved.delta.undo(&mut undone);
        assert_eq!(undone, before);
        (moved.after.iter().collect(), moved.delta)
    }

    #[test]
    fn a_move_is_a_change_of_every_cohort_with_one_of_the_ordinals() {
        let persons = |bitmap: &RoaringBitmap| bitmap.iter().collect::<Vec<u32>>();
        for (before, entered, reverted) in [
            (&[1, 9][..], &[1][..], &[1, 2][..]),
            (&[2, 9], &[1], &[]),
            (&[1, 2, 9], &[1], &[1]),
        ] {
            let (after, delta) = delta(before);
            assert_eq!(after, [1, 9], "{before:?}");
            assert_eq!(persons(&delta.entered), entered, "{before:?}");
            assert_eq!(persons(&delta.left), [2], "{before:?}");
            assert_eq!(persons(&delta.reverted), reverted, "{before:?}");
        }
        assert!(delta(&[9]).1.is_empty());
    }
}
