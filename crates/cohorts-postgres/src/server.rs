//! The server process: launched under a thread that lives as long as it does, and stopped by a signal.

use std::fs::{self, File};
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

/// How long a server may take to end in good order, and then to end at once.
const STOP_LIMIT: Duration = Duration::from_secs(30);

const SETTINGS: [&str; 11] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=100",
    "shared_buffers=128MB",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
    // What is wrong with a statement is told to whoever sent it; logged as well, the log would grow without end.
    "log_min_messages=log",
    "log_min_error_statement=panic",
    "log_checkpoints=off",
    "logging_collector=off",
];
const HASTY_SETTINGS: [&str; 2] = ["fsync=off", "full_page_writes=off"];

/// A server that this process answers for. Dropping it stops it.
pub(super) struct Server {
    pid: u32,
    /// Ends when the process does; `None` where another process launched it.
    keeper: Option<JoinHandle<()>>,
    serving: Arc<AtomicBool>,
    home: Home,
    account: Account,
    binaries: Binaries,
}

impl Server {
    /// Starts a process and waits until it takes connections.
    pub(super) fn launch(
        home: &Home,
        account: Account,
        binaries: Binaries,
        durable: bool,
        deadline: Instant,
    ) -> Result<Self, PostgresError> {
        loop {
            keep_old_log(home);
            let server = Self::spawn(home, &account, &binaries, durable)?;
            if server.became_ready(deadline) {
                server.serving.store(true, Ordering::Release);
                return Ok(server);
            }
            let words = home.last_words();
            // Processes of a server that was killed hold its memory until they notice.
            if !words.contains("still in use") || Instant::now() > deadline {
                return Err(home.not_started(&words));
            }
            thread::sleep(PAUSE * 20);
        }
    }

    /// Takes over a process that outlived whoever launched it.
    pub(super) fn adopt(pid: u32, home: &Home, account: Account, binaries: Binaries) -> Self {
        Self {
            pid,
            keeper: None,
            serving: Arc::default(),
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
        let log = File::options()
            .create(true)
            .append(true)
            .open(&home.log)
            .map_err(unusable)?;
        command
            .stdout(log.try_clone().map_err(unusable)?)
            .stderr(log);
        let serving = Arc::<AtomicBool>::default();
        let (report, spawned) = mpsc::channel();
        // The process is told of the end of the thread that spawned it, so that thread must not end early.
        let keeper = thread::Builder::new().name("postgres".to_owned()).spawn({
            let serving = Arc::clone(&serving);
            move || match command.spawn() {
                Ok(child) => {
                    // The receiver waits for exactly this.
                    let _ = report.send(Ok(child.id()));
                    keep(child, &serving);
                }
                Err(cause) => {
                    let _ = report.send(Err(cause));
                }
            }
        });
        let refused = |cause: String| home.not_started(&cause);
        let keeper = keeper.map_err(|cause| refused(cause.to_string()))?;
        let pid = spawned
            .recv()
            .map_err(|cause| refused(cause.to_string()))?
            .map_err(|cause| refused(cause.to_string()))?;
        Ok(Self {
            pid,
            keeper: Some(keeper),
            serving,
            home: home.clone(),
            account: account.clone(),
            binaries: binaries.clone(),
        })
    }

    fn became_ready(&self, deadline: Instant) -> bool {
        while self.is_running() && Instant::now() < deadline {
            if PidFile::read(&self.home.cluster)
                .is_some_and(|file| file.ready && file.pid == self.pid)
            {
                return true;
            }
            thread::sleep(PAUSE);
        }
        false
    }

    pub(super) fn is_running(&self) -> bool {
        match &self.keeper {
            Some(keeper) => !keeper.is_finished(),
            None => PidFile::read(&self.home.cluster)
                .is_some_and(|file| file.pid == self.pid && file.is_alive(&self.home.cluster)),
        }
    }

    /// Sends the signal, and tells whether the process ended of it in time.
    fn end_by(&self, signal: &str) -> bool {
        // Safe Rust cannot send a signal, and this program comes with every server.
        let sent = self
            .account
            .command(self.binaries.program("pg_ctl"))
            .args(["kill", signal, &self.pid.to_string()])
            .current_dir(&self.home.directory)
            .output();
        if !sent.is_ok_and(|sent| sent.status.success()) {
            return !self.is_running();
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while self.is_running() && Instant::now() < deadline {
            thread::sleep(PAUSE / 5);
        }
        !self.is_running()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.store(false, Ordering::Release);
        if self.is_running() && !self.end_by("INT") && !self.end_by("QUIT") {
            log::error!("the private Postgres (process {}) does not end", self.pid);
        }
        if !self.home.socket_dir.starts_with(&self.home.directory) {
            // One that a hanging server still uses is not empty, and stays.
            let _ = fs::remove_dir(&self.home.socket_dir);
        }
    }
}

fn command(home: &Home, account: &Account, binaries: &Binaries, durable: bool) -> Command {
    let program = binaries.program("postgres");
    let mut command = if ends_with_its_parent(account) {
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
        for setting in HASTY_SETTINGS {
            command.args(["-c", setting]);
        }
    }
    // In a group of its own, an interrupt typed at our terminal does not reach it before we are done.
    command.current_dir(&home.directory).process_group(0);
    command
}

/// Whether the system has the program that makes a process end with its parent, in a form that can.
/// Where it has not, a killed owner leaves a running server, which the next start takes over.
fn ends_with_its_parent(account: &Account) -> bool {
    let asked = cfg!(target_os = "linux").then(|| {
        account
            .command("setpriv")
            .args(["--pdeathsig", "INT", "true"])
            .current_dir("/")
            .output()
    });
    asked.is_some_and(|answer| answer.is_ok_and(|answer| answer.status.success()))
}

fn keep(mut child: Child, serving: &AtomicBool) {
    let ended = child.wait();
    if serving.load(Ordering::Acquire) {
        let how = ended.map_or_else(|cause| cause.to_string(), |status| status.to_string());
        log::error!("the private Postgres ended unexpectedly ({how})");
    }
}

/// One earlier log is kept, so that a restart does not hide why it was needed.
fn keep_old_log(home: &Home) {
    let _ = fs::rename(&home.log, home.log.with_extension("log.old"));
}
