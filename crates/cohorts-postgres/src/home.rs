//! The files of a private Postgres: the directories of the cluster and the socket, the lock and the log.

use std::fmt::Write;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::NAME;
use super::account::Account;
use super::error::PostgresError;
use super::pid_file;

/// A part of the name of the socket file. The server opens no TCP port.
pub(super) const PORT: u16 = 5432;
/// The longest directory of a socket in bytes: the path limit of the strictest system without the name of the socket.
const SOCKET_DIR_LIMIT: usize = 103 - "/.s.PGSQL.5432".len();

/// The absolute paths of the files.
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
        if account.switched_name().is_some() {
            allow_traversal(&data_dir).map_err(|cause| unusable(&data_dir, cause))?;
        }
        let directory = data_dir.join("postgres");
        account
            .create_private_dir(&directory)
            .map_err(|cause| unusable(&directory, cause))?;
        let socket_dir = socket_dir(&directory);
        if socket_dir.starts_with(&directory) {
            account.create_private_dir(&socket_dir)
        } else {
            create_in_shared_dir(&socket_dir, &directory)
        }
        .map_err(|cause| unusable(&socket_dir, cause))?;
        Ok(Self {
            cluster: directory.join("data"),
            log: directory.join("postgres.log"),
            data_dir,
            directory,
            socket_dir,
        })
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Removes the lock files of a dead server.
    ///
    /// PostgreSQL removes them too, but not while the dead process is still in the process table. This is safe: if other
    /// processes of the dead server live, their shared memory keeps a second server from starting.
    pub(super) fn remove_stale_locks(&self) {
        let socket = format!(".s.PGSQL.{PORT}.lock");
        for path in [
            self.socket_dir.join(socket),
            self.cluster.join(pid_file::NAME),
        ] {
            if let Err(cause) = fs::remove_file(&path) {
                log::debug!("cannot remove {}: {cause}", path.display());
            }
        }
    }

    /// The major version that created the cluster; `None` if there is no cluster.
    pub(super) fn cluster_version(&self) -> Option<u32> {
        fs::read_to_string(self.cluster.join("PG_VERSION"))
            .ok()?
            .trim()
            .parse()
            .ok()
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
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
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
fn allow_traversal(data_dir: &Path) -> io::Result<()> {
    let mode = fs::metadata(data_dir)?.permissions().mode();
    if mode & 0o011 != 0o011 && fs::read_dir(data_dir)?.next().is_none() {
        fs::set_permissions(data_dir, Permissions::from_mode(mode | 0o011))?;
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
fn create_in_shared_dir(path: &Path, directory: &Path) -> io::Result<()> {
    let owner = fs::metadata(directory)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => chown(path, Some(owner.uid()), Some(owner.gid())),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            let existing = fs::symlink_metadata(path)?;
            let is_private =
                existing.is_dir() && existing.uid() == owner.uid() && existing.mode() & 0o077 == 0;
            if is_private { Ok(()) } else { Err(cause) }
        }
        Err(cause) => Err(cause),
    }
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
