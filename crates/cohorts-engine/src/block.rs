//! Columns of values, and the persons or events that have them.
//!
//! A column stores each distinct value once, in a dictionary, and a small code per row. A
//! predicate is evaluated once per distinct value; after that only codes are compared.
//! Blocks are immutable, and they must not know where their rows come from.

mod bitmap;
mod codes;
mod column;
mod derived;
mod dictionary;
mod encode;
mod events;
mod part;
mod postings;
mod property;
mod times;
mod value_counts;
mod wide;

pub(crate) use bitmap::{from_sorted, intersection, select};
pub(crate) use column::{RowMatches, RowValues};
pub use events::{EventBlock, EventBlockBuilder};
pub use property::{PropertyBlock, PropertyBlockBuilder};
pub use times::{TimeSpan, TimesBlock};
pub use value_counts::{MAX_LISTED_BYTES, MAX_LISTED_VALUES, ValueCounts};
pub use wide::{LeftOut, WideEventBlock, WideEventBuilder};

#[cfg(test)]
mod tests;
