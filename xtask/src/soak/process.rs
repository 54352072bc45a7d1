//! The processes of the soak: readiness, memory, and killing Postgres.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::service::Service;

/// Memory in MiB.
pub struct MemoryUsage {
    /// The resident memory of the service.
    pub resident: u64,
    /// The memory of the indexes, as a part of `resident`.
    pub indexes: u64,
}

/// Whether the service becomes ready before the timeout.
pub fn wait_until_ready(service: &Service, timeout: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < timeout {
        if service.get_without_key("/_readyz").is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}

pub fn memory_usage(service: &Service) -> Result<MemoryUsage> {
    let index_bytes = service.metric("cohorts_view_bytes").unwrap_or(0.0);
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kibibytes: u64 = number
        .context("the status of the process has no VmRSS")?
        .parse()?;
    Ok(MemoryUsage {
        resident: kibibytes >> 10,
        indexes: index_bytes as u64 >> 20,
    })
}

/// Kills the private Postgres below `directory` with SIGKILL, as the kernel does when memory runs out.
pub fn kill_postgres(directory: &Path) -> Result<()> {
    let file = find_file(directory, "postmaster.pid").context("there is no postmaster.pid")?;
    let text = fs::read_to_string(&file)?;
    let pid = text
        .lines()
        .next()
        .context("postmaster.pid is empty")?
        .trim();
    let status = Command::new("kill").args(["-KILL", pid]).status()?;
    ensure!(
        status.success(),
        "cannot kill Postgres, which is process {pid}"
    );
    Ok(())
}

fn find_file(directory: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(directory)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    let file = entries
        .iter()
        .find(|path| path.file_name().is_some_and(|file_name| file_name == name));
    file.cloned().or_else(|| {
        entries
            .iter()
            .filter(|path| path.is_dir())
            .find_map(|path| find_file(path, name))
    })
}
