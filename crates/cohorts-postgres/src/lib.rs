//! A private Postgres, for a service that is started without a database URL.
//!
//! The programs are found on the machine or fetched. The server is a child process, accepts connections over a Unix
//! socket only, and is shared by all processes with the same data directory. The process that holds the lock file next to
//! the cluster owns the server: it starts and stops it. Other processes join. The system releases the lock when its
//! process ends. So after `kill -9`, the next start adopts a server that still runs, waits for one that is stopping, and
//! removes the lock files of a dead one.
//! This crate reads no environment variables, and sends SQL only to create the database.

#![warn(missing_docs)]

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diesel::pg::PgConnection;
use diesel::prelude::*;
use parking_lot::Mutex;

mod account;
mod binaries;
mod dir;
mod ephemeral;
mod error;
mod home;
mod pid_file;
mod server;
#[cfg(test)]
mod tests;

pub use account::is_root;
use binaries::fetch_binaries;
pub use ephemeral::Ephemeral;
pub use error::PostgresError;

use account::Account;
use binaries::Binaries;
use home::Home;
use pid_file::PidFile;
use server::ServerProcess;

/// The name of the service's database and of the role that owns it.
const NAME: &str = "cohorts";
/// The time limit for a server to accept connections, which includes the crash recovery of a large cluster.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two checks of a file or process.
const PAUSE: Duration = Duration::from_millis(5);
/// The pause between two checks that the server runs.
const WATCH_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two attempts to restart a server.
const MAX_WATCH_PAUSE: Duration = Duration::from_secs(10);

/// The options of a private Postgres.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory, which is created if missing. Only its subdirectory `postgres` is used.
    pub data_dir: PathBuf,
    /// Whether commits survive a power failure. Tests do not need that.
    pub durable: bool,
    /// The directory of `initdb`, `postgres` and `pg_ctl`; `None` searches the usual directories.
    pub pg_bin: Option<PathBuf>,
}

/// A running Postgres, which this process owns or has joined.
///
/// A thread restarts the server if it dies, and takes it over if its owner has ended. Dropping the value stops a server
/// that this process owns.
pub struct Postgres {
    home: Home,
    state: Arc<Mutex<Ownership>>,
    watch: Option<(Sender<()>, JoinHandle<()>)>,
}

/// The server and the lock of an owner; both are `None` if this process has joined.
#[derive(Default)]
struct Ownership {
    // The fields are dropped in this order, so the lock is released after the server has stopped.
    server: Option<ServerProcess>,
    lock: Option<File>,
}

impl Postgres {
    /// Starts the Postgres of the data directory, or joins it if it runs.
    ///
    /// On return, the database `cohorts` exists and accepts connections.
    ///
    /// # Errors
    ///
    /// Fails if no suitable server programs are found, the data directory cannot be used, or the server does not accept
    /// connections within 60 seconds.
    pub fn start(options: &Options) -> Result<Self, PostgresError> {
        let account = Account::choose(&options.data_dir)?;
        let home = Home::prepare(&options.data_dir, &account)?;
        let state = own_or_join(&home, &account, options)?;
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = mpsc::channel();
        let watcher = {
            let (home, options, state) = (home.clone(), options.clone(), Arc::clone(&state));
            move || watch(&stopped, &home, &account, &options, &state)
        };
        let thread = thread::Builder::new().name("watch".to_owned());
        let thread = thread.spawn(watcher);
        let thread = thread.map_err(|cause| home.not_started(&cause.to_string()))?;
        Ok(Self {
            home,
            state,
            watch: Some((stop, thread)),
        })
    }

    /// The libpq URL of the database `cohorts`.
    pub fn url(&self) -> String {
        self.url_for(NAME)
    }

    /// The libpq URL of another database of the cluster.
    pub fn url_for(&self, database: &str) -> String {
        self.home.url(database)
    }

    /// Whether another process owns the server, so the server may stop before this process ends.
    pub fn is_joined(&self) -> bool {
        self.state.lock().server.is_none()
    }

    /// Closes all connections, stops the server and waits for its end. A joined server keeps running.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.watch.take() {
            drop(stop);
            if thread.join().is_err() {
                log::error!("the thread that watches the private Postgres panicked");
            }
        }
    }
}

/// Takes the lock and starts the server, or joins the server of the process that holds the lock.
fn own_or_join(
    home: &Home,
    account: &Account,
    options: &Options,
) -> Result<Ownership, PostgresError> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Some(lock) = take_lock(home)? {
            let server = adopt_or_launch(home, account.clone(), options, deadline)?;
            return Ok(Ownership {
                server: Some(server),
                lock: Some(lock),
            });
        }
        if PgConnection::establish(&home.url(NAME)).is_ok() {
            return Ok(Ownership::default());
        }
        if Instant::now() > deadline {
            return Err(home.not_started(
                "another process holds its lock, and its server accepts no connections",
            ));
        }
        thread::sleep(PAUSE * 4);
    }
}

/// Checks the server until the sender of `stopped` is dropped.
fn watch(
    stopped: &Receiver<()>,
    home: &Home,
    account: &Account,
    options: &Options,
    state: &Mutex<Ownership>,
) {
    let mut pause = WATCH_PAUSE;
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        pause = match restart_if_down(home, account, options, &mut state.lock()) {
            Ok(()) => WATCH_PAUSE,
            Err(cause) => {
                log::error!("the private Postgres is down, will retry: {cause}");
                (pause * 2).min(MAX_WATCH_PAUSE)
            }
        };
    }
}

/// Restarts a server that has died, or takes it over if its owner has ended.
fn restart_if_down(
    home: &Home,
    account: &Account,
    options: &Options,
    state: &mut Ownership,
) -> Result<(), PostgresError> {
    if state.server.as_ref().is_some_and(ServerProcess::is_running) {
        return Ok(());
    }
    if state.lock.is_none() {
        state.lock = take_lock(home)?;
    }
    if state.lock.is_some() {
        state.server = None;
        // The owner may have removed the directory of the socket.
        let home = &Home::prepare(&options.data_dir, account)?;
        let deadline = Instant::now() + START_LIMIT;
        state.server = Some(adopt_or_launch(home, account.clone(), options, deadline)?);
        log::warn!("the private Postgres was restarted");
    }
    Ok(())
}

/// Checks that the machine has server programs, or else fetches them into `into` and sets `options.pg_bin`.
///
/// # Errors
///
/// Fails if the installed programs do not fit or cannot be run, or if none can be fetched.
pub fn ensure_programs(options: &mut Options, into: &Path) -> Result<(), PostgresError> {
    let account = Account::choose(&options.data_dir)?;
    let home = Home::prepare(&options.data_dir, &account)?;
    match Binaries::find(options.pg_bin.as_deref(), &home, &account) {
        Err(PostgresError::NotInstalled) => options.pg_bin = Some(fetch_binaries(into)?),
        Err(cause) => return Err(cause),
        Ok(_) => {}
    }
    Ok(())
}

/// The data directory if none is configured; `None` if the account has no home.
///
/// For root it is under `/var/lib`, because the account under which root runs Postgres cannot enter root's home.
/// Otherwise it is under `xdg_data_home`, or else under `.local/share` of `home`.
pub fn default_data_dir(
    is_root: bool,
    xdg_data_home: Option<&Path>,
    home: Option<&Path>,
) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/cohorts"));
    }
    let data_home = xdg_data_home
        .filter(|path| path.is_absolute())
        .map(Path::to_owned);
    let base = data_home.or_else(|| home.map(|home| home.join(".local/share")))?;
    Some(base.join("cohorts"))
}

/// Takes the lock of the server's owner; `None` if another process holds it.
fn take_lock(home: &Home) -> Result<Option<File>, PostgresError> {
    let file = home.open_lock()?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(PostgresError::DirectoryNotUsable {
            path: home.directory.clone(),
            cause,
        }),
    }
}

/// Adopts a server that outlived its owner, or launches a new one. This process holds the lock.
fn adopt_or_launch(
    home: &Home,
    account: Account,
    options: &Options,
    deadline: Instant,
) -> Result<ServerProcess, PostgresError> {
    let binaries = Binaries::find(options.pg_bin.as_deref(), home, &account)?;
    while let Some(pid_file) = PidFile::read(home) {
        if !pid_file.is_alive(&home.cluster) {
            home.remove_stale_locks();
        } else if pid_file.is_ready && ensure_database(home).is_ok() {
            log::info!("took over the private Postgres of an earlier process");
            return Ok(ServerProcess::adopt(pid_file.pid, home, account, binaries));
        } else if Instant::now() > deadline {
            return Err(home.not_started(&format!(
                "its earlier process {} accepts no connections and does not end",
                pid_file.pid
            )));
        }
        thread::sleep(PAUSE);
    }
    if !home.has_cluster()? {
        binaries.create_cluster(home, &account, options.durable)?;
    }
    let server = ServerProcess::launch(home, account, binaries, options.durable, deadline)?;
    ensure_database(home).map_err(|cause| home.not_started(&cause.to_string()))?;
    Ok(server)
}

/// Creates the service's database if it is missing.
fn ensure_database(home: &Home) -> anyhow::Result<()> {
    let mut conn = PgConnection::establish(&home.url("postgres"))?;
    let rows = diesel::sql_query("select 1 from pg_database where datname = $1")
        .bind::<diesel::sql_types::Text, _>(NAME)
        .execute(&mut conn)?;
    if rows == 0 {
        diesel::sql_query(format!("create database {NAME}")).execute(&mut conn)?;
    }
    Ok(())
}
