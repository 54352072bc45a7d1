//! Unmodified SDKs as the senders, where they are: `posthog` for Python, `posthog-node`, and `posthog-js` in a browser.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_client::{Client, types};
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, did, first_ids, key, person, scratch_dir, start};

/// What a script says to mean that it cannot run here.
const SKIPPED: i32 = 77;

pub fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// What the script printed, or nothing where what it needs is not here. That is said aloud, and is a failure where
/// `COHORTS_TEST_REQUIRE` names the need.
pub fn outcome(need: &str, mut command: Command) -> Option<String> {
    let required = std::env::var("COHORTS_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|one| one == need);
    let (status, said, complaint) = match command.output() {
        Ok(output) => (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ),
        Err(cause) => (Some(SKIPPED), String::new(), cause.to_string()),
    };
    if status == Some(SKIPPED) && !required {
        // Past what the test runner captures.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED a test that needs {need}: {}",
            complaint.trim()
        );
        return None;
    }
    assert_eq!(status, Some(0), "{said}{complaint}");
    Some(said)
}

#[test]
fn what_the_sdk_sends_plain_is_what_a_cohort_holds() {
    sdk_to_cohort(&[]);
}

#[test]
fn what_the_sdk_sends_compressed_is_what_a_cohort_holds() {
    sdk_to_cohort(&["--gzip"]);
}

#[test]
fn what_the_sdk_sends_by_its_newer_protocol_is_what_a_cohort_holds() {
    sdk_to_cohort(&["--protocol=v1"]);
}

#[test]
fn what_the_sdk_for_node_sends_is_what_is_there_whatever_fails_on_the_way() {
    let mut sender = Command::new("node");
    sender.arg(script("sdk/posthog_node.mjs"));
    sdk_through_failures("node", sender);
}

#[test]
fn what_the_sdk_for_node_sends_by_its_newer_protocol_is_what_is_there() {
    let mut sender = Command::new("node");
    sender.arg(script("sdk/posthog_node.mjs"));
    sender.env("POSTHOG_CAPTURE_MODE", "v1");
    sdk_through_failures("node", sender);
}

#[test]
fn what_the_sdk_for_browsers_sends_is_what_is_there_whatever_fails_on_the_way() {
    let mut sender = Command::new("python3");
    sender.arg(script("sdk/posthog_browser.py"));
    if let Some(chromium) = std::env::var_os("COHORTS_TEST_CHROMIUM") {
        sender.arg("--chromium").arg(chromium);
    }
    sdk_through_failures("chromium", sender);
}

/// Has an SDK send through a proxy that refuses some requests and loses some answers, and compares what is there
/// with what the script says.
fn sdk_through_failures(need: &str, mut sender: Command) {
    let project = Project::new();
    sender.args([&project.server.url(), &project.token]);
    let Some(said) = outcome(need, sender) else {
        return;
    };
    let sent: Value = serde_json::from_str(&said).expect("a line of JSON");
    assert!(sent["refused_by_proxy"].as_i64() > Some(0), "{sent}");
    let people = sent["people"].as_array().expect("people");
    let page = project.get("persons/?limit=100").json();
    assert_eq!(
        page["results"].as_array().map(Vec::len),
        Some(people.len()),
        "{page}"
    );
    for expected in people {
        let first = expected["distinct_ids"][0].as_str().expect("an id");
        let found = project.get(&format!("persons/?distinct_id={first}")).json();
        let found = &found["results"][0];
        assert_eq!(found["distinct_ids"], expected["distinct_ids"]);
        // SDKs for browsers tell more of people than they are asked to.
        for (name, value) in expected["properties"].as_object().expect("properties") {
            assert_eq!(&found["properties"][name], value, "{name} of {first}");
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
    let server = start(&scratch_dir(&format!("sdk{}", flags.concat())), true);
    let project = server
        .data()
        .admin()
        .create_project("SDK", "UTC")
        .expect("a project");
    let python = std::env::var("COHORTS_TEST_PYTHON").unwrap_or("python3".to_owned());
    let mut sender = Command::new(python);
    sender.arg(script("sdk/posthog_sdk.py"));
    sender.args([&server.url(), &project.token]).args(flags);
    if let Some(said) = outcome("python", sender) {
        let sent: Value = serde_json::from_str(&said).expect("a line of JSON");
        let client = Client::with_key(&server.url(), &key(&server, &[project.id], &["*"]))
            .expect("a client");
        tokio::runtime::Runtime::new()
            .expect("a runtime")
            .block_on(compare(&client, &sent));
    }
    server.stop().expect("a clean end");
}

async fn compare(client: &Client, sent: &Value) {
    let everyone = people(client, any_of(json!([person("nothing", "is_not_set", "")]))).await;
    let people_sent = sent["people"].as_object().expect("people");
    assert_eq!(everyone.len(), people_sent.len());
    for someone in &everyone {
        let expected = &people_sent[&someone.distinct_ids[0]];
        assert_eq!(
            &json!(someone.properties),
            expected,
            "{:?}",
            someone.distinct_ids
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
            let found = ids(client, any_of(json!([did(event, days as u32)]))).await;
            assert_eq!(found, expected, "{event} in {days} days");
        }
    }
}

async fn ids(client: &Client, filters: Value) -> Vec<String> {
    let people = people(client, filters).await;
    let mut ids: Vec<String> = people
        .iter()
        .map(|person| person.distinct_ids[0].clone())
        .collect();
    ids.sort_unstable();
    ids
}

/// The members of a cohort that is made for the filters, as soon as it is calculated.
async fn people(client: &Client, filters: Value) -> Vec<types::Person> {
    let filters: types::CohortFilters = serde_json::from_value(filters).expect("filters");
    let body = types::CohortCreate::builder()
        .name("From the SDK".to_owned())
        .filters(filters);
    let made = client
        .cohorts_create()
        .project_id("@current")
        .body(body)
        .send()
        .await
        .expect("a cohort");
    let begun = Instant::now();
    loop {
        let call = client.cohorts_retrieve().project_id("@current").id(made.id);
        let cohort = call.send().await.expect("a cohort");
        if !cohort.is_calculating {
            assert!(cohort.last_calculation <= Some(Utc::now()));
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the calculation does not end"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let members = client
        .cohorts_persons()
        .project_id("@current")
        .id(made.id)
        .limit(2)
        .stream();
    members.try_collect().await.expect("people")
}

/// `match_property_group` decides feature flags that name cohorts, without asking a server.
#[test]
fn the_sdks_own_matcher_finds_the_members_that_a_cohort_has() {
    let python = std::env::var("COHORTS_TEST_PYTHON").unwrap_or("python3".to_owned());
    let mut command = Command::new(python);
    command
        .arg(script("sdk/posthog_matcher.py"))
        .args(["--seed", "20251125", "--groups", "400"]);
    let Some(said) = outcome("python", command) else {
        return;
    };
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let project = Project::new();
    let people = said["people"].as_object().expect("people");
    let set = |(id, properties): (&String, &Value)| json!({"event": "$set", "distinct_id": id, "properties": {"$set": properties}});
    project.capture(people.iter().map(set).collect());
    for group in said["groups"].as_array().expect("groups") {
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
