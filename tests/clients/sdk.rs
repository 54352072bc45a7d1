//! Unmodified SDKs as senders, if they are installed: `posthog` for Python, `posthog-node`, and `posthog-js` in a
//! browser.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_client::{Client, types};
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, did, first_ids, key, person, start};

/// The exit status of a script if its requirement is not installed.
const SKIPPED: i32 = 77;

pub fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The output of the script, or `None` if its requirement is not installed. The skip is reported, and is a failure if
/// `COHORTS_TEST_REQUIRE` names the requirement.
pub fn outcome(need: &str, mut command: Command) -> Option<String> {
    let required = std::env::var("COHORTS_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|one| one == need);
    let (status, output, errors) = match command.output() {
        Ok(output) => (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ),
        Err(cause) => (Some(SKIPPED), String::new(), cause.to_string()),
    };
    if status == Some(SKIPPED) && !required {
        // Unlike `eprintln!`, this is not captured by the test runner.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED a test that needs {need}: {}",
            errors.trim()
        );
        return None;
    }
    assert_eq!(status, Some(0), "{output}{errors}");
    Some(output)
}

#[test]
fn cohort_has_what_the_python_sdk_sent_plain() {
    sdk_to_cohort(&[]);
}

#[test]
fn cohort_has_what_the_python_sdk_sent_gzipped() {
    sdk_to_cohort(&["--gzip"]);
}

#[test]
fn cohort_has_what_the_python_sdk_sent_by_protocol_v1() {
    sdk_to_cohort(&["--protocol=v1"]);
}

#[test]
fn node_sdk_loses_nothing_despite_failures() {
    let mut sender = Command::new("node");
    sender.arg(script("sdk/posthog_node.mjs"));
    sdk_through_failures("node", sender);
}

#[test]
fn node_sdk_loses_nothing_by_protocol_v1() {
    let mut sender = Command::new("node");
    sender.arg(script("sdk/posthog_node.mjs"));
    sender.env("POSTHOG_CAPTURE_MODE", "v1");
    sdk_through_failures("node", sender);
}

#[test]
fn browser_sdk_loses_nothing_despite_failures() {
    let mut sender = Command::new("python3");
    sender.arg(script("sdk/posthog_browser.py"));
    if let Some(chromium) = std::env::var_os("COHORTS_TEST_CHROMIUM") {
        sender.arg("--chromium").arg(chromium);
    }
    sdk_through_failures("chromium", sender);
}

/// Runs an SDK behind a proxy that rejects some requests and drops some responses, and compares the stored data
/// with the output of the script.
fn sdk_through_failures(need: &str, mut sender: Command) {
    let project = Project::new();
    sender.args([&project.server.url(), &project.token]);
    let Some(output) = outcome(need, sender) else {
        return;
    };
    let sent: Value = serde_json::from_str(&output).expect("a line of JSON");
    assert!(sent["refused_by_proxy"].as_i64() > Some(0), "{sent}");
    let persons = sent["persons"].as_array().expect("persons");
    let page = project.get("persons/?limit=100").json();
    assert_eq!(
        page["results"].as_array().map(Vec::len),
        Some(persons.len()),
        "{page}"
    );
    for expected in persons {
        let first = expected["distinct_ids"][0].as_str().expect("an id");
        let actual = project.get(&format!("persons/?distinct_id={first}")).json();
        let actual = &actual["results"][0];
        assert_eq!(actual["distinct_ids"], expected["distinct_ids"]);
        // SDKs for browsers set more properties than the script.
        for (name, value) in expected["properties"].as_object().expect("properties") {
            assert_eq!(&actual["properties"][name], value, "{name} of {first}");
        }
    }
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for event in sent["events"].as_array().expect("events") {
        let text = |name: &str| event[name].as_str().expect("a text");
        *counts.entry((text("event"), text("person"))).or_default() += 1;
    }
    for ((event, id), times) in counts {
        let done = json!({"type": "behavioral", "key": event, "value": "performed_event_multiple",
            "event_type": "events", "time_value": 90, "time_interval": "day",
            "operator": "exact", "operator_value": times});
        let all = json!({"properties": {"type": "AND", "values": [done, person("distinct_id", "exact", id)]}});
        let preview = project.post("cohorts/preview/", json!({"filters": all}));
        assert_eq!(preview.json()["count"], 1, "{event} of {id}, {times} times");
    }
}

fn sdk_to_cohort(flags: &[&str]) {
    let server = start(|config| config.calculate = true);
    let project = server
        .data()
        .admin()
        .create_project("SDK", "UTC")
        .expect("a project");
    let python = std::env::var("COHORTS_TEST_PYTHON").unwrap_or("python3".to_owned());
    let mut sender = Command::new(python);
    sender.arg(script("sdk/posthog_sdk.py"));
    sender.args([&server.url(), &project.token]).args(flags);
    if let Some(output) = outcome("python", sender) {
        let sent: Value = serde_json::from_str(&output).expect("a line of JSON");
        let client = Client::with_key(&server.url(), &key(&server, &[project.id], &["*"]))
            .expect("a client");
        tokio::runtime::Runtime::new()
            .expect("a runtime")
            .block_on(compare(&client, &sent));
    }
    server.stop().expect("a clean end");
}

async fn compare(client: &Client, sent: &Value) {
    let persons = persons(client, any_of(json!([person("nothing", "is_not_set", "")]))).await;
    let people_sent = sent["persons"].as_object().expect("persons");
    assert_eq!(persons.len(), people_sent.len());
    for person in &persons {
        let expected = &people_sent[&person.distinct_ids[0]];
        assert_eq!(
            &json!(person.properties),
            expected,
            "{:?}",
            person.distinct_ids
        );
    }
    assert_eq!(
        ids(client, any_of(json!([person("plan", "exact", "pro")]))).await,
        ["ann", "bob", "eve"]
    );
    for event in ["order placed", "signed up"] {
        for days in [1, 7, 30, 60] {
            let mut expected: Vec<&str> = sent["events"]
                .as_array()
                .expect("events")
                .iter()
                .filter(|one| one["event"] == event && one["days_ago"].as_i64() <= Some(days))
                .filter_map(|one| one["distinct_id"].as_str())
                .collect();
            expected.sort_unstable();
            expected.dedup();
            let actual = ids(client, any_of(json!([did(event, days as u32)]))).await;
            assert_eq!(actual, expected, "{event} in {days} days");
        }
    }
}

async fn ids(client: &Client, filters: Value) -> Vec<String> {
    let persons = persons(client, filters).await;
    let mut ids: Vec<String> = persons
        .iter()
        .map(|person| person.distinct_ids[0].clone())
        .collect();
    ids.sort_unstable();
    ids
}

/// Creates a cohort with the filters, waits for its calculation, and returns the members.
async fn persons(client: &Client, filters: Value) -> Vec<types::Person> {
    let filters: types::CohortFilters = serde_json::from_value(filters).expect("filters");
    let body = types::CohortCreate::builder()
        .name("From the SDK".to_owned())
        .filters(filters);
    let cohort = client
        .cohorts_create()
        .project_id("@current")
        .body(body)
        .send()
        .await
        .expect("a cohort");
    let start = Instant::now();
    loop {
        let call = client
            .cohorts_retrieve()
            .project_id("@current")
            .id(cohort.id);
        let cohort = call.send().await.expect("a cohort");
        if !cohort.is_calculating {
            assert!(cohort.last_calculation <= Some(Utc::now()));
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the calculation does not end in time"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let members = client
        .cohorts_persons_retrieve()
        .project_id("@current")
        .id(cohort.id)
        .limit(2)
        .stream();
    members.try_collect().await.expect("persons")
}

/// The SDK's `match_property_group` evaluates feature flags on cohorts without a server.
#[test]
fn matcher_of_the_python_sdk_agrees_with_previews() {
    let python = std::env::var("COHORTS_TEST_PYTHON").unwrap_or("python3".to_owned());
    let mut command = Command::new(python);
    command
        .arg(script("sdk/posthog_matcher.py"))
        .args(["--seed", "20251125", "--groups", "400"]);
    let Some(output) = outcome("python", command) else {
        return;
    };
    let output: Value = serde_json::from_str(&output).expect("JSON");
    let project = Project::new();
    let persons = output["persons"].as_object().expect("persons");
    let set = |(id, properties): (&String, &Value)| json!({"event": "$set", "distinct_id": id, "properties": {"$set": properties}});
    project.capture(persons.iter().map(set).collect());
    for group in output["groups"].as_array().expect("groups") {
        let body = json!({"filters": group["filters"], "sample": 100});
        let answer = project.post("cohorts/preview/", body);
        assert_eq!(answer.status, 200, "{} {}", group["filters"], answer.text);
        let mut expected: Vec<&str> = (group["members"].as_array().expect("members").iter())
            .filter_map(Value::as_str)
            .collect();
        expected.sort_unstable();
        assert_eq!(
            first_ids(&answer.json()["sample"]),
            expected,
            "{}",
            group["filters"]
        );
    }
}
