//! The Cohorts service: the contract's operations on Postgres, and cohorts calculated in the background.
//!
//! [`Server`], [`Data`] and [`commands`] are all that the command line and the tests may use. Nothing in a request waits
//! for a calculation.
//!
//! Each module may use those below it, and none above: `commands`, this file, `http`, `handlers` and `background`,
//! `upkeep`, `calculation`, `ingest`, `index`, then the crates `cohorts-store` and `cohorts-engine`.

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use actix_web::dev::ServerHandle;
use actix_web::rt;
use anyhow::{Context, bail};

mod admin;
mod auth;
mod background;
mod blocking;
mod calculation;
mod client_socket;
pub mod commands;
pub mod config;
mod error;
mod feed;
mod handlers;
mod http;
mod index;
mod ingest;
mod kill_points;
mod logging;
mod looks;
mod metrics;
mod origin;
mod path_compat;
mod pauses;
mod peer;
mod rate_limit;
mod shares;
mod signals;
mod upkeep;
mod webhooks;

pub use admin::{Admin, CreatedKey, CreatedProject, Days, EventRetention, KeyGrant, ListedKey};
pub use cohorts_postgres as postgres;
pub use config::{Config, Database};
pub use error::Error;
#[cfg(fuzzing)]
pub use handlers::fuzzing;
pub use logging::log_to_stderr;
pub use origin::Origin;
pub use peer::PeerSource;
pub use rate_limit::RateLimit;
pub use webhooks::{RetryPolicy, SecretKey, SecretKeySource, WebhookSettings};

use background::{WorkerSignal, Workers};
use calculation::Calculator;
use cohorts_postgres::Postgres;
use cohorts_store::{Lane, ProjectId, Store};
use feed::ChangeWatch;
use handlers::{KnownPersons, RequestMemory, Service, UploadDisk, WebhookTools, WorkShares};
use http::{Offer, Page};
use index::IndexedStore;
use index::catalogue::{HeadMoves, Rechecked};
use ingest::{GroupCommit, Writers};
use metrics::Metrics;
use rate_limit::{RateLimiter, WrongKeys};
use upkeep::{ChangeLimits, HistoryLimits};
use webhooks::{AddressRules, HttpsClient, Secrets, Sender, SenderParts, TlsRoots};

/// The open database, which every command needs. Dropping it stops a private Postgres that it started.
pub struct Data {
    store: IndexedStore,
    // Dropped after the store, which has connections to it.
    _postgres: Option<Postgres>,
}

impl Data {
    /// Connects to the database and runs the pending migrations. A private Postgres is started, or joined if it runs.
    ///
    /// # Errors
    ///
    /// Fails if no Postgres can be started or reached, or its data belongs to an older or newer program.
    pub fn open(database: &Database) -> anyhow::Result<Self> {
        let (url, postgres) = match database {
            Database::Url(url) => (url.clone(), None),
            Database::Private(options) => {
                let postgres = Postgres::start(options)?;
                (postgres.url(), Some(postgres))
            }
        };
        Ok(Self {
            store: IndexedStore::new(Store::open(&url)?),
            _postgres: postgres,
        })
    }

    /// Whether searches find names with typing errors.
    pub fn tells_similar_names(&self) -> bool {
        self.store.has_trigrams
    }

    /// Calculates cohorts of this database.
    fn calculator(&self, metrics: Metrics) -> Calculator {
        Calculator {
            store: self.store.clone(),
            metrics,
            freshness: config::FRESHNESS,
        }
    }

    /// Changes of projects and keys that are outside of the contract.
    pub fn admin(&self) -> Admin {
        Admin::new(Store::clone(&self.store))
    }
}

/// A running service.
pub struct Server {
    data: Data,
    address: SocketAddr,
    uses_tls: bool,
    calculator: Calculator,
    page: Page,
    changes: ChangeWatch,
    handle: ServerHandle,
    http: JoinHandle<std::io::Result<()>>,
    workers: Option<Workers>,
    writers: Writers,
    sender: Option<Sender>,
}

impl Server {
    /// Opens the data and starts to listen. On return the service answers.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        // A port in use is found out before a database is started.
        let listener = listen(config.listen)?;
        if let Some(folder) = &config.kill_points {
            log::warn!("this service kills itself at kill points, for tests");
            kill_points::follow(folder);
        }
        Self::serve(Data::open(&config.database)?, listener, config)
    }

    fn serve(data: Data, listener: TcpListener, config: &Config) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        data.store.caches.index.set_budget(config.index_memory);
        data.store.caches.members.set_budget(config.index_memory);
        let metrics = Metrics::new(&data.store.statements)?;
        let calculator = Calculator {
            freshness: config.freshness,
            ..data.calculator(metrics.clone())
        };
        let (workers, signal) = if config.calculate {
            let limits = HistoryLimits {
                activities: config.activity_retention.age(),
                calculations: config.history_retention.age(),
                changes: ChangeLimits {
                    age: config.change_retention.age(),
                    bytes: config.change_limit,
                },
            };
            let started = Workers::start(&calculator, limits);
            let (workers, signal) = started.context("the calculation threads cannot be started")?;
            (Some(workers), signal)
        } else {
            (None, WorkerSignal::default())
        };
        let group_commit = GroupCommit::new(config.request_memory / 4);
        let writers = Writers::start(&data.store, &metrics, group_commit.clone());
        let writers = writers.context("the group-commit threads cannot be started")?;
        let changes = ChangeWatch::new(data.store.signals.changes.clone());
        let webhooks = WebhookTools {
            secrets: Secrets::new(config.webhooks.secret_key.clone()),
            client: HttpsClient::new(
                AddressRules::new(config.webhooks.allow.clone()),
                &TlsRoots::System,
            ),
        };
        let sender = start_sender(&data, &webhooks, &metrics, &config.webhooks)?;
        let service = Service {
            webhooks,
            store: data.store.in_lane(Lane::Requests),
            signal,
            changes: changes.clone(),
            group_commit,
            memory: RequestMemory::new(config.request_memory),
            shares: WorkShares::default(),
            upload_disk: UploadDisk::default(),
            metrics: metrics.clone(),
            origin: config.origin.clone(),
            peer_source: config.peer_source,
            rate_limiter: config.rate_limit.map(RateLimiter::new),
            wrong_keys: WrongKeys::new(config.wrong_keys_per_minute),
            tokens: WrongKeys::new(config.wrong_keys_per_minute),
            tokens_in_bodies: WrongKeys::new(config.wrong_keys_per_minute),
            known_persons: KnownPersons::default(),
            with_console: config.console,
            slow: config.slow,
        };
        let page = Page::default();
        let (handle, http) = http::start(service, page.clone(), listener, config)?;
        Ok(Self {
            data,
            address,
            uses_tls: config.tls.is_some(),
            calculator,
            page,
            changes,
            handle,
            http,
            workers,
            writers,
            sender,
        })
    }

    /// Such as `http://127.0.0.1:8000`.
    pub fn url(&self) -> String {
        let scheme = if self.uses_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The queues of captured events.
    fn group_commit(&self) -> GroupCommit {
        self.writers.group_commit()
    }

    /// Lets Swagger UI offer the objects of a demo.
    fn offer(&self, offer: &Offer) {
        self.page.offer(offer);
    }

    /// Calculates, on this thread, every cohort of the project that waits for it.
    pub fn calculate_now(&self, project: i64) -> Result<(), Error> {
        while self.calculator.run_project(ProjectId(project))? {}
        Ok(())
    }

    /// Brings, on this thread, the catalogue of the project up to its log.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn update_catalogue(&self, project: i64) -> Result<(), Error> {
        let (store, project) = (&self.data.store, ProjectId(project));
        let (conn, catalogue) = (&mut *store.connection()?, &store.caches.catalogue);
        while !catalogue.follow(conn, project, HeadMoves::All)?.is_complete {}
        while catalogue.recheck(conn, project)? == Rechecked::Some {}
        Ok(())
    }

    /// Ends the service: takes no new requests, finishes those under way and the calculation under way.
    pub fn stop(self) -> anyhow::Result<()> {
        self.changes.stop();
        rt::System::new().block_on(self.handle.stop(true));
        self.wait()
    }

    /// Waits until the service has ended, by a signal or by `stop`.
    pub fn wait(self) -> anyhow::Result<()> {
        match self.http.join() {
            Ok(ended) => ended.context("the HTTP server failed")?,
            Err(_) => bail!("the HTTP server ended in a panic"),
        }
        if let Some(sender) = self.sender {
            sender.stop();
        }
        self.writers.stop();
        if let Some(workers) = self.workers {
            workers.join();
        }
        Ok(())
    }
}

/// Starts to send the messages of webhooks, if this process sends them.
fn start_sender(
    data: &Data,
    tools: &WebhookTools,
    metrics: &Metrics,
    settings: &WebhookSettings,
) -> anyhow::Result<Option<Sender>> {
    if !settings.send {
        return Ok(None);
    }
    let sender = Sender::start(SenderParts {
        store: Store::clone(&data.store.in_lane(Lane::Background)),
        secrets: tools.secrets.clone(),
        client: tools.client.clone(),
        retry: settings.retry,
        metrics: metrics.clone(),
        changes: data.store.signals.changes.clone(),
        looks: data.store.signals.looks.webhooks.clone(),
    });
    let sender = sender.context("the thread of webhooks cannot be started")?;
    Ok(Some(sender))
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; choose another address with --listen")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
