//! Cases 89 to 96: who changed what.

use serde_json::{Value, json};

use super::{asked_by, at, follow, rows};
use crate::harness::{EMAIL, Project};

/// A page of a cohort's entries.
fn log(project: &Project, cohort: i64) -> Value {
    let page = project.get(&format!("cohorts/{cohort}/activity"));
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()
}

/// A static cohort of new people.
fn with_members<const N: usize>(project: &Project, ids: [&str; N]) -> i64 {
    project.people(ids.map(|id| (id, json!({}))));
    let ids = ids.map(|id| project.person(id)).to_vec();
    project.cohort(json!({"name": "A", "is_static": true, "_create_static_person_ids": ids}))
}

#[test]
fn case_089_a_creation_is_one_entry_of_this_form() {
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
fn case_090_the_first_members_are_no_change() {
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
fn case_091_a_deletion_is_called_that() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    project.patch(&at(id), json!({"deleted": true}));
    let page = log(&project, id);
    assert_eq!(page["total_count"], 2);
    assert_eq!(page["results"][0]["activity"], "deleted");
}

#[test]
fn case_092_a_removal_is_one_entry_of_who_did_it() {
    let project = Project::new();
    let id = with_members(&project, ["d1", "d2"]);
    let body = json!({"person_id": project.person("d1")});
    let path = format!("cohorts/{id}/remove_person_from_static_cohort");
    let removed = asked_by(&project, "bob@x.io").patch(&path, body);
    assert_eq!(removed.status, 200, "{}", removed.text);
    let page = log(&project, id);
    let entries = rows(&page).iter();
    let removals = entries.filter(|entry| entry["activity"] == "person_removed_manually");
    let removals: Vec<&Value> = removals.collect();
    assert_eq!(removals.len(), 1, "{page}");
    assert_eq!(removals[0]["user"]["email"], "bob@x.io");
    assert_eq!(removals[0]["item_id"], id.to_string());
}

#[test]
fn case_093_what_changes_nothing_is_no_entry() {
    let project = Project::new();
    let body = json!({"name": "A", "description": "b"});
    let id = project.cohort(body.clone());
    for body in [body, json!({})] {
        assert_eq!(project.patch(&at(id), body).status, 200);
    }
    assert_eq!(log(&project, id)["total_count"], 1);
}

#[test]
fn case_094_entries_come_ten_to_a_page() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "0"}));
    for number in 1..12 {
        project.patch(&at(id), json!({"name": number.to_string()}));
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
    let second = follow(&project, &first["next"]);
    assert_eq!(rows(&second).len(), 2);
    let previous = second["previous"].as_str().expect("a link");
    assert!(previous.contains("page=1"), "{previous}");
}

#[test]
fn case_095_a_cohort_that_is_not_there_has_no_entries_and_no_envelope() {
    let project = Project::new();
    let answer = project.get("cohorts/999999/activity");
    assert_eq!((answer.status, answer.text.as_str()), (404, ""));
}

#[test]
fn case_096_all_entries_are_those_of_this_project() {
    let (project, other) = (Project::new(), Project::new());
    let ids = [project.cohort(json!({})), project.cohort(json!({}))];
    other.cohort(json!({}));
    let page = project.get("cohorts/activity").json();
    let found = rows(&page).iter().filter_map(|row| row["item_id"].as_str());
    let found: Vec<&str> = found.collect();
    assert_eq!(found, [ids[1].to_string(), ids[0].to_string()]);
    assert_eq!(page["total_count"], 2);
}
