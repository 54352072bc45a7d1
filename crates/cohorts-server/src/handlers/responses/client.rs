//! The way of a response to its client, in slices. It ends if the client reads too slowly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::web::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;

use crate::error::Error;

/// Bytes that are sent at once. A client that does not read holds at most three slices and what its connection buffers.
pub const SLICE: usize = 64 << 10;
/// How long a client may take to read one slice.
const SLICE_TIMEOUT: Duration = Duration::from_secs(30);
/// The least rate of a client, in bytes per second, on average.
const MIN_RATE: usize = 16 << 10;
/// How long a client may be slower than [`MIN_RATE`].
const GRACE: Duration = Duration::from_secs(60);

/// The side of the writer.
pub struct Client {
    slices: Sender<Bytes>,
    is_complete: Arc<AtomicBool>,
    pace: Pace,
}

/// The side of the connection.
pub struct Body {
    slices: Receiver<Bytes>,
    is_complete: Arc<AtomicBool>,
    has_ended: bool,
}

/// Both sides of a new response.
pub fn connect() -> (Client, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let is_complete = Arc::new(AtomicBool::new(false));
    let client = Client {
        slices: sender,
        is_complete: Arc::clone(&is_complete),
        pace: Pace::default(),
    };
    let body = Body {
        slices: receiver,
        is_complete,
        has_ended: false,
    };
    (client, body)
}

impl Client {
    /// Sends a text, and returns when the connection has taken it.
    pub async fn write(&mut self, text: &[u8]) -> Result<(), Error> {
        for slice in text.chunks(SLICE) {
            let start = Instant::now();
            // A copy, because a part of the text would hold all of it while the client does not read.
            let sent = self.slices.send(Bytes::copy_from_slice(slice));
            match timeout(self.pace.patience(), sent).await {
                Ok(Ok(())) => self.pace.record(slice.len(), start.elapsed()),
                Ok(Err(_)) => return Err(stopped("the client has disconnected")),
                Err(_) => return Err(stopped("the client reads too slowly")),
            }
        }
        Ok(())
    }

    /// Returns when the client has disconnected.
    pub async fn gone(&self) {
        self.slices.closed().await;
    }

    /// Ends the response. Without this call, the connection is cut.
    pub fn complete(self) {
        self.is_complete.store(true, Ordering::Release);
    }
}

fn stopped(reason: &str) -> Error {
    log::warn!("a response stopped: {reason}");
    Error::Unavailable
}

impl Body {
    /// The next slice; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.has_ended {
            return None;
        }
        if let Some(slice) = self.slices.recv().await {
            return Some(Ok(slice));
        }
        self.has_ended = true;
        let is_complete = self.is_complete.load(Ordering::Acquire);
        (!is_complete).then_some(Err(Error::Unavailable))
    }
}

/// How fast a client reads. The time that the service takes to read data does not count.
#[derive(Default)]
struct Pace {
    bytes: usize,
    waited: Duration,
}

impl Pace {
    fn record(&mut self, bytes: usize, waited: Duration) {
        self.bytes += bytes;
        self.waited += waited;
    }

    /// How long the client may take to read the next slice.
    fn patience(&self) -> Duration {
        let due = Duration::from_secs((self.bytes / MIN_RATE) as u64);
        (GRACE + due).saturating_sub(self.waited).min(SLICE_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_client_has_patience_for_a_time_only() {
        let mut pace = Pace::default();
        assert_eq!(pace.patience(), SLICE_TIMEOUT);
        pace.record(SLICE, Duration::from_secs(29));
        assert_eq!(pace.patience(), SLICE_TIMEOUT);
        pace.record(SLICE, Duration::from_secs(29));
        assert_eq!(pace.patience(), Duration::from_secs(10));
        pace.record(SLICE, Duration::from_secs(14));
        assert_eq!(pace.patience(), Duration::ZERO);
        pace.record(100 * SLICE, Duration::from_secs(1));
        assert_eq!(pace.patience(), SLICE_TIMEOUT);
    }

    #[actix_web::test]
    async fn response_that_is_not_completed_ends_with_an_error() {
        let (mut client, mut body) = connect();
        client.write(b"[1").await.unwrap();
        drop(client);
        assert_eq!(body.next().await.unwrap().unwrap(), "[1");
        assert!(body.next().await.unwrap().is_err());
        assert!(body.next().await.is_none());

        let (mut client, mut body) = connect();
        client.write(b"[]").await.unwrap();
        client.complete();
        assert_eq!(body.next().await.unwrap().unwrap(), "[]");
        assert!(body.next().await.is_none());
    }

    #[actix_web::test]
    async fn writer_ends_when_the_client_has_gone() {
        let (mut client, body) = connect();
        drop(body);
        assert!(client.write(b"[]").await.is_err());
    }
}
