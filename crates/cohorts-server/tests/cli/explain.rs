//! `cohorts explain`: the tree, and the JSON of the API.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Service, error_of, json_of, output_of};

#[test]
fn explain_prints_the_result_of_the_api_as_a_tree_and_as_json() {
    let directory = TempDir::new().unwrap();
    let data_dir = directory.path();
    let created = json_of(data_dir, &["project", "create", "--name", "a", "--json"]);
    let project = created["id"].to_string();
    let key = json_of(data_dir, &["key", "create", "--all-scopes", "--json"]);
    let key = key["key"].as_str().unwrap();
    let service = Service::start(data_dir);
    let batch =
        json!([{"event": "paid", "distinct_id": "ana", "properties": {"$set": {"plan": "pro"}}}]);
    service.post(
        "/batch/",
        key,
        &json!({"api_key": created["token"], "batch": batch}),
    );
    let path = format!("/api/projects/{project}/cohorts/");
    let cohort =
        |filters: Value| service.post(&path, key, &json!({"name": "Pros", "filters": filters}));
    let pro = json!({"type": "person", "key": "plan", "operator": "exact", "value": "pro"});
    let inner = cohort(json!({"properties": {"type": "AND", "values": [pro]}}))["id"].clone();
    let leaves = json!([
        {"type": "behavioral", "key": "paid", "value": "performed_event", "event_type": "events",
            "time_value": 7, "time_interval": "day"},
        {"type": "cohort", "key": "id", "value": inner},
        {"type": "person", "key": "plan", "operator": "exact", "value": "free"},
    ]);
    let outer = cohort(json!({"properties": {"type": "OR", "values": leaves}}))["id"].to_string();
    let options = ["explain", "--project", &project, "--cohort", &outer];
    let with = |more: &[&'static str]| [&options[..], more].concat();
    let tree = output_of(data_dir, &with(&["--distinct-id", "ana"]));
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with(&format!(
        "✓ ana is a member of cohort {outer} (Pros) as of "
    )));
    for line in [
        "  ✓ performed_event paid: 1 event, the last at ",
        &format!("  ✓ member of cohort {inner}: a member"),
        "    ✓ plan exact \"pro\": \"pro\"",
        "  ✗ plan exact \"free\": \"pro\"",
    ] {
        assert!(
            lines.iter().any(|text| text.starts_with(line)),
            "{line} in {tree}"
        );
    }
    let printed = json_of(data_dir, &with(&["--distinct-id", "ana", "--json"]));
    let mut answer = service.get(&format!("{path}{outer}/explain/?distinct_id=ana"), key);
    for name in ["as_of", "published", "since"] {
        answer[name] = printed[name].clone();
    }
    assert_eq!(printed, answer);
    let error = error_of(data_dir, &with(&["--distinct-id", "ben"]));
    assert_eq!(
        error,
        format!("error: project {project} has no person with this id")
    );
    let unknown = [
        "explain",
        "--project",
        &project,
        "--cohort",
        "999",
        "--distinct-id",
        "ana",
    ];
    let error = error_of(data_dir, &unknown);
    assert_eq!(error, format!("error: project {project} has no cohort 999"));
    assert_eq!(service.end("-TERM"), Some(0));
}
