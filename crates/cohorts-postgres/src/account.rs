//! The account under which the server runs: that of this process, or for root another one, because PostgreSQL refuses
//! to run as root.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

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
        let owner = fs::metadata(data_dir.join("postgres/data"))
            .ok()
            .filter(|owner| owner.uid() != 0);
        let account = match owner {
            Some(owner) => passwd
                .lines()
                .filter_map(UnixAccount::parse)
                .find(|account| account.uid == owner.uid())
                .or(Some(UnixAccount {
                    name: owner.uid().to_string(),
                    uid: owner.uid(),
                    gid: owner.gid(),
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

    /// Creates the directory if it is missing, and makes it private to the account.
    pub(super) fn create_private_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        match &self.switched {
            Some(account) => chown(path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }
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
    // Safe Rust has no call for the effective user. It owns `/proc/self` on systems that have `/proc`.
    if let Ok(metadata) = fs::metadata("/proc/self") {
        return metadata.uid() == 0;
    }
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
