//! The command line: its definition, and the call of each command's function in `cohorts_server::commands`.

use std::process::ExitCode;

use clap::{ArgGroup, Args, Parser, Subcommand};
use cohorts_server::commands::{
    console, demo, distribute, doctor, explain, import, keys, projects, purge, serve,
};
use cohorts_server::config::{
    CallersArgs, DatabaseArgs, ListenArgs, LogArgs, SecretArgs, ServiceArgs, WorkArgs,
};
use cohorts_server::{Config, Data, Days, EventRetention, KeyGrant, log_to_stderr};

/// Segments are large and short-lived, so the allocator must return memory to the system; see `DECISIONS.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Self-hosted cohorts service, compatible with PostHog's Cohorts API
#[derive(Parser)]
#[command(name = "cohorts", version)]
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
        secret: SecretArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Start with sample data and example cohorts
    ///
    /// Generates persons and events, calculates example cohorts, prints them in a table, and runs the service. Simulated
    /// people then send a few events per second. The data is kept separate from that of `cohorts serve`.
    Demo {
        /// Number of persons to generate
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        people: u32,
        /// Number of events to generate, besides the sign-ups
        #[arg(long, default_value_t = 200_000)]
        events: u64,
        /// Exit after printing the table
        #[arg(long)]
        once: bool,
        /// Serve without simulated people, so that only your own events change the data
        #[arg(long)]
        quiet: bool,
        #[command(flatten)]
        listen: ListenArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Print an address of the console that signs a browser in
    ///
    /// The address is valid once and for ten minutes. The session has every permission, ends after 12 hours, and is listed by
    /// `cohorts key list`, where it can be revoked. The service must use the same database.
    Console {
        /// Id of the project that the session can access [default: every project]
        #[arg(long, value_name = "ID")]
        project: Option<i64>,
        #[command(flatten)]
        service: ServiceArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Check the database and stored data
    ///
    /// The service may run meanwhile.
    Doctor {
        /// Fix member counts and rebuild damaged segments
        #[arg(long)]
        repair: bool,
        #[command(flatten)]
        secret: SecretArgs,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Explain whether a person is a member of a cohort, and why
    ///
    /// Prints a tree of the criteria with what was found in the data of the person. The service may run meanwhile.
    #[command(group = ArgGroup::new("person").required(true).args(["distinct_id", "person_id"]))]
    Explain {
        /// Id of the project
        #[arg(long, value_name = "ID")]
        project: i64,
        /// Id of the cohort
        #[arg(long, value_name = "ID")]
        cohort: i64,
        /// A distinct id of the person
        #[arg(long)]
        distinct_id: Option<String>,
        /// Id of the person
        #[arg(long, value_name = "UUID")]
        person_id: Option<String>,
        /// Print the JSON of the API
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Distribute the tables of persons and events over the workers of a Citus cluster
    ///
    /// The operator's guide describes the set-up of the cluster. Requests wait or fail while the tables are copied, so stop
    /// the service before. If the command is interrupted, run it again. Run it again after an upgrade that adds tables, which
    /// `cohorts doctor` reports.
    Distribute {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Create, update and delete projects
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Delete cohorts for good that were deleted some time ago
    ///
    /// A deleted cohort can be restored until it is purged. With it go its members, calculations, uploads and entries of
    /// the activity log. Cohorts that remaining cohorts refer to are kept and named. The service may run meanwhile.
    ///
    /// The ids of persons who were deleted before are forgotten too, together with the changes that name them: the change
    /// log then begins after these, and its readers with older positions begin again.
    Purge {
        /// How many days ago a cohort was deleted at least, such as `30d`
        #[arg(long, value_name = "DAYS", default_value = "30d")]
        older_than: Days,
        /// Id of the project [default: every project]
        #[arg(long, value_name = "ID")]
        project: Option<i64>,
        /// Only show what would be deleted
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Import events and persons from NDJSON files
    ///
    /// Each line of a file is one JSON object, in one of these formats, which is recognized line by line: items as in the
    /// `batch` of a capture request; events and persons as PostHog exports them; persons as this service exports them
    /// (`?format=ndjson`); Mixpanel's raw export of events, and its profiles; events of Amplitude's Export API; calls of
    /// Segment (track, identify, page, screen, alias, group). The operator's guide has a table of the fields. Files may be
    /// compressed with gzip or zstd. CSV, Parquet and zip files are refused.
    ///
    /// A line that cannot be read, or without a readable time, is left out and printed with its number (the first 20 of a
    /// file); the other lines are imported, and the exit status is 1. The time of the import never replaces a time.
    ///
    /// The import may be interrupted and repeated: an event counts once, by its uuid, by `$insert_id` or `messageId`, or
    /// by the text of its line. The properties in a line of a person are set again.
    Import {
        /// Id of the project
        #[arg(long)]
        project: i64,
        /// Files with one JSON object per line; `-` is standard input
        #[arg(required = true)]
        files: Vec<String>,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

#[derive(Subcommand)]
enum ProjectCommand {
    /// Create a project, and print its capture token and the next command
    Create {
        /// Name of the project
        #[arg(long)]
        name: String,
        /// Time zone of the project's days, as an IANA name
        #[arg(long, default_value = "UTC")]
        timezone: String,
        /// How many days events are kept, such as `90d`, or `all`
        #[arg(long, default_value = "all")]
        event_retention: EventRetention,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Change how long a project keeps events
    Update {
        /// Id of the project
        id: i64,
        /// How many days events are kept, such as `90d`, or `all`; older events are ignored and deleted
        #[arg(long)]
        event_retention: EventRetention,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Delete a project with all its persons, events and cohorts
    ///
    /// The project becomes unreachable at once: its token and its keys are refused. Then its data is deleted in steps,
    /// while the service may run. If the command is interrupted, run it again to continue.
    Delete {
        /// Id of the project
        id: i64,
        /// Delete without asking for the name of the project
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Create an API key (shown only once), and print a first request
    Create {
        #[command(flatten)]
        grant: GrantArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// List the keys, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Revoke a key immediately
    Revoke {
        /// Id of the key, as in `cohorts key list`
        id: String,
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

#[derive(Args)]
#[command(group = ArgGroup::new("scopes").required(true).args(["scope", "all_scopes"]))]
struct GrantArgs {
    /// Project that the key can access; may be repeated [default: every project]
    #[arg(long, value_name = "ID")]
    project: Vec<i64>,
    /// Label of the key
    #[arg(long, default_value = "")]
    label: String,
    /// E-mail address of the key's owner, who is created if missing
    #[arg(long, default_value = "owner@localhost")]
    email: String,
    /// First name of the key's owner
    #[arg(long, default_value = "")]
    first_name: String,
    /// Permission of the key, such as cohort:read; may be repeated
    #[arg(long, num_args = 1..)]
    scope: Vec<String>,
    /// Give the key every permission
    #[arg(long)]
    all_scopes: bool,
    /// Days until the key expires [default: never]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_in: Option<u32>,
}

impl From<GrantArgs> for KeyGrant {
    fn from(args: GrantArgs) -> Self {
        let scopes = if args.all_scopes {
            vec!["*".to_owned()]
        } else {
            args.scope
        };
        Self {
            projects: args.project,
            scopes,
            label: args.label,
            email: args.email,
            first_name: args.first_name,
            expires_in: args.expires_in,
        }
    }
}

fn main() -> ExitCode {
    let Cli { command, log } = Cli::parse();
    // The output of the demo is its table, so only warnings are logged beside it.
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
            secret,
            database,
        } => {
            let mut config = Config::new(listen.listen, database.database()?);
            callers.apply(&mut config);
            work.apply(&mut config);
            config.webhooks.secret_key = secret.source(&config.database);
            serve::run(&config)
        }
        Command::Demo {
            people: persons,
            events,
            once,
            quiet,
            listen,
            database,
        } => {
            let config = Config::new(listen.listen, database.demo_database()?);
            let then = match (once, quiet) {
                (true, _) => demo::Then::End,
                (false, true) => demo::Then::Serve,
                (false, false) => demo::Then::ServePeople,
            };
            demo::run(demo::Size { persons, events }, then, config)
        }
        Command::Console {
            project,
            service,
            database,
        } => console::run(&open(&database)?, &service.url, project),
        Command::Doctor {
            repair,
            secret,
            database,
        } => {
            let secret_key = secret.source(&database.database()?);
            doctor::run(&open(&database)?, &secret_key, repair)
        }
        Command::Explain {
            project,
            cohort,
            distinct_id,
            person_id,
            json,
            database,
        } => {
            let person = explain::PersonArgument {
                distinct_id,
                person_id,
            };
            explain::run(&open(&database)?, project, cohort, person, json)
        }
        Command::Distribute { database } => distribute::run(&open(&database)?),
        Command::Project(command) => run_project(command),
        Command::Key(command) => run_key(command),
        Command::Purge {
            older_than,
            project,
            dry_run,
            database,
        } => purge::run(&open(&database)?, project, older_than, dry_run),
        Command::Import {
            project,
            files,
            database,
        } => import::run(&open(&database)?, project, &files),
    }
}

fn run_project(command: ProjectCommand) -> anyhow::Result<()> {
    match command {
        ProjectCommand::Create {
            name,
            timezone,
            event_retention,
            json,
            database,
        } => projects::create(&open(&database)?, &name, &timezone, event_retention, json),
        ProjectCommand::Update {
            id,
            event_retention,
            database,
        } => projects::update(&open(&database)?, id, event_retention),
        ProjectCommand::Delete { id, yes, database } => {
            projects::delete(&open(&database)?, id, yes)
        }
    }
}

fn run_key(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create {
            grant,
            json,
            database,
        } => keys::create(&open(&database)?, &grant.into(), json),
        KeyCommand::List { json, database } => keys::list(&open(&database)?, json),
        KeyCommand::Revoke { id, database } => keys::revoke(&open(&database)?, &id),
    }
}

fn open(database: &DatabaseArgs) -> anyhow::Result<Data> {
    Data::open(&database.database()?)
}
