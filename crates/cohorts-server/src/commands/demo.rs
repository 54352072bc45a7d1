//! `cohorts demo`: generates a project with sample data and example cohorts, and shows how long each calculation took.
//! While it serves, simulated people send events.
//!
//! A demo project belongs to one size and one day. Running the demo again on that day adds only what was deleted or
//! renamed since, of what the examples of the contract name.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use chrono::{SubsecRound, Utc};
use uuid::Uuid;

use super::console;
use super::output::print;
use super::progress::Progress;
use crate::calculation::Calculator;
use crate::config::{Config, Database};
use crate::ingest::{self, Arrival, Item};
use crate::metrics::Metrics;
use crate::{Data, Offer, Server, auth};
use cohorts_store::cohorts;
use cohorts_store::definition::Definition;
use cohorts_store::keys::{self, Teammate};
use cohorts_store::projects::{self, Project};
use cohorts_store::{CohortId, Conn, JsonText};
use cohorts_store::{history, queue};

mod examples;
mod population;
mod simulation;

use examples::Examples;
use population::{Population, SampleCohort};
use simulation::Simulation;

const SEED: u64 = 7;
/// The most persons that do something while the demo serves.
const SIMULATED_PERSONS: u32 = 100_000;
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

/// The demo's project, its calculated cohorts, and the objects that examples name.
pub(super) struct Demo {
    project: Project,
    results: Vec<CohortResult>,
    examples: Examples,
}

struct CohortResult {
    id: i64,
    name: &'static str,
    kind: &'static str,
    members: i64,
    duration: Duration,
}

/// What the demo does after the table of cohorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It ends.
    End,
    /// It serves until a signal ends the service.
    Serve,
    /// It serves, and simulated people send events.
    ServePeople,
}

/// Loads the sample data, and prints the table of cohorts.
///
/// # Errors
///
/// Fails if the address is in use, or the database cannot be opened.
pub fn run(size: Size, then: Then, config: Config) -> anyhow::Result<()> {
    let config = with_postgres_binaries(config)?;
    if then == Then::End {
        let data = Data::open(&config.database)?;
        return print(load_and_calculate(&data, size)?.to_string());
    }
    let (server, project) = start_in_project(size, &config, print)?;
    let _people = (then == Then::ServePeople)
        .then(|| simulate(&server, &project, size))
        .transpose()?;
    server.wait()
}

/// Lets simulated people send events.
fn simulate(server: &Server, project: &Project, size: Size) -> anyhow::Result<Simulation> {
    // Persons have the properties with which they were loaded, whatever their number.
    let persons = size.persons.min(SIMULATED_PERSONS);
    let now = project.created_at.trunc_subsecs(0);
    let population = Population::new(persons, 0, SEED, now);
    Simulation::start(population, project.id(), SEED, server.group_commit())
}

/// Starts a service, loads the sample data, and shows the address of the console, the table of cohorts and example
/// requests. The page of the service offers the objects of the demo.
///
/// # Errors
///
/// Fails if the address is in use, or the database cannot be opened.
pub fn start(
    size: Size,
    config: &Config,
    show: impl Fn(String) -> anyhow::Result<()>,
) -> anyhow::Result<Server> {
    Ok(start_in_project(size, config, show)?.0)
}

fn start_in_project(
    size: Size,
    config: &Config,
    show: impl Fn(String) -> anyhow::Result<()>,
) -> anyhow::Result<(Server, Project)> {
    let server = Server::start(config)?;
    let demo = load_and_calculate(server.data(), size)?;
    let grant = console::grant(vec![demo.project.id], "demo", EMAIL, "Demo");
    let address = console::address(server.data(), &server.url(), &grant)?;
    show(format!("console  {address}\n"))?;
    show(demo.to_string())?;
    let key = demo.create_key(server.data())?;
    // Other machines may reach another address.
    let is_local = config.listen.ip().is_loopback();
    server.offer(&demo.offer(is_local.then(|| key.clone())));
    show(demo.next_steps(&key, &server.url()))?;
    Ok((server, demo.project))
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
    let owner = keys::teammate(conn, EMAIL, "Demo")?;
    let samples = create_cohorts(conn, &project, &owner, samples)?;
    let examples = Examples::complete(data, &project, &owner)?;
    let results = calculate(data, &project, samples)?;
    Ok(Demo {
        project,
        results,
        examples,
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
    owner: &Teammate,
    samples: Vec<SampleCohort>,
) -> anyhow::Result<Vec<(CohortId, SampleCohort)>> {
    let mut created: Vec<(CohortId, SampleCohort)> = Vec::new();
    for mut sample in samples {
        let id_of = |name: &str| {
            let mut with_name = created.iter().filter(|(_, other)| other.name == name);
            with_name.next().map(|(id, _)| id.0)
        };
        population::resolve(&mut sample.filters, &id_of);
        let id = match cohorts::find_by_name(conn, project.id(), sample.name)? {
            Some(cohort) => cohort.id(),
            None => create_cohort(conn, project, owner, &sample)?,
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
    fn create_key(&self, data: &Data) -> anyhow::Result<String> {
        let grant = console::grant(vec![self.project.id], "demo", EMAIL, "Demo");
        let key = data.admin().create_key(&grant)?;
        Ok(key.key)
    }

    fn first_cohort(&self) -> i64 {
        self.results.first().map_or(1, |result| result.id)
    }

    fn offer(&self, key: Option<String>) -> Offer {
        Offer {
            ids: vec![
                ("CohortId", self.first_cohort()),
                ("StaticCohortId", self.examples.static_cohort),
                ("UploadId", self.examples.upload),
                ("ActionId", self.examples.action),
            ],
            token: self.project.token.clone(),
            key,
        }
    }

    /// The address, the key, and example requests.
    fn next_steps(&self, key: &str, base: &str) -> String {
        let project = self.project.id;
        let cohorts = format!("{base}/api/projects/{project}/cohorts");
        let first = self.first_cohort();
        format!(
            "API      {base}\n\
             docs     {base}/docs/\n\
             key      {key}\n\
             project  {project}\n\n\
             curl -H 'Authorization: Bearer {key}' '{cohorts}/?limit=2'\n\
             curl -H 'Authorization: Bearer {key}' '{cohorts}/{first}/persons/?limit=2'\n\
             curl -H 'Authorization: Bearer {key}' '{cohorts}/{first}/persons.csv?limit=2'\n\
             curl -N -H 'Authorization: Bearer {key}' -H 'Accept: text/event-stream' '{cohorts}/changes/'\n\
             curl -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' '{cohorts}/preview/' \\\n  \
             -d '{{\"filters\": {{\"properties\": {{\"type\": \"AND\", \"values\": [\
             {{\"type\": \"person\", \"key\": \"plan\", \"operator\": \"exact\", \"value\": \"pro\"}}]}}}}, \"sample\": 1}}'\n"
        )
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
