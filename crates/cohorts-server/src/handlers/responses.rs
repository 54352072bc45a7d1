//! Responses that may be large: they are written in pieces, and each piece reserves its memory before it is read.
//!
//! A piece is read in a transaction of its own with a permit of the project, and then sent at the speed of the client.
//! While the client reads, a response holds one piece, and no connection to the database.

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use actix_web::http::Method;
use cohorts_api::{RequestHead, Reservation};
use cohorts_store::ProjectId;
use futures::stream;

use super::Service;
use crate::error::Error;
use crate::logging::RequestId;
use crate::shares::{Permit, ShareOwner};

mod client;
mod lists;
mod memory;

pub use client::{Client, connect};
pub use lists::{Frame, ListRows, fitting};
pub use memory::ResponseShares;

/// The most bytes of the rows that are read at once. A larger row is read alone.
pub const PIECE_BYTES: usize = 1 << 20;
/// A response of at most this size is sent at once.
const SMALL: usize = client::SLICE;

pub const JSON: &str = "application/json";

/// A part of a response.
pub struct Piece {
    pub text: Vec<u8>,
    /// The memory of the text.
    #[expect(dead_code, reason = "dropped with the text")]
    pub memory: Reservation,
    pub is_last: bool,
}

/// The source of a response.
pub trait Pieces: 'static {
    /// Reads the next piece. Not called again after the last one.
    async fn next(&mut self) -> Result<Piece, Error>;
}

impl Service {
    /// Responds with pieces. A failure before the first piece is an error response; a later one cuts the connection, so
    /// that no client takes a part for the whole.
    ///
    /// Responses of more than one piece are limited per project: by `permit`, otherwise as large pages.
    pub(super) async fn respond(
        &self,
        project: ProjectId,
        media_type: &str,
        head: &RequestHead,
        mut pieces: impl Pieces,
        mut permit: Option<Permit>,
    ) -> Result<HttpResponse, Error> {
        let first = pieces.next().await?;
        let mut response = HttpResponse::Ok();
        response.content_type(media_type);
        if first.is_last && first.text.len() <= SMALL {
            return Ok(response.body(first.text));
        }
        let length = first.is_last.then_some(first.text.len() as u64);
        let has_body = *head.method() != Method::HEAD;
        if length.is_none() && permit.is_none() && has_body {
            let pages = &self.shares.pages;
            permit = Some(pages.acquire(ShareOwner::Project(project)).await?);
        }
        let (client, body) = client::connect();
        if has_body {
            let task = write(client, first, pieces, permit);
            actix_web::rt::spawn(RequestId::current().accompany(task));
        } else {
            client.complete();
        }
        let body = stream::unfold(body, |mut body| async { Some((body.next().await?, body)) });
        Ok(match length {
            Some(length) => response.body(SizedStream::new(length, body)),
            None => response.streaming(body),
        })
    }
}

/// Writes the response in a task of its own, which ends if the client is too slow.
async fn write(client: Client, first: Piece, pieces: impl Pieces, permit: Option<Permit>) {
    let result = write_all(client, first, pieces).await;
    drop(permit);
    // Slow clients and failures of the database are logged where they occur.
    if let Err(cause) = result.as_ref()
        && !cause.is_transient()
    {
        log::error!("a response was cut: {cause}");
    }
}

async fn write_all(mut client: Client, first: Piece, mut pieces: impl Pieces) -> Result<(), Error> {
    let mut piece = first;
    loop {
        client.write(&piece.text).await?;
        if piece.is_last {
            client.complete();
            return Ok(());
        }
        drop(piece);
        piece = pieces.next().await?;
    }
}
