//! How far something long has come: a bar for whoever looks at a terminal, now and then a line for everybody else.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const PAUSE: Duration = Duration::from_secs(2);

/// Progress of one thing, shown on standard error until it is dropped.
pub struct Progress {
    bar: ProgressBar,
    name: String,
    total: Option<u64>,
    terminal: bool,
    said: Instant,
}

impl Progress {
    /// Without a total it is only shown that something goes on.
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
            terminal: std::io::stderr().is_terminal(),
            said: Instant::now(),
        }
    }

    pub fn set(&mut self, position: u64, message: String) {
        if self.terminal {
            self.bar.set_position(position);
            self.bar.set_message(message);
        } else if self.said.elapsed() >= PAUSE {
            self.said = Instant::now();
            match self.total.filter(|total| *total > 0) {
                Some(total) => eprintln!("{}: {} %, {message}", self.name, position * 100 / total),
                None => eprintln!("{}: {message}", self.name),
            }
        }
    }

    /// Says something above the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
