//! Delta evaluation: the members at one position from those at an earlier one.
//!
//! If only the clock and the log have advanced since an [`EvaluationState`], then
//!
//! ```text
//! members(now) = (members(then) − T) ∪ evaluate(plan at now, restricted to T)
//! ```
//!
//! for a set `T` that contains every person with another membership. A [`Pass`] finds `T` for many
//! cohorts of a project together, and [`Plan::advance`](crate::Plan::advance) evaluates one of
//! them. If anything else differs, the [`FullReason`] says why the cohort must be evaluated fully.
//! [`Definitions::next_change`] is the instant up to which time alone changes no member.
//!
//! # Invariants
//!
//! - Full and restricted evaluation are one implementation. Only the set of persons differs.
//! - No criterion relates two persons to each other.
//! - The instants of `T` are read from the ranges, predicates and selectors that the evaluation
//!   reads (`plan/slots.rs`). The same holds for the instants of [`Definitions::next_change`].
//! - `T` may contain too many persons, but never too few.

mod advance;
mod changes;
mod definitions;
mod lookup;
mod next;
mod pass;
mod source;
mod state;
mod wanted;

pub use advance::Advance;
pub use changes::Changes;
pub(crate) use definitions::PlannedSlots;
pub use definitions::{Definition, Definitions};
pub(crate) use next::first_value;
pub use pass::{Needs, Pass};
pub use source::{ChangeSource, DateColumn, DateQuery, LogSpan, VersionSpan};
pub use state::{EvaluationState, Fingerprint, FullReason, Position, SEMANTICS, Settings};

#[cfg(test)]
mod tests;
