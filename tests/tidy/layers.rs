//! The layers of the server. A module may use modules of lower layers, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{Source, sources};

const SERVER: &str = "crates/cohorts-server/src/";

/// The modules of the server by layer, from top to bottom. Modules of one layer do not use each other.
const LAYERS: [&[&str]; 14] = [
    &["main"],
    &["commands"],
    &["lib"],
    &["http"],
    &["handlers"],
    &["background"],
    &["upkeep", "config"],
    &["admin", "path_compat", "rate_limit", "webhooks"],
    &["auth", "feed"],
    &["blocking"],
    &["error"],
    &["calculation"],
    &["ingest"],
    &["index"],
];

/// The lowest layer. Its modules may use each other, but not in a cycle.
const FOUNDATION: [&str; 10] = [
    "client_socket",
    "kill_points",
    "logging",
    "looks",
    "metrics",
    "origin",
    "pauses",
    "peer",
    "shares",
    "signals",
];

/// The number of the module's layer, counted from the top.
fn layer(module: &str) -> usize {
    let place = LAYERS.iter().position(|layer| layer.contains(&module));
    let lowest = FOUNDATION.contains(&module).then_some(LAYERS.len());
    place.or(lowest).unwrap_or_else(|| {
        panic!("the module {module} of the server has no layer in tests/tidy/layers.rs")
    })
}

/// Whether the code of one module may use another module.
fn may_use(user: &str, used: &str) -> bool {
    let lowest = LAYERS.len();
    match (layer(user), layer(used)) {
        (from, to) if from == lowest && to == lowest => true,
        (from, to) => from < to,
    }
}

/// The modules from the root of the crate to a file; empty for `lib.rs` and `main.rs`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_prefix(SERVER).unwrap_or(path);
    let path = path.trim_end_matches(".rs");
    match path {
        "lib" | "main" => Vec::new(),
        _ => path.split('/').map(str::to_owned).collect(),
    }
}

/// The name of the file's first-level module, such as `handlers`, `lib` or `main`.
fn name_of(path: &str) -> &str {
    let path = path.strip_prefix(SERVER).unwrap_or(path);
    path.split(['/', '.']).next().unwrap_or(path)
}

/// The first-level modules that a file uses by `crate::…` or `super::…`. Items of the root count as `lib`.
fn used_modules(source: &Source, known: &BTreeSet<String>) -> BTreeSet<String> {
    let module = module_of(&source.path);
    let code = source.code_without_tests();
    let mut used = BTreeSet::new();
    for path in paths(&code) {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let mut absolute: Vec<&str> = match supers {
            0 => Vec::new(),
            _ => {
                let depth = module.len().saturating_sub(supers);
                module[..depth].iter().map(String::as_str).collect()
            }
        };
        absolute.extend(path[supers.max(1)..].iter().map(String::as_str));
        match absolute.first() {
            Some(first) if known.contains(*first) => used.insert((*first).to_owned()),
            Some(_) => used.insert("lib".to_owned()),
            None => continue,
        };
    }
    used
}

/// All paths in code that start with `crate` or `super`, with braces expanded.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            // Part of a longer word, of a longer path, or of `$crate`.
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || "_$:".contains(before) {
                continue;
            }
            let mut rest = &code[at..];
            paths.extend(path_tree(&mut rest));
        }
    }
    paths
}

/// Reads a path with optional braces, such as `a::{b, c::d}`, from the start of the text.
fn path_tree(text: &mut &str) -> Vec<Vec<String>> {
    *text = text.trim_start();
    if let Some(rest) = text.strip_prefix('{') {
        *text = rest;
        let mut paths = Vec::new();
        loop {
            *text = text.trim_start().trim_start_matches(',').trim_start();
            match text.strip_prefix('}') {
                Some(rest) => {
                    *text = rest;
                    return paths;
                }
                None if text.is_empty() => return paths,
                None => {
                    let before = text.len();
                    paths.extend(path_tree(text));
                    if text.len() == before {
                        *text = &text[text.chars().next().map_or(0, char::len_utf8)..];
                    }
                }
            }
        }
    }
    let end = text
        .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .unwrap_or(text.len());
    let word = text[..end].to_owned();
    *text = &text[end..];
    match text.strip_prefix("::") {
        Some(rest) => {
            *text = rest;
            let mut tails = path_tree(text);
            if tails.is_empty() {
                tails.push(Vec::new());
            }
            let join = |tail: Vec<String>| [vec![word.clone()], tail].concat();
            tails.into_iter().map(join).collect()
        }
        None if word.is_empty() => Vec::new(),
        None => vec![vec![word]],
    }
}

/// The files of the server that are not only for tests.
fn server_sources() -> Vec<Source> {
    let sources = sources(SERVER.trim_end_matches('/'), "rs").into_iter();
    sources.filter(|source| !source.is_test()).collect()
}

/// The first-level modules of the server, with the modules that each of them uses.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let sources = server_sources();
    let known = sources
        .iter()
        .map(|source| name_of(&source.path).to_owned());
    let known: BTreeSet<String> = known
        .filter(|name| name != "lib" && name != "main")
        .collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let used = used_modules(source, &known);
        uses.entry(name_of(&source.path).to_owned())
            .or_default()
            .extend(used);
    }
    uses
}

#[test]
fn modules_of_the_server_use_only_lower_layers() {
    let mut violations = Vec::new();
    for (module, used) in uses() {
        for other in used {
            if other != module && module != "main" && !may_use(&module, &other) {
                violations.push(format!("{module} must not use {other}"));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn modules_of_the_server_have_no_import_cycle() {
    let mut uses = uses();
    // The root re-exports items of all modules; the layers cover it.
    uses.remove("lib");
    uses.remove("main");
    for start in uses.keys() {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = uses[start].iter().filter(|used| *used != start).collect();
        while let Some(module) = open.pop() {
            assert!(module != start, "the imports of {start} lead back to it");
            if reached.insert(module) {
                open.extend(uses.get(module).into_iter().flatten());
            }
        }
    }
}

#[test]
fn paths_are_expanded_and_resolved() {
    let code = "use crate::{a::{b, c}, D};\nuse super::super::e::F;\nfn f() { $crate::x(); crate::g::h() }";
    let mut expanded: Vec<String> = paths(code).iter().map(|path| path.join("::")).collect();
    expanded.sort_unstable();
    let expected = [
        "crate::D",
        "crate::a::b",
        "crate::a::c",
        "crate::g::h",
        "super::super::e::F",
    ];
    assert_eq!(expanded, expected);
    let source = Source {
        path: format!("{SERVER}a/b.rs"),
        text: code.to_owned(),
    };
    let known = ["a", "e", "g"].map(str::to_owned);
    let used = used_modules(&source, &BTreeSet::from(known));
    let expected = ["a", "e", "g", "lib"].map(str::to_owned);
    assert_eq!(used, BTreeSet::from(expected));
}
