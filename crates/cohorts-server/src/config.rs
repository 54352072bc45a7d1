//! What a command is told by its flags and by the environment. Nothing else reads the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use clap::Args;
use clap::builder::BoolishValueParser;

use cohorts_postgres::Options;

use crate::logging::LogFormat;
use crate::origin::Origin;
use crate::rate_limit::RateLimit;

/// Where a service listens and where it keeps its data.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub database: Database,
    /// Whether threads calculate in the background. Without it only `Server::calculate_now` does.
    pub calculate: bool,
    /// Whether SIGINT and SIGTERM end the service.
    pub handle_signals: bool,
    /// What links in answers begin with.
    pub origin: Origin,
    /// How often a key may ask; nothing is no limit.
    pub rate_limit: Option<RateLimit>,
    /// The memory, in bytes, that events may take from when they come until they are kept.
    pub ingest_memory: usize,
    /// The memory, in bytes, that people and events may take which calculations keep at hand.
    pub index_memory: u64,
    /// How long the members of a dynamic cohort are taken to be right.
    pub freshness: TimeDelta,
    /// The certificate and the key by which the service speaks TLS; nothing is plain HTTP.
    pub tls: Option<Tls>,
    /// A request that takes longer is a warning in the log.
    pub slow: Duration,
}

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The chain, that of the service first.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Where nothing else is said.
pub const FRESHNESS: TimeDelta = TimeDelta::seconds(60);
const SLOW: Duration = Duration::from_secs(1);

/// Some twenty of the largest bodies, packed well.
const INGEST_MEMORY: usize = 128 << 20;

impl Config {
    /// A service that calculates, is ended by signals, believes no proxy and limits nobody.
    pub fn new(listen: SocketAddr, database: Database) -> Self {
        Self {
            listen,
            database,
            calculate: true,
            handle_signals: true,
            origin: Origin::Request,
            rate_limit: None,
            ingest_memory: INGEST_MEMORY,
            index_memory: quarter_of_the_machine(),
            freshness: FRESHNESS,
            tls: None,
            slow: SLOW,
        }
    }
}

/// A quarter of the memory that the service may use: the machine's, or its container's where that is less.
fn quarter_of_the_machine() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|limits| limits.total_memory);
    limit.unwrap_or(u64::MAX).min(system.total_memory()) / 4
}

/// Where the data is.
#[derive(Clone, Debug)]
pub enum Database {
    /// A Postgres that somebody else runs, by its libpq URL.
    Url(String),
    /// A Postgres of our own.
    Private(Options),
}

/// The flags that say where the data is; every command has them.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// The Postgres to use, as a URL; without one the program runs a private Postgres
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Where the private Postgres keeps its data [default: /var/lib/cohorts for root, else in the user's data directory]
    #[arg(long, value_name = "DIR", env = "COHORTS_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The directory of the PostgreSQL server's programs, where they are not found by themselves
    #[arg(long, value_name = "DIR", env = "COHORTS_PG_BIN")]
    pg_bin: Option<PathBuf>,
}

impl DatabaseArgs {
    pub fn database(&self) -> anyhow::Result<Database> {
        if let Some(url) = self.database_url.as_ref().filter(|url| !url.is_empty()) {
            return Ok(Database::Url(url.clone()));
        }
        let given = self
            .data_dir
            .clone()
            .filter(|dir| !dir.as_os_str().is_empty());
        let data_dir = given.or_else(default_data_dir).ok_or_else(|| {
            anyhow::anyhow!(
                "there is no home directory to keep data in; name a directory with --data-dir"
            )
        })?;
        Ok(Database::Private(Options {
            data_dir,
            durable: true,
            pg_bin: self.pg_bin.clone(),
        }))
    }
}

fn default_data_dir() -> Option<PathBuf> {
    let directory = |name| std::env::var_os(name).map(PathBuf::from);
    cohorts_postgres::default_data_dir(
        cohorts_postgres::is_root(),
        directory("XDG_DATA_HOME").as_deref(),
        directory("HOME").as_deref(),
    )
}

/// The address that a service listens on.
#[derive(Args, Clone, Debug)]
pub struct ListenArgs {
    /// The address and port to listen on; port 0 takes a free one
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COHORTS_LISTEN",
        default_value = "127.0.0.1:8000"
    )]
    pub listen: SocketAddr,
}

/// How the service appears to its callers.
#[derive(Args, Clone, Debug)]
pub struct CallersArgs {
    /// The address that callers use, with its scheme, for the links in answers
    #[arg(long, value_name = "URL", env = "COHORTS_PUBLIC_URL", value_parser = public_url)]
    public_url: Option<Origin>,
    /// Take that address from the headers Forwarded or X-Forwarded-…; only behind a proxy that sets them
    #[arg(
        long,
        env = "COHORTS_TRUST_PROXY",
        num_args = 0..=1,
        default_value = "off",
        default_missing_value = "on",
        value_name = "on|off",
        hide_possible_values = true,
        value_parser = BoolishValueParser::new(),
    )]
    trust_proxy: bool,
    /// Refuse more than 480 requests a minute or 4,800 an hour with one key
    #[arg(
        long,
        env = "COHORTS_RATE_LIMIT",
        num_args = 0..=1,
        default_value = "off",
        default_missing_value = "on",
        value_name = "on|off",
        hide_possible_values = true,
        value_parser = BoolishValueParser::new(),
    )]
    rate_limit: bool,
}

/// What the service may take of the machine, and how it does its work.
#[derive(Args, Clone, Debug)]
pub struct WorkArgs {
    /// How many MiB people and events may take which calculations keep at hand; a quarter of the machine's memory where
    /// nothing is said
    #[arg(long, value_name = "MIB", env = "COHORTS_MEMORY")]
    memory: Option<u32>,
    /// After about how many seconds a change of the data, or of the time, shows in the members of a cohort
    #[arg(long, value_name = "SECONDS", env = "COHORTS_FRESHNESS", default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    freshness: u32,
    /// Requests that take more milliseconds are warnings in the log
    #[arg(
        long,
        value_name = "MS",
        env = "COHORTS_SLOW_MS",
        default_value_t = 1_000
    )]
    slow_ms: u64,
    /// The certificate for TLS, with those that vouch for it, in PEM; without one the service speaks plain HTTP
    #[arg(
        long,
        value_name = "FILE",
        env = "COHORTS_TLS_CERT",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "COHORTS_TLS_KEY",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
}

impl WorkArgs {
    pub fn apply(self, config: &mut Config) {
        if let Some(memory) = self.memory {
            config.index_memory = u64::from(memory) << 20;
        }
        config.freshness = TimeDelta::seconds(i64::from(self.freshness));
        config.slow = Duration::from_millis(self.slow_ms);
        let files = self.tls_cert.zip(self.tls_key);
        config.tls = files.map(|(cert, key)| Tls { cert, key });
    }
}

/// How the log is written.
#[derive(Args, Clone, Copy, Debug)]
pub struct LogArgs {
    /// The form of the lines of the log
    #[arg(long, value_enum, global = true, env = "COHORTS_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

impl CallersArgs {
    pub fn apply(self, config: &mut Config) {
        config.origin = match self.public_url {
            Some(origin) => origin,
            None if self.trust_proxy => Origin::Proxy,
            None => Origin::Request,
        };
        config.rate_limit = self.rate_limit.then(RateLimit::default);
    }
}

fn public_url(text: &str) -> Result<Origin, String> {
    Origin::fixed(text)
        .ok_or_else(|| "name an address such as https://cohorts.example.org".to_owned())
}
