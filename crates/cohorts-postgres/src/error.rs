//! Why there is no private Postgres: each reason one sentence that names the thing and what helps.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a private Postgres could not be had.
#[derive(Debug)]
pub enum PostgresError {
    /// No server programs anywhere.
    NotInstalled,
    /// The server programs are there and do not run.
    NotRunnable { program: PathBuf, cause: io::Error },
    /// Only servers older than the service can work with.
    TooOld { major: u32 },
    /// The cluster belongs to a major version that is not installed.
    OtherVersion {
        cluster: PathBuf,
        made_by: u32,
        found: u32,
    },
    /// The data directory, or something in it, cannot be made, read or written.
    DirectoryNotUsable { path: PathBuf, cause: io::Error },
    /// The account that root lends cannot come as far as the data directory.
    DirectoryNotEntered { path: PathBuf, account: String },
    /// Root has no account to lend.
    NoAccount,
    /// The programs ran, and no server came of it.
    NotStarted { detail: String, log: PathBuf },
    /// Neither pip nor npm brought server programs.
    NotFetched { detail: String },
}

impl std::error::Error for PostgresError {}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => f.write_str(
                "no PostgreSQL server was found on this machine: install one (on Debian and Ubuntu `apt-get install \
                 postgresql`), name its programs' directory in COHORTS_PG_BIN, or name a database with --database-url",
            ),
            Self::NotRunnable { program, cause } => write!(
                f,
                "cannot run {}: {cause}; COHORTS_PG_BIN must name the directory of a PostgreSQL server's programs",
                program.display()
            ),
            Self::TooOld { major } => write!(
                f,
                "the PostgreSQL found on this machine is version {major}, which is too old: install version {} or newer",
                super::binaries::OLDEST
            ),
            Self::OtherVersion { cluster, made_by, found } => write!(
                f,
                "the data in {} was made by PostgreSQL {made_by}, and this machine has version {found}: \
                 install version {made_by}, or choose another directory with --data-dir",
                cluster.display()
            ),
            Self::DirectoryNotUsable { path, cause } => write!(
                f,
                "the data directory cannot be used, at {}: {cause}; choose another with --data-dir",
                path.display()
            ),
            Self::DirectoryNotEntered { path, account } => write!(
                f,
                "PostgreSQL refuses to run as root, and the account `{account}`, under which it is run instead, cannot \
                 enter {}: choose another directory with --data-dir, such as /var/lib/cohorts",
                path.display()
            ),
            Self::NoAccount => f.write_str(
                "PostgreSQL refuses to run as root, and this machine has neither an account `postgres` nor `nobody` \
                 to run it under: start cohorts as another user, or name a database with --database-url",
            ),
            Self::NotStarted { detail, log } => {
                write!(f, "the private PostgreSQL did not start: {detail} (its log is {})", log.display())
            }
            Self::NotFetched { detail } => write!(
                f,
                "PostgreSQL's programs could not be fetched through pip or npm ({detail}): install a server \
                 (on Debian and Ubuntu `apt-get install postgresql`)"
            ),
        }
    }
}
