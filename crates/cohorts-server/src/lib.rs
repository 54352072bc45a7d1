//! The Cohorts service: the contract's operations on Postgres, and cohorts calculated in the background.
//!
//! [`Server`] is all that the command line and the tests may use.
//! Below it, `handlers` and `calculation` work on `store`, which alone knows SQL, and on the engine, which alone
//! knows what criteria mean. Nothing in a request waits for a calculation.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::{Compat, from_fn};
use actix_web::{App, HttpServer, rt};
use anyhow::{Context, bail};

mod admin;
mod aliases;
mod auth;
mod calculation;
pub mod config;
pub mod demo;
pub mod doctor;
mod error;
mod handlers;
mod http;
pub mod import;
mod ingest;
mod metrics;
pub mod postgres;
mod progress;
mod request_id;
mod retention;
mod store;
mod swagger;
mod throttle;
mod tls;

pub use admin::{Admin, CreatedKey, CreatedProject, KeyGrant, ListedKey, Retention};
pub use config::{Config, Database};
pub use error::Error;
pub use handlers::Origin;
pub use request_id::log_to_stderr;
pub use throttle::RateLimit;

use calculation::{Calculator, Waker, Workers};
use cohorts_api::MemoryBudget;
use handlers::Service;
use ingest::{Intake, Writers};
use metrics::Metrics;
use postgres::Postgres;
use store::Store;
use throttle::Throttle;
use tokio::sync::Semaphore;

/// How long requests under way may take to end at shutdown, in seconds.
const SHUTDOWN_SECONDS: u64 = 20;
/// How long the headers of a request may take to come, and how many connections each thread of the server keeps open.
const HEADERS: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 4_096;

/// Where the data is, opened: what every command needs. Dropping it stops a private Postgres that it started.
pub struct Data {
    store: Store,
    // Dropped after the store, whose connections it serves.
    _postgres: Option<Postgres>,
}

impl Data {
    /// Connects to the database, starting or joining a private one where none is named, and brings its tables up to date.
    pub fn open(database: &Database) -> anyhow::Result<Self> {
        let (url, postgres) = match database {
            Database::Url(url) => (url.clone(), None),
            Database::Private(options) => {
                let postgres = Postgres::start(options)?;
                (postgres.url(), Some(postgres))
            }
        };
        Ok(Self {
            store: Store::open(&url)?,
            _postgres: postgres,
        })
    }

    /// Whether searches find names with typing errors.
    pub fn tells_similar_names(&self) -> bool {
        self.store.similar
    }

    /// What calculates its cohorts.
    fn calculator(&self, metrics: Metrics) -> Calculator {
        Calculator {
            store: self.store.clone(),
            metrics,
            freshness: config::FRESHNESS,
        }
    }

    /// What is done to projects and keys outside of the contract.
    pub fn admin(&self) -> Admin {
        Admin::new(self.store.clone())
    }
}

/// A running service.
pub struct Server {
    data: Data,
    address: SocketAddr,
    speaks_tls: bool,
    calculator: Calculator,
    handle: ServerHandle,
    http: JoinHandle<std::io::Result<()>>,
    workers: Option<Workers>,
    writers: Writers,
}

impl Server {
    /// Opens the data and starts to listen. On return the service answers.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        // A port in use is found out before a database is started.
        let listener = listen(config.listen)?;
        Self::serve(Data::open(&config.database)?, listener, config)
    }

    fn serve(data: Data, listener: TcpListener, config: &Config) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        data.store.views.set_budget(config.view_memory);
        let metrics = Metrics::new(&data.store.statements)?;
        let calculator = Calculator {
            freshness: config.freshness,
            ..data.calculator(metrics.clone())
        };
        let (workers, waker) = match config.calculate {
            false => (None, Waker::default()),
            true => {
                let started = Workers::start(&calculator);
                let (workers, waker) =
                    started.context("the calculating threads cannot be started")?;
                (Some(workers), waker)
            }
        };
        let intake = Intake::default();
        let writers = Writers::start(&data.store, &metrics, intake.clone());
        let writers = writers.context("the threads that commit cannot be started")?;
        let service = Service {
            store: data.store.clone(),
            waker,
            intake,
            budget: MemoryBudget::new(config.intake_memory),
            unpacking: Arc::new(Semaphore::new(handlers::UNPACKING)),
            metrics: metrics.clone(),
            exports: Arc::new(Semaphore::new(handlers::LONG)),
            uploads: Arc::new(Semaphore::new(handlers::LONG)),
            previews: Arc::new(Semaphore::new(handlers::LONG)),
            origin: config.origin.clone(),
            throttle: config.rate_limit.map(Throttle::new),
            slow: config.slow,
        };
        let (handle, http) = start_http(service, listener, config)?;
        Ok(Self {
            data,
            address,
            speaks_tls: config.tls.is_some(),
            calculator,
            handle,
            http,
            workers,
            writers,
        })
    }

    /// Such as `http://127.0.0.1:8000`.
    pub fn url(&self) -> String {
        let scheme = if self.speaks_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Calculates, on this thread, every cohort of the project that waits for it.
    pub fn calculate_now(&self, project: i64) -> Result<(), Error> {
        let only = Some(store::ProjectId(project));
        while calculation::run_once(&self.calculator, only)? {}
        Ok(())
    }

    /// Ends the service: takes no new requests, finishes those under way and the calculation under way.
    pub fn stop(self) -> anyhow::Result<()> {
        rt::System::new().block_on(self.handle.stop(true));
        self.wait()
    }

    /// Waits until the service has ended, by a signal or by `stop`.
    pub fn wait(self) -> anyhow::Result<()> {
        match self.http.join() {
            Ok(ended) => ended.context("the HTTP server failed")?,
            Err(_) => bail!("the HTTP server ended in a panic"),
        }
        self.writers.stop();
        if let Some(workers) = self.workers {
            workers.join();
        }
        Ok(())
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; choose another address with --listen")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Runs the HTTP server on a thread of its own, and waits until it is there to be stopped.
fn start_http(
    service: Service,
    listener: TcpListener,
    config: &Config,
) -> anyhow::Result<(ServerHandle, JoinHandle<std::io::Result<()>>)> {
    let tls = config.tls.as_ref().map(tls::server).transpose()?;
    let (send, receive) = std::sync::mpsc::channel();
    let handle_signals = config.handle_signals;
    let run = move || {
        rt::System::new().block_on(async move {
            let routes = http::routes(&service);
            drop(service);
            let app = move || {
                App::new()
                    .wrap(http::cross_origin())
                    .wrap(from_fn(aliases::resolve))
                    .wrap(Compat::new(from_fn(http::observe)))
                    .configure(routes.clone())
            };
            let mut server = HttpServer::new(app)
                .shutdown_timeout(SHUTDOWN_SECONDS)
                .client_request_timeout(HEADERS)
                .max_connections(CONNECTIONS);
            if !handle_signals {
                server = server.disable_signals();
            }
            let server = match tls {
                None => server.listen(listener)?,
                Some(tls) => server.listen_rustls_0_23(listener, tls)?,
            };
            let server = server.run();
            // Nobody waits any more only if the starting thread is gone.
            let _ = send.send(server.handle());
            server.await
        })
    };
    let thread = thread::Builder::new().name("http".to_owned()).spawn(run)?;
    match receive.recv() {
        Ok(handle) => Ok((handle, thread)),
        Err(_) => match thread.join() {
            Ok(ended) => bail!("the HTTP server did not start: {ended:?}"),
            Err(_) => bail!("the HTTP server ended in a panic"),
        },
    }
}
