//! Pauses after failures: each is twice as long as the one before, up to a longest one.

use std::time::Duration;

/// The first and the longest pause.
#[derive(Clone, Copy, Debug)]
pub struct DoublingPause {
    pub first: Duration,
    pub longest: Duration,
}

impl DoublingPause {
    /// The pause after a number of failures in a row; none before the first.
    pub fn after(&self, failures: i64) -> Duration {
        if failures < 1 {
            return Duration::ZERO;
        }
        let doublings = (failures - 1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pause = DoublingPause {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(3_600),
        };
        let seconds = |failures| pause.after(failures).as_secs();
        let pauses: Vec<u64> = (-1..=14).map(seconds).collect();
        let expected = [
            0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 3_600, 3_600,
        ];
        assert_eq!(pauses, expected);
        for failures in [20, 32, 33, 1_000, i64::MAX] {
            assert_eq!(seconds(failures), 3_600, "{failures}");
        }
        assert_eq!(seconds(i64::MIN), 0);
    }
}
