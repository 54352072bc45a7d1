//! Who changed what.

use serde_json::{Value, json};

use crate::harness::{EMAIL, Project, any_of, did, request, send};

/// The only entry of a cohort, or the newest of several, less its time.
fn newest(project: &Project, cohort: i64) -> Value {
    let page = project.get(&format!("cohorts/{cohort}/activity/")).json();
    let mut entry = page["results"][0].clone();
    let time = entry
        .as_object_mut()
        .expect("an entry")
        .remove("created_at");
    assert!(time.is_some());
    entry
}

#[test]
fn a_creation_is_written_down() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let expected = json!({
        "user": {"first_name": "Ana", "email": EMAIL}, "activity": "created", "scope": "Cohort",
        "item_id": id.to_string(),
        "detail": {"changes": null, "trigger": null, "name": "A", "short_id": null, "type": null},
    });
    assert_eq!(newest(&project, id), expected);
}

#[test]
fn a_change_is_written_down_field_by_field() {
    let project = Project::new();
    let id = project.cohort(json!({"description": "old"}));
    let filters = any_of(json!([did("x", 1)]));
    project.patch(
        &format!("cohorts/{id}/"),
        json!({"name": "A", "description": "new", "filters": filters}),
    );
    let entry = newest(&project, id);
    assert_eq!(
        (&entry["activity"], &entry["detail"]["name"]),
        (&json!("updated"), &json!("A"))
    );
    let changes = entry["detail"]["changes"].as_array().expect("changes");
    let of = |field: &str| {
        changes
            .iter()
            .find(|change| change["field"] == field)
            .expect("a change")
    };
    let name = json!({"type": "Cohort", "action": "created", "field": "name", "before": null, "after": "A"});
    assert_eq!(*of("name"), name);
    let description = json!({"type": "Cohort", "action": "changed", "field": "description", "before": "old", "after": "new"});
    assert_eq!(*of("description"), description);
    assert_eq!(of("filters")["before"], Value::Null);
    assert_eq!(
        of("filters")["after"]["properties"]["values"][0]["key"],
        "x"
    );
    assert_eq!(changes.len(), 4, "{changes:?}");
}

#[test]
fn what_changes_nothing_leaves_no_entry() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    for body in [
        json!({}),
        json!({"name": "A"}),
        json!({"description": null}),
    ] {
        project.patch(&format!("cohorts/{id}/"), body);
    }
    assert_eq!(newest(&project, id)["activity"], "created");
}

#[test]
fn deleting_and_restoring_are_called_that() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    for (deleted, activity) in [(true, "deleted"), (false, "restored")] {
        project.patch(&format!("cohorts/{id}/"), json!({"deleted": deleted}));
        let entry = newest(&project, id);
        assert_eq!(entry["activity"], activity);
        assert_eq!(entry["detail"]["changes"][0]["field"], "deleted");
    }
}

#[test]
fn entries_are_paged_newest_first() {
    let project = Project::new();
    let id = project.cohort(json!({"name": 0}));
    for name in 1..12 {
        project.patch(&format!("cohorts/{id}/"), json!({"name": name}));
    }
    let path = format!("cohorts/{id}/activity");
    let first = project.get(&path).json();
    let names: Vec<&str> = first["results"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["detail"]["name"].as_str())
        .collect();
    assert_eq!(
        (names.len(), names[0], &first["total_count"]),
        (10, "11", &json!(12))
    );
    let base = format!("{}{}", project.server.url(), project.path(&path));
    assert_eq!(first["next"], format!("{base}?page=2&limit=10"));
    assert_eq!(first["previous"], Value::Null);
    let second = project.get(&format!("{path}?limit=10&page=2")).json();
    assert_eq!(second["results"].as_array().map(Vec::len), Some(2));
    assert_eq!(second["previous"], format!("{base}?limit=10&page=1"));
    assert_eq!(second["next"], Value::Null);
    assert_eq!(
        project.get(&format!("{path}?page=99")).json()["results"],
        json!([])
    );
}

#[test]
fn all_entries_are_those_of_this_project() {
    let (project, other) = (Project::new(), Project::new());
    let ids = [project.cohort(json!({})), project.cohort(json!({}))];
    other.cohort(json!({}));
    let page = project.get("cohorts/activity/").json();
    let found: Vec<&str> = page["results"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["item_id"].as_str())
        .collect();
    assert_eq!(found, [ids[1].to_string(), ids[0].to_string()]);
}

#[test]
fn an_unknown_cohort_has_no_entries_and_no_envelope() {
    let (project, other) = (Project::new(), Project::new());
    let theirs = other.cohort(json!({}));
    for id in [999_999_999, theirs] {
        let answer = project.get(&format!("cohorts/{id}/activity/"));
        assert_eq!((answer.status, answer.text.as_str()), (404, ""));
    }
    project
        .get("cohorts/abc/activity/")
        .is_error(404, "not_found", None);
    let asked = request(
        reqwest::Method::GET,
        "/api/projects/999999999/cohorts/1/activity/",
    );
    let answer = send(&reqwest::Method::GET, asked.bearer_auth(&project.key));
    assert_eq!(
        answer.is_error(404, "not_found", None).detail(),
        "Project not found."
    );
}
