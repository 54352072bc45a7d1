//! A temporary Postgres for tests: one cluster per test binary, in a new directory, with a database per test.
//!
//! Tests keep it in a static, which Rust does not drop. A small shell process therefore stops the server and removes
//! its directory when the test binary ends, even if the binary is killed. Commits do not survive a crash of the
//! server, so the service must never use it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::time::SystemTime;

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::prelude::*;

use super::{Options, Postgres, ensure_programs};

/// A shell script: it waits for the end of its input, stops the server of the data directory `$1`, and removes it.
const CLEAN_UP: &str = r#"
cat >/dev/null
pid_file="$1/postgres/data/postmaster.pid"
kill -INT "$(sed -n 1p "$pid_file")"
tries=0
while [ -e "$pid_file" ] && [ $tries -lt 300 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
rm -rf "$1"
"#;

/// A cluster that is removed when this process ends.
pub struct Ephemeral {
    postgres: Postgres,
    /// Runs until its input ends, which is when this process ends.
    _cleaner: Child,
}

impl Ephemeral {
    /// Starts a cluster in a new temporary directory, with the server programs in `pg_bin`, or else with installed or
    /// fetched ones.
    ///
    /// # Panics
    ///
    /// If Postgres or a shell cannot be started: no test can run without them.
    pub fn start(pg_bin: Option<PathBuf>) -> Self {
        let temporary = std::env::temp_dir();
        let data_dir = temporary.join(unique_name());
        // The cleaner starts before the server, so that a failure leaves no files.
        let cleaner = start_cleaner(&data_dir);
        let mut options = Options {
            data_dir,
            durable: false,
            pg_bin,
        };
        ensure_programs(&mut options, &temporary.join("cohorts-tests-programs"))
            .expect("the server programs of PostgreSQL");
        Self {
            postgres: Postgres::start(&options).expect("a Postgres for tests"),
            _cleaner: cleaner,
        }
    }

    /// The libpq URL of a database.
    pub fn url_for(&self, database: &str) -> String {
        self.postgres.url_for(database)
    }

    /// Creates a database as a copy of `template`, which must have no open connections; `None` creates an empty one.
    ///
    /// # Panics
    ///
    /// If the server refuses the statement.
    pub fn create_database(&self, name: &str, template: Option<&str>) {
        let template = template.unwrap_or("template1");
        self.execute(&format!("create database {name} template {template}"));
    }

    /// Drops a database and closes its connections.
    ///
    /// # Panics
    ///
    /// If the server refuses the statement.
    pub fn drop_database(&self, name: &str) {
        self.execute(&format!("drop database {name} with (force)"));
    }

    fn execute(&self, statement: &str) {
        PgConnection::establish(&self.url_for("postgres"))
            .expect("a connection to the Postgres of the tests")
            .batch_execute(statement)
            .unwrap_or_else(|cause| panic!("{statement}: {cause}"));
    }
}

/// A name that no other cluster has, also if an earlier process had the same id.
fn unique_name() -> String {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = time.map_or(0, |time| time.as_nanos());
    format!("cohorts-tests-{}-{nanos}", process::id())
}

fn start_cleaner(data_dir: &Path) -> Child {
    Command::new("sh")
        .args(["-c", CLEAN_UP, "sh"])
        .arg(data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // An interrupt from the terminal does not reach another process group, so the cleaner outlives the tests.
        .process_group(0)
        .spawn()
        .expect("a shell")
}
