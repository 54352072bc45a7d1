//! The cohorts of a project with their members in memory, so that a look-up of a person needs no statement for them.
//!
//! They are used for at most a second, and at most until this process signals a change of members in the project. So a
//! look-up sees each change that this process has published, and those of other processes within a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cohorts_store::members::{self, Membership, PublishedCohort};
use cohorts_store::{Conn, Error, ProjectId};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use roaring::RoaringBitmap;

use super::IndexedStore;
use super::retirements::Retirements;

/// How long the cohorts are used after they were read.
const LIFETIME: Duration = Duration::from_secs(1);
/// A project with more cohorts, or with more members in all cohorts, is looked up in the database.
const MAX_COHORTS: usize = 1_000;
const MAX_MEMBERS: i64 = 16_000_000;
/// The bytes of the members of all projects. Most of them are also in the cache of members.
const BUDGET: u64 = 64 << 20;
/// The memory of a cohort and of a container of members besides the members, in bytes, about.
const ENTRY: u64 = 200;
const CONTAINER: u64 = 40;

/// The cohorts of a project, and the members of each.
pub struct KnownMembers {
    /// The merges and deletions that these members have seen.
    pub retirements: Arc<Retirements>,
    cohorts: Vec<PublishedCohort>,
    members: Vec<Arc<RoaringBitmap>>,
}

impl KnownMembers {
    /// All cohorts with their members, sorted by id.
    pub fn all(&self) -> impl Iterator<Item = (&PublishedCohort, &RoaringBitmap)> {
        let members = self.members.iter().map(|members| &**members);
        self.cohorts.iter().zip(members)
    }

    /// The cohorts that a person is a member of.
    pub fn of(&self, person: u32) -> Vec<Membership> {
        let all = self.all();
        let of_person = all.filter(|(_, members)| members.contains(person));
        of_person.map(|(cohort, _)| cohort.membership()).collect()
    }
}

#[derive(Clone)]
struct CachedMembers {
    members: Arc<KnownMembers>,
    read_at: Instant,
    /// How many changes of members had been signalled.
    changes: u64,
}

/// Weighs members by their bytes.
#[derive(Clone)]
struct ByMemberBytes;

impl Weighter<ProjectId, CachedMembers> for ByMemberBytes {
    fn weight(&self, _: &ProjectId, cached: &CachedMembers) -> u64 {
        let sizes = cached.members.members.iter();
        let sizes = sizes.map(|members| {
            let containers = u64::from(members.statistics().n_containers);
            ENTRY + CONTAINER * containers + members.serialized_size() as u64
        });
        sizes.sum::<u64>() + cached.members.retirements.bytes() + 1
    }
}

/// The cohorts of the projects that were looked up a moment ago.
pub struct LookUpCache(Cache<ProjectId, CachedMembers, ByMemberBytes>);

impl Default for LookUpCache {
    fn default() -> Self {
        // The members of one project must fit into a shard.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(1_000)
            .weight_capacity(BUDGET)
            .shards(1)
            .build();
        Self(Cache::with_options(
            options.expect("the capacities are set"),
            ByMemberBytes,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ))
    }
}

impl IndexedStore {
    /// The cohorts of a project with their members, if they were read a moment ago.
    pub fn known_members(&self, project: ProjectId) -> Option<Arc<KnownMembers>> {
        let known = self.caches.look_ups.0.get(&project)?;
        let is_current = known.changes == self.signals.changes_of(project);
        (is_current && known.read_at.elapsed() < LIFETIME).then_some(known.members)
    }

    /// Reads the cohorts of a project with their members; `None` if they are too many. The caller has begun a transaction,
    /// and has read nothing in it.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn read_members(
        &self,
        conn: &mut Conn,
        project: ProjectId,
    ) -> Result<Option<Arc<KnownMembers>>, Error> {
        let (read_at, changes) = (Instant::now(), self.signals.changes_of(project));
        let cohorts = members::published(conn, project)?;
        let counts = cohorts.iter().filter_map(|cohort| cohort.count);
        if cohorts.len() > MAX_COHORTS || counts.sum::<i64>() > MAX_MEMBERS {
            return Ok(None);
        }
        let members = &self.caches.members;
        let members = members.get(conn, project.shard_key(), &cohorts)?;
        let former = self.caches.look_ups.0.get(&project);
        let retirements = former.map_or_else(Arc::default, |former| {
            Arc::clone(&former.members.retirements)
        });
        let members = Arc::new(KnownMembers {
            retirements: retirements.later(conn, project.shard_key())?,
            cohorts,
            members,
        });
        let cached = CachedMembers {
            members: Arc::clone(&members),
            read_at,
            changes,
        };
        self.caches.look_ups.0.insert(project, cached);
        Ok(Some(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_one_project_may_take_most_of_the_budget() {
        let cache = LookUpCache::default();
        // 200 cohorts of a million persons each, by bits.
        let members = Arc::new((0..2_000_000).step_by(2).collect::<RoaringBitmap>());
        let known = KnownMembers {
            retirements: Arc::default(),
            cohorts: Vec::new(),
            members: vec![members; 200],
        };
        let cached = CachedMembers {
            members: Arc::new(known),
            read_at: Instant::now(),
            changes: 0,
        };
        assert!(ByMemberBytes.weight(&ProjectId(1), &cached) > BUDGET / 2);
        cache.0.insert(ProjectId(1), cached);
        assert!(cache.0.get(&ProjectId(1)).is_some());
    }
}
