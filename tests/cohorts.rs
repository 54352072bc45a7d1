//! Cohorts: their definition, their calculation, and the references between them.

mod calculation;
mod change;
mod cohort_type;
mod compare;
mod condition_type;
mod create;
mod explain;
mod failed_references;
mod freshness;
mod lift;
mod overlap;
mod preview;
mod read;
mod references;
mod sizes;
mod static_cohorts;
mod test_accounts;
pub mod two_editors;
mod unknown_fields;
