//! Persons: reading, their events, changing, deleting, merging.

mod delete;
mod events;
mod look_ups;
mod merge;
mod narrow;
mod pages;
mod property;
mod read;
