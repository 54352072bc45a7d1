//! PostgreSQL's programs: where they are installed, which of them fit, and what they are used for.

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

/// The oldest major version that the service works with.
pub(super) const OLDEST: u32 = 14;

/// Where distributions keep one directory per version: its parent, what comes before the version, what comes below.
const VERSIONED: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/usr/libexec", "postgresql", ""),
];
const UNVERSIONED: &str = "/usr/local/pgsql/bin";

/// The programs of one installed version.
#[derive(Clone)]
pub(super) struct Binaries {
    /// Empty for those that the search path finds.
    directory: PathBuf,
    major: u32,
}

impl Binaries {
    /// The programs in the given directory, or the newest that fit: the cluster's version where there is a cluster.
    pub(super) fn find(
        given: Option<&Path>,
        home: &Home,
        account: &Account,
    ) -> Result<Self, PostgresError> {
        let wanted = home.cluster_version();
        let mut misfit = None;
        for directory in given.map_or_else(|| usual_places(home), |given| vec![given.to_owned()]) {
            let found = match Self::probe(directory, home, account) {
                Ok(found) => found,
                Err(PostgresError::NotRunnable { .. }) if given.is_none() => continue,
                Err(cause) => return Err(cause),
            };
            if found.major >= OLDEST && wanted.is_none_or(|wanted| wanted == found.major) {
                return Ok(found);
            }
            misfit = misfit.or(Some(found.major));
        }
        Err(match (misfit, wanted) {
            (None, _) => PostgresError::NotInstalled,
            (Some(major), _) if major < OLDEST => PostgresError::TooOld { major },
            (Some(found), wanted) => PostgresError::OtherVersion {
                cluster: home.cluster.clone(),
                made_by: wanted.unwrap_or(OLDEST),
                found,
            },
        })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Asks for the version, which at once shows whether the account can run the programs where the cluster is.
    fn probe(directory: PathBuf, home: &Home, account: &Account) -> Result<Self, PostgresError> {
        let program = directory.join("initdb");
        let ask = |place: &Path| {
            account
                .command(&program)
                .arg("--version")
                .current_dir(place)
                .output()
        };
        let not_runnable = |cause| PostgresError::NotRunnable {
            program: program.clone(),
            cause,
        };
        let answer = ask(Path::new("/")).map_err(not_runnable)?;
        let major = major_version(&answer.stdout)
            .ok_or_else(|| not_runnable(io::Error::other("it does not tell its version")))?;
        if let Err(cause) = ask(&home.directory) {
            return Err(not_entered(cause, home, account));
        }
        Ok(Self { directory, major })
    }

    /// Makes an empty cluster. It takes its name only when whole, so that a half-made one is never used.
    pub(super) fn make_cluster(
        &self,
        home: &Home,
        account: &Account,
        durable: bool,
    ) -> Result<(), PostgresError> {
        let unusable = |cause| PostgresError::DirectoryNotUsable {
            path: home.cluster.clone(),
            cause,
        };
        let unfinished = home.directory.join("data.new");
        let mut failure = String::new();
        // Not every system has the first; the second knows no letters but ASCII's.
        for locale in ["--locale=C.UTF-8", "--no-locale"] {
            remove_directory(&unfinished).map_err(unusable)?;
            account.own_directory(&unfinished).map_err(unusable)?;
            let mut command = account.command(self.program("initdb"));
            command
                .arg("-D")
                .arg(&unfinished)
                .arg(format!("--username={NAME}"));
            command.args(["--auth=trust", "--encoding=UTF8", locale]);
            if !durable {
                command.arg("--no-sync");
            }
            let made = command
                .current_dir(&home.directory)
                .output()
                .map_err(unusable)?;
            if made.status.success() {
                return fs::rename(&unfinished, &home.cluster).map_err(unusable);
            }
            failure = last_line(&made);
        }
        Err(home.not_started(&failure))
    }
}

fn usual_places(home: &Home) -> Vec<PathBuf> {
    let mut versioned: Vec<(u32, PathBuf)> = VERSIONED.iter().flat_map(versions_in).collect();
    versioned.sort_by(|one, other| other.cmp(one));
    let mut places: Vec<PathBuf> = versioned.into_iter().map(|(_, place)| place).collect();
    places.push(PathBuf::from(UNVERSIONED));
    places.push(PathBuf::new());
    places.extend(fetch::fetched(&home.data_dir));
    places
}

fn versions_in((parent, before, below): &(&str, &str, &str)) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(before)?.parse().ok()?;
            Some((version, entry.path().join(below)))
        })
        .collect()
}

/// From `initdb (PostgreSQL) 15.13`, `… 18beta1` and the like.
fn major_version(answer: &[u8]) -> Option<u32> {
    let answer = String::from_utf8_lossy(answer);
    let (_, version) = answer.split_once("(PostgreSQL) ")?;
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// Names the directory that stops the account, searched for from the top.
fn not_entered(cause: io::Error, home: &Home, account: &Account) -> PostgresError {
    let Some(name) = account.lent_name() else {
        return PostgresError::DirectoryNotUsable {
            path: home.directory.clone(),
            cause,
        };
    };
    let mut ancestors: Vec<&Path> = home.directory.ancestors().collect();
    ancestors.reverse();
    let stops = |path: &&&Path| account.command("true").current_dir(path).status().is_err();
    let stop = ancestors
        .iter()
        .find(stops)
        .copied()
        .unwrap_or(&home.directory);
    PostgresError::DirectoryNotEntered {
        path: stop.to_owned(),
        account: name.to_owned(),
    }
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// What a program that failed said last.
fn last_line(output: &Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr);
    let line = words.lines().rfind(|line| !line.trim().is_empty());
    line.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())
}
