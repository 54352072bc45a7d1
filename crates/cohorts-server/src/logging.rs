//! The log: its formats, and the id of the current request, which each line carries.
//!
//! No text of a client can begin a line or change a terminal ([`text`]), or fill the log with errors ([`sink`]).

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Write};

use chrono::{SecondsFormat, Utc};
use clap::ValueEnum;
use env_logger::fmt::Formatter;
use log::Record;
use uuid::Uuid;

mod sink;
mod text;

use sink::Sink;
pub use text::{detail, truncated};

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain text.
    Text,
    /// One JSON object per line.
    Json,
}

tokio::task_local! {
    static CURRENT: String;
}

thread_local! {
    /// The request of a blocking thread, which has no task.
    static ON_THREAD: RefCell<RequestId> = const { RefCell::new(RequestId(None)) };
}

/// The id of a request; `None` outside of requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestId(Option<String>);

impl RequestId {
    pub fn new() -> Self {
        Self(Some(Uuid::new_v4().simple().to_string()[..16].to_owned()))
    }

    /// The id of the request that the caller runs for.
    pub fn current() -> Self {
        match CURRENT.try_with(String::clone) {
            Ok(id) => Self(Some(id)),
            Err(_) => ON_THREAD.with(|id| id.borrow().clone()),
        }
    }

    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("-")
    }

    /// Runs `task` with this id as the current one.
    pub async fn accompany<T>(self, task: impl Future<Output = T>) -> T {
        CURRENT.scope(self.as_str().to_owned(), task).await
    }

    /// Runs `work` on the current thread with this id as the current one.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        let previous = ON_THREAD.replace(self);
        let result = work();
        ON_THREAD.set(previous);
        result
    }
}

/// Writes the log to standard error. `level` is the default of `RUST_LOG`.
pub fn log_to_stderr(level: &str, format: LogFormat) {
    let filter = env_logger::Env::default().default_filter_or(level);
    let mut builder = env_logger::Builder::from_env(filter);
    builder.format(match format {
        LogFormat::Text => as_text,
        LogFormat::Json => as_json,
    });
    let logger = builder.build();
    let level = logger.filter();
    // A second call, as in a test, keeps the first logger.
    if log::set_boxed_logger(Box::new(Sink::new(logger))).is_ok() {
        log::set_max_level(level);
    }
}

fn as_text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    writeln!(
        out,
        "{} {:<5} {} {} {}",
        timestamp(),
        record.level(),
        RequestId::current().as_str(),
        record.target(),
        text::line(&record.args().to_string())
    )
}

fn as_json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let line = serde_json::json!({
        "time": timestamp(),
        "level": record.level().as_str(),
        "request_id": RequestId::current().0,
        "target": record.target(),
        "message": text::line(&record.args().to_string()),
    });
    writeln!(out, "{}", text::json_line(&line))
}

/// The time in UTC with milliseconds: `2026-01-31T12:00:00.000Z`.
fn timestamp() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn the_request_id_reaches_blocking_threads() {
        let id = RequestId::new();
        let seen = id
            .clone()
            .accompany(async {
                let current = RequestId::current();
                let work = move || current.scope(RequestId::current);
                actix_web::web::block(work).await.unwrap()
            })
            .await;
        assert_eq!(seen, id);
        assert_eq!(RequestId::current().as_str(), "-");
    }
}
