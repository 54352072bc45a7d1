//! The times of events: more by day than by night, and more on working days than at weekends.

use chrono::{DateTime, Datelike, Duration, Timelike, Utc};

/// The relative activity of each hour of the day in UTC.
const HOURS: [f64; 24] = [
    0.3, 0.2, 0.2, 0.2, 0.3, 0.5, 0.9, 1.6, 2.4, 2.8, 2.9, 2.7, 2.3, 2.6, 2.9, 2.8, 2.5, 2.1, 1.8,
    1.7, 1.5, 1.2, 0.8, 0.5,
];
/// The relative activity of each day of the week, from Monday.
const WEEKDAYS: [f64; 7] = [1.0, 1.05, 1.05, 1.0, 0.9, 0.5, 0.45];

/// The times of `events` events in ascending order, distributed over a window by the activity of its hours.
pub(super) struct EventTimes {
    start: DateTime<Utc>,
    /// The share of events until the end of each hour.
    cumulative: Vec<f64>,
    hour: usize,
    events: u64,
    returned: u64,
}

impl EventTimes {
    pub(super) fn new(now: DateTime<Utc>, days: u16, events: u64) -> Self {
        let start = now - Duration::days(i64::from(days));
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (0..i64::from(days) * 24)
            .map(|hour| {
                let at = start + Duration::hours(hour);
                sum += HOURS[at.hour() as usize]
                    * WEEKDAYS[at.weekday().num_days_from_monday() as usize];
                sum
            })
            .collect();
        for share in &mut cumulative {
            *share /= sum;
        }
        Self {
            start,
            cumulative,
            hour: 0,
            events,
            returned: 0,
        }
    }
}

impl Iterator for EventTimes {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.returned == self.events {
            return None;
        }
        let share = (self.returned as f64 + 0.5) / self.events as f64;
        self.returned += 1;
        while self.hour + 1 < self.cumulative.len() && self.cumulative[self.hour] < share {
            self.hour += 1;
        }
        let before = if self.hour == 0 {
            0.0
        } else {
            self.cumulative[self.hour - 1]
        };
        let within = ((share - before) / (self.cumulative[self.hour] - before)).clamp(0.0, 1.0);
        let milliseconds = (self.hour as f64 + within) * 3_600_000.0;
        Some(self.start + Duration::milliseconds(milliseconds as i64))
    }
}
