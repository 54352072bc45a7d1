//! `postmaster.pid`, by which a cluster tells who serves it and whether it takes connections.

use std::fs;
use std::path::Path;
use std::process::Command;

pub(super) const NAME: &str = "postmaster.pid";

/// What a cluster's server wrote about itself.
pub(super) struct PidFile {
    pub(super) pid: u32,
    pub(super) ready: bool,
}

impl PidFile {
    /// `None` where no server has run, or one ended in good order.
    pub(super) fn read(cluster: &Path) -> Option<Self> {
        let text = fs::read_to_string(cluster.join(NAME)).ok()?;
        let mut lines = text.lines();
        // A negative number is a process without clients; an unreadable one is nobody's.
        let pid: i64 = lines
            .next()
            .and_then(|line| line.trim().parse().ok())
            .unwrap_or(0);
        let ready = lines.nth(6).is_some_and(|line| line.trim() == "ready");
        Some(Self {
            pid: u32::try_from(pid.abs()).unwrap_or(0),
            ready,
        })
    }

    /// Whether its process is a living Postgres of this cluster, rather than dead, not yet reaped, or
    /// some other process that has been given the same number since.
    pub(super) fn is_alive(&self, cluster: &Path) -> bool {
        self.pid != 0 && is_postgres(self.pid) && !works_elsewhere(self.pid, cluster)
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
        let asked = Command::new("ps")
            .args(["-o", "state=", "-o", "comm=", "-p", &pid])
            .output();
        let answer = asked.map(|asked| String::from_utf8_lossy(&asked.stdout).trim().to_owned());
        let answer = answer.unwrap_or_default();
        let Some((state, name)) = answer.split_once(' ') else {
            return false;
        };
        (name.trim().to_owned(), state.to_owned())
    };
    name.ends_with("postgres") && !state.starts_with(['Z', 'X'])
}

/// A server works inside its cluster's directory. Where that cannot be seen, this says no.
fn works_elsewhere(pid: u32, cluster: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory != cluster)
}
