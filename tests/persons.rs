//! Persons: reading, changing, deleting, merging.

mod delete;
mod look_ups;
mod merge;
mod narrow;
mod pages;
mod property;
mod read;
