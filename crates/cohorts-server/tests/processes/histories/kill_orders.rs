//! Orders to kill a process when a service reaches a point in its code. `src/kill_points.rs` describes the files.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The points, as the service names them.
pub const POINTS: [&str; 15] = [
    "PassStaged",
    "PassBetweenCommits",
    "PassNumbered",
    "PassPublished",
    "CalculationStaged",
    "CalculationBetweenCommits",
    "CalculationNumbered",
    "CalculationPublished",
    "CaptureWritten",
    "CaptureCommitted",
    "UploadWritten",
    "UploadCommitted",
    "DeletionBetweenCommits",
    "DeletionWritten",
    "DeletionCommitted",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The service that reaches the point.
    Service,
    /// The private Postgres.
    Postgres,
}

#[derive(Clone, Copy, Debug)]
pub struct KillOrder {
    pub point: &'static str,
    pub victim: Victim,
}

/// The folder that services read.
pub struct KillOrders {
    folder: PathBuf,
    /// The file with the process id of Postgres.
    postmaster: PathBuf,
}

impl KillOrders {
    pub fn new(directory: &Path) -> Self {
        let folder = directory.join("kill-points");
        fs::create_dir(&folder).unwrap();
        Self {
            folder,
            postmaster: directory.join("data/postgres/data/postmaster.pid"),
        }
    }

    pub fn folder(&self) -> &str {
        self.folder.to_str().unwrap()
    }

    /// Kills at the next moment at which a service is at the point.
    pub fn place(&self, order: KillOrder) {
        let victim = match order.victim {
            Victim::Service => "service",
            Victim::Postgres => self.postmaster.to_str().unwrap(),
        };
        // A service sees the whole order or none.
        let draft = self.folder.join("draft");
        fs::write(&draft, format!("{} {victim}", order.point)).unwrap();
        fs::rename(draft, self.folder.join("order")).unwrap();
    }

    pub fn is_taken(&self) -> bool {
        !self.folder.join("order").exists()
    }

    /// How often each point was reached, and how often a process was killed there.
    pub fn summary(&self) -> String {
        let (hits, kills) = (self.counts("hits"), self.counts("kills"));
        let mut text = format!("{:<28}{:>10}{:>8}", "point", "reached", "kills");
        for point in POINTS {
            let count = |counts: &BTreeMap<String, usize>| counts.get(point).copied().unwrap_or(0);
            write!(
                text,
                "\n{point:<28}{:>10}{:>8}",
                count(&hits),
                count(&kills)
            )
            .unwrap();
        }
        text
    }

    fn counts(&self, file: &str) -> BTreeMap<String, usize> {
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let mut counts = BTreeMap::new();
        for point in text.lines() {
            assert!(POINTS.contains(&point), "the list lacks {point}");
            *counts.entry(point.to_owned()).or_default() += 1;
        }
        counts
    }
}
