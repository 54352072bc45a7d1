//! Directories that another account can write, and their files. They are opened without following links.
//!
//! Root prepares files for the account that runs the server. That account could put a link in the place of a file, so that
//! root would change the target. Everything here is therefore relative to an open directory, and owners and modes are
//! changed through open descriptors only.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::error::PostgresError;

/// The owner that files and directories get.
#[derive(Clone, Copy)]
pub(super) struct FileOwner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// An open directory.
pub(super) struct Dir {
    file: File,
    path: PathBuf,
}

/// How a file is opened.
#[derive(Clone, Copy)]
pub(super) enum FileAccess {
    Read,
    /// Every write is at the end; a missing file is created.
    Append,
}

const PRIVATE_DIR: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Bytes that are read from a file, from its end.
const MAX_READ: u64 = 1 << 20;

impl Dir {
    /// Opens a directory. The last part of the path must not be a link.
    pub(super) fn open(path: &Path) -> Result<Self, PostgresError> {
        let open = |flags| rustix::fs::open(path, dir_flags() | flags, Mode::empty());
        let mut opened = open(OFlags::empty());
        // An account that may enter a directory need not be able to list it.
        #[cfg(target_os = "linux")]
        if matches!(opened, Err(Errno::ACCESS)) {
            opened = open(OFlags::PATH);
        }
        match opened {
            Ok(fd) => Ok(Self {
                file: fd.into(),
                path: path.to_owned(),
            }),
            Err(cause) => Err(unusable(path, cause)),
        }
    }

    /// Opens a subdirectory; `None` if it is missing.
    pub(super) fn subdirectory(&self, name: &str) -> Result<Option<Self>, PostgresError> {
        match rustix::fs::openat(&self.file, name, dir_flags(), Mode::empty()) {
            Ok(fd) => Ok(Some(Self {
                file: fd.into(),
                path: self.path.join(name),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(cause) => Err(self.failure(name, cause)),
        }
    }

    /// Creates the subdirectory if it is missing, and makes it private to `owner`, or else to this account.
    pub(super) fn private_subdirectory(
        &self,
        name: &str,
        owner: Option<FileOwner>,
    ) -> Result<Self, PostgresError> {
        let created = rustix::fs::mkdirat(&self.file, name, PRIVATE_DIR);
        if let Err(cause) = created
            && cause != Errno::EXIST
        {
            return Err(self.failure(name, cause));
        }
        let missing = || self.failure(name, Errno::NOENT);
        let directory = self.subdirectory(name)?.ok_or_else(missing)?;
        let changed = rustix::fs::fchmod(&directory.file, PRIVATE_DIR)
            .and_then(|()| owner.map_or(Ok(()), |owner| give(&directory.file, owner)));
        changed.map_err(|cause| self.failure(name, cause))?;
        Ok(directory)
    }

    /// Opens a regular file, and gives a file of root to `owner`. `None` if it is missing and is not created.
    ///
    /// # Errors
    ///
    /// Fails if the file is a link or is not regular, or if it belongs to root and has another name as well.
    pub(super) fn file(
        &self,
        name: &str,
        access: FileAccess,
        owner: Option<FileOwner>,
    ) -> Result<Option<File>, PostgresError> {
        let access = match access {
            FileAccess::Read => OFlags::RDONLY,
            FileAccess::Append => OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE,
        };
        // Without `NONBLOCK`, opening a pipe would wait for its other end.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match rustix::fs::openat(&self.file, name, flags, PRIVATE_FILE) {
            Ok(fd) => fd.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(cause) => return Err(self.failure(name, cause)),
        };
        let io_failure = |cause| self.io_failure(name, cause);
        let metadata = file.metadata().map_err(io_failure)?;
        if !metadata.is_file() {
            return Err(io_failure(io::Error::other("it is not a regular file")));
        }
        if let Some(owner) = owner.filter(|owner| owner.uid != metadata.uid()) {
            if metadata.uid() != 0 || metadata.nlink() != 1 {
                return Err(io_failure(io::Error::other(
                    "it belongs to another account, or has another name as well",
                )));
            }
            give(&file, owner).map_err(|cause| self.failure(name, cause))?;
        }
        Ok(Some(file))
    }

    /// The end of a file as text; `None` if it cannot be read.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let mut file = self.file(name, FileAccess::Read, None).ok()??;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_READ)))
            .ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_READ).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), PostgresError> {
        rustix::fs::renameat(&self.file, from, &self.file, to)
            .map_err(|cause| self.failure(from, cause))
    }

    /// Removes a file or a link.
    pub(super) fn remove(&self, name: &str) -> Result<(), PostgresError> {
        rustix::fs::unlinkat(&self.file, name, AtFlags::empty())
            .map_err(|cause| self.failure(name, cause))
    }

    /// Changes the owner of the directory.
    pub(super) fn give(&self, owner: FileOwner) -> Result<(), PostgresError> {
        give(&self.file, owner).map_err(|cause| unusable(&self.path, cause))
    }

    /// Adds bits to the mode of the directory.
    pub(super) fn allow(&self, bits: Mode) -> Result<(), PostgresError> {
        let changed = rustix::fs::fstat(&self.file).and_then(|stat| {
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::fchmod(&self.file, mode | bits)
        });
        changed.map_err(|cause| unusable(&self.path, cause))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The owner of the directory, and its mode.
    pub(super) fn owner_and_mode(&self) -> Result<(FileOwner, u32), PostgresError> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|cause| PostgresError::DirectoryNotUsable {
            path: self.path.clone(),
            cause,
        })?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        Ok((FileOwner { uid, gid }, metadata.mode()))
    }

    fn failure(&self, name: &str, cause: Errno) -> PostgresError {
        let kind = rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind == Ok(FileType::Symlink) {
            return PostgresError::Link {
                path: self.path.join(name),
            };
        }
        self.io_failure(name, cause.into())
    }

    fn io_failure(&self, name: &str, cause: io::Error) -> PostgresError {
        PostgresError::DirectoryNotUsable {
            path: self.path.join(name),
            cause,
        }
    }
}

fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn give(file: &File, owner: FileOwner) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))
}

/// The error of an absolute path.
fn unusable(path: &Path, cause: Errno) -> PostgresError {
    if path.is_symlink() {
        return PostgresError::Link {
            path: path.to_owned(),
        };
    }
    PostgresError::DirectoryNotUsable {
        path: path.to_owned(),
        cause: cause.into(),
    }
}
