//! The columnar store of events: all names and all properties, in segments that follow the log.
//!
//! Everything here is derived from rows. A segment that is damaged, or that leaves out a property, is replaced by the rows
//! of its day. Segments have the ordinals with which events were written; readers resolve merges and mask deleted persons.
//! A project that deletes old events has no segments.

pub mod compaction;
mod format;
mod read;
mod upkeep;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};

pub use compaction::{rewrite_from_rows, rewrite_without};
pub use read::{StoredRange, read_days};
pub use upkeep::{SegmentUpkeep, mismatched_events};
pub use writer::{SegmentWrite, SegmentWriter};

/// Events beyond the head, from which on they are written to segments.
pub const MIN_EVENTS: i64 = if cfg!(test) { 1 << 10 } else { 1 << 16 };
/// With more events beyond the head, a reader reads the rows of a name instead, until the writer has caught up.
const LONG_TAIL: i64 = if cfg!(test) { 1 << 14 } else { 1 << 18 };
/// Properties of events that no segment has. They change persons, and filters hardly read them.
const EXCLUDED: &[&str] = &["$set", "$set_once"];

/// Bytes of segments that this process has read.
static BYTES_READ: AtomicU64 = AtomicU64::new(0);

/// Bytes of packed segments that this process has read instead of rows.
pub fn segment_bytes_read() -> u64 {
    BYTES_READ.load(Ordering::Relaxed)
}
