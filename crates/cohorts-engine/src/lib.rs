//! The filter language of Cohorts, and its evaluation by set algebra.
//!
//! A cohort is a set of persons, and a set of persons is a roaring bitmap of person ordinals:
//! dense numbers that the caller assigns. The steps are:
//!
//! 1. [`Filter::parse`] turns JSON into a tree of criteria.
//! 2. [`plan()`](plan::plan) resolves the tree for one [`Moment`]: windows become instants, and
//!    operators become predicates. [`plan_query`] does the same for a query.
//! 3. [`Plan::evaluate`] reads blocks from a [`Source`]; each leaf yields a bitmap, and AND, OR and
//!    NOT combine them.
//!
//! The module [`delta`] advances the members of many cohorts by what has changed since, the module
//! [`explain`] says why one person is a member, and the module [`lift`] what members have in common.
//!
//! The crate does no I/O and reads no clock: the moment and the data are arguments. All instants
//! are microseconds since the Unix epoch, UTC. Every limit on input and work is listed in the
//! README of the crate.
//!
//! # Example
//!
//! Who has the plan "pro", and has paid in the last 7 days?
//!
//! ```
//! use std::convert::Infallible;
//! use std::sync::Arc;
//!
//! use cohorts_engine::{
//!     Action, EventBlock, EventBlockBuilder, EventQuery, Filter, Interrupt, Moment, PropertyBlock,
//!     PropertyBlockBuilder, Reference, Source, TimesBlock, plan,
//! };
//! use roaring::RoaringBitmap;
//! use serde_json::json;
//!
//! const NOW: i64 = 1_750_260_600_000_000; // 2025-06-18T15:30:00Z
//! const DAY: i64 = 86_400_000_000;
//!
//! /// Three persons, with the ordinals 0, 1 and 2.
//! struct Project;
//!
//! impl Interrupt for Project {
//!     type Error = Infallible;
//! }
//!
//! impl Source for Project {
//!     fn persons(&self) -> Result<Arc<RoaringBitmap>, Infallible> {
//!         Ok(Arc::new((0..3).collect()))
//!     }
//!
//!     fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Infallible> {
//!         let mut block = PropertyBlockBuilder::new();
//!         if key == "plan" {
//!             block.push(0, &json!("pro"));
//!             block.push(1, &json!("free"));
//!             block.push(2, &json!("pro"));
//!         }
//!         Ok(Arc::new(block.finish()))
//!     }
//!
//!     fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Infallible> {
//!         let mut block = EventBlockBuilder::new(&query.properties);
//!         if query.event == "paid" {
//!             block.push(0, NOW - 2 * DAY, &json!({"amount": 30}));
//!             block.push(1, NOW - DAY, &json!({"amount": 5}));
//!             block.push(2, NOW - 90 * DAY, &json!({"amount": 30}));
//!         }
//!         Ok(vec![Arc::new(block.finish())])
//!     }
//!
//!     // No leaf of the filter below reads the following.
//!     fn created_at(&self) -> Result<Arc<TimesBlock>, Infallible> {
//!         Ok(Arc::new(TimesBlock::new([])))
//!     }
//!     fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Infallible> {
//!         Ok(Arc::default())
//!     }
//!     fn event_names(&self) -> Result<Vec<String>, Infallible> {
//!         Ok(vec!["paid".to_owned()])
//!     }
//!     fn cohort(&self, _id: i64) -> Result<Option<Reference>, Infallible> {
//!         Ok(None)
//!     }
//!     fn action(&self, _id: i64) -> Result<Option<Action>, Infallible> {
//!         Ok(None)
//!     }
//! }
//!
//! let filter = Filter::parse(&json!({"properties": {"type": "AND", "values": [
//!     {"type": "person", "key": "plan", "operator": "exact", "value": "pro"},
//!     {"type": "behavioral", "value": "performed_event", "key": "paid", "event_type": "events",
//!         "time_value": 7, "time_interval": "day"},
//! ]}}))?;
//! let plan = plan(&filter, &Moment::utc(NOW))?;
//! let Ok(members) = plan.evaluate(&Project);
//! assert_eq!(Vec::from_iter(members), [0]);
//! # Ok::<(), cohorts_engine::FilterError>(())
//! ```

#![warn(missing_docs)]

mod block;
pub mod calendar;
pub mod chunks;
mod condition;
pub mod condition_type;
mod date;
pub mod delta;
mod error;
mod eval;
pub mod explain;
pub mod filter;
mod interrupt;
pub mod kind;
pub mod legacy;
pub mod lift;
mod names;
pub mod overlap;
mod parse;
pub mod plan;
mod predicate;
pub mod reads;
mod semver;
pub mod source;
mod value;
mod window;

#[cfg(test)]
mod cases;

pub use block::{
    EventBlock, EventBlockBuilder, LeftOut, MAX_LISTED_BYTES, MAX_LISTED_VALUES, PropertyBlock,
    PropertyBlockBuilder, TimeSpan, TimesBlock, ValueCounts, WideEventBlock, WideEventBuilder,
};
pub use date::event_instant;
pub use error::FilterError;
pub use eval::{Explanation, LeafCache, LeafCount};
pub use filter::Filter;
pub use interrupt::Interrupt;
pub use names::{LONGEST_NAME, is_too_long, stored_name};
pub use plan::{Dependencies, PlacedLeaf, PlacedReference, Plan, plan, plan_query};
pub use reads::Reads;
pub use source::{Action, ActionProperty, ActionStep, EventQuery, PlannedReads, Reference, Source};
pub use window::Moment;
