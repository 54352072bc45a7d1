//! Access of the fuzz target `multipart` to the receiver of multipart bodies.
//!
//! The module exists under `cfg(fuzzing)` only.

use std::io::Read;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::rt::System;
use bytes::Bytes;
use futures::stream;

use super::body::{BodyCharge, Pace};
use super::multipart::{Parts, UploadPermit};
use super::{BodyMemory, Limits, Rejection};

/// Names and contents of the fields and of the files of a body.
pub type ReceivedParts = Vec<(String, Vec<u8>)>;

/// Receives `chunks` as a multipart body with the file `csv`.
///
/// # Errors
///
/// Fails if the body is not valid.
pub fn receive_multipart(
    boundary: &str,
    chunks: Vec<Vec<u8>>,
) -> Result<(ReceivedParts, ReceivedParts), Rejection> {
    let media_type = format!("multipart/form-data; boundary=\"{boundary}\"");
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&media_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    let chunks = chunks
        .into_iter()
        .map(|chunk| Ok::<_, PayloadError>(Bytes::from(chunk)));
    let stream = stream::iter(chunks);
    let limits = Limits {
        fields: 8 << 10,
        upload: 8 << 10,
        ..Limits::default()
    };
    let receive = async {
        let charge = BodyCharge::new(BodyMemory::default());
        let receiver = Parts::receiver(&headers, stream, &["csv"], limits, charge, Pace::new());
        let admit = async |_: &[_]| Ok(UploadPermit::new(4 << 10, ()));
        receiver.receive(|why| why, admit).await
    };
    thread_local!(static SYSTEM: actix_web::rt::SystemRunner = System::new());
    let parts = SYSTEM.with(|system| system.block_on(receive))?;
    let fields = parts.pairs.into_iter();
    let files = parts.files.iter().map(|file| {
        let mut content = Vec::new();
        let read = file
            .open()
            .and_then(|mut file| file.read_to_end(&mut content));
        read.map_or_else(
            |_| (file.name.clone(), Vec::new()),
            |_| (file.name.clone(), content),
        )
    });
    Ok((
        fields
            .map(|(name, text)| (name, text.into_bytes()))
            .collect(),
        files.collect(),
    ))
}
