//! A multipart body: fields in memory, files on disk, whatever their size.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use actix_multipart::{Field, Multipart};
use actix_web::{HttpRequest, web};
use futures::TryStreamExt;

use super::{Limits, Rejection};

/// A file that was sent. It lies on disk without a name, and goes with its last clone.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The name of the part, as in the contract.
    pub name: String,
    file: Arc<File>,
}

impl Upload {
    /// The file, from its start. Only one reader at a time makes sense.
    pub fn open(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}

/// What came out of a multipart body.
#[derive(Default)]
pub(super) struct Parts {
    pub pairs: Vec<(String, String)>,
    pub uploads: Vec<Upload>,
}

impl Parts {
    pub async fn receive(
        request: &HttpRequest,
        payload: web::Payload,
        files: &[&str],
    ) -> Result<Self, Rejection> {
        let limits = Limits::of(request);
        let mut multipart = Multipart::new(request.headers(), payload);
        let mut parts = Self::default();
        let mut left = limits.fields;
        while let Some(mut part) = multipart.try_next().await.map_err(broken)? {
            let name = part.name().unwrap_or_default().to_owned();
            if files.contains(&name.as_str()) {
                if parts.uploads.iter().any(|upload| upload.name == name) {
                    return Err(broken(format!("the file `{name}` is there twice")));
                }
                let file = Arc::new(receive_file(&mut part, limits.upload).await?);
                parts.uploads.push(Upload { name, file });
            } else {
                let text = receive_text(&mut part, left, limits.fields).await?;
                // An empty part costs something too.
                left = left.saturating_sub(text.len() + name.len() + 1);
                parts.pairs.push((name, text));
            }
        }
        Ok(parts)
    }
}

async fn receive_text(part: &mut Field, left: usize, limit: usize) -> Result<String, Rejection> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.try_next().await.map_err(broken)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > left {
            return Err(Rejection::TooLarge { limit });
        }
    }
    String::from_utf8(bytes).map_err(broken)
}

async fn receive_file(part: &mut Field, limit: usize) -> Result<File, Rejection> {
    let mut file = tempfile::tempfile().map_err(not_stored)?;
    let mut length = 0;
    while let Some(chunk) = part.try_next().await.map_err(broken)? {
        length += chunk.len();
        if length > limit {
            return Err(Rejection::TooLarge { limit });
        }
        // A chunk is small and goes to memory first, so this is quick enough to wait for.
        file.write_all(&chunk).map_err(not_stored)?;
    }
    Ok(file)
}

fn broken(cause: impl std::fmt::Display) -> Rejection {
    Rejection::Malformed {
        detail: format!("Multipart form parse error - {cause}"),
    }
}

fn not_stored(cause: io::Error) -> Rejection {
    Rejection::NotStored {
        detail: format!("The upload could not be stored: {cause}"),
    }
}
