//! Projects with a transaction of unknown outcome.
//!
//! On a distributed Postgres, a transaction that changes members and counts commits on the worker first, and then on the
//! coordinator. If one of them fails in between, the members are changed and the count is not.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::{ProjectId, StoreError};

/// The projects with counts that must be compared with their members.
#[derive(Default)]
pub struct UncertainProjects(Mutex<BTreeSet<ProjectId>>);

impl UncertainProjects {
    /// Records a project if the outcome of its transaction is unknown after this error.
    pub fn record(&self, project: ProjectId, cause: &StoreError) {
        if matches!(cause, StoreError::Unavailable(_) | StoreError::TimedOut) {
            self.add(project);
        }
    }

    /// Records a project.
    pub fn add(&self, project: ProjectId) {
        self.0.lock().insert(project);
    }

    /// Whether no project is recorded.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Removes and returns all projects.
    pub fn take(&self) -> BTreeSet<ProjectId> {
        std::mem::take(&mut self.0.lock())
    }
}
