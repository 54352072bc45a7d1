//! Dependencies between crates, and words that only some crates may contain.

use std::collections::BTreeMap;

use super::sources::{Source, exists, names, read, sources};

/// Each package of the workspace, and the packages of the workspace that it may depend on.
const CRATES: [(&str, &[&str]); 10] = [
    ("crates/cohorts-engine", &[]),
    ("crates/cohorts-api", &[]),
    ("crates/cohorts-client", &[]),
    ("crates/cohorts-console", &[]),
    ("crates/cohorts-postgres", &[]),
    ("crates/openapi-actix", &[]),
    (
        "crates/cohorts-store",
        &["cohorts-engine", "cohorts-postgres"],
    ),
    (
        "crates/cohorts-server",
        &[
            "cohorts-api",
            "cohorts-console",
            "cohorts-engine",
            "cohorts-postgres",
            "cohorts-store",
        ],
    ),
    (
        "tests",
        &["cohorts-client", "cohorts-postgres", "cohorts-server"],
    ),
    ("xtask", &[]),
];

/// A word, and the folders that may contain it in code. Unit tests and tests of the crates are exempt.
/// `cohorts-postgres` creates the service's database.
const WORDS: [(&str, &[&str]); 6] = [
    (
        "diesel",
        &["crates/cohorts-store", "crates/cohorts-postgres"],
    ),
    (
        "cohorts_api",
        &[
            "crates/cohorts-api",
            "crates/cohorts-server/src/auth",
            "crates/cohorts-server/src/error",
            "crates/cohorts-server/src/feed",
            "crates/cohorts-server/src/handlers",
            "crates/cohorts-server/src/http",
            "crates/cohorts-server/src/lib",
            "crates/cohorts-server/src/origin",
        ],
    ),
    // Only the change log writes members; `members` reads them.
    (
        "member_chunks",
        &[
            "crates/cohorts-store/src/changes",
            "crates/cohorts-store/src/members",
            "crates/cohorts-store/src/schema",
        ],
    ),
    ("cohorts_client", &["tests"]),
    ("cohorts_server", &["crates/cohorts-server", "tests"]),
    (
        "HttpResponse",
        &[
            "crates/cohorts-api",
            "crates/cohorts-server",
            "crates/openapi-actix",
        ],
    ),
];

/// Modules of the server that must not know the web framework.
const WITHOUT_ACTIX: [&str; 6] = [
    "admin",
    "calculation",
    "commands",
    "index",
    "ingest",
    "upkeep",
];

/// The only files that read the environment.
const ENVIRONMENT: [&str; 1] = ["crates/cohorts-server/src/config.rs"];

/// Names of packages in the dependency tables of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut in_table = false;
    let mut dependencies = Vec::new();
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            in_table = table.trim_end_matches(']').ends_with("dependencies");
        } else if in_table && !line.starts_with('#') && !line.is_empty() {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            dependencies.push(line[..end].to_owned());
        }
    }
    dependencies
}

#[test]
fn crates_depend_only_on_the_allowed_crates() {
    let mut packages: Vec<String> = names("crates")
        .into_iter()
        .map(|name| format!("crates/{name}"))
        .filter(|folder| names(folder).contains(&"Cargo.toml".to_owned()))
        .collect();
    packages.extend(["tests".to_owned(), "xtask".to_owned()]);
    for package in packages {
        let (_, allowed) = CRATES
            .iter()
            .find(|(folder, _)| *folder == package)
            .unwrap_or_else(|| panic!("{package} is not in the table of tests/tidy/crates.rs"));
        for dependency in dependencies(&read(&format!("{package}/Cargo.toml"))) {
            assert!(
                !dependency.starts_with("cohorts-") || allowed.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn words_occur_only_in_the_allowed_folders() {
    let all = ["crates", "tests", "xtask"].map(|folder| sources(folder, "rs"));
    let is_exempt = |source: &&Source| source.is_test() && source.path.starts_with("crates/");
    for source in all.iter().flatten().filter(|source| !is_exempt(source)) {
        let code = source.code_without_tests();
        for (word, folders) in WORDS {
            let is_allowed = folders.iter().any(|folder| {
                let rest = source.path.strip_prefix(folder);
                rest.is_some_and(|rest| rest.starts_with(['/', '.']))
            });
            assert!(
                is_allowed || !code.contains(word),
                "{} must not mention {word}",
                source.path
            );
        }
    }
}

/// No other code writes members, or their changes, so that each change is in the log.
#[test]
fn only_the_change_log_writes_members() {
    // The deletion of a project, and rows of a test.
    const EXEMPT: [&str; 2] = [
        "crates/cohorts-store/src/project_deletion.rs",
        "crates/cohorts-store/src/plans.rs",
    ];
    const LOG: &str = "crates/cohorts-store/src/changes/";
    let is_writer = |path: &str| path.starts_with(LOG) || EXEMPT.contains(&path);
    for source in sources("crates", "rs") {
        if source.is_test() || is_writer(&source.path) {
            continue;
        }
        let without_tests = source.text.split("#[cfg(test)]\nmod tests {").next();
        let words: Vec<&str> = without_tests
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let text = words.join(" ").to_lowercase();
        for table in ["member_chunks", "member_changes", "member_change_slices"] {
            for statement in ["insert into", "update", "delete from", "merge into", "copy"] {
                let statement = format!("{statement} {table}");
                assert!(!text.contains(&statement), "{}: {statement}", source.path);
            }
            for call in ["insert_into", "update", "delete", "copy_from"] {
                let call = format!("{call}({table}");
                assert!(!text.contains(&call), "{}: {call}", source.path);
            }
        }
    }
}

#[test]
fn modules_below_the_handlers_do_not_know_the_web_framework() {
    const SERVER: &str = "crates/cohorts-server/src/";
    for source in sources("crates/cohorts-server/src", "rs") {
        let path = &source.path[SERVER.len()..];
        let module = path.split(['/', '.']).next().unwrap_or_default();
        assert!(
            !WITHOUT_ACTIX.contains(&module) || !source.code().contains("actix"),
            "{} must not mention actix",
            source.path
        );
    }
}

#[test]
fn build_scripts_watch_files_that_exist() {
    let mut watched = 0;
    for name in names("crates") {
        let folder = format!("crates/{name}");
        if !names(&folder).contains(&"build.rs".to_owned()) {
            continue;
        }
        let script = read(&format!("{folder}/build.rs"));
        for rest in script.split("rerun-if-changed=").skip(1) {
            let path = rest.split('"').next().unwrap_or_default();
            // With a missing file, cargo compiles the crate again at each build.
            assert!(
                exists(&format!("{folder}/{path}")),
                "{folder}/build.rs watches {path}, which does not exist"
            );
            watched += 1;
        }
    }
    assert!(watched > 0, "no build script was found");
}

#[test]
fn environment_is_read_only_by_the_configuration() {
    let crates = ["cohorts-server", "cohorts-store", "cohorts-postgres"];
    for source in crates
        .map(|name| sources(&format!("crates/{name}/src"), "rs"))
        .iter()
        .flatten()
    {
        let reads = source.code().contains("env::var") || source.text.contains("env = \"");
        assert!(
            !reads || source.is_test() || ENVIRONMENT.contains(&source.path.as_str()),
            "{} reads the environment",
            source.path
        );
    }
}

#[test]
fn engine_does_no_io_and_reads_no_clock() {
    for source in sources("crates/cohorts-engine/src", "rs") {
        if source.is_test() || source.path.ends_with("/cases.rs") {
            continue;
        }
        let code = source.code_without_tests();
        for word in [
            "std::fs",
            "std::net",
            "std::env",
            "SystemTime",
            "Timestamp::now",
            "Zoned::now",
        ] {
            assert!(!code.contains(word), "{} must not use {word}", source.path);
        }
    }
}

#[test]
fn no_type_of_server_and_store_has_the_name_of_another() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let crates = ["cohorts-server", "cohorts-store", "cohorts-postgres"];
    for source in crates
        .map(|name| sources(&format!("crates/{name}/src"), "rs"))
        .iter()
        .flatten()
    {
        for line in source.code().lines() {
            let is_alias = line.trim_start().starts_with("type ");
            let visible = line.trim_start().strip_prefix("pub").map_or(line, |rest| {
                rest.split_once(' ').map_or(rest, |(_, rest)| rest)
            });
            let name = ["struct ", "enum ", "trait ", "union ", "type "]
                .iter()
                .find_map(|keyword| visible.trim_start().strip_prefix(keyword));
            // An indented `type` belongs to a trait.
            if let Some(name) = name.filter(|_| !(is_alias && line.starts_with(' '))) {
                let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
                let name = name[..end.unwrap_or(name.len())].to_owned();
                places.entry(name).or_default().push(source.path.clone());
            }
        }
    }
    // Each crate has an `Error` and a `Result` of its own, as crates usually do.
    places.retain(|name, paths| paths.len() > 1 && name != "Error" && name != "Result");
    assert!(places.is_empty(), "types defined twice: {places:#?}");
}
