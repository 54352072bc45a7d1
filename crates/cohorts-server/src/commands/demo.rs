//! The main job on made-up people: a project, a population, a handful of cohorts, and how long each took.
//!
//! A demo project belongs to one size and one day. Running the demo again on that day adds nothing to it.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use chrono::{SubsecRound, Utc};
use uuid::Uuid;

use super::progress::Progress;
use crate::admin::KeyGrant;
use crate::calculation::Calculator;
use crate::ingest::{self, Arrival, Item};
use crate::metrics::Metrics;
use crate::{Data, auth};
use cohorts_store::cohorts;
use cohorts_store::definition::Definition;
use cohorts_store::keys::{self, Teammate};
use cohorts_store::projects::{self, Project};
use cohorts_store::{Conn, JsonText};
use cohorts_store::{history, queue};

mod population;

use population::{Definition as Wanted, Population};

const SEED: u64 = 7;
/// Items of one commit.
const BATCH: usize = 2_000;
const EMAIL: &str = "demo@example.org";

/// How many people there are, and what they do beside signing up.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub people: u32,
    pub events: u64,
}

/// What the demo has made.
pub struct Demo {
    project: i64,
    rows: Vec<Row>,
}

struct Row {
    id: i64,
    name: &'static str,
    kind: &'static str,
    people: i64,
    took: Duration,
}

/// Makes the population and calculates its cohorts.
pub fn run(data: &Data, size: Size) -> anyhow::Result<Demo> {
    let project = project(data, size)?;
    let wanted = population::cohorts();
    let conn = &mut *data.store.connection()?;
    // Cohorts are made when everybody is there, so where there are some nothing needs loading.
    if cohorts::count(conn, project.id())? < wanted.len() as i64 {
        load(data, &project, size)?;
    }
    let ids = make_cohorts(conn, &project, wanted)?;
    let rows = calculate(data, &project, ids)?;
    Ok(Demo {
        project: project.id,
        rows,
    })
}

fn project(data: &Data, size: Size) -> anyhow::Result<Project> {
    let conn = &mut *data.store.connection()?;
    let day = Utc::now().date_naive();
    let name = format!(
        "Demo of {day}: {} people, {} events",
        size.people, size.events
    );
    match projects::find_by_name(conn, &name)? {
        Some(project) => Ok(project),
        None => Ok(projects::create(conn, &name, "UTC", &auth::new_token())?),
    }
}

/// The population hangs on its seed and on when the project was made, so what is there already counts once.
fn load(data: &Data, project: &Project, size: Size) -> anyhow::Result<()> {
    let now = project.created_at.trunc_subsecs(0);
    let population = Population::new(size.people, size.events, SEED, now);
    let arrival = Arrival {
        now,
        ..Arrival::of_file()
    };
    let mut progress = Progress::new("loading", Some(population.len()));
    let mut batch = Vec::with_capacity(BATCH);
    let mut done = 0;
    for item in population.items() {
        let item = Item::read(&item.to_string(), &arrival, Uuid::now_v7);
        batch.push(
            item.map_err(|refusal| anyhow::anyhow!("a made-up event was refused: {refusal}"))?,
        );
        if batch.len() == BATCH {
            done += BATCH as u64;
            ingest::commit(&data.store, project.id(), &batch)?;
            batch.clear();
            progress.set(
                done,
                format!("{done} of {} people and events", population.len()),
            );
        }
    }
    ingest::commit(&data.store, project.id(), &batch)?;
    Ok(())
}

/// Makes the cohorts that are missing, in order, and asks for the calculation of all.
fn make_cohorts(
    conn: &mut Conn,
    project: &Project,
    wanted: Vec<Wanted>,
) -> anyhow::Result<Vec<(i64, Wanted)>> {
    let owner = keys::teammate(conn, EMAIL, "Demo")?;
    let mut made: Vec<(i64, Wanted)> = Vec::new();
    for mut one in wanted {
        let id_of = |name: &str| {
            made.iter()
                .find(|(_, other)| other.name == name)
                .map(|(id, _)| *id)
        };
        population::resolve(&mut one.filters, &id_of);
        let id = match cohorts::find_by_name(conn, project.id(), one.name)? {
            Some(cohort) => cohort.id(),
            None => make_cohort(conn, project, &owner, &one)?,
        };
        queue::request_calculation(conn, id)?;
        made.push((id.0, one));
    }
    Ok(made)
}

fn make_cohort(
    conn: &mut Conn,
    project: &Project,
    owner: &Teammate,
    wanted: &Wanted,
) -> anyhow::Result<cohorts_store::CohortId> {
    let mut definition = Definition::default();
    definition.name = Some(wanted.name.to_owned());
    definition.set_filters(Some(JsonText::of(&wanted.filters)));
    Ok(cohorts::create(conn, project.id(), owner, &definition)?.id())
}

/// Calculates beside the worker of the service, if there is one, and waits until all is done.
fn calculate(data: &Data, project: &Project, made: Vec<(i64, Wanted)>) -> anyhow::Result<Vec<Row>> {
    let calculator = data.calculator(Metrics::new(&data.store.statements)?);
    while calculator.run_once(Some(project.id()))? {}
    let rows = made
        .into_iter()
        .map(|(id, wanted)| settled(data, &calculator, project, id, wanted));
    rows.collect()
}

fn settled(
    data: &Data,
    calculator: &Calculator,
    project: &Project,
    id: i64,
    wanted: Wanted,
) -> anyhow::Result<Row> {
    let id = cohorts_store::CohortId(id);
    loop {
        let conn = &mut *data.store.connection()?;
        let found = cohorts::find(conn, project.id(), id)?;
        let (cohort, _) = found.context("a cohort of the demo has gone")?;
        if !cohort.is_calculating {
            let took = history::last_duration(conn, id)?;
            let people = cohort.count.zip(took);
            let (people, took) =
                people.with_context(|| format!("`{}` could not be calculated", wanted.name))?;
            return Ok(Row {
                id: id.0,
                name: wanted.name,
                kind: wanted.kind,
                people,
                took: took.to_std()?,
            });
        }
        drop(cohort);
        thread::sleep(Duration::from_millis(20));
        // Whoever had claimed it may be gone.
        calculator.run_once(Some(project.id()))?;
    }
}

impl Demo {
    /// How to go on by hand, with a key made for it.
    pub fn next_steps(&self, data: &Data, base: &str) -> anyhow::Result<String> {
        let key = data.admin().create_key(&KeyGrant {
            projects: vec![self.project],
            scopes: vec![auth::EVERY_SCOPE.to_owned()],
            label: "demo".to_owned(),
            email: EMAIL.to_owned(),
            first_name: "Demo".to_owned(),
            expires_in: None,
        })?;
        let cohorts = format!("{base}/api/projects/{}/cohorts", self.project);
        let key = key.key;
        let first = self.rows.first().map_or(1, |row| row.id);
        Ok(format!(
            "API      {base}\n\
             docs     {base}/docs/\n\
             key      {key}\n\n\
             curl -H 'Authorization: Bearer {key}' '{cohorts}/?limit=2'\n\
             curl -H 'Authorization: Bearer {key}' '{cohorts}/{first}/persons/?limit=2'\n\
             curl -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' '{cohorts}/preview/' \\\n  \
             -d '{{\"filters\": {{\"properties\": {{\"type\": \"AND\", \"values\": [\
             {{\"type\": \"person\", \"key\": \"plan\", \"operator\": \"exact\", \"value\": \"pro\"}}]}}}}, \"sample\": 1}}'\n"
        ))
    }
}

impl fmt::Display for Demo {
    /// The table of cohorts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<36} {:<22} {:>8} {:>13}",
            "cohort", "kind", "people", "milliseconds"
        )?;
        for row in &self.rows {
            let millis = row.took.as_secs_f64() * 1e3;
            writeln!(
                f,
                "{:<36} {:<22} {:>8} {millis:>13.1}",
                row.name, row.kind, row.people
            )?;
        }
        Ok(())
    }
}
