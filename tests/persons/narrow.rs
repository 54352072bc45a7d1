//! Lists of persons that are narrowed: by e-mail address, by cohort, and by several parameters at once.

use serde_json::{Value, json};

use crate::harness::{Project, any_of, assert_invalid, find_person, first_ids, person, rows};

fn with_persons() -> Project {
    let project = Project::new();
    project.persons([
        ("d1", json!({"email": "ana@x.io", "plan": "pro"})),
        ("d2", json!({"email": "bob@x.io", "plan": "pro"})),
        ("d3", json!({"email": " Bob@X.io\t", "plan": "free"})),
        ("d4", json!({"plan": "pro"})),
        ("d5", json!({"email": "ana@x.io.example"})),
    ]);
    project
}

fn ids(project: &Project, query: &str) -> Vec<String> {
    let page = project.get(&format!("persons/?{query}"));
    assert_eq!(page.status, 200, "{query}: {}", page.text);
    first_ids(&page.json()["results"])
}

const NONE: [&str; 0] = [];

/// A static cohort of `d1`, `d2` and `d3`, and a dynamic one of `d1`, `d2` and `d4`.
fn with_cohorts() -> (Project, i64, i64) {
    let project = with_persons();
    let list = ["d1", "d2", "d3"].map(|id| project.person(id));
    let list = project.cohort(json!({"is_static": true, "_create_static_person_ids": list}));
    let pros = any_of(json!([person("plan", "exact", "pro")]));
    let pros = project.cohort(json!({"filters": pros}));
    project.settle(pros);
    (project, list, pros)
}

#[test]
fn persons_are_found_by_their_whole_address() {
    let project = with_persons();
    assert_eq!(ids(&project, "email=ana@x.io"), ["d1"]);
    assert_eq!(ids(&project, "email=%20BOB@x.IO"), ["d2", "d3"]);
    for unknown in ["nobody@x.io", "ana", "x.io", "", "a%00", "%25", "ana@x_io"] {
        assert_eq!(
            ids(&project, &format!("email={unknown}")),
            NONE,
            "{unknown}"
        );
    }
    let other = Project::new();
    assert_eq!(ids(&other, "email=ana@x.io"), NONE);
}

#[test]
fn parameters_are_combined() {
    let (project, list, pros) = with_cohorts();
    let free = r#"properties=[{"key":"plan","value":"free"}]"#;
    for (query, expected) in [
        (format!("email=bob@x.io&{free}"), vec!["d3"]),
        ("email=bob@x.io&search=d2".to_owned(), vec!["d2"]),
        ("email=bob@x.io&distinct_id=d3".to_owned(), vec!["d3"]),
        ("email=bob@x.io&distinct_id=d1".to_owned(), vec![]),
        (format!("cohort={list}"), vec!["d1", "d2", "d3"]),
        (format!("cohort={pros}"), vec!["d1", "d2", "d4"]),
        (format!("cohort={list}&email=bob@x.io"), vec!["d2", "d3"]),
        (format!("cohort={pros}&email=bob@x.io"), vec!["d2"]),
        (format!("cohort={pros}&distinct_id=d3"), vec![]),
        (format!("cohort={list}&{free}"), vec!["d3"]),
        (format!("cohort={list}&search=ANA"), vec!["d1"]),
    ] {
        assert_eq!(ids(&project, &query), expected, "{query}");
    }
    let members = |query: &str| {
        let page = project.get(&format!("cohorts/{list}/persons/?{query}"));
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        first_ids(&page.json()["results"])
    };
    assert_eq!(members("email=BOB@x.io"), ["d2", "d3"]);
    assert_eq!(members("distinct_id=d1"), ["d1"]);
    assert_eq!(members("distinct_id=d4"), NONE);
}

#[test]
fn pages_of_a_cohorts_persons_are_complete() {
    let (project, list, _) = with_cohorts();
    for start in ["", "&cursor="] {
        let mut page = project
            .get(&format!("persons/?cohort={list}&limit=2{start}"))
            .json();
        assert_eq!(rows(&page).len(), 2, "{start}");
        let mut persons: Vec<Value> = rows(&page).to_vec();
        while page["next"].is_string() && rows(&page).len() == 2 {
            page = project.follow(&page["next"]);
            persons.extend(rows(&page).to_vec());
        }
        assert_eq!(first_ids(&json!(persons)), ["d1", "d2", "d3"], "{start}");
    }
    let csv = project.get(&format!("persons.csv?cohort={list}&email=bob@x.io"));
    assert_eq!(csv.text.lines().count(), 3, "{}", csv.text);
    let lines = project.get(&format!("persons/?cohort={list}&format=ndjson"));
    assert_eq!(lines.text.lines().count(), 3, "{}", lines.text);
}

#[test]
fn total_counts_the_persons_on_all_pages() {
    let (project, list, _) = with_cohorts();
    let page = |query: &str| project.get(&format!("persons/?{query}")).json();
    for query in [
        "limit=2&include_total=true",
        "limit=2&offset=2&include_total=true",
        "limit=2&cursor=&include_total=1",
    ] {
        assert_eq!(page(query)["count"], 5, "{query}");
    }
    assert_eq!(page("email=bob@x.io&include_total=true")["count"], 2);
    assert_eq!(page("limit=2&include_total=false").get("count"), None);
    let members = project.get(&format!(
        "cohorts/{list}/persons/?limit=1&include_total=true"
    ));
    assert_eq!(members.json()["count"], 3);
}

#[test]
fn cohort_that_the_project_does_not_have_is_an_error() {
    let project = with_persons();
    let other = Project::new();
    let theirs = other.cohort(json!({"is_static": true}));
    for unknown in [theirs, 999_999_999] {
        let answer = project.get(&format!("persons/?cohort={unknown}"));
        assert_invalid(&answer, Some("cohort"), "no cohort with the ID");
    }
    let csv = project.get(&format!("persons.csv?cohort={theirs}"));
    assert_invalid(&csv, Some("cohort"), "no cohort with the ID");
    let text = project.get("persons/?cohort=all");
    assert_invalid(&text, Some("cohort"), "integer");
}

/// Without that scope, `cohorts/{id}/persons/` tells no members either.
#[test]
fn members_of_a_cohort_need_the_scope_of_cohorts() {
    let (project, list, _) = with_cohorts();
    let project = project.with_key(project.key_with(&["person:read"]));
    let answer = project.get(&format!("persons/?cohort={list}"));
    answer.is_error(403, "permission_denied", None);
    assert!(answer.detail().contains("'cohort:read'"), "{}", answer.text);
    assert_eq!(ids(&project, "email=ana@x.io"), ["d1"]);
}

#[test]
fn parameters_that_would_select_other_persons_are_refused() {
    let (project, list, _) = with_cohorts();
    for (parameter, value) in [
        ("uuid", "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"),
        ("id", "1"),
        ("key_identifier", "d1"),
        ("category", "identified"),
        ("is_identified", "false"),
        ("updated_after", "2026-01-01"),
        ("filter_test_accounts", "true"),
    ] {
        for path in [
            "persons/",
            "persons.csv",
            &format!("cohorts/{list}/persons/"),
        ] {
            let answer = project.get(&format!("{path}?limit=1&{parameter}={value}"));
            assert_invalid(&answer, Some(parameter), parameter);
        }
    }
    for ignored in [
        "filter_test_accounts=false",
        "refresh=true",
        "is_csv_export=0",
    ] {
        assert_eq!(ids(&project, ignored).len(), 5, "{ignored}");
    }
}

#[test]
fn cohorts_are_listed_by_a_distinct_id() {
    let (project, list, pros) = with_cohorts();
    let of = |query: &str| project.get(&format!("persons/cohorts/?{query}"));
    let by_uuid = of(&format!("person_id={}", project.person("d1"))).json();
    assert_eq!(of("distinct_id=d1").json(), by_uuid);
    let found: Vec<&Value> = rows(&by_uuid).iter().map(|row| &row["id"]).collect();
    assert_eq!(found, [list, pros]);
    assert_eq!(of("distinct_id=d5").json(), json!({"results": []}));
    // An event that names the person later shows the same cohorts.
    project.capture(json!([{"event": "$identify", "distinct_id": "d1", "properties": {"$anon_distinct_id": "new"}}]));
    assert!(find_person(&project, "new").is_some());
    assert_eq!(of("distinct_id=new").json(), by_uuid);
    for unknown in ["distinct_id=unknown", "distinct_id=", "distinct_id=a%00"] {
        of(unknown).is_error(404, "not_found", None);
    }
    let both = of(&format!(
        "distinct_id=d1&person_id={}",
        project.person("d2")
    ));
    assert_invalid(&both, Some("distinct_id"), "not both");
    assert_invalid(&of(""), Some("person_id"), "required");
}
