//! The engine's `ChangeSource` over a snapshot: the persons of the writes in a span of the log.
//!
//! Persons with events or dates in spans of time come from the loaded blocks, by the engine's defaults.

use std::collections::{BTreeMap, BTreeSet};

use cohorts_engine::delta::{Advance, ChangeSource, LogSpan, VersionSpan};
use cohorts_engine::{LeafCache, Plan};
use cohorts_store::scan::written;
use cohorts_store::{CohortId, changes, cohorts};
use roaring::RoaringBitmap;

use super::IndexResult;
use super::load::tombstones_between;
use super::snapshot::Snapshot;

impl Snapshot<'_, '_> {
    /// The change of a plan's members if only the persons `touched` may have another membership.
    pub fn advance(
        &self,
        plan: &Plan,
        members: &RoaringBitmap,
        touched: &RoaringBitmap,
        leaves: &LeafCache,
    ) -> IndexResult<Advance> {
        let advance = plan.advance(members, touched, self, leaves);
        self.tx().release_memory();
        advance
    }

    /// The persons of ordinals in rows, which may have been merged since.
    fn resolved(&self, persons: &RoaringBitmap) -> RoaringBitmap {
        self.tombstones().resolved(persons)
    }
}

impl ChangeSource for Snapshot<'_, '_> {
    fn performers(
        &self,
        span: LogSpan,
        names: Option<&BTreeSet<String>>,
    ) -> IndexResult<BTreeMap<String, RoaringBitmap>> {
        let (tx, names) = (self.tx(), names.map(|names| Vec::from_iter(names.clone())));
        let rows = tx.with_conn(|conn| {
            let (key, span) = (tx.shard_key(), (span.after, span.through));
            written::performers(conn, key, span, names.as_deref())
        })?;
        let mut performers: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
        for (name, ordinal) in rows {
            if let Some(person) = self.tombstones().resolve(ordinal) {
                performers.entry(name).or_default().insert(person);
            }
        }
        Ok(performers)
    }

    fn changed_identities(&self, span: LogSpan) -> IndexResult<RoaringBitmap> {
        let (tx, span) = (self.tx(), (span.after, span.through));
        let created = tx.with_conn(|conn| written::created(conn, tx.shard_key(), span))?;
        let retired = tombstones_between(tx, span)?.retired;
        Ok(created | self.resolved(&retired) | retired)
    }

    fn changed_distinct_ids(&self, span: LogSpan) -> IndexResult<RoaringBitmap> {
        let (tx, span) = (self.tx(), (span.after, span.through));
        let owners = tx.with_conn(|conn| written::owners_of_new_ids(conn, tx.shard_key(), span))?;
        Ok(self.resolved(&owners))
    }

    fn changed_persons(&self, span: LogSpan) -> IndexResult<RoaringBitmap> {
        let (tx, span) = (self.tx(), (span.after, span.through));
        tx.with_conn(|conn| written::changed(conn, tx.shard_key(), span))
    }

    fn members_version(&self, id: i64) -> IndexResult<i64> {
        let (tx, id) = (self.tx(), CohortId(id));
        let row = tx.with_conn(|conn| cohorts::find(conn, tx.project, id))?;
        Ok(row.map_or(0, |(cohort, _)| cohort.member_version))
    }

    fn changed_members(
        &self,
        id: i64,
        versions: VersionSpan,
    ) -> IndexResult<Option<RoaringBitmap>> {
        let (tx, id) = (self.tx(), CohortId(id));
        let delta =
            tx.with_conn(|conn| changes::delta_since(conn, tx.project, id, versions.then))?;
        Ok(delta.map(|delta| delta.persons()))
    }
}
