//! The persons of changes as they are now: alive, deleted, or merged into another.

use std::collections::{BTreeSet, HashMap};

use cohorts_api::types::ChangedPerson;
use cohorts_store::tombstones::RetiredPerson;
use cohorts_store::{Conn, Result, ShardKey, persons, tombstones};
use uuid::Uuid;

/// The persons of some ordinals, and the survivors of those that were merged.
#[derive(Default)]
pub struct ChangedPersons {
    uuids: HashMap<i64, Uuid>,
    distinct_ids: HashMap<i64, Vec<String>>,
    retired: HashMap<i64, RetiredPerson>,
}

impl ChangedPersons {
    /// Reads the persons with these ordinals.
    pub fn read(
        conn: &mut Conn,
        shard_key: ShardKey,
        ordinals: impl Iterator<Item = u32>,
    ) -> Result<Self> {
        let mut persons = Self::default();
        let ordinals: BTreeSet<i64> = ordinals.map(i64::from).collect();
        let mut ordinals: Vec<i64> = ordinals.into_iter().collect();
        if ordinals.is_empty() {
            return Ok(persons);
        }
        persons.distinct_ids = persons::shown_ids(conn, shard_key, &ordinals)?;
        // Each step leads to the survivors of the merged persons of the step before. A damaged chain may be a loop.
        while !ordinals.is_empty() {
            let uuids = persons::uuids_by_ordinal(conn, shard_key, &ordinals)?;
            ordinals.retain(|ordinal| !uuids.contains_key(ordinal));
            persons.uuids.extend(uuids);
            if ordinals.is_empty() {
                break;
            }
            let retired = tombstones::by_ordinals(conn, shard_key, &ordinals)?;
            let survivors = retired.values().filter_map(|retired| retired.merged_into);
            let survivors: BTreeSet<i64> = survivors.collect();
            persons.retired.extend(retired);
            ordinals = survivors.into_iter().collect();
            ordinals.retain(|ordinal| {
                !persons.uuids.contains_key(ordinal) && !persons.retired.contains_key(ordinal)
            });
        }
        Ok(persons)
    }

    /// The person of an ordinal. `None` if the ordinal has no person, or the person was purged.
    pub fn get(&self, ordinal: u32) -> Option<ChangedPerson> {
        let ordinal = i64::from(ordinal);
        if let Some(uuid) = self.uuids.get(&ordinal) {
            return Some(ChangedPerson {
                uuid: *uuid,
                distinct_ids: self.distinct_ids.get(&ordinal).cloned().unwrap_or_default(),
                deleted: None,
                merged_into: None,
            });
        }
        let uuid = self.retired.get(&ordinal)?.uuid?;
        let survivor = self.survivor(ordinal);
        Some(ChangedPerson {
            uuid,
            distinct_ids: Vec::new(),
            deleted: survivor.is_none().then_some(true),
            merged_into: survivor.filter(|survivor| *survivor != uuid),
        })
    }

    /// The person into which a retired one was merged, directly or through others; `None` if the person was deleted.
    fn survivor(&self, ordinal: i64) -> Option<Uuid> {
        let mut ordinal = ordinal;
        for _ in 0..=self.retired.len() {
            if let Some(uuid) = self.uuids.get(&ordinal) {
                return Some(*uuid);
            }
            ordinal = self.retired.get(&ordinal)?.merged_into?;
        }
        None
    }
}
