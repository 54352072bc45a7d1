//! Persons: reading, deleting, merging.

mod delete;
mod merge;
mod pages;
mod read;
