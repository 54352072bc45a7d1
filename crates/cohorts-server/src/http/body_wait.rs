//! Measures how long a request waits for its body.
//!
//! That time is the client's, so it does not make a request slow. Otherwise any client could write warnings into the log,
//! by sending a body slowly.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures::Stream;

/// The time that one request has waited. Clones share it.
#[derive(Clone, Default)]
pub struct BodyWait(Rc<Cell<Wait>>);

#[derive(Clone, Copy, Default)]
struct Wait {
    ended: Duration,
    /// The start of the current wait.
    since: Option<Instant>,
}

impl BodyWait {
    /// Measures the waits for the body of a request from now on.
    pub fn measure(request: &mut ServiceRequest) -> Self {
        let wait = Self::default();
        let payload: Payload = match request.take_payload() {
            Payload::None => Payload::None,
            payload => {
                let wait = wait.clone();
                Payload::Stream {
                    payload: Box::pin(MeasuredPayload { payload, wait }),
                }
            }
        };
        request.set_payload(payload);
        wait
    }

    /// The time so far.
    pub fn total(&self) -> Duration {
        let wait = self.0.get();
        wait.ended + wait.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn begin(&self) {
        let wait = self.0.get();
        let since = Some(wait.since.unwrap_or_else(Instant::now));
        self.0.set(Wait { since, ..wait });
    }

    fn end(&self) {
        let ended = self.total();
        self.0.set(Wait { ended, since: None });
    }
}

struct MeasuredPayload {
    payload: Payload,
    wait: BodyWait,
}

impl Stream for MeasuredPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.payload).poll_next(context);
        if polled.is_pending() {
            self.wait.begin();
        } else {
            self.wait.end();
        }
        polled
    }
}

impl Drop for MeasuredPayload {
    fn drop(&mut self) {
        self.wait.end();
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use futures::StreamExt;
    use futures::channel::mpsc;

    use super::*;

    #[actix_web::test]
    async fn only_the_time_until_the_body_arrives_is_measured() {
        let (sender, receiver) = mpsc::unbounded();
        let mut request = TestRequest::default().to_srv_request();
        request.set_payload(Payload::Stream {
            payload: Box::pin(receiver),
        });
        let wait = BodyWait::measure(&mut request);
        let mut payload = request.take_payload();
        assert_eq!(wait.total(), Duration::ZERO);

        assert!(futures::poll!(payload.next()).is_pending());
        assert!(wait.0.get().since.is_some());
        sender.unbounded_send(Ok(Bytes::from_static(b"a"))).unwrap();
        assert!(futures::poll!(payload.next()).is_ready());
        let arrived = wait.total();
        assert!(arrived > Duration::ZERO);
        assert_eq!(wait.total(), arrived);

        assert!(futures::poll!(payload.next()).is_pending());
        drop(payload);
        assert!(wait.0.get().since.is_none());
    }
}
