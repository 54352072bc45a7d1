//! Receives a multipart body: fields into memory, files onto disk.
//!
//! The number of parts is bounded, and each part counts with its name and its headers, because a part without content
//! takes memory too. A file is received only after the service has admitted it.

use std::any::Any;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use actix_multipart::{Field, Multipart};
use actix_web::error::PayloadError;
use actix_web::http::header::HeaderMap;
use bytes::Bytes;
use futures::{Stream, TryStreamExt};

use super::body::{BodyCharge, BodyReservation, Pace};
use super::{Limits, Rejection};

/// The most parts of a body.
const MAX_PARTS: usize = 1_000;
/// The most bytes of a part's name.
const MAX_NAME: usize = 1_000;
/// Bytes that a part takes in addition to its name, headers and content.
const PART_OVERHEAD: usize = 512;

/// A file of a multipart body. It is an unnamed temporary file, which is deleted when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct UploadedFile {
    /// Name of the part, as in the contract.
    pub name: String,
    file: Arc<File>,
    /// Returned after the file is deleted.
    _permit: UploadPermit,
}

impl UploadedFile {
    /// Opens the file at its start.
    ///
    /// All handles share one position, so only one reader may be active at a time.
    ///
    /// # Errors
    ///
    /// Fails if the operating system cannot duplicate the file handle.
    pub fn open(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}

/// The right to store a file, which [`Api::admit_upload`](super::Api::admit_upload) returns.
#[derive(Clone)]
pub struct UploadPermit {
    /// The most bytes of the file.
    max_bytes: usize,
    _held: Arc<dyn Any + Send + Sync>,
}

impl UploadPermit {
    /// A permit for a file of at most `max_bytes`. `held` is dropped after the file is deleted.
    pub fn new(max_bytes: usize, held: impl Any + Send + Sync) -> Self {
        Self {
            max_bytes,
            _held: Arc::new(held),
        }
    }
}

impl std::fmt::Debug for UploadPermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {} bytes", self.max_bytes)
    }
}

/// The parts of a multipart body.
#[derive(Default)]
pub(super) struct Parts {
    /// Names and values of the fields, in the order of the body.
    pub pairs: Vec<(String, String)>,
    pub files: Vec<UploadedFile>,
    pub memory: BodyReservation,
}

/// A multipart body as it arrives.
pub(super) struct Receiver<'a> {
    multipart: Multipart,
    /// The names of the parts that are files.
    files: &'a [&'a str],
    limits: Limits,
    charge: BodyCharge,
    pace: Pace,
    parts: Parts,
    /// The bytes that the parts take in memory.
    length: usize,
    count: usize,
}

impl Parts {
    pub fn receiver<'a>(
        headers: &HeaderMap,
        stream: impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
        files: &'a [&'a str],
        limits: Limits,
        charge: BodyCharge,
        pace: Pace,
    ) -> Receiver<'a> {
        Receiver {
            multipart: Multipart::new(headers, stream),
            files,
            limits,
            charge,
            pace,
            parts: Self::default(),
            length: 0,
            count: 0,
        }
    }
}

impl Receiver<'_> {
    /// Receives all parts. `admit` is asked before a file is received, with the fields before it.
    pub async fn receive<E>(
        mut self,
        reject: impl Fn(Rejection) -> E,
        admit: impl AsyncFn(&[(String, String)]) -> Result<UploadPermit, E>,
    ) -> Result<Parts, E> {
        self.charge.start().await.map_err(&reject)?;
        while let Some((name, part)) = self.next_part().await.map_err(&reject)? {
            if self.files.contains(&name.as_str()) {
                let permit = admit(&self.parts.pairs).await?;
                let file = self.receive_file(part, &permit).await.map_err(&reject)?;
                self.parts.files.push(UploadedFile {
                    name,
                    file: Arc::new(file),
                    _permit: permit,
                });
            } else {
                let text = self.receive_text(part).await.map_err(&reject)?;
                self.parts.pairs.push((name, text));
            }
        }
        self.parts.memory = self.charge.into_reservation();
        Ok(self.parts)
    }

    /// The next part and its name, after it is counted.
    async fn next_part(&mut self) -> Result<Option<(String, Field)>, Rejection> {
        let is_scarce = || self.charge.is_scarce();
        let next = self.pace.wait(is_scarce, self.multipart.try_next());
        let Some(part) = next.await?.map_err(malformed)? else {
            return Ok(None);
        };
        let name = part.name().unwrap_or_default().to_owned();
        self.count += 1;
        if self.count > MAX_PARTS {
            return Err(malformed(format!("more than {MAX_PARTS} parts")));
        }
        if name.len() > MAX_NAME {
            let detail = format!("the name of a part has more than {MAX_NAME} bytes");
            return Err(malformed(detail));
        }
        if self.parts.files.iter().any(|file| file.name == name) {
            return Err(malformed(format!("more than one file `{name}`")));
        }
        let headers = part.headers().iter();
        let headers: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        self.add(PART_OVERHEAD + headers + name.len()).await?;
        Ok(Some((name, part)))
    }

    /// Counts `bytes` that a field takes, and reserves their memory.
    async fn add(&mut self, bytes: usize) -> Result<(), Rejection> {
        let limit = self.limits.fields;
        self.length += bytes;
        if self.length > limit {
            return Err(Rejection::TooLarge { limit });
        }
        self.charge.grow(self.length, Some(limit)).await?;
        Ok(())
    }

    async fn next_chunk(&self, part: &mut Field) -> Result<Option<Bytes>, Rejection> {
        let is_scarce = || self.charge.is_scarce();
        let next = self.pace.wait(is_scarce, part.try_next());
        next.await?.map_err(malformed)
    }

    async fn receive_text(&mut self, mut part: Field) -> Result<String, Rejection> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next_chunk(&mut part).await? {
            self.add(chunk.len()).await?;
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).map_err(malformed)
    }

    async fn receive_file(
        &mut self,
        mut part: Field,
        permit: &UploadPermit,
    ) -> Result<File, Rejection> {
        self.pace.start_file();
        let limit = self.limits.upload.min(permit.max_bytes);
        let mut file = tempfile::tempfile().map_err(not_stored)?;
        let mut length = 0;
        while let Some(chunk) = self.next_chunk(&mut part).await? {
            length += chunk.len();
            if length > limit {
                return Err(Rejection::TooLarge { limit });
            }
            // Blocks only briefly: the chunk is small and goes to the page cache.
            file.write_all(&chunk).map_err(not_stored)?;
        }
        Ok(file)
    }
}

fn malformed(cause: impl std::fmt::Display) -> Rejection {
    Rejection::Malformed {
        detail: format!("Multipart form parse error - {cause}"),
    }
}

fn not_stored(cause: io::Error) -> Rejection {
    Rejection::NotStored {
        detail: format!("The upload could not be stored: {cause}"),
    }
}
