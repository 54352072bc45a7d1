//! The directory that a private Postgres lives in: cluster, socket, lock and log.

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

/// Names the socket file only; no port is opened.
pub(super) const PORT: u16 = 5432;
/// The longest path of a socket that every system takes, less the name of the socket file.
const SOCKET_DIR_LIMIT: usize = 103 - "/.s.PGSQL.5432".len();

/// Where everything is. All paths are absolute.
#[derive(Clone)]
pub(super) struct Home {
    pub(super) data_dir: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) cluster: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) log: PathBuf,
}

impl Home {
    /// Makes the directories, private to the account.
    pub(super) fn prepare(data_dir: &Path, account: &Account) -> Result<Self, PostgresError> {
        let unusable = |path: &Path, cause| PostgresError::DirectoryNotUsable {
            path: path.to_owned(),
            cause,
        };
        fs::create_dir_all(data_dir).map_err(|cause| unusable(data_dir, cause))?;
        let data_dir = fs::canonicalize(data_dir).map_err(|cause| unusable(data_dir, cause))?;
        if account.lent_name().is_some() {
            let_others_through(&data_dir).map_err(|cause| unusable(&data_dir, cause))?;
        }
        let directory = data_dir.join("postgres");
        account
            .own_directory(&directory)
            .map_err(|cause| unusable(&directory, cause))?;
        let socket_dir = socket_dir(&directory);
        if socket_dir.starts_with(&directory) {
            account.own_directory(&socket_dir)
        } else {
            own_public_directory(&socket_dir, &directory)
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

    /// Removes the lock files of a dead server. PostgreSQL does so too, but not while the process is dead and
    /// nobody has taken note. What is left of the dead one keeps a second server out by the memory that they
    /// would share.
    pub(super) fn clear_after_the_dead(&self) {
        let socket = format!(".s.PGSQL.{PORT}.lock");
        for path in [
            self.socket_dir.join(socket),
            self.cluster.join(pid_file::NAME),
        ] {
            if let Err(cause) = fs::remove_file(&path) {
                log::debug!("{} stays: {cause}", path.display());
            }
        }
    }

    /// The major version that made the cluster, where there is one.
    pub(super) fn cluster_version(&self) -> Option<u32> {
        fs::read_to_string(self.cluster.join("PG_VERSION"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

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

    /// The last thing that the server had to say.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let fatal = |line: &str| {
            let (_, words) = line
                .split_once("FATAL:")
                .or_else(|| line.split_once("PANIC:"))?;
            Some(words.trim().to_owned())
        };
        let words = log.lines().rev().find_map(fatal);
        words
            .or_else(|| log.lines().last().map(str::to_owned))
            .unwrap_or_else(|| "it ended without a word".to_owned())
    }
}

/// An empty directory of root's, such as a temporary one, would shut the lent account out of what goes in it.
fn let_others_through(data_dir: &Path) -> io::Result<()> {
    let mode = fs::metadata(data_dir)?.permissions().mode();
    if mode & 0o011 != 0o011 && fs::read_dir(data_dir)?.next().is_none() {
        fs::set_permissions(data_dir, Permissions::from_mode(mode | 0o011))?;
    }
    Ok(())
}

/// Beside the cluster; where that path is too long for a socket, a short one that is the same for every process.
fn socket_dir(directory: &Path) -> PathBuf {
    let beside = directory.join("run");
    if beside.as_os_str().len() <= SOCKET_DIR_LIMIT {
        return beside;
    }
    let digest = Sha256::digest(directory.as_os_str().as_bytes());
    Path::new("/tmp").join(format!("cohorts-{}", hex::encode(&digest[..8])))
}

/// Makes a directory where others may have made it first, and refuses it unless it is the owner's alone.
fn own_public_directory(path: &Path, directory: &Path) -> io::Result<()> {
    let owner = fs::metadata(directory)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => chown(path, Some(owner.uid()), Some(owner.gid())),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path)?;
            let ours = found.is_dir() && found.uid() == owner.uid() && found.mode() & 0o077 == 0;
            if ours { Ok(()) } else { Err(cause) }
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
