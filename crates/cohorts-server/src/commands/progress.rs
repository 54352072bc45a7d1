//! Progress of a long command on standard error: a bar in a terminal, otherwise a line every two seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const PAUSE: Duration = Duration::from_secs(2);

/// The progress of one task. It is shown until it is dropped.
pub struct Progress {
    bar: ProgressBar,
    name: String,
    total: Option<u64>,
    is_terminal: bool,
    last_line: Instant,
}

impl Progress {
    /// `total` is the position at the end, if it is known.
    pub fn new(name: &str, total: Option<u64>) -> Self {
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{prefix} {bar:30} {percent:>3} %, {msg}, {eta} left",
            ),
            None => (ProgressBar::new_spinner(), "{prefix} {spinner} {msg}"),
        };
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self {
            bar: bar.with_style(style).with_prefix(name.to_owned()),
            name: name.to_owned(),
            total,
            is_terminal: std::io::stderr().is_terminal(),
            last_line: Instant::now(),
        }
    }

    pub fn set(&mut self, position: u64, message: String) {
        if self.is_terminal {
            self.bar.set_position(position);
            self.bar.set_message(message);
        } else if self.last_line.elapsed() >= PAUSE {
            self.last_line = Instant::now();
            match self.total.filter(|total| *total > 0) {
                Some(total) => eprintln!("{}: {} %, {message}", self.name, position * 100 / total),
                None => eprintln!("{}: {message}", self.name),
            }
        }
    }

    /// Prints a line above the bar.
    pub fn print(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
