//! Streams over the feed of changes, which reconnect and continue where they were.
//!
//! A stream asks for one page after the other, each from the cursor of the page before, and waits at the service for the next
//! change. So no change is lost when a connection or the service ends in between.

use std::time::Duration;

use futures::stream::{self, Stream, TryStreamExt};
use progenitor_client::Error;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use tokio::time::{Instant, sleep, timeout};

use crate::generated::{builder, types};

/// Seconds that the service waits for a first change.
const WAIT: i64 = 25;
/// A response that takes longer does not arrive any more.
const RESPONSE_LIMIT: Duration = Duration::from_secs(60);
/// The pause after the first failure. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause after a page without rows that the service has sent at once.
const LONGEST_IDLE_PAUSE: Duration = Duration::from_secs(1);

/// The error of a call.
type CallError = Error<types::Error>;

/// A call of the feed.
trait FeedCall: Clone {
    /// The page at the beginning of the feed, without waiting.
    fn first(self) -> Self;

    /// The page after a cursor, which waits for a change.
    fn after(self, cursor: String) -> Self;

    async fn page(self) -> Result<types::ChangePage, CallError>;
}

macro_rules! feed_calls {
    ($($call:ident),*) => {$(
        impl FeedCall for builder::$call<'_> {
            fn first(self) -> Self {
                self.wait(0)
            }

            fn after(self, cursor: String) -> Self {
                self.cursor(cursor).wait(WAIT)
            }

            async fn page(self) -> Result<types::ChangePage, CallError> {
                Ok(self.send().await?.into_inner())
            }
        }

        impl<'a> builder::$call<'a> {
            /// Returns a stream over all changes, which waits for further ones and does not end by itself.
            ///
            /// It begins at `cursor` or `from`. After its first page it reconnects if the connection or the service fails, and
            /// continues with the next change. `limit` is the most rows that one request reads, and `wait` has no effect.
            ///
            /// The stream ends after an error that a repetition cannot mend, and after any error of the first request. See
            /// [`is_cursor_expired`](crate::is_cursor_expired) for a reader that was away for too long.
            pub fn stream(
                self,
            ) -> impl Stream<Item = Result<types::CohortChange, Error<types::Error>>> + use<'a> {
                let rows = |page: types::ChangePage| stream::iter(page.results.into_iter().map(Ok));
                self.pages().map_ok(rows).try_flatten()
            }

            /// As [`stream`](Self::stream), with the pages of the feed. A reader that stores the `cursor` of a page together with
            /// what it did with the rows can continue there after it was stopped.
            ///
            /// A page may have no rows, and then has a new cursor.
            pub fn pages(
                self,
            ) -> impl Stream<Item = Result<types::ChangePage, Error<types::Error>>> + use<'a> {
                follow(self)
            }
        }
    )*};
}

feed_calls!(CohortsChanges, CohortsAllChanges);

/// Whether a feed failed because the changes after its cursor are deleted (410). A reader then begins again with
/// `from("start")`, which lists all members, and forgets those that it knew.
pub fn is_cursor_expired(error: &Error<types::Error>) -> bool {
    error.status() == Some(StatusCode::GONE)
}

/// A stream between two pages.
struct Follower<C> {
    call: C,
    /// `None` before the first page.
    cursor: Option<String>,
    has_ended: bool,
    /// The pause after the next failure.
    failure: Duration,
    /// The pause after the next page without rows.
    idle: Duration,
}

fn follow<C: FeedCall>(call: C) -> impl Stream<Item = Result<types::ChangePage, CallError>> {
    let follower = Follower {
        call,
        cursor: None,
        has_ended: false,
        failure: FIRST_PAUSE,
        idle: FIRST_PAUSE,
    };
    stream::unfold(follower, async |mut follower| {
        let page = follower.next().await?;
        Some((page, follower))
    })
}

impl<C: FeedCall> Follower<C> {
    /// The next page with rows or a new cursor; `None` after the end.
    async fn next(&mut self) -> Option<Result<types::ChangePage, CallError>> {
        while !self.has_ended {
            let begun = Instant::now();
            match self.page().await {
                Ok(page) => {
                    let is_new = self.cursor.as_ref() != Some(&page.cursor);
                    self.cursor = Some(page.cursor.clone());
                    self.failure = FIRST_PAUSE;
                    if !page.results.is_empty() {
                        self.idle = FIRST_PAUSE;
                    }
                    if is_new || !page.results.is_empty() {
                        return Some(Ok(page));
                    }
                    if !page.has_more && begun.elapsed() < LONGEST_IDLE_PAUSE {
                        sleep(self.idle).await;
                        self.idle = (self.idle * 2).min(LONGEST_IDLE_PAUSE);
                    }
                }
                Err(failure) => {
                    if let Err(error) = self.recover(failure).await {
                        self.has_ended = true;
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }

    /// The next page; without an error if its time is up.
    async fn page(&self) -> Result<types::ChangePage, Option<CallError>> {
        let call = self.call.clone();
        let call = match &self.cursor {
            Some(cursor) => call.after(cursor.clone()),
            None => call.first(),
        };
        match timeout(RESPONSE_LIMIT, call.page()).await {
            Ok(page) => page.map_err(Some),
            Err(_) => Err(None),
        }
    }

    /// Waits until a repetition may succeed, or returns the error if it cannot.
    async fn recover(&mut self, failure: Option<CallError>) -> Result<(), CallError> {
        let mut pause = self.failure;
        if let Some(error) = failure {
            if self.cursor.is_none() || !is_temporary(&error) {
                return Err(error);
            }
            pause = retry_after(&error).unwrap_or(pause);
        }
        sleep(pause).await;
        self.failure = (self.failure * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Whether a repetition may succeed: without a whole response, after 408, 429 and 5XX, and after a body that is not JSON, which
/// comes from a proxy.
fn is_temporary(error: &CallError) -> bool {
    match error {
        Error::CommunicationError(_)
        | Error::ResponseBodyError(_)
        | Error::InvalidResponsePayload(..) => true,
        other => other.status().is_some_and(|status| {
            status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT
        }),
    }
}

/// The time to wait that the service has set.
fn retry_after(error: &CallError) -> Option<Duration> {
    let headers = match error {
        Error::ErrorResponse(response) => response.headers(),
        Error::UnexpectedResponse(response) => response.headers(),
        _ => return None,
    };
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}
