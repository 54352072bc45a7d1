//! Orders to kill a process when a service reaches a point in its code. `src/kill_points.rs` describes the files.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

/// Of this number of kills at a point, one kills Postgres.
const POSTGRES_EVERY: usize = 4;

/// The points, as the service names them.
pub const POINTS: [&str; 16] = [
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
    "RequestCommitted",
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
    pub fn summary(&self) -> KillSummary {
        let mut points = POINTS.map(|name| (name, KillCounts::default()));
        let mut count = |line: &str, add: &dyn Fn(&mut KillCounts)| {
            let name = line.split(' ').next().unwrap_or_default();
            let point = points.iter_mut().find(|(point, _)| *point == name);
            let (_, counts) = point.unwrap_or_else(|| panic!("the list lacks {name}"));
            add(counts);
        };
        for line in self.lines("hits") {
            count(&line, &|counts| counts.reached += 1);
        }
        for line in self.lines("kills") {
            match line.ends_with(" service") {
                true => count(&line, &|counts| counts.services += 1),
                false => count(&line, &|counts| counts.postgres += 1),
            }
        }
        KillSummary(points)
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// What happened at a point.
#[derive(Clone, Copy, Default)]
struct KillCounts {
    reached: usize,
    services: usize,
    postgres: usize,
}

impl KillCounts {
    fn kills(self) -> usize {
        self.services + self.postgres
    }
}

/// What happened at all points. As text, it is a table.
pub struct KillSummary([(&'static str, KillCounts); POINTS.len()]);

impl KillSummary {
    /// The kills at the point that had the fewest.
    pub fn fewest_kills(&self) -> usize {
        let kills = self.0.iter().map(|(_, counts)| counts.kills());
        kills.min().unwrap_or(0)
    }
}

impl Display for KillSummary {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let heads = ["reached", "service", "Postgres", "kills"];
        let [reached, services, postgres, kills] = heads;
        writeln!(
            f,
            "{:<28}{reached:>10}{services:>10}{postgres:>10}{kills:>8}",
            "point"
        )?;
        for (name, counts) in &self.0 {
            let KillCounts {
                reached,
                services,
                postgres,
            } = counts;
            let kills = counts.kills();
            writeln!(
                f,
                "{name:<28}{reached:>10}{services:>10}{postgres:>10}{kills:>8}"
            )?;
        }
        write!(f, "at least {} kills at each point", self.fewest_kills())
    }
}

/// The place and the victim of the kill of a history. Each point has its turn, and each of its turns another victim.
pub fn turn(history: usize) -> (&'static str, Victim) {
    let (round, nth) = (history / POINTS.len(), history % POINTS.len());
    let victim = match (round + nth) % POSTGRES_EVERY {
        0 => Victim::Postgres,
        _ => Victim::Service,
    };
    (POINTS[nth], victim)
}

#[test]
fn each_point_has_as_many_kills_as_every_other_and_each_victim() {
    let mut kills: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for history in 0..POINTS.len() * POSTGRES_EVERY {
        let (point, victim) = turn(history);
        *kills
            .entry((point, victim == Victim::Postgres))
            .or_default() += 1;
    }
    for point in POINTS {
        assert_eq!(kills[&(point, true)], 1, "{point}");
        assert_eq!(kills[&(point, false)], POSTGRES_EVERY - 1, "{point}");
    }
}
