//! The ordinals of persons that were looked up, so that the next look-up of a person needs no statement.
//!
//! The ordinal of an id changes only in a write that retires an ordinal: a merge or a deletion. An entry is used as long as
//! [`KnownMembers`] have seen no such write that concerns its ordinal. A merge or a deletion by this process is seen at once,
//! and one by another process within a second.

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

type PersonKey = (ProjectId, PersonId);

/// The ordinal that a person had after a write of the log.
#[derive(Clone, Copy)]
struct KnownOrdinal {
    ordinal: u32,
    seq: i64,
}

/// Weighs ordinals by the bytes of their ids.
#[derive(Clone)]
struct ByIdBytes;

impl Weighter<PersonKey, KnownOrdinal> for ByIdBytes {
    fn weight(&self, (_, person): &PersonKey, _: &KnownOrdinal) -> u64 {
        match person {
            PersonId::Uuid(_) => ENTRY,
            PersonId::DistinctId(id) => ENTRY + id.len() as u64,
        }
    }
}

/// The ordinals of the persons of all projects that were looked up. Clones share them.
#[derive(Clone)]
pub struct KnownPersons(Arc<Cache<PersonKey, KnownOrdinal, ByIdBytes>>);

impl Default for KnownPersons {
    fn default() -> Self {
        let count = (BUDGET / ENTRY) as usize;
        Self(Arc::new(Cache::with_weighter(count, BUDGET, ByIdBytes)))
    }
}

impl KnownPersons {
    /// The ordinal of a person of `project`, if it was kept and no merge or deletion that `members` have seen concerns it.
    pub fn get(
        &self,
        project: ProjectId,
        members: &KnownMembers,
        person: &PersonId,
    ) -> Option<u32> {
        let KnownOrdinal { ordinal, seq } = self.0.get(&(project, person.clone()))?;
        (members.retirements.is_same(ordinal, seq)).then_some(ordinal)
    }

    /// Keeps the ordinal of a person, which was read after `members`.
    pub fn keep(&self, project: ProjectId, members: &KnownMembers, person: PersonId, ordinal: u32) {
        let seq = members.retirements.last;
        let known = KnownOrdinal { ordinal, seq };
        self.0.insert((project, person), known);
    }
}
