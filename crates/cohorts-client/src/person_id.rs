//! The ID of a person, which differs between this service and PostHog.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The ID of a person: a UUID. Some operations of PostHog's API send a number instead.
///
/// [`Person::uuid`](crate::types::Person::uuid) is the UUID in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PersonId {
    /// The ID that this service sends.
    Uuid(Uuid),
    /// The number of the person in PostHog.
    Number(i64),
}

impl From<Uuid> for PersonId {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(id) => id.fmt(f),
            Self::Number(id) => id.fmt(f),
        }
    }
}
