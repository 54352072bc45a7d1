//! Persons in the order of lists: all of a project, or a set of them. Offsets are counted on bitmaps, so only the buckets
//! of the requested persons are read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cohorts_store::Conn;
use cohorts_store::rankings::RankKey;
use roaring::RoaringBitmap;

use super::super::{Caches, IndexResult};
use super::buckets::{Bucket, Ranking};
use super::orders::Order;

/// How long the orders of a page may take.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// The persons of a project in the order of lists.
pub struct RankedPersons {
    caches: Arc<Caches>,
    ranking: Arc<Ranking>,
    /// `None` is all persons.
    persons: Option<RoaringBitmap>,
}

/// A position between persons: in front of the person with this number in the bucket, or behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankPlace {
    bucket: usize,
    from: PlaceStart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlaceStart {
    Nth(u64),
    After(RankKey),
}

/// A person, and the place behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedPerson {
    pub key: RankKey,
    pub after: RankPlace,
}

impl RankPlace {
    const START: Self = Self {
        bucket: 0,
        from: PlaceStart::Nth(0),
    };
}

impl RankedPersons {
    /// The persons of a set, as far as they are in the project; `None` is all persons.
    pub fn new(
        caches: &Arc<Caches>,
        ranking: Arc<Ranking>,
        persons: Option<RoaringBitmap>,
    ) -> Self {
        Self {
            caches: Arc::clone(caches),
            ranking,
            persons,
        }
    }

    pub fn count(&self) -> u64 {
        let all = &*self.ranking.all;
        (self.persons.as_ref()).map_or(all.len(), |persons| persons.intersection_len(all))
    }

    pub fn contains(&self, ordinal: u32) -> bool {
        let is_selected = |persons: &RoaringBitmap| persons.contains(ordinal);
        self.ranking.all.contains(ordinal) && self.persons.as_ref().is_none_or(is_selected)
    }

    pub fn start(&self) -> RankPlace {
        RankPlace::START
    }

    /// The place behind a key, whether or not a person has it.
    pub fn place_after(&self, key: RankKey) -> RankPlace {
        RankPlace {
            bucket: self.ranking.bucket_of(key),
            from: PlaceStart::After(key),
        }
    }

    /// The place in front of the person with this number, counted from zero; `None` if there are no more persons.
    pub fn place_at(&self, offset: u64) -> Option<RankPlace> {
        let count = self.count();
        if offset >= count {
            return None;
        }
        // Counting begins at the nearer end.
        let (mut bucket, mut first);
        if offset < count / 2 {
            (bucket, first) = (0, 0);
            while first + self.count_in(bucket) <= offset {
                first += self.count_in(bucket);
                bucket += 1;
            }
        } else {
            bucket = self.ranking.buckets.len() - 1;
            first = count - self.count_in(bucket);
            while first > offset {
                bucket -= 1;
                first -= self.count_in(bucket);
            }
        }
        let from = PlaceStart::Nth(offset - first);
        Some(RankPlace { bucket, from })
    }

    fn count_in(&self, bucket: usize) -> u64 {
        let ordinals = &self.ranking.buckets[bucket].ordinals;
        let persons = self.persons.as_ref();
        persons.map_or(ordinals.len(), |persons| persons.intersection_len(ordinals))
    }

    /// At most `most` persons behind a place.
    pub fn next(
        &self,
        conn: &mut Conn,
        place: RankPlace,
        most: usize,
    ) -> IndexResult<Vec<PlacedPerson>> {
        let deadline = Instant::now() + READ_LIMIT;
        let (mut found, mut place) = (Vec::new(), place);
        while found.len() < most
            && let Some(bucket) = self.ranking.buckets.get(place.bucket)
        {
            if let Some(members) = self.members(bucket) {
                let orders = &self.ranking.orders;
                let order = orders.get(conn, &self.ranking, bucket, deadline)?;
                self.caches.index.evict_if_rankings_grew();
                let keys = keys_from(&order, members.as_ref(), place.from);
                let keys = keys.take(most - found.len());
                found.extend(keys.map(|key| PlacedPerson {
                    key,
                    after: RankPlace {
                        bucket: place.bucket,
                        from: PlaceStart::After(key),
                    },
                }));
            }
            place = RankPlace {
                bucket: place.bucket + 1,
                from: PlaceStart::Nth(0),
            };
        }
        Ok(found)
    }

    /// The persons of a bucket: `None` if it has none, and `Some(None)` if it has all of them.
    fn members(&self, bucket: &Bucket) -> Option<Option<RoaringBitmap>> {
        let all = bucket.ordinals.len();
        let members = self
            .persons
            .as_ref()
            .map(|persons| persons & &bucket.ordinals);
        match members {
            None => (all > 0).then_some(None),
            Some(members) if members.is_empty() => None,
            Some(members) if members.len() == all => Some(None),
            members => Some(members),
        }
    }
}

/// The keys of `members`, or of all persons of the order, from a position on.
fn keys_from<'a>(
    order: &'a Order,
    members: Option<&'a RoaringBitmap>,
    from: PlaceStart,
) -> Box<dyn Iterator<Item = RankKey> + 'a> {
    let (first, skipped) = match from {
        PlaceStart::After(key) => (order.partition_point(|other| *other >= key), 0),
        PlaceStart::Nth(nth) => (0, nth as usize),
    };
    let keys = order[first..].iter().copied();
    match members {
        None => Box::new(keys.skip(skipped)),
        Some(members) => {
            let is_member = |key: &RankKey| members.contains(key.ordinal);
            Box::new(keys.filter(is_member).skip(skipped))
        }
    }
}
