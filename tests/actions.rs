//! Actions, and criteria on them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Project;

fn did_action(id: &Value) -> Value {
    let leaf = json!({"type": "behavioral", "key": id, "value": "performed_event", "event_type": "actions",
        "time_value": 1, "time_interval": "day"});
    json!({"properties": {"type": "OR", "values": [leaf]}})
}

#[test]
fn action_is_created_listed_changed_deleted_and_restored() {
    let project = Project::new();
    let steps = json!([{"event": "buy", "url": "/shop", "url_matching": "contains",
        "properties": [{"key": "amount", "operator": "gt", "value": 5, "type": "event"}]}]);
    let action = project.post(
        "actions/",
        json!({"name": "Bought", "description": "d", "steps": steps}),
    );
    assert_eq!(action.status, 201, "{}", action.text);
    let action = action.json();
    let expected = json!({"id": action["id"], "name": "Bought", "description": "d", "tags": [], "post_to_slack": false,
        "slack_message_format": "", "steps": steps, "created_at": action["created_at"], "created_by": action["created_by"],
        "deleted": false, "is_calculating": false, "last_calculated_at": null, "team_id": project.id,
        "is_action": true, "pinned_at": null, "creation_context": null});
    assert_eq!(action, expected);
    assert_eq!(action["created_by"]["first_name"], "Ana");
    let path = format!("actions/{}/", action["id"]);
    assert_eq!(project.get(&path).json(), action);
    let other = project.post("actions/", json!({})).json();
    let page = project.get("actions/").json();
    assert_eq!(
        (&page["count"], &page["results"]),
        (&json!(2), &json!([other, action]))
    );

    let again = project.post("actions/", json!({"name": "Bought"}));
    again.is_error(400, "unique", Some("name"));
    project
        .patch(&path, json!({"steps": [{"href": "/a"}]}))
        .is_error(400, "invalid_input", Some("steps"));
    assert_eq!(
        project.patch(&path, json!({"name": "Paid"})).json()["steps"],
        steps
    );
    assert_eq!(
        project.patch(&path, json!({"deleted": true})).json()["deleted"],
        true
    );
    project.get(&path).is_error(404, "not_found", None);
    assert_eq!(project.get("actions/").json()["count"], 1);
    assert_eq!(
        project.post("actions/", json!({"name": "Paid"})).status,
        201
    );
    project
        .patch(&path, json!({"deleted": false}))
        .is_error(400, "unique", Some("name"));
    let back = project.patch(&path, json!({"deleted": false, "name": "Paid before"}));
    assert_eq!(back.json()["name"], "Paid before");
    assert_eq!(project.ask(Method::DELETE, &path, None).status, 405);
    let elsewhere = Project::new();
    elsewhere.get(&path).is_error(404, "not_found", None);
}

#[test]
fn cohort_follows_changes_of_its_action() {
    let project = Project::new();
    let event = |id: &str, name: &str, url: &str| json!({"event": name, "distinct_id": id, "properties": {"$current_url": url}});
    project.capture(json!([
        event("a", "view", "https://x.io/shop"),
        event("b", "view", "https://x.io/"),
        event("c", "buy", "")
    ]));
    let action = project
        .post(
            "actions/",
            json!({"steps": [{"event": "view", "url": "/shop"}, {"event": "buy"}]}),
        )
        .json();
    let cohort = project
        .post("cohorts/", json!({"filters": did_action(&action["id"])}))
        .json();
    assert_eq!(cohort["cohort_type"], "realtime");
    let id = cohort["id"].as_i64().expect("an id");
    project.settle(id);
    assert_eq!(project.members(id), ["a", "c"]);
    let path = format!("actions/{}/", action["id"]);
    project.patch(&path, json!({"steps": [{"event": "view"}]}));
    assert_eq!(project.settle(id)["count"], 2);
    assert_eq!(project.members(id), ["a", "b"]);
    project.patch(&path, json!({"deleted": true}));
    assert_eq!(project.settle(id)["count"], 0);
    // An action of another project matches no events of this project.
    let elsewhere = Project::new();
    let theirs = elsewhere.post("actions/", json!({"steps": [{}]})).json();
    let preview = project.post(
        "cohorts/preview/",
        json!({"filters": did_action(&theirs["id"])}),
    );
    assert_eq!(preview.json()["count"], 0);
}
