use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::LazyLock;

use diesel::sql_types::Integer;
use tempfile::TempDir;

use super::*;

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = Integer)]
    number: i32,
}

/// Where PostgreSQL's programs were fetched to, if the machine has none.
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

/// Options for a cluster that need not survive a power failure.
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
    let stored: Number = diesel::sql_query("select number from kept")
        .get_result(&mut conn)
        .unwrap();
    stored.number
}

fn sentence(options: &Options) -> String {
    match Postgres::start(options) {
        Ok(_) => panic!("it started"),
        Err(cause) => cause.to_string(),
    }
}

#[test]
fn a_warm_start_finds_what_was_stored_before() {
    let directory = TempDir::new().unwrap();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert!(!postgres.is_joined());
    run(&postgres, "create table kept as select 7 as number");
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
fn a_start_after_the_server_was_killed_recovers() {
    let directory = TempDir::new().unwrap();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    run(&postgres, "create table kept as select 8 as number");
    kill(&postgres);
    drop(postgres);

    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert_eq!(stored_number(&postgres), 8);
}

/// Kills the server as a machine that is short of memory does.
fn kill(postgres: &Postgres) {
    let server = PidFile::read(&postgres.home.cluster).unwrap().pid;
    let kill = format!("kill -9 {server}");
    let killed = Command::new("sh").args(["-c", &kill]).status();
    assert!(killed.unwrap().success());
}

/// Waits until the server answers again.
fn again(postgres: &Postgres) -> i32 {
    let deadline = Instant::now() + START_LIMIT;
    while PgConnection::establish(&postgres.url()).is_err() {
        assert!(Instant::now() < deadline, "the server is gone for good");
        thread::sleep(PAUSE);
    }
    stored_number(postgres)
}

#[test]
fn a_server_that_is_killed_is_started_again_by_whoever_uses_it() {
    let directory = TempDir::new().unwrap();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    run(&postgres, "create table kept as select 8 as number");
    for _ in 0..3 {
        kill(&postgres);
        assert_eq!(again(&postgres), 8);
    }
    let joined = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert!(joined.is_joined());
    // Its owner goes, and whoever has joined takes it over.
    postgres.stop();
    assert_eq!(again(&joined), 8);
    assert!(!joined.is_joined());
}

#[test]
fn a_second_start_joins_and_its_end_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let owner = Postgres::start(&ephemeral(directory.path())).unwrap();
    let joined = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert!(joined.is_joined());
    assert_eq!(joined.url(), owner.url());
    joined.stop();
    run(&owner, "select 1");
}

#[test]
fn starts_at_the_same_time_share_one_server() {
    let directory = TempDir::new().unwrap();
    let options = ephemeral(directory.path());
    let started: Vec<Postgres> = thread::scope(|scope| {
        let starting: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| Postgres::start(&options)))
            .collect();
        starting
            .into_iter()
            .map(|one| one.join().unwrap().unwrap())
            .collect()
    });
    assert_eq!(started.iter().filter(|one| !one.is_joined()).count(), 1);
    for one in &started {
        run(one, "select 1");
    }
}

#[test]
fn a_server_that_outlived_its_owner_is_taken_over() {
    let directory = TempDir::new().unwrap();
    let first = Postgres::start(&ephemeral(directory.path())).unwrap();
    run(&first, "create table kept as select 9 as number");
    // A process that another test starts at this moment has the file open too, so closing it would not do.
    let lock = first.state.lock().lock.take();
    lock.unwrap().unlock().unwrap();

    let second = Postgres::start(&ephemeral(directory.path())).unwrap();
    assert!(!second.is_joined());
    assert_eq!(stored_number(&second), 9);
    second.stop();
    assert!(PgConnection::establish(&first.url()).is_err());
}

#[test]
fn a_path_too_long_for_a_socket_is_no_hindrance() {
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
fn an_empty_directory_of_roots_alone_is_opened_as_far_as_needed() {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    run(&postgres, "select 1");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a-file");
    fs::write(&file, "").unwrap();
    let said = sentence(&ephemeral(&file.join("below")));
    assert!(said.contains("a-file/below: Not a directory"), "{said}");
    assert!(said.contains("--data-dir"), "{said}");
}

#[test]
fn root_is_told_which_directory_shuts_the_lent_account_out() {
    if !is_root() {
        eprintln!("skipped: only root lends an account");
        return;
    }
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let said = sentence(&ephemeral(&directory.path().join("below")));
    assert!(
        said.contains(&format!("cannot enter {}:", directory.path().display())),
        "{said}"
    );
}

#[test]
fn programs_that_are_not_where_they_should_be_are_named() {
    let directory = TempDir::new().unwrap();
    let pg_bin = directory.path().join("no-programs");
    let said = sentence(&Options {
        pg_bin: Some(pg_bin),
        ..ephemeral(&directory.path().join("data"))
    });
    assert!(said.contains("no-programs/initdb"), "{said}");
    assert!(said.contains("COHORTS_PG_BIN"), "{said}");
}

#[test]
fn a_cluster_of_another_version_is_refused_and_told_both_versions() {
    let directory = TempDir::new().unwrap();
    let cluster = directory.path().join("postgres/data");
    fs::create_dir_all(&cluster).unwrap();
    fs::write(cluster.join("PG_VERSION"), "9\n").unwrap();
    let said = sentence(&ephemeral(directory.path()));
    assert!(
        said.contains("was made by PostgreSQL 9, and this machine has version"),
        "{said}"
    );
}

#[test]
fn a_machine_without_a_server_is_told_what_to_install() {
    let said = PostgresError::NotInstalled.to_string();
    assert!(said.contains("`apt-get install postgresql`"), "{said}");
    assert!(!said.contains('\n'));
}

#[test]
fn data_goes_where_the_account_may_keep_it() {
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
