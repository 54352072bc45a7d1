//! The members of a cohort at a time in the past.

use chrono::{SecondsFormat, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, assert_invalid, first_ids, only, person, request, rows, send,
};

/// The time now, as a parameter.
fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn ask(project: &Project, cohort: i64, query: &str) -> Answer {
    project.get(&format!("cohorts/{cohort}/persons/?{query}"))
}

/// The members at a time, sorted.
fn members_at(project: &Project, cohort: i64, time: &str) -> Vec<String> {
    let answer = ask(project, cohort, &format!("as_of={time}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    first_ids(&answer.json()["results"])
}

fn add(project: &Project, cohort: i64, ids: &[&str]) {
    let persons: Vec<String> = ids.iter().map(|id| project.person(id)).collect();
    let path = format!("cohorts/{cohort}/add_persons_to_static_cohort/");
    assert_eq!(
        project.patch(&path, json!({"person_ids": persons})).status,
        200
    );
}

fn remove(project: &Project, cohort: i64, id: &str) {
    let path = format!("cohorts/{cohort}/remove_person_from_static_cohort/");
    let body = json!({"person_id": project.person(id)});
    assert_eq!(project.patch(&path, body).status, 200);
}

fn delete(project: &Project, id: &str) {
    let path = format!("persons/{}/", project.person(id));
    assert_eq!(project.ask(Method::DELETE, &path, None).status, 204);
}

/// A project with the persons `a` to `e`, and a static cohort without members.
fn with_list() -> (Project, i64) {
    let project = Project::new();
    project
        .persons(["a", "b", "c", "d", "e"].map(|id| (id, json!({"email": format!("{id}@x.io")}))));
    let cohort = project.cohort(json!({"is_static": true}));
    (project, cohort)
}

#[test]
fn members_are_those_published_at_the_time() {
    let (project, cohort) = with_list();
    let created = now();
    add(&project, cohort, &["a", "b"]);
    let added = now();
    remove(&project, cohort, "a");
    add(&project, cohort, &["c"]);
    let changed = now();
    let states: [(&str, &[&str]); 4] = [
        ("2020-01-01T00:00:00Z", &[]),
        (&created, &[]),
        (&added, &["a", "b"]),
        (&changed, &["b", "c"]),
    ];
    for (time, expected) in states {
        assert_eq!(members_at(&project, cohort, time), expected, "{time}");
    }
}

#[test]
fn dynamic_members_are_those_of_the_last_calculation_before_the_time() {
    let project = Project::new();
    let pro = json!({"plan": "pro"});
    project.persons([("a", pro.clone()), ("b", json!({"plan": "free"}))]);
    let cohort = project.cohort(json!({"filters": only(person("plan", "exact", "pro"))}));
    let created = now();
    project.settle(cohort);
    let calculated = now();
    let filters = only(person("plan", "exact", "free"));
    project.patch(&format!("cohorts/{cohort}/"), json!({"filters": filters}));
    let edited = now();
    project.settle(cohort);
    assert_eq!(members_at(&project, cohort, &created), [""; 0]);
    for time in [&calculated, &edited] {
        assert_eq!(members_at(&project, cohort, time), ["a"]);
    }
    assert_eq!(members_at(&project, cohort, &now()), ["b"]);
}

#[test]
fn pages_and_files_have_the_members_of_the_time() {
    let (project, cohort) = with_list();
    add(&project, cohort, &["a", "b", "c", "d", "e"]);
    let time = now();
    for parameter in ["offset=0", "cursor="] {
        let mut page = ask(
            &project,
            cohort,
            &format!("as_of={time}&limit=2&{parameter}"),
        )
        .json();
        let mut seen = Vec::new();
        let mut pages = 0;
        loop {
            seen.extend(first_ids(&page["results"]));
            pages += 1;
            // The members change while a client reads the pages.
            if pages == 1 {
                remove(&project, cohort, &seen[0]);
            }
            if page["next"].is_null() {
                break;
            }
            page = project.follow(&page["next"]);
        }
        seen.sort_unstable();
        assert_eq!(seen, ["a", "b", "c", "d", "e"], "{parameter}");
    }
    let file = |path: &str| {
        let answer = project.get(&format!("cohorts/{cohort}/{path}as_of={time}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text.lines().count()
    };
    assert_eq!((file("persons.ndjson?"), file("persons.csv?")), (5, 6));
    assert_eq!(
        (
            file("persons/?format=ndjson&"),
            file("persons/?format=csv&")
        ),
        (5, 6)
    );
    assert_eq!(project.members(cohort).len(), 4);
}

#[test]
fn members_of_the_time_are_narrowed_by_the_other_parameters() {
    let (project, cohort) = with_list();
    add(&project, cohort, &["a", "b", "c"]);
    let time = now();
    remove(&project, cohort, "a");
    let total = ask(
        &project,
        cohort,
        &format!("as_of={time}&include_total=true&limit=1"),
    )
    .json();
    assert_eq!((&total["count"], rows(&total).len()), (&json!(3), 1));
    let criteria = "properties=[{\"key\":\"email\",\"value\":\"a@x.io\"}]";
    for parameter in ["distinct_id=a", "email=a@x.io", "search=a@x", criteria] {
        let then = ask(&project, cohort, &format!("as_of={time}&{parameter}")).json();
        assert_eq!(first_ids(&then["results"]), ["a"], "{parameter}");
        let now = ask(&project, cohort, parameter).json();
        assert_eq!(rows(&now).len(), 0, "{parameter}");
    }
    let other = ask(&project, cohort, &format!("as_of={time}&distinct_id=e")).json();
    assert_eq!(rows(&other).len(), 0);
}

#[test]
fn persons_of_the_past_are_those_of_now() {
    let (project, cohort) = with_list();
    add(&project, cohort, &["a", "b", "c"]);
    let time = now();
    remove(&project, cohort, "c");
    project.persons([("c", json!({"email": "new@x.io"}))]);
    delete(&project, "b");
    let merge =
        json!({"event": "$merge_dangerously", "distinct_id": "d", "properties": {"alias": "a"}});
    project.capture(json!([merge]));
    let page = ask(
        &project,
        cohort,
        &format!("as_of={time}&include_total=true"),
    )
    .json();
    // The page has the survivor of the merge instead of `a`, and does not have the deleted person.
    let mut persons: Vec<(&Value, &Value)> = rows(&page)
        .iter()
        .map(|row| (&row["id"], &row["properties"]["email"]))
        .collect();
    persons.sort_by_key(|(id, _)| id.as_str());
    let (survivor, c) = (json!(project.person("d")), json!(project.person("c")));
    assert_eq!(survivor, json!(project.person("a")));
    let mut expected = vec![(&survivor, "d@x.io"), (&c, "new@x.io")];
    expected.sort_by_key(|(id, _)| id.as_str());
    assert_eq!(persons.len(), 2, "{page}");
    for ((id, email), (expected_id, expected_email)) in persons.iter().zip(expected) {
        assert_eq!(
            (*id, email.as_str()),
            (expected_id, Some(expected_email)),
            "{page}"
        );
    }
    assert_eq!(page["count"], 2);
}

#[test]
fn the_future_and_texts_that_are_no_time_are_refused() {
    let (project, cohort) = with_list();
    assert_invalid(
        &ask(&project, cohort, "as_of=2999-01-01T00:00:00Z"),
        Some("as_of"),
        "future",
    );
    for text in ["", "yesterday", "2026", "1e30", "%00"] {
        assert_invalid(
            &ask(&project, cohort, &format!("as_of={text}")),
            Some("as_of"),
            "",
        );
    }
    for path in ["persons.csv", "persons.ndjson"] {
        let answer = project.get(&format!(
            "cohorts/{cohort}/{path}?as_of=2999-01-01T00:00:00Z"
        ));
        assert_invalid(&answer, Some("as_of"), "future");
    }
    let time = now();
    ask(&project, 999_999, &format!("as_of={time}")).is_error(404, "not_found", None);
    // Only the members of a cohort have a past.
    let call = request(
        Method::GET,
        &project.path(&format!("persons/?as_of={time}")),
    );
    assert_eq!(
        send(&Method::GET, call.bearer_auth(&project.key)).status,
        200
    );
}
