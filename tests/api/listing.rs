//! Cases 16 to 29: cohorts are listed, searched and narrowed down.

use serde_json::{Value, json};

use super::{asked_by, at, in_cohort, names, only, rows};
use crate::harness::{Project, did, person};

/// Makes cohorts without criteria, in this order.
fn named(project: &Project, names: &[&str]) {
    for name in names {
        project.cohort(json!({"name": name}));
    }
}

#[test]
fn case_016_every_cohort_is_a_row() {
    let project = Project::new();
    named(&project, &["a", "b", "c"]);
    assert_eq!(rows(&project.get("cohorts/").json()).len(), 3);
}

#[test]
fn case_017_a_page_has_links_to_both_sides_and_the_newest_come_first() {
    let project = Project::new();
    named(&project, &["a", "b", "c", "d", "e"]);
    let page = project.get("cohorts/?limit=2&offset=2").json();
    assert_eq!((&page["count"], rows(&page).len()), (&json!(5), 2));
    let next = page["next"].as_str().expect("a link");
    assert!(next.contains("offset=4"), "{next}");
    let previous = page["previous"].as_str().expect("a link");
    assert!(previous.contains("limit=2"), "{previous}");
    assert!(!previous.contains("offset"), "{previous}");
    assert_eq!(names(&project, ""), ["e", "d", "c", "b", "a"]);
    assert_eq!(names(&project, "limit=2&offset=2"), ["c", "b"]);
}

#[test]
fn case_018_a_limit_or_offset_without_sense_gives_the_default_page() {
    let project = Project::new();
    for _ in 0..101 {
        project.cohort(json!({}));
    }
    let default = project.get("cohorts/").json()["results"].clone();
    assert_eq!(default.as_array().map(Vec::len), Some(100));
    for query in ["limit=0", "limit=-1", "limit=abc", "offset=abc"] {
        let page = project.get(&format!("cohorts/?{query}"));
        assert_eq!(page.status, 200, "{query}");
        assert!(page.json()["results"] == default, "{query}");
    }
}

#[test]
fn case_019_a_list_is_of_the_type_asked_for() {
    let project = Project::new();
    project.cohort(json!({"name": "fixed", "is_static": true}));
    project.cohort(json!({"name": "moving"}));
    assert_eq!(names(&project, "type=static"), ["fixed"]);
    assert_eq!(names(&project, "type=dynamic"), ["moving"]);
    assert_eq!(names(&project, ""), ["moving", "fixed"]);
}

#[test]
fn case_020_a_list_is_of_the_maker_asked_for() {
    let (project, other) = (Project::new(), Project::new());
    let maker = |project: &Project, name: &str| {
        let made = project.post("cohorts/", json!({"name": name}));
        made.json()["created_by"]["id"].clone()
    };
    let ana = maker(&project, "Ana's");
    let bob = maker(&asked_by(&project, "bob@x.io"), "Bob's");
    let eve = maker(&asked_by(&other, "eve@x.io"), "elsewhere");
    for (id, expected) in [(ana, vec!["Ana's"]), (bob, vec!["Bob's"]), (eve, vec![])] {
        let found = names(&project, &format!("created_by_id={id}"));
        assert_eq!(found, expected, "{id}");
    }
}

#[test]
fn case_021_a_search_finds_part_of_a_name_in_any_letters() {
    let project = Project::new();
    named(&project, &["Loyal buyers", "Something else"]);
    for term in ["Loyal+buyers", "Loyal", "loyal+buyers", "LOYAL"] {
        let found = names(&project, &format!("search={term}"));
        assert_eq!(found, ["Loyal buyers"], "{term}");
    }
}

#[test]
fn case_022_a_search_for_what_no_name_has_finds_nothing() {
    let project = Project::new();
    named(&project, &["Loyal buyers", "Something else"]);
    let page = project.get("cohorts/?search=qqqqnothing").json();
    assert_eq!(page["results"], json!([]));
}

#[test]
fn case_023_without_a_search_no_row_says_how_it_was_found() {
    let project = Project::new();
    named(&project, &["a", "b"]);
    let page = project.get("cohorts/").json();
    assert_eq!(rows(&page).len(), 2);
    for row in rows(&page) {
        assert_eq!(row.get("search_match_type"), None);
    }
}

#[test]
fn case_024_a_blank_search_is_none() {
    let project = Project::new();
    named(&project, &["b", "a", "c"]);
    for query in ["search=", "search=%20%20"] {
        assert_eq!(names(&project, query), ["c", "a", "b"], "{query}");
        let page = project.get(&format!("cohorts/?{query}")).json();
        for row in rows(&page) {
            assert_eq!(row.get("search_match_type"), None, "{query}");
        }
    }
}

#[test]
fn case_025_a_behavioral_criterion_is_found_two_groups_deep() {
    let project = Project::new();
    let within = |node: Value| json!({"type": "AND", "values": [node]});
    let deep = only(within(within(did("open", 1))));
    project.cohort(json!({"name": "did it", "filters": deep}));
    project.cohort(json!({"name": "has it", "filters": only(person("plan", "exact", "pro"))}));
    assert_eq!(names(&project, "hide_behavioral_cohorts=true"), ["has it"]);
    assert_eq!(names(&project, ""), ["has it", "did it"]);
}

#[test]
fn case_026_what_builds_on_behavioral_cohorts_is_hidden_with_them() {
    let project = Project::new();
    let one = project.cohort(json!({"name": "1", "filters": only(did("open", 1))}));
    let two = project.cohort(json!({"name": "2", "filters": only(in_cohort(one))}));
    project.cohort(json!({"name": "3", "filters": only(in_cohort(two))}));
    project.cohort(json!({"name": "4", "filters": only(person("plan", "exact", "pro"))}));
    assert_eq!(names(&project, "hide_behavioral_cohorts=true"), ["4"]);
}

#[test]
fn case_027_a_static_cohort_with_behavioral_criteria_is_not_hidden() {
    let project = Project::new();
    let filters = only(did("open", 1));
    let body = json!({"name": "fixed", "is_static": true, "filters": filters});
    project.cohort(body);
    project.cohort(json!({"name": "moving", "filters": filters}));
    assert_eq!(names(&project, "hide_behavioral_cohorts=true"), ["fixed"]);
}

#[test]
fn case_028_basic_rows_have_no_definition() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A", "filters": only(did("open", 1))}));
    project.settle(id);
    let row = project.get("cohorts/?basic=true").json()["results"][0].clone();
    for key in ["filters", "query", "groups"] {
        assert_eq!(row.get(key), None, "{key}");
    }
    assert_eq!(
        (&row["id"], &row["name"], &row["count"]),
        (&json!(id), &json!("A"), &json!(0))
    );
    let whole = project.get("cohorts/").json()["results"][0].clone();
    assert!(whole.get("filters").is_some());
}

#[test]
fn case_029_the_type_is_shown_in_a_list_and_alone() {
    let project = Project::new();
    let bare = project.cohort(json!({}));
    let typed = project.cohort(json!({"filters": only(person("plan", "exact", "pro"))}));
    let listed = project.get("cohorts/").json();
    for (row, id, kind) in [(0, typed, json!("realtime")), (1, bare, Value::Null)] {
        let shown = project.get(&at(id)).json();
        for cohort in [&shown, &rows(&listed)[row]] {
            assert_eq!(cohort["id"], id);
            assert_eq!(cohort.get("cohort_type"), Some(&kind));
        }
    }
}
