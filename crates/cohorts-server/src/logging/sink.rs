//! The logger: it corrects the levels of libraries, and leaves out lines that a client could repeat at will.

use std::collections::HashMap;
use std::fmt::Arguments;
use std::time::{Duration, Instant};

use env_logger::Logger;
use log::{Level, Log, Metadata, Record};
use parking_lot::Mutex;

/// The most warnings and errors of one place in the code in each [`WINDOW`].
const MAX_LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Libraries that report what clients send as errors.
const CLIENT_ERRORS: [&str; 5] = [
    "actix_http",
    "actix_web",
    "actix_multipart",
    "actix_tls",
    "rustls",
];
/// A library that reports a lack of file descriptors as an error. Clients cause it, by opening connections.
const ACCEPT: &str = "actix_server::accept";

/// Writes records through `logger`.
pub struct Sink {
    logger: Logger,
    /// The places in the code that have logged warnings or errors. Their number is fixed.
    places: Mutex<HashMap<Place, LineCount>>,
}

/// A file and a line of code.
type Place = (String, u32);

/// The lines of one place since `start`.
#[derive(Clone, Copy)]
struct LineCount {
    start: Instant,
    written: u32,
    left_out: u32,
}

/// What happens to a line.
#[derive(Debug, PartialEq)]
enum LineVerdict {
    Write,
    /// Write it after a note with the number of lines that were left out.
    WriteAfter(u32),
    /// Write it with the remark that more lines of its kind are left out.
    WriteLast,
    LeaveOut,
}

impl Sink {
    pub fn new(logger: Logger) -> Self {
        Self {
            logger,
            places: Mutex::default(),
        }
    }

    fn verdict(&self, record: &Record<'_>, level: Level) -> LineVerdict {
        if level > Level::Warn {
            return LineVerdict::Write;
        }
        let file = record.file().unwrap_or(record.target());
        let place = (file.to_owned(), record.line().unwrap_or_default());
        let mut places = self.places.lock();
        let now = Instant::now();
        let window = places.entry(place).or_insert(LineCount::new(now));
        window.admit(now)
    }

    fn write(&self, record: &Record<'_>, level: Level, message: Arguments<'_>) {
        let mut builder = Record::builder();
        builder
            .target(record.target())
            .module_path(record.module_path());
        builder.file(record.file()).line(record.line());
        self.logger.log(&builder.level(level).args(message).build());
    }
}

impl LineCount {
    fn new(start: Instant) -> Self {
        Self {
            start,
            written: 0,
            left_out: 0,
        }
    }

    fn admit(&mut self, now: Instant) -> LineVerdict {
        let mut left_out = 0;
        if now.duration_since(self.start) >= WINDOW {
            left_out = self.left_out;
            *self = Self::new(now);
        }
        if self.written >= MAX_LINES {
            self.left_out = self.left_out.saturating_add(1);
            return LineVerdict::LeaveOut;
        }
        self.written += 1;
        if left_out > 0 {
            LineVerdict::WriteAfter(left_out)
        } else if self.written == MAX_LINES {
            LineVerdict::WriteLast
        } else {
            LineVerdict::Write
        }
    }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let level = level(record);
        let metadata = Metadata::builder()
            .level(level)
            .target(record.target())
            .build();
        if !self.logger.enabled(&metadata) {
            return;
        }
        let message = *record.args();
        match self.verdict(record, level) {
            LineVerdict::LeaveOut => {}
            LineVerdict::Write => self.write(record, level, message),
            LineVerdict::WriteAfter(count) => {
                let note = format_args!("{count} lines like the next one were left out");
                self.write(record, level, note);
                self.write(record, level, message);
            }
            LineVerdict::WriteLast => {
                let seconds = WINDOW.as_secs();
                let last =
                    format_args!("{message} (more such lines within {seconds} s are left out)");
                self.write(record, level, last);
            }
        }
    }

    fn flush(&self) {
        self.logger.flush();
    }
}

/// The level of a record. What a client can cause without a key is not an error of the service.
fn level(record: &Record<'_>) -> Level {
    let (level, target) = (record.level(), record.target());
    let is_of = |library: &str| {
        let rest = target.strip_prefix(library);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    if is_of(ACCEPT) {
        level.max(Level::Warn)
    } else if CLIENT_ERRORS.iter().any(|library| is_of(library)) {
        level.max(Level::Debug)
    } else {
        level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_clients_cause_in_libraries_are_not_errors_of_the_service() {
        assert_eq!(
            level_of(Level::Error, "actix_http::h1::decoder"),
            Level::Debug
        );
        assert_eq!(
            level_of(Level::Warn, "actix_multipart::field"),
            Level::Debug
        );
        assert_eq!(level_of(Level::Trace, "rustls"), Level::Trace);
        assert_eq!(level_of(Level::Error, "actix_server::accept"), Level::Warn);
        assert_eq!(level_of(Level::Error, "actix_server::worker"), Level::Error);
        assert_eq!(
            level_of(Level::Error, "cohorts_server::error"),
            Level::Error
        );
    }

    fn level_of(of: Level, target: &str) -> Level {
        level(&Record::builder().level(of).target(target).build())
    }

    #[test]
    fn a_repeated_line_is_left_out_and_counted() {
        let start = Instant::now();
        let mut window = LineCount::new(start);
        let verdicts: Vec<LineVerdict> = (0..13).map(|_| window.admit(start)).collect();
        assert_eq!(verdicts[8], LineVerdict::Write);
        assert_eq!(verdicts[9], LineVerdict::WriteLast);
        assert_eq!(verdicts[10..], [const { LineVerdict::LeaveOut }; 3]);
        assert_eq!(window.admit(start + WINDOW), LineVerdict::WriteAfter(3));
        assert_eq!(window.admit(start + WINDOW), LineVerdict::Write);
    }
}
