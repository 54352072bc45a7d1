//! The filter language of cohorts and the set algebra behind it.
//!
//! A cohort is a set of people, and a set of people is a roaring bitmap over dense person
//! numbers. A filter is parsed into a tree, the tree is planned for one moment, and the plan is
//! evaluated over the blocks of a [`Source`]: each leaf yields a bitmap, the rest is set algebra.
//!
//! Nothing here reads a clock, a file or a socket; the moment and the data are arguments.
//! Instants are microseconds since the Unix epoch, UTC.

mod block;
pub mod chunks;
mod condition;
mod date;
mod error;
mod eval;
pub mod filter;
mod interrupt;
pub mod kind;
pub mod legacy;
mod parse;
pub mod plan;
mod predicate;
mod semver;
pub mod source;
mod value;
mod window;

#[cfg(test)]
mod cases;

pub use block::{
    EventBlock, EventBlockBuilder, PropertyBlock, PropertyBlockBuilder, TimeSpan, TimesBlock,
};
pub use error::FilterError;
pub use eval::{Explanation, LeafCache, LeafCount};
pub use filter::Filter;
pub use interrupt::Interrupt;
pub use plan::{Plan, Reads, plan, plan_query};
pub use source::{Action, ActionProperty, ActionStep, EventQuery, Reference, Source};
pub use window::Moment;
