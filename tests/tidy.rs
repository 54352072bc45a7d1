//! What must not depend on what.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Rust files at or below a path.
fn sources(path: &str) -> Vec<(String, String)> {
    let full = root().join(path);
    if full.is_file() {
        return vec![(path.to_owned(), read(path))];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&full).unwrap_or_else(|error| panic!("{path}: {error}")) {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("a name");
        let below = format!("{path}/{name}");
        if root().join(&below).is_dir() || name.ends_with(".rs") {
            found.extend(sources(&below));
        }
    }
    found
}

#[test]
fn crates_depend_on_no_more_than_they_may() {
    let forbidden: [(&str, &[&str]); 6] = [
        ("crates/cohorts-engine", &["cohorts-", "diesel", "actix"]),
        (
            "crates/cohorts-api",
            &[
                "cohorts-engine",
                "cohorts-server",
                "cohorts-client",
                "diesel",
            ],
        ),
        (
            "crates/cohorts-client",
            &["cohorts-api", "cohorts-server", "cohorts-engine"],
        ),
        ("crates/cohorts-server", &["cohorts-client"]),
        ("xtask", &["cohorts-"]),
        ("tests", &["cohorts-api", "cohorts-engine", "diesel"]),
    ];
    for (folder, words) in forbidden {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let (_, dependencies) = manifest.split_once("ependencies]").expect("dependencies");
        for word in words {
            let found = dependencies.lines().find(|line| line.starts_with(word));
            assert_eq!(found, None, "{folder} must not depend on {word}");
        }
    }
}

#[test]
fn modules_of_the_server_know_no_more_than_they_may() {
    const SERVER: &str = "crates/cohorts-server/src";
    let forbidden: [(&str, &[&str]); 7] = [
        ("handlers", &["diesel", "sql_query"]),
        ("calculation.rs", &["diesel", "cohorts_api", "actix"]),
        ("ingest.rs", &["diesel", "cohorts_api", "actix"]),
        ("admin.rs", &["diesel", "cohorts_api", "actix"]),
        ("demo.rs", &["diesel", "cohorts_api", "actix"]),
        ("import.rs", &["diesel", "cohorts_api", "actix"]),
        ("store", &["cohorts_api", "HttpResponse", "crate::handlers"]),
    ];
    for (module, words) in forbidden {
        let files = sources(&format!("{SERVER}/{module}"));
        assert!(!files.is_empty(), "{module} is not there");
        for (path, text) in files {
            for word in words {
                assert!(!text.contains(word), "{path} must not know {word}");
            }
        }
    }
}

#[test]
fn the_environment_is_read_in_one_place() {
    for (path, text) in sources("crates/cohorts-server/src") {
        let reads = text.contains("env::var") || text.contains("env = \"");
        let allowed = path.ends_with("/config.rs") || path.ends_with("/postgres/tests.rs");
        assert!(!reads || allowed, "{path} reads the environment");
    }
}

#[test]
fn the_engine_does_no_io_and_reads_no_clock() {
    for (path, text) in sources("crates/cohorts-engine/src") {
        if path.contains("tests") || path.ends_with("/cases.rs") {
            continue;
        }
        for word in [
            "std::fs",
            "std::net",
            "std::env",
            "SystemTime",
            "Timestamp::now",
            "Zoned::now",
        ] {
            assert!(!text.contains(word), "{path} must not use {word}");
        }
    }
}
