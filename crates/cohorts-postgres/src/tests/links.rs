//! Links and owners in the data directory: root changes nothing outside of it, and leaves no file of its own in the
//! directory of the account that runs the server.

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

/// A data directory that every account can enter, with an empty subdirectory of Postgres.
fn data_dir() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(directory.path().join("postgres")).unwrap();
    directory
}

fn owner_and_mode(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.mode())
}

/// Whether root runs the tests; says if it does not.
fn runs_as_root() -> bool {
    if !is_root() {
        eprintln!("skipped: only root runs the server under another account");
    }
    is_root()
}

#[test]
fn a_planted_link_stops_the_start_and_its_target_is_unchanged() {
    for name in [
        "postgres",
        "postgres/run",
        "postgres/data",
        "postgres/lock",
        "postgres/postgres.log",
        "postgres/postgres.log.old",
    ] {
        for is_directory in [true, false] {
            let (directory, elsewhere) = (data_dir(), TempDir::new().unwrap());
            let target = elsewhere.path().join("target");
            if is_directory {
                fs::create_dir(&target).unwrap();
            } else {
                fs::write(&target, "text").unwrap();
            }
            fs::set_permissions(&target, Permissions::from_mode(0o755)).unwrap();
            let before = owner_and_mode(&target);
            let link = directory.path().join(name);
            if name == "postgres" {
                fs::remove_dir(&link).unwrap();
            }
            symlink(&target, &link).unwrap();

            let error = start_error(&ephemeral(directory.path()));
            let sentence = format!("{name} is a symbolic link, and the service follows none");
            assert!(error.contains(&sentence), "{error}");
            assert_eq!(owner_and_mode(&target), before, "{name}");
            assert!(is_directory || fs::read_to_string(&target).unwrap() == "text");
        }
    }
}

#[test]
fn a_link_in_the_place_of_an_unfinished_cluster_is_removed_alone() {
    let (directory, elsewhere) = (data_dir(), TempDir::new().unwrap());
    fs::write(elsewhere.path().join("file"), "text").unwrap();
    symlink(elsewhere.path(), directory.path().join("postgres/data.new")).unwrap();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    run(&postgres, "select 1");
    assert!(elsewhere.path().join("file").exists());
}

#[test]
fn no_file_of_root_stays_in_the_directory_of_the_server() {
    if !runs_as_root() {
        return;
    }
    let directory = data_dir();
    let home = directory.path().join("postgres");
    // An earlier version created these as root.
    for name in ["lock", "postgres.log"] {
        fs::write(home.join(name), "").unwrap();
    }
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    postgres.stop();
    let postgres = Postgres::start(&ephemeral(directory.path())).unwrap();
    let mut names = vec![home.clone()];
    names.extend(
        fs::read_dir(&home)
            .unwrap()
            .map(|file| file.unwrap().path()),
    );
    assert!(names.contains(&home.join("postgres.log.old")), "{names:?}");
    for path in names {
        assert_ne!(owner_and_mode(&path).0, 0, "{}", path.display());
    }
    run(&postgres, "select 1");
}

#[test]
fn a_file_of_root_with_a_second_name_is_not_given_away() {
    if !runs_as_root() {
        return;
    }
    let directory = data_dir();
    let secret = directory.path().join("secret");
    fs::write(&secret, "text").unwrap();
    fs::hard_link(&secret, directory.path().join("postgres/lock")).unwrap();
    let error = start_error(&ephemeral(directory.path()));
    assert!(
        error.contains("postgres/lock: it belongs to another account"),
        "{error}"
    );
    assert_eq!(owner_and_mode(&secret).0, 0);
}

#[test]
fn a_pipe_in_the_place_of_a_file_does_not_hold_the_start() {
    let directory = data_dir();
    let pipe = directory.path().join("postgres/lock");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let error = start_error(&ephemeral(directory.path()));
    assert!(error.contains("postgres/lock: "), "{error}");
}

#[test]
fn root_fetches_no_programs_into_a_directory_of_another_account() {
    if !runs_as_root() {
        return;
    }
    let directory = data_dir();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let error = fetch_binaries(directory.path()).unwrap_err().to_string();
    assert!(error.contains("belongs to another account"), "{error}");
}
