//! Starts, joins, takes over and stops real servers in temporary directories.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::LazyLock;

use diesel::sql_types::Integer;
use tempfile::TempDir;

use super::*;

mod links;

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = Integer)]
    number: i32,
}

/// The directory of fetched server programs; `None` if the machine has a server.
static PROGRAMS: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let directory = TempDir::new().unwrap();
    let mut options = Options {
        data_dir: directory.path().to_owned(),
        durable: false,
        pg_bin: None,
    };
    let into = std::env::temp_dir().join("cohorts-tests-programs");
    ensure_programs(&mut options, &into).unwrap();
    options.pg_bin
});

/// Options of a cluster that may lose commits in a power failure.
fn ephemeral(data_dir: &Path) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        durable: false,
        pg_bin: PROGRAMS.clone(),
    }
}

fn run(postgres: &Postgres, statement: &str) {
    let mut conn = PgConnection::establish(&postgres.url()).unwrap();
    diesel::sql_query(statement).execute(&mut conn).unwrap();
}

fn stored_number(postgres: &Postgres) -> i32 {
    let mut conn = PgConnection::establish(&postgres.url()).unwrap();
    let row: NumberRow = diesel::sql_query("select number from numbers")
        .get_result(&mut conn)
        .unwrap();
    row.number
}

/// The error of a start that must fail.
fn start_error(options: &Options) -> String {
    match Postgres::start(options) {
        Ok(_) => panic!("it started"),
        Err(cause) => cause.to_string(),
    }
}

#[test]
fn data_survives_a_restart() {
    let directory = TempDir::new().unwrap();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert!(!postgres.is_joined());
    run(&postgres, "create table numbers as select 7 as number");
    postgres.stop();
    assert!(
        !directory
            .path()
            .join("postgres/data/postmaster.pid")
            .exists()
    );

    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert_eq!(stored_number(&postgres), 7);
}

#[test]
fn a_start_recovers_after_the_server_was_killed() {
    let directory = TempDir::new().unwrap();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    run(&postgres, "create table numbers as select 8 as number");
    kill(&postgres);
    drop(postgres);

    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert_eq!(stored_number(&postgres), 8);
}

/// Kills the server with SIGKILL.
fn kill(postgres: &Postgres) {
    let server = PidFile::read(&postgres.home).unwrap().pid;
    let kill = format!("kill -9 {server}");
    let killed = Command::new("sh").args(["-c", &kill]).status();
    assert!(killed.unwrap().success());
}

/// Waits until the server accepts connections again.
fn number_after_restart(postgres: &Postgres) -> i32 {
    let deadline = Instant::now() + START_LIMIT;
    while PgConnection::establish(&postgres.url()).is_err() {
        assert!(Instant::now() < deadline, "the server was not restarted");
        thread::sleep(PAUSE);
    }
    stored_number(postgres)
}

#[test]
fn a_killed_server_is_restarted_by_its_owner_or_a_joined_process() {
    let directory = TempDir::new().unwrap();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    run(&postgres, "create table numbers as select 8 as number");
    for _ in 0..3 {
        kill(&postgres);
        assert_eq!(number_after_restart(&postgres), 8);
    }
    let joined = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert!(joined.is_joined());
    // The joined process takes the server over from its owner.
    postgres.stop();
    assert_eq!(number_after_restart(&joined), 8);
    assert!(!joined.is_joined());
}

#[test]
fn a_second_start_joins_and_stopping_it_keeps_the_server() {
    let directory = TempDir::new().unwrap();
    let owner = Postgres::start(&ephemeral(directory.path())).unwrap();
    let joined = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert!(joined.is_joined());
    assert_eq!(joined.url(), owner.url());
    joined.stop();
    run(&owner, "select 1");
}

#[test]
fn concurrent_starts_share_one_server() {
    let directory = TempDir::new().unwrap();
    let options = ephemeral(directory.path());
    let started: Vec<Postgres> = thread::scope(|scope| {
        let starting: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| Postgres::start(&options)))
            .collect();
        starting
            .into_iter()
            .map(|start| start.join().unwrap().unwrap())
            .collect()
    });
    assert_eq!(
        started
            .iter()
            .filter(|postgres| !postgres.is_joined())
            .count(),
        1
    );
    for postgres in &started {
        run(postgres, "select 1");
    }
}

#[test]
fn a_server_that_outlived_its_owner_is_taken_over() {
    let directory = TempDir::new().unwrap();
    let first = Postgres::start(&ephemeral(directory.path())).unwrap();
    run(&first, "create table numbers as select 9 as number");
    // Closing the file is not enough: a process that another test starts at this moment may have inherited it.
    let lock = first.state.lock().lock.take();
    lock.unwrap().unlock().unwrap();

    let second = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert!(!second.is_joined());
    assert_eq!(stored_number(&second), 9);
    second.stop();
    assert!(PgConnection::establish(&first.url()).is_err());
}

#[test]
fn a_path_that_is_too_long_for_a_socket_works() {
    let directory = TempDir::new().unwrap();
    let deep = directory.path().join("d".repeat(100));
    fs::create_dir(&deep).unwrap();
    let postgres = Postgres::start(&ephemeral(&deep)).unwrap();
    run(&postgres, "select 1");
    let socket_dir = postgres.home.socket_dir.clone();
    assert!(socket_dir.exists());
    postgres.stop();
    assert!(!socket_dir.exists());
}

#[test]
fn an_empty_private_directory_of_root_is_opened_for_traversal() {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    run(&postgres, "select 1");
}

#[test]
fn the_error_names_a_data_directory_that_cannot_be_created() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a-file");
    fs::write(&file, "").unwrap();
    let error = start_error(&ephemeral(&file.join("below")));
    assert!(error.contains("a-file/below: Not a directory"), "{error}");
    assert!(error.contains("--data-dir"), "{error}");
}

#[test]
fn the_error_names_the_directory_that_the_server_account_cannot_enter() {
    if !is_root() {
        eprintln!("skipped: only root runs the server under another account");
        return;
    }
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let error = start_error(&ephemeral(&directory.path().join("below")));
    assert!(
        error.contains(&format!("cannot enter {}:", directory.path().display())),
        "{error}"
    );
}

#[test]
fn the_error_names_missing_programs() {
    let directory = TempDir::new().unwrap();
    let pg_bin = directory.path().join("no-programs");
    let error = start_error(&Options {
        pg_bin: Some(pg_bin),
        ..ephemeral(&directory.path().join("data"))
    });
    assert!(error.contains("no-programs/initdb"), "{error}");
    assert!(error.contains("COHORTS_PG_BIN"), "{error}");
}

#[test]
fn a_cluster_of_another_version_is_refused_with_both_versions() {
    let directory = TempDir::new().unwrap();
    let cluster = directory.path().join("postgres/data");
    fs::create_dir_all(&cluster).unwrap();
    fs::write(cluster.join("PG_VERSION"), "9\n").unwrap();
    let error = start_error(&ephemeral(directory.path()));
    assert!(
        error.contains("was created by PostgreSQL 9, and this machine has version"),
        "{error}"
    );
}

#[test]
fn the_error_without_a_server_names_the_package_to_install() {
    let error = PostgresError::NotInstalled.to_string();
    assert!(error.contains("`apt-get install postgresql`"), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn the_default_data_directory_depends_on_the_account() {
    let home = Some(Path::new("/home/ann"));
    let xdg = Some(Path::new("/data"));
    assert_eq!(
        default_data_dir(true, xdg, home),
        Some(PathBuf::from("/var/lib/cohorts"))
    );
    assert_eq!(
        default_data_dir(false, xdg, home),
        Some(PathBuf::from("/data/cohorts"))
    );
    assert_eq!(
        default_data_dir(false, None, home),
        Some(PathBuf::from("/home/ann/.local/share/cohorts"))
    );
    assert_eq!(default_data_dir(false, None, None), None);
}
