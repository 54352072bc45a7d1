//! The command line: what it is told is checked here, and what it does is done by the library.

use std::io::{self, Write};
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args, Parser, Subcommand};
use cohorts_server::commands::demo::{self, Size};
use cohorts_server::commands::doctor::{self, State};
use cohorts_server::commands::import::import;
use cohorts_server::config::{CallersArgs, DatabaseArgs, ListenArgs, LogArgs, WorkArgs};
use cohorts_server::{
    Config, CreatedProject, Data, Database, KeyGrant, Retention, Server, log_to_stderr, postgres,
};

/// One that gives memory back: blocks are large, and most of them soon gone.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "cohorts",
    version,
    about = "Audiences from people and events, on one Postgres"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service
    Serve {
        #[command(flatten)]
        listen: ListenArgs,
        #[command(flatten)]
        callers: CallersArgs,
        #[command(flatten)]
        work: WorkArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Calculate cohorts of made-up people, show them in a table, and go on serving
    Demo {
        /// How many people to make up
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        people: u32,
        /// How many events to make up, beside the people's sign-ups
        #[arg(long, default_value_t = 200_000)]
        events: u64,
        /// End after the table
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        listen: ListenArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Tell whether the database is fit for the service, and whether what is stored agrees with itself
    Doctor {
        /// Set counts right, and have blocks made anew that are wrong
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Make projects
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Make, list and revoke personal keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Load people and events from NDJSON files, plain or compressed by gzip or zstd
    Import {
        /// The number of the project
        #[arg(long)]
        project: i64,
        /// Files of one item a line, as in the `batch` of a capture request or in PostHog's exports of events and of
        /// people as JSON lines; `-` is standard input
        #[arg(required = true)]
        files: Vec<String>,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

#[derive(Subcommand)]
enum ProjectCommand {
    /// Make a project, and show its token for capture
    Create {
        #[arg(long)]
        name: String,
        /// The zone that the project's days are counted in, by its IANA name
        #[arg(long, default_value = "UTC")]
        timezone: String,
        /// How many days events are kept, such as `90d`, or `all`
        #[arg(long, default_value = "all")]
        event_retention: Retention,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Change how long a project keeps events
    Update {
        /// The number of the project
        id: i64,
        /// How many days events are kept, such as `90d`, or `all`; older ones count no more, and are deleted
        #[arg(long)]
        event_retention: Retention,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key, which is shown this once
    Create {
        #[command(flatten)]
        grant: GrantArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// List keys, without the keys themselves
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Revoke a key at once
    Revoke {
        /// The key's id, as `key list` shows it
        id: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

#[derive(Args)]
#[command(group = ArgGroup::new("scopes").required(true).args(["scope", "all_scopes"]))]
struct GrantArgs {
    /// A project that the key reaches; may be repeated; without one the key reaches every project
    #[arg(long, value_name = "ID")]
    project: Vec<i64>,
    /// What the key is for
    #[arg(long, default_value = "")]
    label: String,
    /// The member of the team for whom the key acts, made on first use
    #[arg(long, default_value = "owner@localhost")]
    email: String,
    /// That member's first name
    #[arg(long, default_value = "")]
    first_name: String,
    /// What the key may do, such as cohort:read; may be repeated
    #[arg(long, num_args = 1..)]
    scope: Vec<String>,
    /// The key may do everything
    #[arg(long)]
    all_scopes: bool,
    /// In how many days the key expires; without it, it does not
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_in: Option<u32>,
}

impl From<GrantArgs> for KeyGrant {
    fn from(args: GrantArgs) -> Self {
        Self {
            projects: args.project,
            scopes: match args.all_scopes {
                true => vec!["*".to_owned()],
                false => args.scope,
            },
            label: args.label,
            email: args.email,
            first_name: args.first_name,
            expires_in: args.expires_in,
        }
    }
}

fn main() -> ExitCode {
    let Cli { command, log } = Cli::parse();
    // The demo is for reading; a service's log tells everything.
    let level = match command {
        Command::Demo { .. } => "warn",
        _ => "info",
    };
    log_to_stderr(level, log.log_format);
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve {
            listen,
            callers,
            work,
            database,
        } => {
            let mut config = config(&listen, &database)?;
            callers.apply(&mut config);
            work.apply(&mut config);
            serve(&config)
        }
        Command::Demo {
            people,
            events,
            once,
            listen,
            database,
        } => run_demo(Size { people, events }, once, &config(&listen, &database)?),
        Command::Doctor { repair, database } => run_doctor(&open(&database)?, repair),
        Command::Project(ProjectCommand::Create {
            name,
            timezone,
            event_retention,
            json,
            database,
        }) => {
            let data = open(&database)?;
            let admin = data.admin();
            let project = admin.create_project_keeping(&name, &timezone, event_retention)?;
            show_project(&project, json)
        }
        Command::Project(ProjectCommand::Update {
            id,
            event_retention,
            database,
        }) => {
            open(&database)?.admin().keep_events(id, event_retention)?;
            let Retention(days) = event_retention;
            let kept = days.map_or("for ever".to_owned(), |days| format!("for {days} days"));
            say(format!("Project {id} keeps events {kept}."))
        }
        Command::Key(command) => run_key(command),
        Command::Import {
            project,
            files,
            database,
        } => run_import(&open(&database)?, project, &files),
    }
}

fn config(listen: &ListenArgs, database: &DatabaseArgs) -> anyhow::Result<Config> {
    Ok(Config::new(listen.listen, database.database()?))
}

fn open(database: &DatabaseArgs) -> anyhow::Result<Data> {
    Data::open(&database.database()?)
}

fn say(text: impl AsRef<str>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.as_ref())?;
    Ok(out.flush()?)
}

fn serve(config: &Config) -> anyhow::Result<()> {
    let server = Server::start(config)?;
    say(format!("Cohorts is ready at {}", server.url()))?;
    server.wait()
}

fn run_demo(size: Size, once: bool, config: &Config) -> anyhow::Result<()> {
    let config = &with_programs(config.clone())?;
    if once {
        let data = Data::open(&config.database)?;
        return say(demo::run(&data, size)?.to_string());
    }
    let server = Server::start(config)?;
    let demo = demo::run(server.data(), size)?;
    say(demo.to_string())?;
    say(demo.next_steps(server.data(), &server.url())?)?;
    server.wait()
}

/// The demo brings PostgreSQL's programs along where the machine has none.
fn with_programs(mut config: Config) -> anyhow::Result<Config> {
    if let Database::Private(options) = &mut config.database {
        let into = options.data_dir.clone();
        postgres::ensure_programs(options, &into)?;
    }
    Ok(config)
}

fn run_doctor(data: &Data, repair: bool) -> anyhow::Result<()> {
    let found = doctor::examine(data, repair)?;
    found.iter().try_for_each(|one| say(one.to_string()))?;
    let wrong = found.iter().filter(|one| one.state == State::Wrong).count();
    anyhow::ensure!(wrong == 0, "{wrong} things are wrong");
    Ok(())
}

fn show_project(project: &CreatedProject, json: bool) -> anyhow::Result<()> {
    if json {
        return say(serde_json::to_string(project)?);
    }
    say(format!(
        "project  {}\nname     {}\nzone     {}\ntoken    {}",
        project.id, project.name, project.timezone, project.token
    ))
}

fn run_key(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create {
            grant,
            json,
            database,
        } => {
            let key = open(&database)?.admin().create_key(&grant.into())?;
            if json {
                return say(serde_json::to_string(&key)?);
            }
            let scopes = key.scopes.join(" ");
            say(format!(
                "id      {}\nkey     {}\nscopes  {scopes}\n\nThe key is not shown again.",
                key.id, key.key
            ))
        }
        KeyCommand::List { json, database } => list_keys(&open(&database)?, json),
        KeyCommand::Revoke { id, database } => {
            open(&database)?.admin().revoke_key(&id)?;
            say(format!("Key {id} is revoked."))
        }
    }
}

fn list_keys(data: &Data, json: bool) -> anyhow::Result<()> {
    let keys = data.admin().list_keys()?;
    if json {
        return say(serde_json::to_string(&keys)?);
    }
    for key in keys {
        let projects = key.projects.map_or("every project".to_owned(), |ids| {
            let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
            format!("projects {}", ids.join(", "))
        });
        let day = |time: DateTime<Utc>| time.format("%Y-%m-%d");
        let state = match (key.revoked_at, key.expires_at) {
            (Some(_), _) => "  revoked".to_owned(),
            (None, Some(time)) if time <= Utc::now() => "  expired".to_owned(),
            (None, Some(time)) => format!("  until {}", day(time)),
            (None, None) => String::new(),
        };
        let used = key.last_used_at;
        let used = used.map_or("never used".to_owned(), |time| {
            format!("used {}", day(time))
        });
        let scopes = key.scopes.join(" ");
        say(format!(
            "{:>4}  {}  {}  {projects}  {scopes}  {used}{state}",
            key.id, key.label, key.email
        ))?;
    }
    Ok(())
}

fn run_import(data: &Data, project: i64, files: &[String]) -> anyhow::Result<()> {
    let imported = import(data, project, files)?;
    say(format!(
        "{} events imported, {} were there already",
        imported.added, imported.known
    ))?;
    if imported.people > 0 {
        say(format!("{} distinct ids of people read", imported.people))?;
    }
    if imported.denied.merges > 0 {
        let merges = imported.denied.merges;
        say(format!(
            "{merges} merges of identified people were not made"
        ))?;
    }
    if imported.denied.properties > 0 {
        let updates = imported.denied.properties;
        say(format!(
            "{updates} changes would have given people too many properties"
        ))?;
    }
    anyhow::ensure!(
        imported.refused == 0,
        "{} lines could not be read and were left out",
        imported.refused
    );
    Ok(())
}
