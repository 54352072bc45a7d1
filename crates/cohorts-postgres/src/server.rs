//! The server process. A thread starts it and waits for its end; a signal stops it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::PAUSE;
use super::account::Account;
use super::binaries::Binaries;
use super::error::PostgresError;
use super::home::{Home, PORT};
use super::pid_file::PidFile;

/// The time limit for each of the two signals that stop a server: fast shutdown, then immediate shutdown.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Settings of every server.
const SETTINGS: [&str; 14] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    // Each of the processes that share the server opens up to 40.
    "max_connections=200",
    // Clients classify errors by their messages. The environment may request another language.
    "lc_messages=C",
    "shared_buffers=256MB",
    // After each checkpoint, the first change of a page writes the whole page to the log, so checkpoints are rare. The
    // files of the log take up to this space while much is written, and a start after a crash reads them.
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    // The sender of a statement receives its errors. In the log, they would take unlimited space.
    "log_min_messages=log",
    "log_min_error_statement=panic",
    "log_checkpoints=off",
    "logging_collector=off",
];
/// Settings for tests: commits may be lost in a crash of the machine.
const EPHEMERAL_SETTINGS: [&str; 2] = ["fsync=off", "full_page_writes=off"];

/// A server that this process owns. Dropping it stops it.
pub(super) struct ServerProcess {
    pid: u32,
    /// The thread that waits for the end of the process; `None` if another process launched the server.
    waiter: Option<JoinHandle<()>>,
    /// Whether the end of the process is unexpected.
    is_serving: Arc<AtomicBool>,
    home: Home,
    account: Account,
    binaries: Binaries,
}

impl ServerProcess {
    /// Starts a process and waits until it accepts connections.
    pub(super) fn launch(
        home: &Home,
        account: Account,
        binaries: Binaries,
        durable: bool,
        deadline: Instant,
    ) -> Result<Self, PostgresError> {
        loop {
            let server = Self::spawn(home, &account, &binaries, durable)?;
            if server.became_ready(deadline) {
                server.is_serving.store(true, Ordering::Release);
                return Ok(server);
            }
            let error = home.last_log_error();
            // Processes of a killed server hold its shared memory until they notice its end.
            if !error.contains("still in use") || Instant::now() > deadline {
                return Err(home.not_started(&error));
            }
            thread::sleep(PAUSE * 20);
        }
    }

    /// Takes over a process that outlived its owner.
    pub(super) fn adopt(pid: u32, home: &Home, account: Account, binaries: Binaries) -> Self {
        Self {
            pid,
            waiter: None,
            is_serving: Arc::default(),
            home: home.clone(),
            account,
            binaries,
        }
    }

    fn spawn(
        home: &Home,
        account: &Account,
        binaries: &Binaries,
        durable: bool,
    ) -> Result<Self, PostgresError> {
        let mut command = command(home, account, binaries, durable);
        let unusable = |cause| PostgresError::DirectoryNotUsable {
            path: home.log.clone(),
            cause,
        };
        let log = home.open_new_log()?;
        command
            .stdout(log.try_clone().map_err(unusable)?)
            .stderr(log);
        let is_serving = Arc::<AtomicBool>::default();
        let (report, spawned) = mpsc::channel();
        // The system stops the server when the thread that spawned it ends, so that thread must not end early.
        let waiter = thread::Builder::new().name("postgres".to_owned()).spawn({
            let is_serving = Arc::clone(&is_serving);
            move || match command.spawn() {
                Ok(child) => {
                    // The receiver waits for this message.
                    let _ = report.send(Ok(child.id()));
                    wait_for_end(child, &is_serving);
                }
                Err(cause) => {
                    let _ = report.send(Err(cause));
                }
            }
        });
        let refused = |cause: String| home.not_started(&cause);
        let waiter = waiter.map_err(|cause| refused(cause.to_string()))?;
        let pid = spawned
            .recv()
            .map_err(|cause| refused(cause.to_string()))?
            .map_err(|cause| refused(cause.to_string()))?;
        Ok(Self {
            pid,
            waiter: Some(waiter),
            is_serving,
            home: home.clone(),
            account: account.clone(),
            binaries: binaries.clone(),
        })
    }

    fn became_ready(&self, deadline: Instant) -> bool {
        while self.is_running() && Instant::now() < deadline {
            if PidFile::read(&self.home).is_some_and(|file| file.is_ready && file.pid == self.pid) {
                return true;
            }
            thread::sleep(PAUSE);
        }
        false
    }

    pub(super) fn is_running(&self) -> bool {
        match &self.waiter {
            Some(waiter) => !waiter.is_finished(),
            None => PidFile::read(&self.home)
                .is_some_and(|file| file.pid == self.pid && file.is_alive(&self.home.cluster)),
        }
    }

    /// Sends a signal and waits. Returns whether the process ended within [`STOP_LIMIT`].
    fn stop_with(&self, signal: &str) -> bool {
        // Safe Rust cannot send signals. Every server has this program.
        let output = self
            .account
            .command(self.binaries.program("pg_ctl"))
            .args(["kill", signal, &self.pid.to_string()])
            .current_dir(&self.home.directory)
            .output();
        if !output.is_ok_and(|output| output.status.success()) {
            return !self.is_running();
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while self.is_running() && Instant::now() < deadline {
            thread::sleep(PAUSE / 5);
        }
        !self.is_running()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.is_serving.store(false, Ordering::Release);
        if self.is_running() && !self.stop_with("INT") && !self.stop_with("QUIT") {
            log::error!("the private Postgres (process {}) does not stop", self.pid);
        }
        if !self.home.socket_dir.starts_with(&self.home.directory) {
            // This fails if a server that does not stop still has its socket there.
            let _ = fs::remove_dir(&self.home.socket_dir);
        }
    }
}

fn command(home: &Home, account: &Account, binaries: &Binaries, durable: bool) -> Command {
    let program = binaries.program("postgres");
    let mut command = if can_end_with_parent(account) {
        let mut command = account.command("setpriv");
        command.args(["--pdeathsig", "INT"]).arg(program);
        command
    } else {
        account.command(program)
    };
    command
        .arg("-D")
        .arg(&home.cluster)
        .arg("-k")
        .arg(&home.socket_dir);
    command.args(["-p", &PORT.to_string()]);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    if !durable {
        for setting in EPHEMERAL_SETTINGS {
            command.args(["-c", setting]);
        }
    }
    // An interrupt from the terminal does not reach another process group, so this process stops the server.
    command.current_dir(&home.directory).process_group(0);
    command
}

/// Whether the system has a `setpriv` that ends a process with its parent.
///
/// Without it, a killed owner leaves a running server, which the next start takes over.
fn can_end_with_parent(account: &Account) -> bool {
    let output = cfg!(target_os = "linux").then(|| {
        account
            .command("setpriv")
            .args(["--pdeathsig", "INT", "true"])
            .current_dir("/")
            .output()
    });
    output.is_some_and(|output| output.is_ok_and(|output| output.status.success()))
}

/// Waits for the end of the process, and logs it if the server was in use.
fn wait_for_end(mut child: Child, is_serving: &AtomicBool) {
    let status = child.wait();
    if is_serving.load(Ordering::Acquire) {
        let status = status.map_or_else(|cause| cause.to_string(), |status| status.to_string());
        log::error!("the private Postgres ended unexpectedly ({status})");
    }
}
