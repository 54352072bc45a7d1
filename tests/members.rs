//! The members of a cohort: pages, exports, and changes by hand.

mod edit;
mod export;
mod memberships;
mod pages;
mod past;
