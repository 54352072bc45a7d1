//! Points at which tests kill a process, around the commits of members and events.
//!
//! They do nothing unless `COHORTS_KILL_POINTS` names a folder. Then each process appends the points that it reaches to the
//! file `hits`. The file `order` has the name of a point and a victim, which is `service` or the path of a file with a
//! process id. The first process that reaches the point takes the order, notes the point and `service` or `other` in `kills`,
//! and sends SIGKILL.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context;
use rustix::process::{Pid, Signal, getpid, kill_process};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Lets this process follow the orders in a folder.
pub fn follow(folder: &Path) {
    FOLDER.get_or_init(|| folder.to_owned());
}

/// A place in the code, named by what has happened there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillPoint {
    /// A pass has written chunks and changes, and has not committed them.
    PassStaged,
    /// A pass has committed chunks and changes that no reader sees.
    PassBetweenCommits,
    /// A pass has written the versions by which readers see the changes, and has not committed them.
    PassNumbered,
    /// A pass has committed, and has told it to no reader.
    PassPublished,
    /// As the points of a pass, for a calculation.
    CalculationStaged,
    CalculationBetweenCommits,
    CalculationNumbered,
    CalculationPublished,
    /// Captured events are written, and not committed.
    CaptureWritten,
    /// Captured events are committed, and not acknowledged.
    CaptureCommitted,
    /// An upload has changed the members, and has not committed.
    UploadWritten,
    /// An upload is committed, and not acknowledged.
    UploadCommitted,
    /// The events of a deleted person are deleted, and the person is not.
    DeletionBetweenCommits,
    /// A deletion has removed the person from all cohorts, and has not committed.
    DeletionWritten,
    /// A deletion is committed, and not acknowledged.
    DeletionCommitted,
}

impl KillPoint {
    /// Notes that this process is at the point, and follows an order for it.
    pub fn reached(self) {
        if let Some(folder) = FOLDER.get()
            && let Err(cause) = self.follow_order(folder)
        {
            log::error!("kill point {self:?}: {cause:#}");
        }
    }

    fn follow_order(self, folder: &Path) -> anyhow::Result<()> {
        append(&folder.join("hits"), &format!("{self:?}"))?;
        let order = folder.join("order");
        let Ok(text) = fs::read_to_string(&order) else {
            return Ok(());
        };
        let Some((name, victim)) = text.split_once(' ') else {
            return Ok(());
        };
        // Only one process can rename the file.
        if name != format!("{self:?}") || fs::rename(&order, folder.join("taken")).is_err() {
            return Ok(());
        }
        let (kind, pid) = match victim.trim() {
            "service" => ("service", getpid()),
            file => ("other", pid_in(Path::new(file))?),
        };
        append(&folder.join("kills"), &format!("{self:?} {kind}"))?;
        Ok(kill_process(pid, Signal::KILL)?)
    }
}

fn append(file: &Path, line: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(file);
    // One write of a short line is not mixed with those of other processes.
    Ok(file?.write_all(format!("{line}\n").as_bytes())?)
}

/// The process id in the first line of a file.
fn pid_in(file: &Path) -> anyhow::Result<Pid> {
    let text = fs::read_to_string(file)?;
    let number = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    let pid = number.and_then(Pid::from_raw);
    pid.with_context(|| format!("{} has no process id", file.display()))
}
