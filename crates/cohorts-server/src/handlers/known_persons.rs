//! The ordinals of persons that were looked up, so that the next look-up of a person needs no statement.
//!
//! The ordinal of an id changes only in a write that retires an ordinal: a merge or a deletion. An entry is valid for one
//! `retired_at`: a look-up uses it only with [`KnownMembers`] that have the same one. A merge or a deletion by this process
//! is seen at once, and one by another process within a second. It ends all entries of the project.

use std::sync::Arc;

use cohorts_store::ProjectId;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::lookup::PersonId;
use crate::index::look_ups::KnownMembers;

/// The bytes of all ordinals with their ids.
const BUDGET: u64 = 32 << 20;
/// The memory of an ordinal besides its id, in bytes, about.
const ENTRY: u64 = 150;

/// An id of a person, and the write of the project that last retired an ordinal.
type PersonKey = (ProjectId, Option<i64>, PersonId);

/// Weighs ordinals by the bytes of their ids.
#[derive(Clone)]
struct ByIdBytes;

impl Weighter<PersonKey, u32> for ByIdBytes {
    fn weight(&self, (_, _, person): &PersonKey, _: &u32) -> u64 {
        match person {
            PersonId::Uuid(_) => ENTRY,
            PersonId::DistinctId(id) => ENTRY + id.len() as u64,
        }
    }
}

/// The ordinals of the persons of all projects that were looked up. Clones share them.
#[derive(Clone)]
pub struct KnownPersons(Arc<Cache<PersonKey, u32, ByIdBytes>>);

impl Default for KnownPersons {
    fn default() -> Self {
        let count = (BUDGET / ENTRY) as usize;
        Self(Arc::new(Cache::with_weighter(count, BUDGET, ByIdBytes)))
    }
}

impl KnownPersons {
    /// The ordinal of a person of `project`, if it was kept with members of the same last retirement.
    pub fn get(
        &self,
        project: ProjectId,
        members: &KnownMembers,
        person: &PersonId,
    ) -> Option<u32> {
        self.0.get(&(project, members.retired_at, person.clone()))
    }

    /// Keeps the ordinal of a person, which was read after `members`.
    pub fn keep(&self, project: ProjectId, members: &KnownMembers, person: PersonId, ordinal: u32) {
        self.0
            .insert((project, members.retired_at, person), ordinal);
    }
}
