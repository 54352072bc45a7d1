//! When things happen: more by day than by night, and more on working days than at the weekend.

use chrono::{DateTime, Datelike, Duration, Timelike, Utc};

/// How busy each hour of the day is, in UTC.
const HOURS: [f64; 24] = [
    0.3, 0.2, 0.2, 0.2, 0.3, 0.5, 0.9, 1.6, 2.4, 2.8, 2.9, 2.7, 2.3, 2.6, 2.9, 2.8, 2.5, 2.1, 1.8,
    1.7, 1.5, 1.2, 0.8, 0.5,
];
/// How busy each day of the week is, from Monday.
const WEEKDAYS: [f64; 7] = [1.0, 1.05, 1.05, 1.0, 0.9, 0.5, 0.45];

/// The instants of a number of events in rising order, spread over a window by how busy each of its hours is.
pub(super) struct Course {
    opens: DateTime<Utc>,
    /// What has happened by the end of each hour, as a share of everything.
    by_hour: Vec<f64>,
    hour: usize,
    events: u64,
    done: u64,
}

impl Course {
    pub(super) fn new(now: DateTime<Utc>, days: u16, events: u64) -> Self {
        let opens = now - Duration::days(i64::from(days));
        let mut sum = 0.0;
        let mut by_hour: Vec<f64> = (0..i64::from(days) * 24)
            .map(|hour| {
                let at = opens + Duration::hours(hour);
                sum += HOURS[at.hour() as usize]
                    * WEEKDAYS[at.weekday().num_days_from_monday() as usize];
                sum
            })
            .collect();
        for share in &mut by_hour {
            *share /= sum;
        }
        Self {
            opens,
            by_hour,
            hour: 0,
            events,
            done: 0,
        }
    }
}

impl Iterator for Course {
    type Item = DateTime<Utc>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done == self.events {
            return None;
        }
        let share = (self.done as f64 + 0.5) / self.events as f64;
        self.done += 1;
        while self.hour + 1 < self.by_hour.len() && self.by_hour[self.hour] < share {
            self.hour += 1;
        }
        let before = if self.hour == 0 {
            0.0
        } else {
            self.by_hour[self.hour - 1]
        };
        let within = ((share - before) / (self.by_hour[self.hour] - before)).clamp(0.0, 1.0);
        let milliseconds = (self.hour as f64 + within) * 3_600_000.0;
        Some(self.opens + Duration::milliseconds(milliseconds as i64))
    }
}
