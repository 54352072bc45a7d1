//! The fields of webhooks, their secrets, and the log of their changes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{EMAIL, Project, id_of, rows};

const URL: &str = "https://hooks.example.org/T0/secret-path?token=x";

fn create(project: &Project, body: Value) -> Value {
    let answer = project.post("webhooks/", body);
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

#[test]
fn a_webhook_is_created_changed_listed_and_deleted() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    let mut created = create(
        &project,
        json!({"url": URL, "cohort_ids": [cohort], "description": "a"}),
    );
    let id = created["id"].as_i64().expect("an id");
    let path = format!("webhooks/{id}/");
    let secret = created.as_object_mut().expect("fields").remove("secret");
    let secret = secret.as_ref().and_then(Value::as_str).expect("a secret");
    assert!(
        secret.starts_with("whsec_") && secret.len() == 50,
        "{secret}"
    );
    assert_eq!(created["enabled"], true);
    assert_eq!(created["created_by"]["email"], EMAIL);
    assert_eq!(project.get(&path).json(), created);
    let changed = project.patch(&path, json!({"cohort_ids": null, "description": "b"}));
    let changed = changed.json();
    assert_eq!(
        (&changed["cohort_ids"], &changed["description"]),
        (&json!(null), &json!("b"))
    );
    let other = create(&project, json!({"url": URL, "enabled": false}));
    assert_eq!(other["enabled"], false);
    let list = project.get("webhooks/?limit=1").json();
    assert_eq!(
        (&list["count"], &list["results"][0]["id"]),
        (&json!(2), &other["id"])
    );
    let second = project.follow(&list["next"]);
    assert_eq!(rows(&second), [changed]);
    // Only the creation and a rotation show the secret.
    for text in [project.get(&path).text, project.get("webhooks/").text] {
        assert!(!text.contains("whsec_"), "{text}");
    }
    let deleted = project.ask(Method::DELETE, &path, None);
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    project.get(&path).is_error(404, "not_found", None);
    let again = project.ask(Method::DELETE, &path, None);
    again.is_error(404, "not_found", None);
}

#[test]
fn cohorts_of_a_webhook_are_live_cohorts_of_the_project() {
    let (project, other) = (Project::new(), Project::new());
    let theirs = other.cohort(json!({}));
    let deleted = project.cohort(json!({}));
    project.patch(&format!("cohorts/{deleted}/"), json!({"deleted": true}));
    for ids in [json!([theirs]), json!([deleted]), json!([]), json!([0])] {
        let refused = project.post("webhooks/", json!({"url": URL, "cohort_ids": ids}));
        refused.is_error(400, "invalid_input", Some("cohort_ids"));
    }
    let many: Vec<i64> = (0..101).collect();
    let refused = project.post("webhooks/", json!({"url": URL, "cohort_ids": many}));
    refused.is_error(400, "max_length", Some("cohort_ids"));
}

#[test]
fn a_project_has_at_most_a_hundred_webhooks() {
    let project = Project::new();
    for _ in 0..100 {
        create(&project, json!({"url": URL}));
    }
    let refused = project.post("webhooks/", json!({"url": URL}));
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(refused.detail().contains("delete one first"));
}

#[test]
fn each_change_is_in_the_log_without_secrets() {
    let project = Project::new();
    let id = create(&project, json!({"url": URL, "description": "a"}))["id"].clone();
    let path = format!("webhooks/{id}/");
    project.patch(
        &path,
        json!({"enabled": false, "url": "https://hooks.example.org/other"}),
    );
    project.patch(&path, json!({"enabled": false}));
    project.post(
        &format!("{path}replay/"),
        json!({"from": "2026-03-02T08:00:00Z"}),
    );
    project.post(&format!("{path}rotate_secret/"), json!({}));
    project.ask(Method::DELETE, &path, None);
    let log = project.get("webhooks/activity/?limit=100");
    assert!(
        !log.text.contains("secret-path") && !log.text.contains("whsec_"),
        "{}",
        log.text
    );
    let log = log.json();
    let kinds: Vec<&str> = rows(&log)
        .iter()
        .map(|entry| entry["activity"].as_str().expect("a kind"))
        .collect();
    assert_eq!(
        kinds,
        [
            "deleted",
            "secret_rotated",
            "replayed",
            "updated",
            "created"
        ]
    );
    let updated = &rows(&log)[3];
    assert_eq!(
        (&updated["scope"], &updated["item_id"]),
        (&json!("Webhook"), &json!(id.to_string()))
    );
    let changes = json!([
        {"type": "Webhook", "action": "changed", "field": "url", "before": "https://hooks.example.org", "after": "https://hooks.example.org"},
        {"type": "Webhook", "action": "changed", "field": "enabled", "before": true, "after": false},
    ]);
    assert_eq!(updated["detail"]["changes"], changes);
    // The log of cohorts has cohorts only.
    let of_cohorts = project.get("cohorts/activity/").json();
    assert_eq!(of_cohorts["total_count"], 0);
}

#[test]
fn a_webhook_needs_the_scopes_of_what_it_sends() {
    let project = Project::new();
    let id = id_of(&project.post("webhooks/", json!({"url": URL})));
    for (scopes, missing) in [
        (&["webhook:write", "cohort:read"][..], "person:read"),
        (&["webhook:write", "person:read"], "cohort:read"),
        (
            &["webhook:read", "cohort:read", "person:read"],
            "webhook:write",
        ),
    ] {
        let other = project.with_key(project.key_with(scopes));
        for refused in [
            other.post("webhooks/", json!({"url": URL})),
            other.patch(&format!("webhooks/{id}/"), json!({})),
            other.post(&format!("webhooks/{id}/test/"), json!({})),
        ] {
            refused.is_error(403, "permission_denied", None);
            assert!(refused.detail().contains(missing), "{}", refused.text);
        }
    }
    let reader = project.with_key(project.key_with(&["webhook:read"]));
    assert_eq!(reader.get("webhooks/").status, 200);
    let deliveries = reader.get(&format!("webhooks/{id}/deliveries/"));
    deliveries.is_error(403, "permission_denied", None);
}
