//! Measures the catalogue: searches of names, and values while they are typed.

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::Report;
use super::super::population::EVENTS;
use super::{QuestionBench, Times};

/// The measured requests of each kind.
const REQUESTS: usize = 300;
/// The beginnings of texts that are typed.
const TYPED: [&str; 8] = ["p", "pu", "pur", "pag", "s", "se", "sign", "view"];
/// The beginnings of e-mail addresses.
const NAMES: [&str; 6] = ["a", "an", "s", "em", "j", "li"];

/// A kind of request with its paths.
pub struct Search {
    pub name: &'static str,
    pub paths: Vec<String>,
}

/// All kinds of requests.
pub fn searches() -> Vec<Search> {
    let search = |name, paths| Search { name, paths };
    let events = TYPED.map(|text| format!("event_definitions/?search={text}"));
    let properties = EVENTS.map(|name| {
        format!(
            "property_definitions/?type=event&filter_by_event_names=true&event_names=[\"{name}\"]"
        )
    });
    let persons = ["plan", "country", "age"].map(|key| format!("persons/values/?key={key}"));
    let prefixes = NAMES.map(|text| format!("persons/values/?key=email&value={text}"));
    let of_events = ["$pageview", "purchase", "search"]
        .map(|name| format!("events/values/?key=$browser&event_name={name}"));
    let urls = ["", "https://app", "https://app.example.com/p/1"]
        .map(|text| format!("events/values/?key=$current_url&event_name=purchase&value={text}"));
    vec![
        search("event_definitions", events.to_vec()),
        search("property_definitions", properties.to_vec()),
        search("persons_values", persons.to_vec()),
        search("persons_values_by_prefix", prefixes.to_vec()),
        search("events_values", of_events.to_vec()),
        search("events_values_by_prefix", urls.to_vec()),
    ]
}

/// The times of each kind of request, after one that loads the data.
pub fn measure(bench: &QuestionBench<'_>, report: &mut Report) -> Result<()> {
    for Search { name, paths } in searches() {
        let ask = |path: &String| bench.service.when_loaded(bench.access, path, None);
        let mut first = 0.0;
        for path in &paths {
            first += ask(path)?.milliseconds;
        }
        let mut times = Vec::new();
        for path in paths.iter().cycle().take(REQUESTS) {
            let loaded = ask(path)?;
            ensure!(loaded.refusals == 0, "{path}: the data is loaded again");
            times.push(loaded.milliseconds);
        }
        let times = Times::of(times);
        let text = format!(
            "{}; the first {} requests {first:.0} ms in all",
            times.text(),
            paths.len()
        );
        let mut value = times.json();
        value["first_ms"] = json!(first);
        report.add(name, text, value)?;
    }
    Ok(())
}
