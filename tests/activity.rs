//! The activity log: the caller, the kind of change, and the changed fields.

use serde_json::{Value, json};

use crate::harness::{EMAIL, Project, any_of, cohort_path, did, request, rows, send};

/// The first page of the log of a cohort.
fn log(project: &Project, cohort: i64) -> Value {
    let page = project.get(&format!("cohorts/{cohort}/activity"));
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()
}

/// A static cohort of new persons with these distinct ids.
fn with_members<const N: usize>(project: &Project, ids: [&str; N]) -> i64 {
    project.persons(ids.map(|id| (id, json!({}))));
    let ids = ids.map(|id| project.person(id)).to_vec();
    project.cohort(json!({"name": "A", "is_static": true, "_create_static_person_ids": ids}))
}

/// The newest entry of a cohort, without its time.
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

/// Conformance case 89.
#[test]
fn creation_is_one_entry_of_the_documented_form() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let page = log(&project, id);
    assert_eq!((rows(&page).len(), &page["total_count"]), (1, &json!(1)));
    let mut entry = page["results"][0].clone();
    let members = entry.as_object_mut().expect("an entry");
    members.remove("id");
    let time = members.remove("created_at");
    assert!(time.is_some_and(|time| time.is_string()));
    let expected = json!({
        "user": {"first_name": "Ana", "email": EMAIL}, "activity": "created", "scope": "Cohort",
        "item_id": id.to_string(),
        "detail": {"changes": null, "trigger": null, "name": "A", "short_id": null, "type": null},
    });
    assert_eq!(entry, expected);
}

#[test]
fn creation_is_logged() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let expected = json!({
        "user": {"first_name": "Ana", "email": EMAIL}, "activity": "created", "scope": "Cohort",
        "item_id": id.to_string(),
        "detail": {"changes": null, "trigger": null, "name": "A", "short_id": null, "type": null},
    });
    assert_eq!(newest(&project, id), expected);
}

/// Conformance case 90.
#[test]
fn initial_members_are_not_a_change() {
    let project = Project::new();
    let id = with_members(&project, ["d1", "d2", "d3"]);
    assert_eq!(project.members(id).len(), 3);
    let page = log(&project, id);
    assert_eq!(page["total_count"], 1);
    let entry = &page["results"][0];
    assert_eq!(entry["activity"], "created");
    assert_eq!(entry["detail"]["changes"], Value::Null);
}

#[test]
fn update_is_logged_field_by_field() {
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

/// Conformance case 93.
#[test]
fn unchanged_values_are_not_logged() {
    let project = Project::new();
    let body = json!({"name": "A", "description": "b"});
    let id = project.cohort(body.clone());
    for body in [body, json!({})] {
        assert_eq!(project.patch(&cohort_path(id), body).status, 200);
    }
    assert_eq!(log(&project, id)["total_count"], 1);
}

#[test]
fn rejected_and_empty_updates_are_not_logged() {
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

/// Conformance case 91.
#[test]
fn deletion_is_logged_as_deleted() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    project.patch(&cohort_path(id), json!({"deleted": true}));
    let page = log(&project, id);
    assert_eq!(page["total_count"], 2);
    assert_eq!(page["results"][0]["activity"], "deleted");
}

#[test]
fn deletion_and_restore_are_logged() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    for (deleted, activity) in [(true, "deleted"), (false, "restored")] {
        project.patch(&format!("cohorts/{id}/"), json!({"deleted": deleted}));
        let entry = newest(&project, id);
        assert_eq!(entry["activity"], activity);
        assert_eq!(entry["detail"]["changes"][0]["field"], "deleted");
    }
}

/// Conformance case 92.
#[test]
fn removal_is_one_entry_with_the_caller() {
    let project = Project::new();
    let id = with_members(&project, ["d1", "d2"]);
    let body = json!({"person_id": project.person("d1")});
    let path = format!("cohorts/{id}/remove_person_from_static_cohort");
    let removed = project.with_caller("bob@x.io").patch(&path, body);
    assert_eq!(removed.status, 200, "{}", removed.text);
    let page = log(&project, id);
    let entries = rows(&page).iter();
    let removals = entries.filter(|entry| entry["activity"] == "person_removed_manually");
    let removals: Vec<&Value> = removals.collect();
    assert_eq!(removals.len(), 1, "{page}");
    assert_eq!(removals[0]["user"]["email"], "bob@x.io");
    assert_eq!(removals[0]["item_id"], id.to_string());
}

/// Conformance case 94.
#[test]
fn entries_are_paged_by_ten() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "0"}));
    for number in 1..12 {
        project.patch(&cohort_path(id), json!({"name": number.to_string()}));
    }
    let first = log(&project, id);
    assert_eq!(
        (rows(&first).len(), &first["total_count"]),
        (10, &json!(12))
    );
    let next = first["next"].as_str().expect("a link");
    for part in ["page=2", "limit=10"] {
        assert!(next.contains(part), "{next}");
    }
    let second = project.follow(&first["next"]);
    assert_eq!(rows(&second).len(), 2);
    let previous = second["previous"].as_str().expect("a link");
    assert!(previous.contains("page=1"), "{previous}");
}

#[test]
fn entries_are_paged_newest_first_with_links() {
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

/// Conformance case 96.
#[test]
fn project_log_has_only_entries_of_its_project() {
    let (project, other) = (Project::new(), Project::new());
    let ids = [project.cohort(json!({})), project.cohort(json!({}))];
    other.cohort(json!({}));
    let page = project.get("cohorts/activity").json();
    let actual = rows(&page).iter().filter_map(|row| row["item_id"].as_str());
    let actual: Vec<&str> = actual.collect();
    assert_eq!(actual, [ids[1].to_string(), ids[0].to_string()]);
    assert_eq!(page["total_count"], 2);
}

#[test]
fn project_log_excludes_cohorts_of_other_projects() {
    let (project, other) = (Project::new(), Project::new());
    let ids = [project.cohort(json!({})), project.cohort(json!({}))];
    other.cohort(json!({}));
    let page = project.get("cohorts/activity/").json();
    let actual: Vec<&str> = page["results"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["item_id"].as_str())
        .collect();
    assert_eq!(actual, [ids[1].to_string(), ids[0].to_string()]);
}

/// Conformance case 95.
#[test]
fn log_of_an_unknown_cohort_is_an_empty_404() {
    let project = Project::new();
    let answer = project.get("cohorts/999999/activity");
    assert_eq!((answer.status, answer.text.as_str()), (404, ""));
}

#[test]
fn log_404_has_an_envelope_only_for_malformed_ids_and_unknown_projects() {
    let (project, other) = (Project::new(), Project::new());
    let theirs = other.cohort(json!({}));
    for id in [999_999_999, theirs] {
        let answer = project.get(&format!("cohorts/{id}/activity/"));
        assert_eq!((answer.status, answer.text.as_str()), (404, ""));
    }
    project
        .get("cohorts/abc/activity/")
        .is_error(404, "not_found", None);
    let call = request(
        reqwest::Method::GET,
        "/api/projects/999999999/cohorts/1/activity/",
    );
    let answer = send(&reqwest::Method::GET, call.bearer_auth(&project.key));
    assert_eq!(
        answer.is_error(404, "not_found", None).detail(),
        "Project not found."
    );
}
