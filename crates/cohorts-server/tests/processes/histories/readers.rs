//! Readers that follow the feed, each with the members that follow from what it has read.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;

use super::project::LivingProject;

/// A cohort and the uuid of a person.
type Members = BTreeSet<(i64, String)>;

/// The most readers of a history.
const MOST_READERS: usize = 9;
/// How often changing members are compared again.
const COMPARISONS: usize = 20;

#[derive(Clone)]
struct FeedReader {
    /// Where it began.
    begin: String,
    /// The parameters that name the cohorts; empty for all.
    cohorts: String,
    /// The parameter with the place.
    place: String,
    members: Members,
}

pub struct Readers(Vec<FeedReader>);

impl FeedReader {
    fn new(begin: &str, cohorts: String, place: &str) -> Self {
        Self {
            begin: begin.to_owned(),
            cohorts,
            place: place.to_owned(),
            members: Members::new(),
        }
    }

    /// Reads a page. Returns whether more rows are available.
    fn read(&mut self, project: &LivingProject<'_>, limit: usize) -> bool {
        let (cohorts, place) = (&self.cohorts, &self.place);
        let page = project.get(&format!("cohorts/changes/?{place}&limit={limit}{cohorts}"));
        for row in page["results"].as_array().unwrap() {
            let uuid = row["person"]["uuid"].as_str().unwrap().to_owned();
            let member = (row["cohort_id"].as_i64().unwrap(), uuid);
            if row["change"] == "entered" {
                self.members.insert(member);
            } else {
                self.members.remove(&member);
            }
        }
        self.place = format!("cursor={}", page["cursor"].as_str().unwrap());
        page["has_more"] == true
    }

    fn read_all(&mut self, project: &LivingProject<'_>) {
        while self.read(project, 1_000) {}
    }
}

impl Readers {
    /// The first reader begins before the first change, and reads all changes.
    pub fn begin(project: &LivingProject<'_>) -> Self {
        let mut reader = FeedReader::new("now, before all changes", String::new(), "from=now");
        reader.read(project, 1);
        Self(vec![reader])
    }

    /// Adds a reader that begins with the members.
    pub fn name_cohorts(&mut self, project: &LivingProject<'_>) {
        let cohorts = names_of(project);
        self.0.push(FeedReader::new("start", cohorts, "from=start"));
    }

    /// Lets some readers read a page, and adds one that begins now, at the start, or at the cursor of another.
    pub fn read_some(&mut self, project: &LivingProject<'_>, rng: &mut StdRng) {
        for reader in &mut self.0 {
            if rng.random_bool(0.5) {
                reader.read(project, [1, 3, 100][rng.random_range(0..3)]);
            }
        }
        if self.0.len() == MOST_READERS {
            return;
        }
        match rng.random_range(0..4) {
            0 => {
                let copied = rng.random_range(0..self.0.len());
                let mut copy = self.0[copied].clone();
                copy.begin = format!("a cursor of `{}`", copy.begin);
                self.0.push(copy);
            }
            1 => self.name_cohorts(project),
            2 => {
                // Changes between the cursor and the export are read again.
                let mut reader = FeedReader::new("now", names_of(project), "from=now");
                reader.read(project, 1);
                reader.members = exported(project);
                self.0.push(reader);
            }
            _ => {}
        }
    }

    /// All readers end with the members as the export has them.
    pub fn check(mut self, project: &LivingProject<'_>, history: usize) {
        for _ in 0..COMPARISONS {
            let before = exported(project);
            self.0
                .iter_mut()
                .for_each(|reader| reader.read_all(project));
            // Time may change the members meanwhile.
            if exported(project) == before {
                for reader in &self.0 {
                    let named = |member: &&(i64, String)| project.cohorts.contains(&member.0);
                    let members: Members = reader.members.iter().filter(named).cloned().collect();
                    assert_eq!(
                        members, before,
                        "history {history}: the reader from {} has other members",
                        reader.begin
                    );
                }
                return;
            }
        }
        panic!("history {history}: the members do not come to rest");
    }
}

fn names_of(project: &LivingProject<'_>) -> String {
    let names = project.cohorts.iter().map(|id| format!("&cohort_id={id}"));
    names.collect()
}

fn exported(project: &LivingProject<'_>) -> Members {
    let of_cohort = |id: &i64| {
        let page = project.get(&format!("cohorts/{id}/persons/?limit=1000"));
        let persons = page["results"].as_array().unwrap().clone();
        let uuid = |person: Value| person["uuid"].as_str().unwrap().to_owned();
        let id = *id;
        persons.into_iter().map(move |person| (id, uuid(person)))
    };
    project.cohorts.iter().flat_map(of_cohort).collect()
}
