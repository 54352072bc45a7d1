//! The lists of words in the contract, against the words in the source: codes of errors, operators, behaviors, units.
//!
//! A new word in the source fails here until the contract describes it. `spec::check` compares the words in responses.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::contract::spec::DOCUMENT;
use crate::tidy::sources::{self, Source};

type Words = BTreeSet<String>;

/// The words of an enum, or the known words of an open list, without null.
fn listed(pointer: &str) -> Words {
    let schema = DOCUMENT.pointer(&format!("/components/schemas{pointer}"));
    let schema = schema.unwrap_or_else(|| panic!("the contract has no {pointer}"));
    let list = match schema["anyOf"].as_array() {
        Some(choices) => choices.iter().find(|choice| choice.get("enum").is_some()),
        None => Some(schema),
    };
    let list = list.and_then(|list| list["enum"].as_array());
    let words = list.unwrap_or_else(|| panic!("{pointer} is no list"));
    words
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The code of a file without unit tests, on one line.
fn code(source: &Source) -> String {
    let text = source
        .text
        .split("#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default();
    let text: Vec<&str> = text.split_whitespace().collect();
    text.join(" ").replace("( ", "(")
}

/// The literals that follow `start` directly.
fn literals_after<'a>(code: &'a str, start: &str) -> impl Iterator<Item = &'a str> {
    let parts = code.split(start).skip(1).collect::<Vec<_>>().into_iter();
    parts.filter_map(|part| part.strip_prefix('"')?.split('"').next())
}

/// The codes that the source gives to errors of requests.
fn error_codes() -> Words {
    let folders = [
        "crates/cohorts-server/src",
        "crates/cohorts-api/src/support",
    ];
    let sources = folders.map(|folder| sources::sources(folder, "rs"));
    // Errors of filters have codes that only calculations show.
    let is_request = |source: &&Source| !source.is_test() && !source.path.contains("/src/index/");
    let mut words = Words::new();
    for source in sources.iter().flatten().filter(is_request) {
        let code = code(source);
        words.extend(literals_after(&code, " code: ").map(str::to_owned));
        words.extend(literals_after(&code, "Violation::new(").map(str::to_owned));
        words.extend(literals_after(&code, "Self::coded(").map(str::to_owned));
        if code.contains("impl Violation ") {
            words.extend(literals_after(&code, "Self::new(").map(str::to_owned));
        }
        for class in code.split(" class(").skip(1) {
            let arguments = class.split(')').next().unwrap_or_default();
            words.extend(arguments.split('"').nth(1).map(str::to_owned));
        }
    }
    words
}

/// The words before `=>` in the matches of a file.
fn matched(path: &str) -> Words {
    let source = Source {
        path: path.to_owned(),
        text: sources::read(path),
    };
    let code = code(&source);
    let lines = source
        .text
        .lines()
        .filter(|line| code.contains(line.trim()));
    let arms = lines.filter_map(|line| line.split_once(" => "));
    let arms = arms.filter(|(arm, _)| arm.trim_start().starts_with('"'));
    arms.flat_map(|(arm, _)| {
        arm.split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    })
    .collect()
}

fn joined(lists: &[&str]) -> Words {
    lists.iter().flat_map(|list| listed(list)).collect()
}

#[test]
fn every_error_code_of_the_source_is_in_the_contract() {
    let codes = listed("/Error/properties/code");
    assert_eq!(error_codes(), codes);
    let text = &DOCUMENT["components"]["schemas"]["Error"]["properties"]["code"]["description"];
    let text = text.as_str().expect("a description");
    for code in codes {
        assert!(
            text.contains(&format!("- `{code}`: ")),
            "{code} has no sentence"
        );
    }
}

#[test]
fn every_operator_of_the_source_is_in_the_contract() {
    let lists = ["/PersonLeaf", "/PersonPresenceLeaf", "/PersonDateLeaf"];
    let lists = lists.map(|leaf| format!("{leaf}/properties/operator"));
    let operators = joined(&lists.each_ref().map(String::as_str));
    let source = matched("crates/cohorts-engine/src/predicate/compile.rs");
    assert_eq!(source, operators);
    let lists = ["/EventFilter", "/EventPresenceFilter"];
    let lists = lists.map(|leaf| format!("{leaf}/properties/operator"));
    assert_eq!(joined(&lists.each_ref().map(String::as_str)), operators);
}

#[test]
fn every_behavior_and_unit_of_the_source_is_in_the_contract() {
    let leaf = |property: &str| listed(&format!("/BehavioralLeaf/properties/{property}"));
    let mut words = leaf("value");
    words.extend(leaf("event_type"));
    words.extend(leaf("operator"));
    let mut source = matched("crates/cohorts-engine/src/plan/behavioral.rs");
    // The start of a window without a start.
    source.remove("all");
    assert_eq!(source, words);
    assert_eq!(leaf("seq_event_type"), leaf("event_type"));
    let units = matched("crates/cohorts-engine/src/window.rs");
    assert_eq!(units, leaf("time_interval"));
    assert_eq!(units, leaf("seq_time_interval"));
}
