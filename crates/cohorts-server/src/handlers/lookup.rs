//! Persons by the ids that callers send: their ordinals, as the bitmaps of the index and the member lists.

use std::collections::HashMap;

use cohorts_engine::stored_name;
use cohorts_store::{Conn, ProjectId, ShardKey, persons};
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::person_file::IdKind;
use crate::error::Error;

/// How a request names a person.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PersonId {
    Uuid(Uuid),
    DistinctId(String),
}

impl PersonId {
    /// From the two fields or parameters; a request has one of them.
    pub fn new(person_id: Option<String>, distinct_id: Option<String>) -> Result<Self, Error> {
        match (person_id, distinct_id) {
            (Some(_), Some(_)) => Err(Error::field(
                "distinct_id",
                "Send `person_id` or `distinct_id`, not both.",
            )),
            (None, Some(id)) => Ok(Self::DistinctId(stored_name(&id).into_owned())),
            (Some(id), None) => Uuid::parse_str(&id)
                .map(Self::Uuid)
                .map_err(|_| Error::field("person_id", "Must be a valid UUID.")),
            (None, None) => Err(Error::field("person_id", "This field is required.")),
        }
    }

    /// The uuid of the person.
    pub fn uuid(&self, conn: &mut Conn, shard_key: ShardKey) -> Result<Uuid, Error> {
        let id = match self {
            Self::Uuid(uuid) => return Ok(*uuid),
            Self::DistinctId(id) => id,
        };
        let person = persons::persons_by_id(conn, shard_key, &[id])?.remove(id);
        let (_, uuid) = person.ok_or(Error::NotFound)?;
        Ok(uuid)
    }

    /// The ordinal of the person.
    pub fn ordinal(&self, conn: &mut Conn, shard_key: ShardKey) -> Result<u32, Error> {
        let number = match self {
            Self::Uuid(uuid) => persons::ordinal(conn, shard_key, *uuid)?,
            Self::DistinctId(id) => {
                let ordinals = persons::ordinals_by_id(conn, shard_key, &[id])?;
                ordinals.into_values().next()
            }
        };
        ordinal(number.ok_or(Error::NotFound)?)
    }

    /// The row of the person.
    pub fn row(&self, conn: &mut Conn, shard_key: ShardKey) -> Result<persons::Person, Error> {
        let uuid = self.uuid(conn, shard_key)?;
        persons::find(conn, shard_key, uuid)?.ok_or(Error::NotFound)
    }
}

/// A bitmap of ordinals. Fails if an ordinal does not fit into 32 bits.
pub fn ordinal_set(ordinals: impl IntoIterator<Item = i64>) -> Result<RoaringBitmap, Error> {
    ordinals.into_iter().map(ordinal).collect()
}

fn ordinal(number: i64) -> Result<u32, Error> {
    Ok(u32::try_from(number).map_err(anyhow::Error::from)?)
}

/// The persons with these uuids. Malformed and unknown uuids are ignored.
pub fn persons_with_uuids<'a>(
    conn: &mut Conn,
    shard_key: ShardKey,
    uuids: impl IntoIterator<Item = &'a str>,
) -> Result<RoaringBitmap, Error> {
    let uuids: Vec<Uuid> = uuids
        .into_iter()
        .filter_map(|uuid| uuid.parse().ok())
        .collect();
    ordinal_set(persons::ordinals_by_uuid(conn, shard_key, &uuids)?.into_values())
}

/// The ordinals of the persons with each id; ids without a person are absent. Several persons may have one e-mail address.
pub fn ordinals_by_id(
    conn: &mut Conn,
    project: ProjectId,
    kind: IdKind,
    ids: &[&str],
) -> Result<HashMap<String, Vec<i64>>, Error> {
    let shard_key = project.shard_key();
    let pairs = match kind {
        IdKind::DistinctId => persons::ordinals_by_id(conn, shard_key, ids)?
            .into_iter()
            .collect(),
        IdKind::Email => persons::ordinals_by_email(conn, shard_key, ids)?,
        IdKind::Person => ordinals_by_uuid(conn, shard_key, ids)?,
    };
    let mut ordinals: HashMap<String, Vec<i64>> = HashMap::new();
    for (id, ordinal) in pairs {
        ordinals.entry(id).or_default().push(ordinal);
    }
    Ok(ordinals)
}

/// One UUID may be written in several ways, so each text that was sent gets its own pair.
fn ordinals_by_uuid(
    conn: &mut Conn,
    shard_key: ShardKey,
    ids: &[&str],
) -> Result<Vec<(String, i64)>, Error> {
    let parsed: HashMap<&str, Uuid> = ids
        .iter()
        .filter_map(|id| Some((*id, Uuid::parse_str(id).ok()?)))
        .collect();
    let uuids: Vec<Uuid> = parsed.values().copied().collect();
    let ordinals = persons::ordinals_by_uuid(conn, shard_key, &uuids)?;
    Ok(parsed
        .into_iter()
        .filter_map(|(id, uuid)| Some((id.to_owned(), *ordinals.get(&uuid)?)))
        .collect())
}
