//! People beside cohorts, and what a key reaches.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, did, first_ids, key, person, request, send, server};

fn with_people() -> Project {
    let project = Project::new();
    project.people([
        ("ann", json!({"email": "ann@x.io", "plan": "pro"})),
        ("bob", json!({"plan": "free"})),
        ("cid", json!({"plan": "pro"})),
    ]);
    project
}

fn found(project: &Project, query: &str) -> Vec<String> {
    let page = project.get(&format!("persons/{query}"));
    assert_eq!(page.status, 200, "{}", page.text);
    first_ids(&page.json()["results"])
}

#[test]
fn people_are_found_by_id_by_search_and_by_properties() {
    let project = with_people();
    assert_eq!(found(&project, ""), ["ann", "bob", "cid"]);
    assert_eq!(found(&project, "?distinct_id=bob"), ["bob"]);
    assert_eq!(found(&project, "?distinct_id=nobody"), Vec::<String>::new());
    assert_eq!(found(&project, "?distinct_id=a%00nn"), Vec::<String>::new());
    assert_eq!(found(&project, "?search=X.IO"), ["ann"]);
    let pro = r#"?properties=[{"key":"plan","value":"pro"}]"#;
    assert_eq!(found(&project, pro), ["ann", "cid"]);
    assert_eq!(found(&project, &format!("{pro}&search=cid")), ["cid"]);
    assert_eq!(
        found(&project, &format!("{pro}&distinct_id=bob")),
        Vec::<String>::new()
    );
    let csv = project.get("persons.csv");
    assert_eq!(csv.text.lines().count(), 4, "{}", csv.text);
    let other = Project::new();
    assert_eq!(found(&other, ""), Vec::<String>::new());
}

#[test]
fn a_person_is_shown_by_id_in_this_project_alone() {
    let project = with_people();
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
fn the_cohorts_of_a_person_are_those_that_live() {
    let project = with_people();
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

fn delete(project: &Project, distinct_id: &str) {
    let path = format!("persons/{}/", project.person(distinct_id));
    let deleted = project.ask(Method::DELETE, &path, None);
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    project.get(&path).is_error(404, "not_found", None);
}

#[test]
fn a_deleted_person_is_nowhere_any_more() {
    let project = with_people();
    project.capture(json!([
        {"event": "paid", "distinct_id": "ann"},
        {"event": "paid", "distinct_id": "bob"},
    ]));
    let ann = project.person("ann");
    let listed = project.cohort(json!({"is_static": true,
        "_create_static_person_ids": [ann, project.person("bob")]}));
    let pros = any_of(json!([person("plan", "exact", "pro")]));
    let dynamic = project.cohort(json!({"filters": pros}));
    let payers = project.cohort(json!({"filters": any_of(json!([did("paid", 7)]))}));
    project.settle(payers);
    delete(&project, "ann");

    // The counts are right at once, and after the next calculation.
    for calculated in [false, true] {
        for (cohort, left) in [(listed, "bob"), (dynamic, "cid"), (payers, "bob")] {
            if calculated {
                project.patch(&format!("cohorts/{cohort}/"), json!({}));
                project.settle(cohort);
            }
            assert_eq!(project.members(cohort), [left]);
            assert_eq!(
                project.get(&format!("cohorts/{cohort}/")).json()["count"],
                1
            );
        }
    }
    assert_eq!(found(&project, ""), ["bob", "cid"]);

    // The distinct id makes a new person, without a past.
    project.people([("ann", json!({}))]);
    assert_ne!(project.person("ann"), ann);
    project.settle(payers);
    assert_eq!(project.members(payers), ["bob"]);
}

#[test]
fn somebody_deleted_during_a_calculation_or_an_upload_does_not_come_back() {
    let project = with_people();
    let ann = project.person("ann");
    delete(&project, "ann");
    let made = project.cohort(json!({"is_static": true, "_create_static_person_ids": [ann]}));
    assert_eq!(project.get(&format!("cohorts/{made}/")).json()["count"], 0);
}

fn ask(path: &str, key: &str) -> Value {
    let answer = send(&Method::GET, request(Method::GET, path).bearer_auth(key));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[test]
fn a_key_lists_the_projects_that_it_reaches() {
    let (first, second, _) = (Project::new(), Project::new(), Project::new());
    let both = key(server(), &[second.id, first.id], &["project:read"]);
    let page = ask("/api/projects/?limit=1", &both);
    assert_eq!(
        (&page["count"], &page["results"][0]["id"]),
        (&json!(2), &json!(first.id))
    );
    let next = page["next"].as_str().expect("a link");
    let path = next.strip_prefix(&server().url()).expect("this server");
    assert_eq!(ask(path, &both)["results"][0]["id"], second.id);
    let all = ask(
        "/api/projects/?limit=100000",
        &key(server(), &[], &["project:read"]),
    );
    assert!(all["count"].as_i64() >= Some(3), "{}", all["count"]);
}

#[test]
fn a_project_and_a_member_of_the_team_are_shown() {
    let project = Project::in_zone("Europe/Berlin");
    let shown = project.get("").json();
    assert_eq!(
        (&shown["id"], &shown["api_token"], &shown["timezone"]),
        (
            &json!(project.id),
            &json!(project.token),
            &json!("Europe/Berlin")
        )
    );
    let me = ask("/api/users/@me", &project.key);
    assert_eq!(
        (&me["email"], &me["first_name"], &me["team"]),
        (&json!("ana@x.io"), &json!("Ana"), &shown)
    );
}
