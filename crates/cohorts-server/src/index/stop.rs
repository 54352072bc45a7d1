//! A flag by which another thread stops a reader at its next interruption point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The flag. Clones share it.
#[derive(Clone, Default)]
pub struct StopFlag(Arc<StopState>);

#[derive(Default)]
struct StopState {
    is_set: AtomicBool,
    changed: Notify,
}

impl StopFlag {
    pub fn set(&self) {
        self.0.is_set.store(true, Ordering::Relaxed);
        self.0.changed.notify_one();
    }

    pub fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::Relaxed)
    }

    /// Waits until the flag is set. One task waits at a time.
    pub async fn wait(&self) {
        while !self.is_set() {
            self.0.changed.notified().await;
        }
    }

    /// Whether both are clones of one flag.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
