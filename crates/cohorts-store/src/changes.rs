//! The change log of members: which persons entered and left each cohort, when, and why.
//!
//! Every writer of members goes through this module, and no other code writes `member_chunks`. A writer stages the new
//! chunks and the difference under the next member version ([`stage`]), and later publishes them ([`publish`]): then the
//! change has a number. Numbers of a shard key rise in the order of commits, because a writer takes them under the lock
//! of the head's row and holds it until the commit. So a reader that has seen number N finds all later changes above N.
//!
//! Later, rows of a cohort are merged to one per minute and per hour ([`compact`]), and old ones are deleted ([`retention`]).

mod check;
mod chunks;
pub mod compact;
mod delta;
mod entered;
mod feed;
mod heads;
mod moved;
mod named;
mod names;
mod past;
mod positions;
pub mod retention;
mod rows;
pub mod sizes;
mod slices;
#[cfg(test)]
mod tests;
mod write;

pub use check::{LogFinding, check, gaps, restart};
pub use chunks::{prune, prune_all};
pub use delta::MemberDelta;
pub use entered::{Entered, last_entered};
pub use feed::{FeedPage, FeedPosition, MemberChange, MemberSnapshot, feed, snapshot};
pub use heads::{ChangeHead, heads, total_bytes};
pub use moved::{Move, move_persons};
pub use named::{PersonPurge, plan_purge, purge};
pub use names::{LoggedPerson, ordinals_now};
pub use past::{as_of, delta_since, persons_as_of, replay};
pub use positions::{is_same_log, position_at};
pub use rows::ChangeRow;
pub use write::{
    MemberEdit, NewMembers, StagedMembers, StaticCohort, edit, publish, remove_persons, stage,
};

#[cfg(test)]
pub(crate) use chunks::{CHUNK_VERSIONS, CLEAR_CHUNKS, DELETE_CHUNKS, PRUNE, PRUNE_ALL};
#[cfg(test)]
pub(crate) use entered::SLICES_OF_CHUNK;
#[cfg(test)]
pub(crate) use names::FIRST_MOVES;
#[cfg(test)]
pub(crate) use rows::{NEWEST_OF_COHORTS, OF_COHORTS, UNPUBLISHED};
#[cfg(test)]
pub(crate) use slices::{CLEAR_SLICES, DELETE_SLICES, VERSION_SLICES};
#[cfg(test)]
pub(crate) use write::UNCLEARED;

/// Why persons entered or left a cohort. Programs of later versions may write other causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Events or persons changed.
    Data,
    /// Time passed: an edge of a window or a date.
    Time,
    /// The criteria, or what they refer to, were created or edited.
    Criteria,
    /// A file was uploaded.
    Upload,
    /// A request listed the persons, or copied a cohort.
    Manual,
    /// The query of a static cohort was evaluated.
    Query,
    /// Persons were merged.
    Merge,
    /// Persons were deleted.
    PersonDeleted,
}

/// The cause of a compacted row with changes of several causes.
pub const MIXED: &str = "mixed";

impl Cause {
    /// The name in rows and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Time => "time",
            Self::Criteria => "criteria",
            Self::Upload => "upload",
            Self::Manual => "manual",
            Self::Query => "query",
            Self::Merge => "merge",
            Self::PersonDeleted => "person_deleted",
        }
    }
}
