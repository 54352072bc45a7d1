//! The disk space of uploads: a file is received only if there is room for all of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// The free space that uploads leave to others.
const RESERVE: u64 = 512 << 20;
/// The assumed length of a file without a `Content-Length`. It may not be longer.
const UNKNOWN_LENGTH: u64 = 256 << 20;

/// The space that the files of running uploads may still take. Clones share it.
#[derive(Clone, Default)]
pub struct UploadDisk(Arc<AtomicU64>);

/// The space of one file, until it is deleted.
pub struct DiskSpace {
    disk: UploadDisk,
    pub bytes: u64,
}

impl UploadDisk {
    /// Takes the space of a file in the folder of temporary files.
    ///
    /// # Errors
    ///
    /// Fails if there is less than that, after the files of other uploads and a reserve.
    pub fn take(&self, length: Option<u64>) -> Result<DiskSpace, Error> {
        let folder = std::env::temp_dir();
        let free = free_bytes(&folder).map_err(|cause| Error::NotStored {
            detail: format!("The upload could not be stored: {cause}"),
        })?;
        self.take_of(free, length.unwrap_or(UNKNOWN_LENGTH))
    }

    /// The files of other uploads count in full, though a part of them may be written already.
    fn take_of(&self, free: u64, bytes: u64) -> Result<DiskSpace, Error> {
        let others = self.0.fetch_add(bytes, Ordering::Relaxed);
        let space = DiskSpace {
            disk: self.clone(),
            bytes,
        };
        let needed = others.saturating_add(bytes).saturating_add(RESERVE);
        if free >= needed {
            return Ok(space);
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Err(Error::NotStored {
            detail: format!(
                "The upload could not be stored: the disk for temporary files has {} MiB left, and {} MiB are needed \
                 for this file, other uploads and a reserve. Send a smaller file, or try again later.",
                free >> 20,
                mib(needed)
            ),
        })
    }
}

impl Drop for DiskSpace {
    fn drop(&mut self) {
        self.disk.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_leave_a_reserve_and_the_space_of_each_other() {
        let disk = UploadDisk::default();
        let free = RESERVE + (10 << 20);
        let first = disk.take_of(free, 6 << 20).ok();
        assert!(first.is_some());
        let refused = disk.take_of(free, 6 << 20).map(drop).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("522 MiB left"), "{text}");
        assert!(text.contains("524 MiB are needed"), "{text}");
        let small = disk.take_of(free, 4 << 20);
        assert!(small.is_ok(), "a refused file keeps no space");
        drop((first, small));
        assert!(disk.take_of(free, 10 << 20).is_ok());
        assert!(free_bytes(&std::env::temp_dir()).unwrap() > 0);
    }
}
