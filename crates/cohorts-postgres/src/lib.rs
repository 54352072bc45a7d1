//! A private Postgres for whoever names no database: found on the machine, started as a child, reached over a
//! Unix socket only, and shared by every command that names the same data directory.
//!
//! Whoever holds the lock file beside the cluster owns its server, starts it and stops it; all others join.
//! The lock dies with its process, so a `kill -9` leaves nothing that the next start cannot put right: it adopts
//! a server that lives on, waits for one that is on its way down, and clears away what a dead one left.
//! Nothing here reads the environment, and SQL is spoken only to create the one database.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diesel::pg::PgConnection;
use diesel::prelude::*;
use parking_lot::Mutex;

mod account;
mod binaries;
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
use server::Server;

/// The database that the service keeps everything in, and the role that owns it.
const NAME: &str = "cohorts";
/// How long a server may take to answer; crash recovery of a large cluster counts too.
const START_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);
/// How often it is looked at whether the server still runs.
const WATCH: Duration = Duration::from_millis(250);
/// How long it waits at most before one that does not start is tried again.
const MOST_WATCH: Duration = Duration::from_secs(10);

/// What a private Postgres is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Made when missing. The cluster lives in its subdirectory `postgres`; nothing else in it is touched.
    pub data_dir: PathBuf,
    /// Whether a commit survives a power failure. Tests do without.
    pub durable: bool,
    /// The directory of `initdb`, `postgres` and `pg_ctl`; none means to look where they are usually installed.
    pub pg_bin: Option<PathBuf>,
}

/// A running Postgres, started by this process or joined, and looked after: one that dies is started again, and one
/// whose owner has gone is taken over. Dropping it stops it, unless it was joined.
pub struct Postgres {
    home: Home,
    state: Arc<Mutex<State>>,
    watch: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What this process answers for; nothing where it has joined.
#[derive(Default)]
struct State {
    // The fields are dropped in this order: the lock is let go when the server is down.
    server: Option<Server>,
    lock: Option<File>,
}

impl Postgres {
    /// Starts the Postgres of the data directory, or joins the one that runs there already.
    /// On return the database `cohorts` exists and takes connections.
    pub fn start(options: &Options) -> Result<Self, PostgresError> {
        let account = Account::choose(&options.data_dir)?;
        let home = Home::prepare(&options.data_dir, &account)?;
        let state = join_or_own(&home, &account, options)?;
        let state = Arc::new(Mutex::new(state));
        let (stop, stopped) = mpsc::channel();
        let watcher = {
            let (home, options, state) = (home.clone(), options.clone(), Arc::clone(&state));
            move || {
                let mut pause = WATCH;
                while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    pause = match look_after(&home, &account, &options, &mut state.lock()) {
                        Ok(()) => WATCH,
                        Err(cause) => {
                            log::error!("the private Postgres is started again later: {cause}");
                            (pause * 2).min(MOST_WATCH)
                        }
                    };
                }
            }
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

    /// Where to connect, as a libpq URL.
    pub fn url(&self) -> String {
        self.url_for(NAME)
    }

    /// Where to connect for another database of the same cluster, as a libpq URL.
    pub fn url_for(&self, database: &str) -> String {
        self.home.url(database)
    }

    /// Whether another process owns the server, so that it may go away before this one does.
    pub fn is_joined(&self) -> bool {
        self.state.lock().server.is_none()
    }

    /// Ends all connections, writes everything to disk and waits for the server to be gone. A joined one is left alone.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.watch.take() {
            drop(stop);
            if thread.join().is_err() {
                log::error!("the thread that watches the private Postgres had ended in a panic");
            }
        }
    }
}

/// Owns the server of the data directory, or joins whoever does.
fn join_or_own(home: &Home, account: &Account, options: &Options) -> Result<State, PostgresError> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Some(lock) = take_lock(home)? {
            let server = own(home, account.clone(), options, deadline)?;
            return Ok(State {
                server: Some(server),
                lock: Some(lock),
            });
        }
        if PgConnection::establish(&home.url(NAME)).is_ok() {
            return Ok(State::default());
        }
        if Instant::now() > deadline {
            return Err(home.not_started("another process holds its lock but got no server ready"));
        }
        thread::sleep(PAUSE * 4);
    }
}

/// Starts a server again that has died, and takes one over whose owner is gone.
fn look_after(
    home: &Home,
    account: &Account,
    options: &Options,
    state: &mut State,
) -> Result<(), PostgresError> {
    if state.server.as_ref().is_some_and(Server::is_running) {
        return Ok(());
    }
    if state.lock.is_none() {
        state.lock = take_lock(home)?;
    }
    if state.lock.is_some() {
        state.server = None;
        // The directory of the socket may have gone with the server.
        let home = &Home::prepare(&options.data_dir, account)?;
        let deadline = Instant::now() + START_LIMIT;
        state.server = Some(own(home, account.clone(), options, deadline)?);
        log::warn!("the private Postgres runs again");
    }
    Ok(())
}

/// Sees to it that there are server programs: where the machine has none, they are fetched into `into`.
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

/// Where the data goes when nobody says: `/var/lib` for root, because the account that root lends to Postgres
/// cannot enter root's home, and the user's own data directory otherwise. `None` where the user has no home.
pub fn default_data_dir(
    root: bool,
    xdg_data_home: Option<&Path>,
    home: Option<&Path>,
) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/cohorts"));
    }
    let given = xdg_data_home
        .filter(|path| path.is_absolute())
        .map(Path::to_owned);
    let base = given.or_else(|| home.map(|home| home.join(".local/share")))?;
    Some(base.join("cohorts"))
}

/// The lock of the server's owner, or `None` while another process holds it.
fn take_lock(home: &Home) -> Result<Option<File>, PostgresError> {
    let path = home.lock_file();
    let unusable = |cause| PostgresError::DirectoryNotUsable {
        path: path.clone(),
        cause,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(unusable(cause)),
    }
}

/// Brings up the server whose lock we hold: one that outlived its owner, or a new one.
fn own(
    home: &Home,
    account: Account,
    options: &Options,
    deadline: Instant,
) -> Result<Server, PostgresError> {
    let binaries = Binaries::find(options.pg_bin.as_deref(), home, &account)?;
    while let Some(left) = PidFile::read(&home.cluster) {
        if !left.is_alive(&home.cluster) {
            home.clear_after_the_dead();
        } else if left.ready && ensure_database(home).is_ok() {
            log::info!("took over the Postgres that an earlier process left running");
            return Ok(Server::adopt(left.pid, home, account, binaries));
        } else if Instant::now() > deadline {
            return Err(home.not_started(&format!(
                "its earlier process {} neither serves nor ends",
                left.pid
            )));
        }
        thread::sleep(PAUSE);
    }
    if !home.cluster.exists() {
        binaries.make_cluster(home, &account, options.durable)?;
    }
    let server = Server::launch(home, account, binaries, options.durable, deadline)?;
    ensure_database(home).map_err(|cause| home.not_started(&cause.to_string()))?;
    Ok(server)
}

fn ensure_database(home: &Home) -> anyhow::Result<()> {
    let mut conn = PgConnection::establish(&home.url("postgres"))?;
    let found = diesel::sql_query("select 1 from pg_database where datname = $1")
        .bind::<diesel::sql_types::Text, _>(NAME)
        .execute(&mut conn)?;
    if found == 0 {
        diesel::sql_query(format!("create database {NAME}")).execute(&mut conn)?;
    }
    Ok(())
}
