//! The files of a private Postgres: the directories of the cluster and the socket, the lock and the log.

use std::fmt::Write;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use sha2::{Digest, Sha256};

use super::NAME;
use super::account::Account;
use super::dir::{Dir, FileAccess, FileOwner};
use super::error::PostgresError;
use super::pid_file;

/// A part of the name of the socket file. The server opens no TCP port.
pub(super) const PORT: u16 = 5432;
/// The longest directory of a socket in bytes: the path limit of the strictest system without the name of the socket.
const SOCKET_DIR_LIMIT: usize = 103 - "/.s.PGSQL.5432".len();

const CLUSTER: &str = "data";
const SOCKET_DIR: &str = "run";
const LOCK: &str = "lock";
const LOG: &str = "postgres.log";
const OLD_LOG: &str = "postgres.log.old";

/// The files: absolute paths for other programs, and the open directory for this process.
#[derive(Clone)]
pub(super) struct Home {
    /// The data directory of the service.
    pub(super) data_dir: PathBuf,
    /// The subdirectory of Postgres, which contains the others.
    pub(super) directory: PathBuf,
    /// The data directory of the server.
    pub(super) cluster: PathBuf,
    /// The directory of the socket, which may be outside `directory`.
    pub(super) socket_dir: PathBuf,
    /// The log file of the server.
    pub(super) log: PathBuf,
    /// `directory`, through which this process changes files.
    dir: Arc<Dir>,
    /// The owner of all files; `None` if it is this process.
    owner: Option<FileOwner>,
}

impl Home {
    /// Creates the directories, which are private to the account.
    pub(super) fn prepare(data_dir: &Path, account: &Account) -> Result<Self, PostgresError> {
        let unusable = |path: &Path, cause| PostgresError::DirectoryNotUsable {
            path: path.to_owned(),
            cause,
        };
        fs::create_dir_all(data_dir).map_err(|cause| unusable(data_dir, cause))?;
        let data_dir = fs::canonicalize(data_dir).map_err(|cause| unusable(data_dir, cause))?;
        let owner = account.owner();
        let parent = Dir::open(&data_dir)?;
        if owner.is_some() {
            allow_traversal(&parent)?;
        }
        let dir = parent.private_subdirectory("postgres", owner)?;
        let directory = dir.path().to_owned();
        let socket_dir = socket_dir(&directory);
        if socket_dir.starts_with(&directory) {
            dir.private_subdirectory(SOCKET_DIR, owner)?;
        } else {
            create_in_shared_dir(&socket_dir, &dir)?;
        }
        let home = Self {
            cluster: directory.join(CLUSTER),
            log: directory.join(LOG),
            data_dir,
            directory,
            socket_dir,
            dir: Arc::new(dir),
            owner,
        };
        home.check_files()?;
        Ok(home)
    }

    /// Fails if a link is in the place of a file. Gives files that an earlier version created as root to the account.
    fn check_files(&self) -> Result<(), PostgresError> {
        self.dir.subdirectory(CLUSTER)?;
        for name in [LOCK, LOG, OLD_LOG] {
            self.dir.file(name, FileAccess::Read, self.owner)?;
        }
        Ok(())
    }

    /// Whether the cluster exists.
    pub(super) fn has_cluster(&self) -> Result<bool, PostgresError> {
        Ok(self.dir.subdirectory(CLUSTER)?.is_some())
    }

    /// Renames a new cluster to its final name.
    pub(super) fn publish_cluster(&self, unfinished: &str) -> Result<(), PostgresError> {
        self.dir.rename(unfinished, CLUSTER)
    }

    /// Opens the file of the lock, and creates it if it is missing.
    pub(super) fn open_lock(&self) -> Result<File, PostgresError> {
        self.create_file(LOCK)
    }

    /// Opens an empty log. The log of the last server, which may contain the reason for the restart, is renamed.
    pub(super) fn open_new_log(&self) -> Result<File, PostgresError> {
        // There is no log before the first start.
        let _ = self.dir.rename(LOG, OLD_LOG);
        self.create_file(LOG)
    }

    fn create_file(&self, name: &str) -> Result<File, PostgresError> {
        let file = self.dir.file(name, FileAccess::Append, self.owner)?;
        file.ok_or_else(|| PostgresError::DirectoryNotUsable {
            path: self.directory.join(name),
            cause: io::ErrorKind::NotFound.into(),
        })
    }

    /// The text of a file of the cluster; `None` if it cannot be read.
    pub(super) fn cluster_file(&self, name: &str) -> Option<String> {
        self.dir.subdirectory(CLUSTER).ok()??.text(name)
    }

    /// Removes the lock files of a dead server.
    ///
    /// PostgreSQL removes them too, but not while the dead process is still in the process table. This is safe: if other
    /// processes of the dead server live, their shared memory keeps a second server from starting.
    pub(super) fn remove_stale_locks(&self) {
        let socket = format!(".s.PGSQL.{PORT}.lock");
        let socket_dir = if self.socket_dir.starts_with(&self.directory) {
            self.dir.subdirectory(SOCKET_DIR)
        } else {
            Dir::open(&self.socket_dir).map(Some)
        };
        let cluster = self.dir.subdirectory(CLUSTER);
        for (dir, name) in [(socket_dir, socket.as_str()), (cluster, pid_file::NAME)] {
            let removed = dir.and_then(|dir| dir.map_or(Ok(()), |dir| dir.remove(name)));
            if let Err(cause) = removed {
                log::debug!("a stale lock file is not removed: {cause}");
            }
        }
    }

    /// The major version that created the cluster; `None` if there is no cluster.
    pub(super) fn cluster_version(&self) -> Option<u32> {
        self.cluster_file("PG_VERSION")?.trim().parse().ok()
    }

    /// The libpq URL of a database.
    pub(super) fn url(&self, database: &str) -> String {
        let host = percent_encoded(self.socket_dir.as_os_str().as_bytes());
        let database = percent_encoded(database.as_bytes());
        format!("postgresql://{NAME}@{host}:{PORT}/{database}")
    }

    pub(super) fn not_started(&self, detail: &str) -> PostgresError {
        PostgresError::NotStarted {
            detail: detail.trim().to_owned(),
            log: self.log.clone(),
        }
    }

    /// The last fatal error in the log of the server, or else its last line.
    pub(super) fn last_log_error(&self) -> String {
        let log = self.dir.text(LOG).unwrap_or_default();
        let fatal = |line: &str| {
            let (_, message) = line
                .split_once("FATAL:")
                .or_else(|| line.split_once("PANIC:"))?;
            Some(message.trim().to_owned())
        };
        let message = log.lines().rev().find_map(fatal);
        message
            .or_else(|| log.lines().last().map(str::to_owned))
            .unwrap_or_else(|| "it ended without a message".to_owned())
    }
}

/// Lets every account pass through an empty directory of root, so that the server's account can enter a subdirectory.
fn allow_traversal(data_dir: &Dir) -> Result<(), PostgresError> {
    let (_, mode) = data_dir.owner_and_mode()?;
    let is_empty = || fs::read_dir(data_dir.path()).is_ok_and(|mut files| files.next().is_none());
    if mode & 0o011 != 0o011 && is_empty() {
        data_dir.allow(Mode::XGRP | Mode::XOTH)?;
    }
    Ok(())
}

/// The directory `run` next to the cluster. If that path is too long for a socket, a short path under `/tmp` that depends
/// on the directory only.
fn socket_dir(directory: &Path) -> PathBuf {
    let run = directory.join("run");
    if run.as_os_str().len() <= SOCKET_DIR_LIMIT {
        return run;
    }
    let digest = Sha256::digest(directory.as_os_str().as_bytes());
    Path::new("/tmp").join(format!("cohorts-{}", hex::encode(&digest[..8])))
}

/// Creates a private directory in a directory that every account can write. If it exists, it must be a directory that
/// belongs to the owner of `directory` and is closed to others.
fn create_in_shared_dir(path: &Path, directory: &Dir) -> Result<(), PostgresError> {
    let (owner, _) = directory.owner_and_mode()?;
    let is_new = DirBuilder::new().mode(0o700).create(path).is_ok();
    let dir = Dir::open(path)?;
    if is_new {
        return dir.give(owner);
    }
    let (existing, mode) = dir.owner_and_mode()?;
    if existing.uid == owner.uid && mode & 0o077 == 0 {
        return Ok(());
    }
    Err(PostgresError::DirectoryNotUsable {
        path: path.to_owned(),
        cause: io::Error::other(
            "it is not a private directory of the account that runs the server",
        ),
    })
}

fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
