//! The account under which the server runs: that of this process, or for root another one, because PostgreSQL refuses
//! to run as root.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::dir::{Dir, FileOwner};
use super::error::PostgresError;

/// The accounts that root uses for the server, in order of preference.
const SERVER_ACCOUNTS: [&str; 2] = ["postgres", "nobody"];
/// Environment variables that would change the behaviour of PostgreSQL's programs.
const CLEARED_VARIABLES: [&str; 5] = ["PGDATA", "PGPORT", "PGTZ", "PGDATESTYLE", "PGOPTIONS"];

/// Runs commands and owns files for the cluster.
#[derive(Clone)]
pub(super) struct Account {
    /// The account that root switches to; `None` if this process is not root.
    switched: Option<UnixAccount>,
}

#[derive(Clone)]
struct UnixAccount {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The owner of an existing cluster, or else the first of [`SERVER_ACCOUNTS`] that the machine has.
    pub(super) fn choose(data_dir: &Path) -> Result<Self, PostgresError> {
        if !is_root() {
            return Ok(Self { switched: None });
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let account = match owner_of_cluster(data_dir)?.filter(|owner| owner.uid != 0) {
            Some(owner) => passwd
                .lines()
                .filter_map(UnixAccount::parse)
                .find(|account| account.uid == owner.uid)
                .or(Some(UnixAccount {
                    name: owner.uid.to_string(),
                    uid: owner.uid,
                    gid: owner.gid,
                })),
            None => SERVER_ACCOUNTS.iter().find_map(|name| {
                passwd
                    .lines()
                    .filter_map(UnixAccount::parse)
                    .find(|account| account.name == *name)
            }),
        };
        Ok(Self {
            switched: Some(account.ok_or(PostgresError::NoAccount)?),
        })
    }

    /// The name of the account; `None` if it is that of this process.
    pub(super) fn switched_name(&self) -> Option<&str> {
        self.switched.as_ref().map(|account| account.name.as_str())
    }

    /// A command that runs under the account, with empty input and no supplementary groups.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        for name in CLEARED_VARIABLES {
            command.env_remove(name);
        }
        if let Some(account) = &self.switched {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// The owner that files get from root; `None` if this process is not root.
    pub(super) fn owner(&self) -> Option<FileOwner> {
        self.switched.as_ref().map(|account| FileOwner {
            uid: account.uid,
            gid: account.gid,
        })
    }
}

/// The owner of an existing cluster; `None` if there is no cluster.
fn owner_of_cluster(data_dir: &Path) -> Result<Option<FileOwner>, PostgresError> {
    let Ok(data_dir) = fs::canonicalize(data_dir) else {
        return Ok(None);
    };
    let Some(directory) = Dir::open(&data_dir)?.subdirectory("postgres")? else {
        return Ok(None);
    };
    let cluster = directory.subdirectory("data")?;
    let owner = cluster.map(|cluster| cluster.owner_and_mode());
    Ok(owner.transpose()?.map(|(owner, _)| owner))
}

impl UnixAccount {
    /// Parses a line of `/etc/passwd`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid })
    }
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
