//! The programs of a PostgreSQL server: finds an installed version that fits the cluster, and creates clusters.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::NAME;
use super::account::Account;
use super::error::PostgresError;
use super::home::Home;

mod fetch;

pub use fetch::fetch_binaries;

/// The oldest major version that the service supports.
pub(super) const OLDEST: u32 = 14;

/// A directory in which a distribution installs each version: `parent`/`prefix`VERSION/`programs`.
struct VersionedPath {
    parent: &'static str,
    prefix: &'static str,
    programs: &'static str,
}

const VERSIONED: [VersionedPath; 5] = [
    VersionedPath {
        parent: "/usr/lib/postgresql",
        prefix: "",
        programs: "bin",
    },
    VersionedPath {
        parent: "/usr",
        prefix: "pgsql-",
        programs: "bin",
    },
    VersionedPath {
        parent: "/opt/homebrew/opt",
        prefix: "postgresql@",
        programs: "bin",
    },
    VersionedPath {
        parent: "/usr/local/opt",
        prefix: "postgresql@",
        programs: "bin",
    },
    VersionedPath {
        parent: "/usr/libexec",
        prefix: "postgresql",
        programs: "",
    },
];
const UNVERSIONED: &str = "/usr/local/pgsql/bin";

/// The name of a cluster that is not complete yet.
const UNFINISHED: &str = "data.new";

/// The programs of one installed version.
#[derive(Clone)]
pub(super) struct Binaries {
    /// Their directory; empty if they are on the search path.
    directory: PathBuf,
    major: u32,
}

impl Binaries {
    /// The programs in the directory `pg_bin`, or else the newest installed ones that fit. If the cluster exists, only its
    /// version fits.
    pub(super) fn find(
        pg_bin: Option<&Path>,
        home: &Home,
        account: &Account,
    ) -> Result<Self, PostgresError> {
        let cluster_version = home.cluster_version();
        let mut unsuitable = None;
        let directories = pg_bin.map_or_else(
            || default_directories(home),
            |directory| vec![directory.to_owned()],
        );
        for directory in directories {
            let binaries = match Self::probe(directory, home, account) {
                Ok(binaries) => binaries,
                Err(PostgresError::NotRunnable { .. }) if pg_bin.is_none() => continue,
                Err(cause) => return Err(cause),
            };
            let major = binaries.major;
            if major >= OLDEST && cluster_version.is_none_or(|version| version == major) {
                return Ok(binaries);
            }
            unsuitable = unsuitable.or(Some(major));
        }
        Err(match unsuitable {
            None => PostgresError::NotInstalled,
            Some(major) if major < OLDEST => PostgresError::TooOld { major },
            Some(installed) => PostgresError::OtherVersion {
                cluster: home.cluster.clone(),
                created_by: cluster_version.unwrap_or(OLDEST),
                installed,
            },
        })
    }

    /// The path of a program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Reads the version of the programs, and checks that the account can run them in the directory of the cluster.
    fn probe(directory: PathBuf, home: &Home, account: &Account) -> Result<Self, PostgresError> {
        let program = directory.join("initdb");
        let print_version = |working_dir: &Path| {
            account
                .command(&program)
                .arg("--version")
                .current_dir(working_dir)
                .output()
        };
        let not_runnable = |cause| PostgresError::NotRunnable {
            program: program.clone(),
            cause,
        };
        let output = print_version(Path::new("/")).map_err(not_runnable)?;
        let major = major_version(&output.stdout)
            .ok_or_else(|| not_runnable(io::Error::other("it does not print a version")))?;
        if let Err(cause) = print_version(&home.directory) {
            return Err(not_entered(cause, home, account));
        }
        Ok(Self { directory, major })
    }

    /// Creates an empty cluster under a temporary name, and renames it at the end. So an incomplete one is never used.
    pub(super) fn create_cluster(
        &self,
        home: &Home,
        account: &Account,
        durable: bool,
    ) -> Result<(), PostgresError> {
        let unusable = |cause| PostgresError::DirectoryNotUsable {
            path: home.cluster.clone(),
            cause,
        };
        let mut failure = String::new();
        // Some systems do not have C.UTF-8. Without a locale, only ASCII letters are letters.
        for locale in ["--locale=C.UTF-8", "--no-locale"] {
            // The account removes and creates the directory, because it could replace it by a link.
            let mut remove = account.command("rm");
            remove
                .args(["-rf", UNFINISHED])
                .current_dir(&home.directory);
            remove.status().map_err(unusable)?;
            let mut command = account.command(self.program("initdb"));
            command
                .arg("-D")
                .arg(home.directory.join(UNFINISHED))
                .arg(format!("--username={NAME}"));
            command.args(["--auth=trust", "--encoding=UTF8", locale]);
            if !durable {
                command.arg("--no-sync");
            }
            let output = command
                .current_dir(&home.directory)
                .output()
                .map_err(unusable)?;
            if output.status.success() {
                return home.publish_cluster(UNFINISHED);
            }
            failure = last_line(&output);
        }
        Err(home.not_started(&failure))
    }
}

/// The directories to search: installed versions, the newest first; the search path; and programs fetched earlier.
fn default_directories(home: &Home) -> Vec<PathBuf> {
    let mut versioned: Vec<(u32, PathBuf)> = VERSIONED
        .iter()
        .flat_map(VersionedPath::installed)
        .collect();
    versioned.sort_by(|first, second| second.cmp(first));
    let mut directories: Vec<PathBuf> = versioned.into_iter().map(|(_, path)| path).collect();
    directories.push(PathBuf::from(UNVERSIONED));
    directories.push(PathBuf::new());
    directories.extend(fetch::fetched(&home.data_dir));
    directories
}

impl VersionedPath {
    /// The installed versions with the directories of their programs.
    fn installed(&self) -> Vec<(u32, PathBuf)> {
        let entries = fs::read_dir(self.parent).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let version = name.strip_prefix(self.prefix)?.parse().ok()?;
                Some((version, entry.path().join(self.programs)))
            })
            .collect()
    }
}

/// The major version of an output such as `initdb (PostgreSQL) 15.13` or `initdb (PostgreSQL) 18beta1`.
fn major_version(output: &[u8]) -> Option<u32> {
    let output = String::from_utf8_lossy(output);
    let (_, version) = output.split_once("(PostgreSQL) ")?;
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// The error that names the topmost directory that the account cannot enter.
fn not_entered(cause: io::Error, home: &Home, account: &Account) -> PostgresError {
    let Some(name) = account.switched_name() else {
        return PostgresError::DirectoryNotUsable {
            path: home.directory.clone(),
            cause,
        };
    };
    let mut ancestors: Vec<&Path> = home.directory.ancestors().collect();
    ancestors.reverse();
    let is_closed = |path: &&&Path| account.command("true").current_dir(path).status().is_err();
    let closed = ancestors
        .iter()
        .find(is_closed)
        .copied()
        .unwrap_or(&home.directory);
    PostgresError::DirectoryNotEntered {
        path: closed.to_owned(),
        account: name.to_owned(),
    }
}

/// The last line that a failed program wrote to its error output, or else its exit status.
fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())
}
