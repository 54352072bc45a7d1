//! Receives a multipart body: fields into memory, files onto disk.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use actix_multipart::{Field, Multipart};
use actix_web::{HttpRequest, web};
use futures::TryStreamExt;

use super::{Limits, Rejection};

/// A file of a multipart body. It is an unnamed temporary file, which is deleted when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct UploadedFile {
    /// Name of the part, as in the contract.
    pub name: String,
    file: Arc<File>,
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

/// The parts of a multipart body.
#[derive(Default)]
pub(super) struct Parts {
    /// Names and values of the fields, in the order of the body.
    pub pairs: Vec<(String, String)>,
    pub files: Vec<UploadedFile>,
}

impl Parts {
    /// Receives the parts. Those named in `files` become files, the others fields.
    pub async fn receive(
        request: &HttpRequest,
        payload: web::Payload,
        files: &[&str],
    ) -> Result<Self, Rejection> {
        let limits = Limits::from_request(request);
        let mut multipart = Multipart::new(request.headers(), payload);
        let mut parts = Self::default();
        let mut remaining = limits.fields;
        while let Some(mut part) = multipart.try_next().await.map_err(malformed)? {
            let name = part.name().unwrap_or_default().to_owned();
            if files.contains(&name.as_str()) {
                if parts.files.iter().any(|file| file.name == name) {
                    return Err(malformed(format!("more than one file `{name}`")));
                }
                let file = Arc::new(receive_file(&mut part, limits.upload).await?);
                parts.files.push(UploadedFile { name, file });
            } else {
                let text = receive_text(&mut part, remaining, limits.fields).await?;
                // Counts the name too, so that the number of empty parts is bounded.
                remaining = remaining.saturating_sub(text.len() + name.len() + 1);
                parts.pairs.push((name, text));
            }
        }
        Ok(parts)
    }
}

async fn receive_text(
    part: &mut Field,
    remaining: usize,
    limit: usize,
) -> Result<String, Rejection> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.try_next().await.map_err(malformed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > remaining {
            return Err(Rejection::TooLarge { limit });
        }
    }
    String::from_utf8(bytes).map_err(malformed)
}

async fn receive_file(part: &mut Field, limit: usize) -> Result<File, Rejection> {
    let mut file = tempfile::tempfile().map_err(not_stored)?;
    let mut length = 0;
    while let Some(chunk) = part.try_next().await.map_err(malformed)? {
        length += chunk.len();
        if length > limit {
            return Err(Rejection::TooLarge { limit });
        }
        // Blocks only briefly: the chunk is small and goes to the page cache.
        file.write_all(&chunk).map_err(not_stored)?;
    }
    Ok(file)
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
