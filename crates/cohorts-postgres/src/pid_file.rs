//! `postmaster.pid`, the file in which a cluster's server writes its process id and whether it accepts connections.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::home::Home;

pub(super) const NAME: &str = "postmaster.pid";

/// The contents of the file.
pub(super) struct PidFile {
    /// The process id of the server; 0 if it cannot be parsed.
    pub(super) pid: u32,
    /// Whether the server accepts connections.
    pub(super) is_ready: bool,
}

impl PidFile {
    /// Reads the file of a cluster; `None` if no server has run or the last one stopped cleanly.
    pub(super) fn read(home: &Home) -> Option<Self> {
        let text = home.cluster_file(NAME)?;
        let mut lines = text.lines();
        // A single-user process writes its id as a negative number.
        let pid: i64 = lines
            .next()
            .and_then(|line| line.trim().parse().ok())
            .unwrap_or(0);
        let is_ready = lines.nth(6).is_some_and(|line| line.trim() == "ready");
        Some(Self {
            pid: u32::try_from(pid.abs()).unwrap_or(0),
            is_ready,
        })
    }

    /// Whether the process is a running Postgres of this cluster. It is not if the process is dead or a zombie, or if the
    /// system gave its id to another process.
    pub(super) fn is_alive(&self, cluster: &Path) -> bool {
        self.pid != 0 && is_postgres(self.pid) && !has_other_directory(self.pid, cluster)
    }
}

fn is_postgres(pid: u32) -> bool {
    let (name, state) = if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((head, rest)) = stat.rsplit_once(')') else {
            return false;
        };
        let name = head.split_once('(').map_or("", |(_, name)| name);
        (name.to_owned(), rest.trim().to_owned())
    } else {
        let pid = pid.to_string();
        let output = Command::new("ps")
            .args(["-o", "state=", "-o", "comm=", "-p", &pid])
            .output();
        let line = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let line = line.unwrap_or_default();
        let Some((state, name)) = line.split_once(' ') else {
            return false;
        };
        (name.trim().to_owned(), state.to_owned())
    };
    name.ends_with("postgres") && !state.starts_with(['Z', 'X'])
}

/// Whether the working directory of the process is not the cluster, as that of a server is. False if it cannot be read.
fn has_other_directory(pid: u32, cluster: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory != cluster)
}
