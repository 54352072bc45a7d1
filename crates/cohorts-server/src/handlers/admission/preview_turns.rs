//! The running previews of each API key: a new one ends the oldest if there are too many.
//!
//! An editor sends a preview with each change of a filter, so only the newest is of use.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::index::stop::StopFlag;

/// Previews of one key that run at the same time.
const PER_KEY: usize = 2;

/// The running previews by key. Clones share them.
#[derive(Clone, Default)]
pub struct PreviewTurns(Arc<Mutex<HashMap<i64, VecDeque<StopFlag>>>>);

/// A running preview. If this is dropped, the preview stops: it has ended, or its client has gone.
pub struct PreviewTurn {
    turns: PreviewTurns,
    key: i64,
    pub stop: StopFlag,
}

impl PreviewTurns {
    /// Begins a preview of a key, and stops the oldest one if the key has two.
    pub fn begin(&self, key: i64) -> PreviewTurn {
        let stop = StopFlag::default();
        let mut keys = self.0.lock();
        let running = keys.entry(key).or_default();
        while running.len() >= PER_KEY
            && let Some(oldest) = running.pop_front()
        {
            oldest.set();
        }
        running.push_back(stop.clone());
        PreviewTurn {
            turns: self.clone(),
            key,
            stop,
        }
    }
}

impl Drop for PreviewTurn {
    fn drop(&mut self) {
        self.stop.set();
        let mut keys = self.turns.0.lock();
        if let Some(running) = keys.get_mut(&self.key) {
            running.retain(|stop| !stop.is_same(&self.stop));
            if running.is_empty() {
                keys.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_preview_of_a_key_stops_the_oldest() {
        let turns = PreviewTurns::default();
        let [first, second] = [turns.begin(1), turns.begin(1)];
        let other = turns.begin(2);
        assert!(!first.stop.is_set() && !second.stop.is_set());
        let third = turns.begin(1);
        assert!(first.stop.is_set());
        assert!(!second.stop.is_set() && !third.stop.is_set() && !other.stop.is_set());
        drop(second);
        let fourth = turns.begin(1);
        assert!(!third.stop.is_set() && !fourth.stop.is_set());
    }

    #[test]
    fn a_preview_stops_with_its_request_and_leaves_no_trace() {
        let turns = PreviewTurns::default();
        let turn = turns.begin(1);
        let stop = turn.stop.clone();
        drop(turn);
        assert!(stop.is_set());
        assert!(turns.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_waiting_preview_learns_that_it_is_replaced() {
        let turns = PreviewTurns::default();
        let oldest = turns.begin(1);
        let _newer = [turns.begin(1), turns.begin(1)];
        oldest.stop.wait().await;
    }
}
