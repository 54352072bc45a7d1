//! The id of the request that is being answered, which stands on every line that is logged meanwhile.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Write};

use chrono::{SecondsFormat, Utc};
use clap::ValueEnum;
use env_logger::fmt::Formatter;
use log::Record;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    /// An object a line, with `time`, `level`, `request_id`, `target` and `message`.
    Json,
}

tokio::task_local! {
    static CURRENT: String;
}

thread_local! {
    /// For threads that may block, which have no task.
    static ON_THREAD: RefCell<RequestId> = const { RefCell::new(RequestId(None)) };
}

/// The id of a request, or of none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestId(Option<String>);

impl RequestId {
    pub fn new() -> Self {
        Self(Some(Uuid::new_v4().simple().to_string()[..16].to_owned()))
    }

    /// The id of the request that this code runs for.
    pub fn current() -> Self {
        match CURRENT.try_with(String::clone) {
            Ok(id) => Self(Some(id)),
            Err(_) => ON_THREAD.with(|id| id.borrow().clone()),
        }
    }

    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("-")
    }

    /// Runs a task for this request.
    pub async fn accompany<T>(self, task: impl Future<Output = T>) -> T {
        CURRENT.scope(self.as_str().to_owned(), task).await
    }

    /// Runs work for this request on a thread that may block.
    pub fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        let former = ON_THREAD.replace(self);
        let result = work();
        ON_THREAD.set(former);
        result
    }
}

/// Sends log lines to standard error: time, level, request, module, text. `level` is for whoever sets no `RUST_LOG`.
pub fn log_to_stderr(level: &str, format: LogFormat) {
    let wanted = env_logger::Env::default().default_filter_or(level);
    let mut builder = env_logger::Builder::from_env(wanted);
    builder.format(match format {
        LogFormat::Text => as_text,
        LogFormat::Json => as_json,
    });
    // A second call, as from a test, leaves the first logger in place.
    let _ = builder.try_init();
}

fn as_text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    writeln!(
        out,
        "{} {:<5} {} {} {}",
        timestamp(),
        record.level(),
        RequestId::current().as_str(),
        record.target(),
        record.args()
    )
}

fn as_json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let line = serde_json::json!({
        "time": timestamp(),
        "level": record.level().as_str(),
        "request_id": RequestId::current().0,
        "target": record.target(),
        "message": record.args().to_string(),
    });
    writeln!(out, "{line}")
}

/// The time in UTC with milliseconds: `2026-01-31T12:00:00.000Z`.
fn timestamp() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn the_id_follows_the_work_to_another_thread() {
        let id = RequestId::new();
        let found = id
            .clone()
            .accompany(async {
                let current = RequestId::current();
                let work = move || current.scope(RequestId::current);
                actix_web::web::block(work).await.unwrap()
            })
            .await;
        assert_eq!(found, id);
        assert_eq!(RequestId::current().as_str(), "-");
    }
}
