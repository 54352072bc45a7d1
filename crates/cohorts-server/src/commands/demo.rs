//! `cohorts demo`: generates a project with sample data and example cohorts, and shows how long each calculation took.
//!
//! A demo project belongs to one size and one day. Running the demo again on that day adds nothing to it.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use chrono::{SubsecRound, Utc};
use uuid::Uuid;

use super::output::print;
use super::progress::Progress;
use crate::admin::KeyGrant;
use crate::calculation::Calculator;
use crate::config::{Config, Database};
use crate::ingest::{self, Arrival, Item};
use crate::metrics::Metrics;
use crate::{Data, Server, auth};
use cohorts_store::cohorts;
use cohorts_store::definition::Definition;
use cohorts_store::keys::{self, Teammate};
use cohorts_store::projects::{self, Project};
use cohorts_store::{CohortId, Conn, JsonText};
use cohorts_store::{history, queue};

mod population;

use population::{Population, SampleCohort};

const SEED: u64 = 7;
/// Items of one commit.
const BATCH_ITEMS: usize = 2_000;
const EMAIL: &str = "demo@example.org";
/// The pause before a calculation of another worker is checked again.
const PAUSE: Duration = Duration::from_millis(20);

/// The amount of sample data.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub persons: u32,
    /// Events besides the sign-ups.
    pub events: u64,
}

/// The demo's project and its calculated cohorts.
pub(super) struct Demo {
    project: i64,
    results: Vec<CohortResult>,
}

struct CohortResult {
    id: i64,
    name: &'static str,
    kind: &'static str,
    members: i64,
    duration: Duration,
}

/// Loads the sample data, prints the table of cohorts, and serves until a signal ends the service. With `once` it ends
/// after the table.
///
/// # Errors
///
/// Fails if the address is in use, or the database cannot be opened.
pub fn run(size: Size, once: bool, config: Config) -> anyhow::Result<()> {
    let config = with_postgres_binaries(config)?;
    if once {
        let data = Data::open(&config.database)?;
        return print(load_and_calculate(&data, size)?.to_string());
    }
    let server = Server::start(&config)?;
    let demo = load_and_calculate(server.data(), size)?;
    print(demo.to_string())?;
    print(demo.next_steps(server.data(), &server.url())?)?;
    server.wait()
}

/// Downloads the binaries of PostgreSQL if the machine has none. Only the demo does this.
fn with_postgres_binaries(mut config: Config) -> anyhow::Result<Config> {
    if let Database::Private(options) = &mut config.database {
        let target = options.data_dir.clone();
        cohorts_postgres::ensure_programs(options, &target)?;
    }
    Ok(config)
}

/// Loads the sample data if it is missing, and calculates the example cohorts.
pub(super) fn load_and_calculate(data: &Data, size: Size) -> anyhow::Result<Demo> {
    let project = find_or_create_project(data, size)?;
    let samples = population::cohorts();
    let conn = &mut *data.store.connection()?;
    // Cohorts are created after all data is loaded, so existing cohorts mean that nothing is missing.
    if cohorts::count(conn, project.id())? < samples.len() as i64 {
        load(data, &project, size)?;
    }
    let samples = create_cohorts(conn, &project, samples)?;
    let results = calculate(data, &project, samples)?;
    Ok(Demo {
        project: project.id,
        results,
    })
}

fn find_or_create_project(data: &Data, size: Size) -> anyhow::Result<Project> {
    let conn = &mut *data.store.connection()?;
    let day = Utc::now().date_naive();
    let name = format!(
        "Demo of {day}: {} persons, {} events",
        size.persons, size.events
    );
    match projects::find_by_name(conn, &name)? {
        Some(project) => Ok(project),
        None => Ok(projects::create(conn, &name, "UTC", &auth::new_token())?),
    }
}

/// Commits the population. It depends only on its seed and the time of the project's creation, so a repetition after an
/// interruption adds only what is missing.
fn load(data: &Data, project: &Project, size: Size) -> anyhow::Result<()> {
    let now = project.created_at.trunc_subsecs(0);
    let population = Population::new(size.persons, size.events, SEED, now);
    let arrival = Arrival {
        now,
        ..Arrival::of_file()
    };
    let total = population.item_count();
    let mut progress = Progress::new("loading", Some(total));
    let mut batch = Vec::with_capacity(BATCH_ITEMS);
    let mut loaded = 0;
    for item in population.items() {
        let item = Item::read(&item.to_string(), &arrival, Uuid::now_v7);
        batch.push(item.map_err(|refusal| anyhow!("a generated event was refused: {refusal}"))?);
        if batch.len() == BATCH_ITEMS {
            loaded += BATCH_ITEMS as u64;
            ingest::commit(&data.store, project.id(), &batch)?;
            batch.clear();
            let message = format!("{loaded} of {total} persons and events");
            progress.set(loaded, message);
        }
    }
    ingest::commit(&data.store, project.id(), &batch)?;
    Ok(())
}

/// Creates the missing cohorts in order, and requests the calculation of all.
fn create_cohorts(
    conn: &mut Conn,
    project: &Project,
    samples: Vec<SampleCohort>,
) -> anyhow::Result<Vec<(CohortId, SampleCohort)>> {
    let owner = keys::teammate(conn, EMAIL, "Demo")?;
    let mut created: Vec<(CohortId, SampleCohort)> = Vec::new();
    for mut sample in samples {
        let id_of = |name: &str| {
            let mut with_name = created.iter().filter(|(_, other)| other.name == name);
            with_name.next().map(|(id, _)| id.0)
        };
        population::resolve(&mut sample.filters, &id_of);
        let id = match cohorts::find_by_name(conn, project.id(), sample.name)? {
            Some(cohort) => cohort.id(),
            None => create_cohort(conn, project, &owner, &sample)?,
        };
        queue::request_calculation(conn, id)?;
        created.push((id, sample));
    }
    Ok(created)
}

fn create_cohort(
    conn: &mut Conn,
    project: &Project,
    owner: &Teammate,
    sample: &SampleCohort,
) -> anyhow::Result<CohortId> {
    let mut definition = Definition::default();
    definition.name = Some(sample.name.to_owned());
    definition.set_filters(Some(JsonText::of(&sample.filters)));
    Ok(cohorts::create(conn, project.id(), owner, &definition)?.id())
}

/// Calculates on this thread, besides the workers of the service, and waits until all cohorts are calculated.
fn calculate(
    data: &Data,
    project: &Project,
    samples: Vec<(CohortId, SampleCohort)>,
) -> anyhow::Result<Vec<CohortResult>> {
    let calculator = data.calculator(Metrics::new(&data.store.statements)?);
    while calculator.run_project(project.id())? {}
    let results = samples
        .into_iter()
        .map(|(id, sample)| wait_for_result(data, &calculator, project, id, sample));
    results.collect()
}

fn wait_for_result(
    data: &Data,
    calculator: &Calculator,
    project: &Project,
    id: CohortId,
    sample: SampleCohort,
) -> anyhow::Result<CohortResult> {
    let SampleCohort { name, kind, .. } = sample;
    loop {
        let conn = &mut *data.store.connection()?;
        let row = cohorts::find(conn, project.id(), id)?;
        let (cohort, _) = row.with_context(|| format!("cohort `{name}` was deleted"))?;
        if !cohort.is_calculating {
            let duration = history::last_duration(conn, id)?;
            let result = cohort.count.zip(duration);
            let (members, duration) =
                result.with_context(|| format!("cohort `{name}` could not be calculated"))?;
            return Ok(CohortResult {
                id: id.0,
                name,
                kind,
                members,
                duration: duration.to_std()?,
            });
        }
        thread::sleep(PAUSE);
        // The worker that claimed the cohort may have died.
        calculator.run_project(project.id())?;
    }
}

impl Demo {
    /// The address, a new key, and example requests.
    fn next_steps(&self, data: &Data, base: &str) -> anyhow::Result<String> {
        let key = data.admin().create_key(&KeyGrant {
            projects: vec![self.project],
            scopes: vec![auth::EVERY_SCOPE.to_owned()],
            label: "demo".to_owned(),
            email: EMAIL.to_owned(),
            first_name: "Demo".to_owned(),
            expires_in: None,
        })?;
        let project = self.project;
        let cohorts = format!("{base}/api/projects/{project}/cohorts");
        let key = key.key;
        let first = self.results.first().map_or(1, |result| result.id);
        Ok(format!(
            "API      {base}\n\
             docs     {base}/docs/\n\
             key      {key}\n\
             project  {project}\n\n\
             curl -H 'Authorization: Bearer {key}' '{cohorts}/?limit=2'\n\
             curl -H 'Authorization: Bearer {key}' '{cohorts}/{first}/persons/?limit=2'\n\
             curl -H 'Authorization: Bearer {key}' '{cohorts}/{first}/persons.csv?limit=2'\n\
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
            "cohort", "kind", "persons", "milliseconds"
        )?;
        for result in &self.results {
            let millis = result.duration.as_secs_f64() * 1e3;
            writeln!(
                f,
                "{:<36} {:<22} {:>8} {millis:>13.1}",
                result.name, result.kind, result.members
            )?;
        }
        Ok(())
    }
}
