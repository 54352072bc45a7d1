//! Persons: reading, changing, deleting, merging.

mod delete;
mod merge;
mod narrow;
mod pages;
mod property;
mod read;
