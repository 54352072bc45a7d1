//! Persons: search, details, and the cohorts of a person.

use serde_json::json;

use crate::harness::{Project, any_of, first_ids, person};

fn with_persons() -> Project {
    let project = Project::new();
    project.persons([
        ("ann", json!({"email": "ann@x.io", "plan": "pro"})),
        ("bob", json!({"plan": "free"})),
        ("cid", json!({"plan": "pro"})),
    ]);
    project
}

fn ids(project: &Project, query: &str) -> Vec<String> {
    let page = project.get(&format!("persons/{query}"));
    assert_eq!(page.status, 200, "{}", page.text);
    first_ids(&page.json()["results"])
}

#[test]
fn persons_are_found_by_distinct_id_search_and_properties() {
    let project = with_persons();
    assert_eq!(ids(&project, ""), ["ann", "bob", "cid"]);
    assert_eq!(ids(&project, "?distinct_id=bob"), ["bob"]);
    assert_eq!(ids(&project, "?distinct_id=unknown"), Vec::<String>::new());
    assert_eq!(ids(&project, "?distinct_id=a%00nn"), Vec::<String>::new());
    assert_eq!(ids(&project, "?search=X.IO"), ["ann"]);
    let pro = r#"?properties=[{"key":"plan","value":"pro"}]"#;
    assert_eq!(ids(&project, pro), ["ann", "cid"]);
    assert_eq!(ids(&project, &format!("{pro}&search=cid")), ["cid"]);
    assert_eq!(
        ids(&project, &format!("{pro}&distinct_id=bob")),
        Vec::<String>::new()
    );
    let csv = project.get("persons.csv");
    assert_eq!(csv.text.lines().count(), 4, "{}", csv.text);
    let other = Project::new();
    assert_eq!(ids(&other, ""), Vec::<String>::new());
}

#[test]
fn person_is_retrieved_only_in_its_project() {
    let project = with_persons();
    let ann = project.person("ann");
    let shown = project.get(&format!("persons/{ann}/")).json();
    assert_eq!(
        (&shown["id"], &shown["name"]),
        (&json!(ann), &json!("ann@x.io"))
    );
    let other = Project::new();
    for unknown in [
        other.get(&format!("persons/{ann}/")),
        project.get("persons/ann/"),
    ] {
        unknown.is_error(404, "not_found", None);
    }
}

#[test]
fn cohorts_of_a_person_exclude_deleted_cohorts() {
    let project = with_persons();
    let ann = project.person("ann");
    let pros = any_of(json!([person("plan", "exact", "pro")]));
    let dynamic = project.cohort(json!({"name": "Pros", "filters": pros}));
    let listed = json!({"is_static": true, "_create_static_person_ids": [ann]});
    let listed = project.cohort(listed);
    let deleted = project.cohort(json!({"is_static": true, "_create_static_person_ids": [ann]}));
    project.cohort(json!({"is_static": true}));
    project.settle(dynamic);
    project.patch(&format!("cohorts/{deleted}/"), json!({"deleted": true}));
    let cohorts = project
        .get(&format!("persons/cohorts/?person_id={ann}"))
        .json();
    let expected = json!({"results": [
        {"id": dynamic, "name": "Pros", "count": 2},
        {"id": listed, "name": null, "count": 1},
    ]});
    assert_eq!(cohorts, expected);
    project
        .get("persons/cohorts/?person_id=ann")
        .is_error(400, "invalid_input", Some("person_id"));
}
