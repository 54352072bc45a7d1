//! Settings from flags and environment variables. No other module reads the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::TimeDelta;
use clap::Args;
use clap::builder::BoolishValueParser;
use ipnet::IpNet;

use cohorts_postgres::Options;

use crate::admin::EventRetention;
use crate::logging::LogFormat;
use crate::origin::Origin;
use crate::peer::PeerSource;
use crate::rate_limit::RateLimit;
use crate::webhooks::{RetryPolicy, SecretKey, SecretKeySource, WebhookSettings};

/// The settings of a service.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub database: Database,
    /// Whether threads calculate in the background. Otherwise only [`Server::calculate_now`] does.
    ///
    /// [`Server::calculate_now`]: crate::Server::calculate_now
    pub calculate: bool,
    /// Whether SIGINT and SIGTERM end the service.
    pub handle_signals: bool,
    /// Whether the service shows the console.
    pub console: bool,
    /// The origin of links in responses.
    pub origin: Origin,
    /// Where the address of a client is found.
    pub peer_source: PeerSource,
    /// The rate limit of each key; `None` for no limit.
    pub rate_limit: Option<RateLimit>,
    /// The memory limit, in bytes, of all requests together: bodies, events until their commit, and responses.
    pub request_memory: usize,
    /// The most wrong keys of one client per minute, and the most unknown tokens before they are looked up one after another.
    pub wrong_keys_per_minute: u32,
    /// The memory limit, in bytes, of the in-memory indexes.
    pub index_memory: u64,
    /// How long a write waits before the members of cohorts are brought up to date.
    pub freshness: TimeDelta,
    /// How long entries of the activity log are kept.
    pub activity_retention: HistoryRetention,
    /// How long calculations are kept in the histories of cohorts.
    pub history_retention: HistoryRetention,
    /// How long changes of members are kept in the change log.
    pub change_retention: HistoryRetention,
    /// The most bytes of the change log; `None` for a tenth of the data.
    pub change_limit: Option<u64>,
    /// The settings of webhooks.
    pub webhooks: WebhookSettings,
    /// Certificate and key for TLS; `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// Slower requests are logged as warnings.
    pub slow: Duration,
    /// The folder with the orders of tests that kill the service; `None` otherwise.
    pub kill_points: Option<PathBuf>,
}

/// The paths of PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate chain, with the certificate of the service first.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// How long rows about the past are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRetention(Option<TimeDelta>);

impl HistoryRetention {
    fn of_days(days: i64) -> Self {
        Self(Some(TimeDelta::days(days)))
    }

    /// The greatest age of a row; `None` for any age.
    pub fn age(self) -> Option<TimeDelta> {
        self.0
    }
}

impl FromStr for HistoryRetention {
    type Err = anyhow::Error;

    /// Parses `90`, `90d` or `all`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let EventRetention(days) = text.parse()?;
        Ok(Self(days.map(|days| TimeDelta::days(days.into()))))
    }
}

/// The default of [`Config::freshness`].
pub const FRESHNESS: TimeDelta = TimeDelta::zero();
/// The default of [`Config::wrong_keys_per_minute`].
const WRONG_KEYS_PER_MINUTE: u32 = 60;
const SLOW: Duration = Duration::from_secs(1);

/// Two batches of the largest size, unpacked, beside bodies and responses.
const REQUEST_MEMORY: usize = 256 << 20;

impl Config {
    /// A service with the default settings: it calculates, ends on signals, trusts no proxy, and has no rate limit.
    pub fn new(listen: SocketAddr, database: Database) -> Self {
        Self {
            webhooks: WebhookSettings {
                send: true,
                allow: Vec::new(),
                secret_key: database.secret_key(),
                retry: RetryPolicy::default(),
            },
            listen,
            database,
            calculate: true,
            handle_signals: true,
            console: true,
            origin: Origin::Request,
            peer_source: PeerSource::Connection,
            rate_limit: None,
            request_memory: REQUEST_MEMORY,
            wrong_keys_per_minute: WRONG_KEYS_PER_MINUTE,
            index_memory: quarter_of_memory(),
            freshness: FRESHNESS,
            activity_retention: HistoryRetention::of_days(730),
            history_retention: HistoryRetention::of_days(90),
            change_retention: HistoryRetention::of_days(90),
            change_limit: None,
            tls: None,
            slow: SLOW,
            kill_points: None,
        }
    }
}

/// A quarter of the memory of the machine, or of the container if its limit is lower.
pub fn quarter_of_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|limits| limits.total_memory);
    limit.unwrap_or(u64::MAX).min(system.total_memory()) / 4
}

/// The Postgres that holds the data.
#[derive(Clone, Debug)]
pub enum Database {
    /// An existing Postgres, as a libpq URL.
    Url(String),
    /// A Postgres that the program starts.
    Private(Options),
}

impl Database {
    /// Where the key that encrypts secrets is, unless the environment has it.
    fn secret_key(&self) -> SecretKeySource {
        match self {
            Self::Url(_) => SecretKeySource::Missing,
            Self::Private(options) => SecretKeySource::File(options.data_dir.join(SECRET_KEY_FILE)),
        }
    }
}

/// The file of the key in the data directory.
const SECRET_KEY_FILE: &str = "secret.key";

/// The flags for the secrets of webhooks.
#[derive(Args, Clone, Debug)]
pub struct SecretArgs {
    /// Key that encrypts the secrets of webhooks: 32 bytes in base64 [default: secret.key in the data directory, created
    /// when needed; with --database-url there is no default]
    #[arg(long, value_name = "KEY", env = "COHORTS_SECRET_KEY", hide_env_values = true, value_parser = SecretKey::parse)]
    secret_key: Option<SecretKey>,
}

impl SecretArgs {
    /// Where the key is.
    pub fn source(&self, database: &Database) -> SecretKeySource {
        let key = self.secret_key.map(SecretKeySource::Key);
        key.unwrap_or_else(|| database.secret_key())
    }
}

/// The flags for the database. Every command has them.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// URL of the Postgres to use [default: a private Postgres]
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Where the private Postgres keeps its data [default: /var/lib/cohorts for root, else ~/.local/share/cohorts;
    /// the demo uses cohorts-demo there]
    #[arg(long, value_name = "DIR", env = "COHORTS_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Directory of the PostgreSQL binaries [default: found automatically]
    #[arg(long, value_name = "DIR", env = "COHORTS_PG_BIN")]
    pg_bin: Option<PathBuf>,
}

impl DatabaseArgs {
    /// The database of all commands but the demo.
    ///
    /// # Errors
    ///
    /// Fails if no database is given, and there is no home directory for a default one.
    pub fn database(&self) -> anyhow::Result<Database> {
        self.database_or(default_data_dir)
    }

    /// The database of the demo. Its default directory is not that of the other commands, so demo data and the data of
    /// `cohorts serve` stay separate.
    ///
    /// # Errors
    ///
    /// Fails if no database is given, and there is no home directory for a default one.
    pub fn demo_database(&self) -> anyhow::Result<Database> {
        self.database_or(|| Some(default_data_dir()?.with_file_name(DEMO_DIRECTORY)))
    }

    fn database_or(
        &self,
        default_data_dir: impl FnOnce() -> Option<PathBuf>,
    ) -> anyhow::Result<Database> {
        if let Some(url) = self.database_url.as_ref().filter(|url| !url.is_empty()) {
            return Ok(Database::Url(url.clone()));
        }
        let data_dir = self
            .data_dir
            .clone()
            .filter(|dir| !dir.as_os_str().is_empty());
        let data_dir = data_dir.or_else(default_data_dir).ok_or_else(|| {
            anyhow::anyhow!(
                "there is no home directory for the data; set a directory with --data-dir"
            )
        })?;
        Ok(Database::Private(Options {
            data_dir,
            durable: true,
            pg_bin: self.pg_bin.clone(),
        }))
    }
}

/// The name of the demo's data directory, beside the default one.
const DEMO_DIRECTORY: &str = "cohorts-demo";

fn default_data_dir() -> Option<PathBuf> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    cohorts_postgres::default_data_dir(
        cohorts_postgres::is_root(),
        path("XDG_DATA_HOME").as_deref(),
        path("HOME").as_deref(),
    )
}

/// The flag for the address.
#[derive(Args, Clone, Debug)]
pub struct ListenArgs {
    /// Address and port to listen on; port 0 selects a free port
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COHORTS_LISTEN",
        default_value = "127.0.0.1:8000"
    )]
    pub listen: SocketAddr,
}

/// The flag of commands that print an address of a running service.
#[derive(Args, Clone, Debug)]
pub struct ServiceArgs {
    /// Base URL of the service, for browsers
    #[arg(
        long,
        value_name = "URL",
        env = "COHORTS_PUBLIC_URL",
        default_value = "http://127.0.0.1:8000"
    )]
    pub url: String,
}

/// The flags for clients: links, limits and the console.
#[derive(Args, Clone, Debug)]
pub struct CallersArgs {
    /// Base URL of links in responses [default: taken from the Host header]
    #[arg(long, value_name = "URL", env = "COHORTS_PUBLIC_URL", value_parser = public_url)]
    public_url: Option<Origin>,
    /// Trust the proxy headers Forwarded and X-Forwarded-*; only behind a proxy that sets them
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
    /// Limit each key to 480 requests per minute and 4,800 per hour
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
    /// Do not serve the console, the web page at `/`
    #[arg(
        long,
        env = "COHORTS_NO_CONSOLE",
        num_args = 0..=1,
        default_value = "off",
        default_missing_value = "on",
        value_name = "on|off",
        hide_possible_values = true,
        value_parser = BoolishValueParser::new(),
    )]
    no_console: bool,
}

/// The flags for resources and TLS.
#[derive(Args, Clone, Debug)]
pub struct WorkArgs {
    /// Cache size in MiB [default: a quarter of RAM]
    #[arg(long, value_name = "MIB", env = "COHORTS_MEMORY")]
    memory: Option<u32>,
    /// How many seconds a change waits before it shows in cohorts
    #[arg(long, value_name = "SECONDS", env = "COHORTS_FRESHNESS", default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=86_400))]
    freshness: u32,
    /// How many days entries of the activity log are kept, such as `730d`, or `all`
    #[arg(
        long,
        value_name = "DAYS",
        env = "COHORTS_ACTIVITY_RETENTION",
        default_value = "730d"
    )]
    activity_retention: HistoryRetention,
    /// How many days calculations are kept in the history of a cohort, such as `90d`, or `all`
    #[arg(
        long,
        value_name = "DAYS",
        env = "COHORTS_HISTORY_RETENTION",
        default_value = "90d"
    )]
    history_retention: HistoryRetention,
    /// How many days changes of members are kept in the change log, such as `90d`, or `all`
    #[arg(
        long,
        value_name = "DAYS",
        env = "COHORTS_CHANGE_RETENTION",
        default_value = "90d"
    )]
    change_retention: HistoryRetention,
    /// The most MiB of the change log [default: a tenth of the data, at least 256]
    #[arg(long, value_name = "MIB", env = "COHORTS_CHANGE_LIMIT")]
    change_limit: Option<u32>,
    /// Network that webhooks may call although it is not public, such as 10.1.0.0/16, also without TLS; may be repeated
    #[arg(
        long,
        value_name = "CIDR",
        env = "COHORTS_WEBHOOK_ALLOW",
        value_delimiter = ','
    )]
    webhook_allow: Vec<IpNet>,
    /// Log requests slower than this many milliseconds as warnings
    #[arg(
        long,
        value_name = "MS",
        env = "COHORTS_SLOW_MS",
        default_value_t = 1_000
    )]
    slow_ms: u64,
    /// Certificate chain for TLS (PEM) [default: plain HTTP]
    #[arg(
        long,
        value_name = "FILE",
        env = "COHORTS_TLS_CERT",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "COHORTS_TLS_KEY",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// For tests: kill the service at points that files in this folder name
    #[arg(long, value_name = "DIR", env = "COHORTS_KILL_POINTS", hide = true)]
    kill_points: Option<PathBuf>,
}

impl WorkArgs {
    pub fn apply(self, config: &mut Config) {
        if let Some(memory) = self.memory {
            config.index_memory = u64::from(memory) << 20;
        }
        config.freshness = TimeDelta::seconds(i64::from(self.freshness));
        config.kill_points = self.kill_points;
        config.activity_retention = self.activity_retention;
        config.history_retention = self.history_retention;
        config.change_retention = self.change_retention;
        config.change_limit = self.change_limit.map(|limit| u64::from(limit) << 20);
        config.webhooks.allow = self.webhook_allow;
        config.slow = Duration::from_millis(self.slow_ms);
        let files = self.tls_cert.zip(self.tls_key);
        config.tls = files.map(|(cert, key)| Tls { cert, key });
    }
}

/// The flag for the log.
#[derive(Args, Clone, Copy, Debug)]
pub struct LogArgs {
    /// Log format
    #[arg(long, value_enum, global = true, env = "COHORTS_LOG_FORMAT", default_value_t = LogFormat::Text,
        display_order = 100)]
    pub log_format: LogFormat,
}

impl CallersArgs {
    pub fn apply(self, config: &mut Config) {
        config.origin = match self.public_url {
            Some(origin) => origin,
            None if self.trust_proxy => Origin::Proxy,
            None => Origin::Request,
        };
        config.peer_source = if self.trust_proxy {
            PeerSource::Proxy
        } else {
            PeerSource::Connection
        };
        config.rate_limit = self.rate_limit.then(RateLimit::default);
        config.console = !self.no_console;
    }
}

fn public_url(text: &str) -> Result<Origin, String> {
    Origin::fixed(text)
        .ok_or_else(|| "expected a URL such as https://cohorts.example.org".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(database_url: Option<&str>, data_dir: Option<&str>) -> DatabaseArgs {
        DatabaseArgs {
            database_url: database_url.map(str::to_owned),
            data_dir: data_dir.map(PathBuf::from),
            pg_bin: None,
        }
    }

    fn data_dir(database: anyhow::Result<Database>) -> PathBuf {
        match database.unwrap() {
            Database::Private(options) => options.data_dir,
            Database::Url(url) => panic!("{url}"),
        }
    }

    #[test]
    fn the_demo_has_its_own_default_data_directory() {
        let args = args(None, None);
        let serve = data_dir(args.database());
        let demo = data_dir(args.demo_database());
        assert!(serve.ends_with("cohorts"), "{serve:?}");
        assert_eq!(demo, serve.with_file_name("cohorts-demo"));
    }

    #[test]
    fn the_demo_uses_a_database_that_is_given() {
        let directory = args(None, Some("/data"));
        assert_eq!(data_dir(directory.demo_database()), PathBuf::from("/data"));
        let url = args(Some("postgresql://localhost/x"), None);
        let database = url.demo_database().unwrap();
        assert!(matches!(database, Database::Url(url) if url == "postgresql://localhost/x"));
    }
}
