//! A body as it arrives. Its memory is reserved first, and it must have a minimum rate.

use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use super::super::Rejection;
use super::charge::{BodyCharge, BodyMemory, BodyReservation};
use super::pace::Pace;

/// The received part of a body, and the rest of its stream.
pub(super) struct Incoming {
    payload: web::Payload,
    pub charge: BodyCharge,
    pub pace: Pace,
    /// The header `Content-Length`.
    pub declared: Option<usize>,
    pub bytes: Vec<u8>,
    pub is_complete: bool,
}

impl Incoming {
    /// A body that is not read yet.
    pub fn new(request: &HttpRequest, payload: web::Payload, memory: BodyMemory) -> Self {
        let declared = request.headers().get(header::CONTENT_LENGTH);
        Self {
            payload,
            charge: BodyCharge::new(memory),
            pace: Pace::new(),
            declared: declared.and_then(|length| length.to_str().ok()?.parse().ok()),
            bytes: Vec::new(),
            is_complete: false,
        }
    }

    /// Receives at least `length` bytes, unless the body is shorter.
    pub async fn receive(&mut self, length: usize) -> Result<(), Rejection> {
        self.charge.start().await?;
        while !self.is_complete && self.bytes.len() < length {
            let payload = &mut self.payload;
            let charge = &self.charge;
            let chunk = self.pace.wait(|| charge.is_scarce(), payload.next());
            match chunk.await? {
                Some(chunk) => self.add(&chunk.map_err(not_read)?).await?,
                None => self.is_complete = true,
            }
        }
        Ok(())
    }

    async fn add(&mut self, chunk: &[u8]) -> Result<(), Rejection> {
        let counter = self.pace.counter();
        counter.set(counter.get() + chunk.len());
        let length = self.bytes.len() + chunk.len();
        let reserved = self.charge.grow(length, self.declared).await?;
        if length > self.bytes.capacity() {
            self.bytes.reserve_exact(reserved - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// Receives the whole body of at most `limit` bytes.
    pub async fn receive_all(
        mut self,
        limit: usize,
    ) -> Result<(Bytes, BodyReservation), Rejection> {
        let too_large = Rejection::TooLarge { limit };
        if self.declared.is_some_and(|length| length > limit) {
            return Err(too_large);
        }
        self.receive(limit.saturating_add(1)).await?;
        if self.bytes.len() > limit {
            return Err(too_large);
        }
        Ok((self.bytes.into(), self.charge.into_reservation()))
    }

    /// The stream of the whole body, which counts the bytes that arrive, with its memory and pace.
    pub fn into_stream(
        self,
    ) -> (
        impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
        BodyCharge,
        Pace,
    ) {
        let counter = self.pace.counter();
        let count = move |chunk: &Result<Bytes, PayloadError>| {
            let length = chunk.as_ref().map_or(0, Bytes::len);
            counter.set(counter.get() + length);
        };
        let start = stream::iter([Ok(Bytes::from(self.bytes))]);
        let rest = self.payload.inspect(count);
        (start.chain(rest), self.charge, self.pace)
    }
}

fn not_read(cause: PayloadError) -> Rejection {
    Rejection::Malformed {
        detail: format!("The body could not be read: {cause}"),
    }
}
