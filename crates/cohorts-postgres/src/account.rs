//! Under which account the server runs: our own, or one that root lends, since PostgreSQL refuses root.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::PostgresError;

/// The accounts that root lends, in order of preference.
const LENT: [&str; 2] = ["postgres", "nobody"];
/// Variables that would change what PostgreSQL's programs do.
const MEDDLING: [&str; 5] = ["PGDATA", "PGPORT", "PGTZ", "PGDATESTYLE", "PGOPTIONS"];

/// Runs commands and owns files for the cluster.
#[derive(Clone)]
pub(super) struct Account {
    lent: Option<Lent>,
}

#[derive(Clone)]
struct Lent {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account that owns the cluster already, or for a new one the first that root can lend.
    pub(super) fn choose(data_dir: &Path) -> Result<Self, PostgresError> {
        if !is_root() {
            return Ok(Self { lent: None });
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let owner = fs::metadata(data_dir.join("postgres/data"))
            .ok()
            .filter(|owner| owner.uid() != 0);
        let lent = match owner {
            Some(owner) => accounts
                .lines()
                .filter_map(Lent::parse)
                .find(|account| account.uid == owner.uid())
                .or(Some(Lent {
                    name: owner.uid().to_string(),
                    uid: owner.uid(),
                    gid: owner.gid(),
                })),
            None => LENT.iter().find_map(|name| {
                accounts
                    .lines()
                    .filter_map(Lent::parse)
                    .find(|account| account.name == *name)
            }),
        };
        Ok(Self {
            lent: Some(lent.ok_or(PostgresError::NoAccount)?),
        })
    }

    /// The account's name, where it is not our own.
    pub(super) fn lent_name(&self) -> Option<&str> {
        self.lent.as_ref().map(|lent| lent.name.as_str())
    }

    /// A command of the account's, with nothing to read. Its supplementary groups are none.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        for name in MEDDLING {
            command.env_remove(name);
        }
        if let Some(lent) = &self.lent {
            command.uid(lent.uid).gid(lent.gid);
        }
        command
    }

    /// Makes the directory if need be, for this account and nobody else.
    pub(super) fn own_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        match &self.lent {
            Some(lent) => chown(path, Some(lent.uid), Some(lent.gid)),
            None => Ok(()),
        }
    }
}

impl Lent {
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
    // Safe Rust has no call for it; `/proc/self` belongs to the effective user where there is a `/proc`.
    if let Ok(own) = fs::metadata("/proc/self") {
        return own.uid() == 0;
    }
    let answer = Command::new("id").arg("-u").output();
    answer.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}
