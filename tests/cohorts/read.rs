//! Reading cohorts: by id, in lists, by search.

use serde_json::{Value, json};

use crate::harness::{
    Project, any_of, cohort_names, cohort_path, did, in_cohort, only, person, rows,
};

/// Creates cohorts without criteria, in this order.
fn create_cohorts(project: &Project, names: &[&str]) {
    for name in names {
        project.cohort(json!({"name": name}));
    }
}

/// Conformance case 117.
#[test]
fn unknown_cohort_id_is_not_found() {
    let project = Project::new();
    for id in ["999999", "abc"] {
        let answer = project.get(&format!("cohorts/{id}"));
        let detail = answer.is_error(404, "not_found", None).detail();
        assert_eq!(detail, "Not found.");
    }
}

#[test]
fn malformed_cohort_ids_are_not_found() {
    let project = Project::new();
    for id in ["abc", "999999999", "1.5", "99999999999999999999999"] {
        let answer = project.get(&format!("cohorts/{id}/"));
        assert_eq!(
            answer.is_error(404, "not_found", None).detail(),
            "Not found."
        );
    }
}

/// Conformance case 16.
#[test]
fn list_returns_every_cohort() {
    let project = Project::new();
    create_cohorts(&project, &["a", "b", "c"]);
    assert_eq!(rows(&project.get("cohorts/").json()).len(), 3);
}

/// Conformance case 17.
#[test]
fn middle_page_links_both_ways_and_newest_come_first() {
    let project = Project::new();
    create_cohorts(&project, &["a", "b", "c", "d", "e"]);
    let page = project.get("cohorts/?limit=2&offset=2").json();
    assert_eq!((&page["count"], rows(&page).len()), (&json!(5), 2));
    let next = page["next"].as_str().expect("a link");
    assert!(next.contains("offset=4"), "{next}");
    let previous = page["previous"].as_str().expect("a link");
    assert!(previous.contains("limit=2"), "{previous}");
    assert!(!previous.contains("offset"), "{previous}");
    assert_eq!(cohort_names(&project, ""), ["e", "d", "c", "b", "a"]);
    assert_eq!(cohort_names(&project, "limit=2&offset=2"), ["c", "b"]);
}

#[test]
fn page_links_lead_to_the_adjacent_pages() {
    let project = Project::new();
    for number in 0..5 {
        project.cohort(json!({"name": number}));
    }
    let page = project.get("cohorts/?offset=2&limit=2").json();
    let names: Vec<&Value> = page["results"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| &row["name"])
        .collect();
    assert_eq!(
        (&page["count"], names),
        (&json!(5), vec![&json!("2"), &json!("1")])
    );
    let base = format!("{}{}", project.server.url(), project.path("cohorts/"));
    assert_eq!(page["next"], format!("{base}?limit=2&offset=4"));
    assert_eq!(page["previous"], format!("{base}?limit=2"));
    let last = project.get("cohorts/?limit=2&offset=4").json();
    assert_eq!(
        (last["results"].as_array().map(Vec::len), &last["next"]),
        (Some(1), &Value::Null)
    );
    let beyond = project.get("cohorts/?offset=999").json();
    assert_eq!(beyond["previous"], format!("{base}?limit=100&offset=899"));
    assert_eq!(beyond["results"], json!([]));
}

/// Conformance case 18.
#[test]
fn invalid_limit_or_offset_returns_the_default_page() {
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
fn invalid_or_negative_limit_and_offset_are_ignored() {
    let project = Project::new();
    project.cohort(json!({}));
    for query in [
        "limit=0",
        "limit=-1",
        "limit=abc",
        "offset=abc",
        "offset=-3",
    ] {
        let page = project.get(&format!("cohorts/?{query}")).json();
        assert_eq!(page["results"].as_array().map(Vec::len), Some(1), "{query}");
    }
}

/// Conformance case 19.
#[test]
fn list_is_filtered_by_type() {
    let project = Project::new();
    project.cohort(json!({"name": "fixed", "is_static": true}));
    project.cohort(json!({"name": "moving"}));
    assert_eq!(cohort_names(&project, "type=static"), ["fixed"]);
    assert_eq!(cohort_names(&project, "type=dynamic"), ["moving"]);
    assert_eq!(cohort_names(&project, ""), ["moving", "fixed"]);
}

/// Conformance case 20.
#[test]
fn list_is_filtered_by_creator() {
    let (project, other) = (Project::new(), Project::new());
    let creator_of = |project: &Project, name: &str| {
        let cohort = project.post("cohorts/", json!({"name": name}));
        cohort.json()["created_by"]["id"].clone()
    };
    let ana = creator_of(&project, "Ana's");
    let bob = creator_of(&project.with_caller("bob@x.io"), "Bob's");
    let eve = creator_of(&other.with_caller("eve@x.io"), "elsewhere");
    for (id, expected) in [(ana, vec!["Ana's"]), (bob, vec!["Bob's"]), (eve, vec![])] {
        let actual = cohort_names(&project, &format!("created_by_id={id}"));
        assert_eq!(actual, expected, "{id}");
    }
}

#[test]
fn list_filters_combine_and_unknown_types_are_ignored() {
    let project = Project::new();
    let cohort = project
        .post("cohorts/", json!({"name": "listed", "is_static": true}))
        .json();
    project.cohort(json!({"name": "moving"}));
    assert_eq!(cohort_names(&project, "type=static"), ["listed"]);
    assert_eq!(cohort_names(&project, "type=dynamic"), ["moving"]);
    assert_eq!(cohort_names(&project, "type=banana"), ["moving", "listed"]);
    let ana = &cohort["created_by"]["id"];
    assert_eq!(
        cohort_names(&project, &format!("created_by_id={ana}&type=static")),
        ["listed"]
    );
    assert_eq!(cohort_names(&project, "created_by_id=999999999").len(), 0);
    project
        .get("cohorts/?created_by_id=ana")
        .is_error(400, "invalid_input", Some("created_by_id"));
}

/// Conformance case 21.
#[test]
fn search_matches_part_of_a_name_case_insensitively() {
    let project = Project::new();
    create_cohorts(&project, &["Loyal buyers", "Something else"]);
    for term in ["Loyal+buyers", "Loyal", "loyal+buyers", "LOYAL"] {
        let actual = cohort_names(&project, &format!("search={term}"));
        assert_eq!(actual, ["Loyal buyers"], "{term}");
    }
}

/// Conformance case 22.
#[test]
fn search_without_a_match_returns_no_rows() {
    let project = Project::new();
    create_cohorts(&project, &["Loyal buyers", "Something else"]);
    let page = project.get("cohorts/?search=qqqqnothing").json();
    assert_eq!(page["results"], json!([]));
}

/// Conformance case 23.
#[test]
fn match_type_is_null_without_a_search() {
    let project = Project::new();
    create_cohorts(&project, &["a", "b"]);
    let page = project.get("cohorts/").json();
    assert_eq!(rows(&page).len(), 2);
    for row in rows(&page) {
        assert_eq!(row.get("search_match_type"), Some(&Value::Null));
    }
}

/// Conformance case 24.
#[test]
fn blank_search_is_ignored() {
    let project = Project::new();
    create_cohorts(&project, &["b", "a", "c"]);
    for query in ["search=", "search=%20%20"] {
        assert_eq!(cohort_names(&project, query), ["c", "a", "b"], "{query}");
        let page = project.get(&format!("cohorts/?{query}")).json();
        for row in rows(&page) {
            assert_eq!(row.get("search_match_type"), Some(&Value::Null), "{query}");
        }
    }
}

#[test]
fn search_matches_substrings_and_typing_errors() {
    let project = Project::new();
    for name in ["Loyal buyers", "Something else", "100%_sure"] {
        project.cohort(json!({"name": name}));
    }
    project.cohort(json!({}));
    for term in [
        "Loyal+buyers",
        "Loyal",
        "loyal+buyers",
        "LOYAL",
        "%20yal%20buy".trim_start_matches("%20"),
    ] {
        assert_eq!(
            cohort_names(&project, &format!("search={term}")),
            ["Loyal buyers"],
            "{term}"
        );
    }
    assert_eq!(cohort_names(&project, "search=100%25_"), ["100%_sure"]);
    assert_eq!(cohort_names(&project, "search=%25").len(), 1);
    assert_eq!(cohort_names(&project, "search=qqqqnothing").len(), 0);
    let rows = project.get("cohorts/?search=loyal").json();
    assert_eq!(rows["results"][0]["search_match_type"], "exact");
    for query in ["", "search=", "search=%20%20"] {
        let rows = project.get(&format!("cohorts/?{query}")).json();
        assert_eq!(
            (&rows["count"], rows["results"][0].get("search_match_type")),
            (&json!(4), Some(&Value::Null))
        );
    }
    if project.server.data().tells_similar_names() {
        let rows = project.get("cohorts/?search=Loyl+buyres").json();
        assert_eq!(rows["results"][0]["name"], "Loyal buyers");
        assert_eq!(rows["results"][0]["search_match_type"], "similar");
    }
    let long = project.get(&format!("cohorts/?search={}", "a".repeat(201)));
    let detail = long.is_error(400, "invalid_input", Some("search")).detail();
    assert_eq!(detail, "Search query must be 200 characters or fewer.");
    assert_eq!(
        project
            .get(&format!("cohorts/?search={}", "a".repeat(200)))
            .status,
        200
    );
}

/// The names that a search finds, and their match types.
fn found(project: &Project, query: &str) -> (Vec<String>, Vec<Value>) {
    let page = project.get(&format!("cohorts/?{query}")).json();
    assert_eq!(page["count"], rows(&page).len(), "{page}");
    let name = |row: &Value| row["name"].as_str().expect("a name").to_owned();
    let names = rows(&page).iter().map(name).collect();
    let types = rows(&page).iter();
    (
        names,
        types.map(|row| row["search_match_type"].clone()).collect(),
    )
}

#[test]
fn similar_names_are_found_only_if_no_name_contains_the_text() {
    let project = Project::new();
    if !project.server.data().tells_similar_names() {
        return;
    }
    create_cohorts(
        &project,
        &[
            "Loyal buyers",
            "Loyl buyers of shoes",
            "Loyl buyers",
            "Shoes",
        ],
    );
    let (exact, similar) = (json!("exact"), json!("similar"));
    let (names, types) = found(&project, "search=loyl+buyers");
    assert_eq!(names, ["Loyl buyers", "Loyl buyers of shoes"]);
    assert_eq!(types, [exact.clone(), exact]);
    let (names, types) = found(&project, "search=loyyl+buyers");
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(types.iter().all(|kind| *kind == similar), "{types:?}");
    let beyond = project
        .get("cohorts/?search=loyl+buyers&offset=5&limit=1")
        .json();
    assert_eq!((&beyond["count"], rows(&beyond).len()), (&json!(2), 0));
}

#[test]
fn names_that_other_parameters_exclude_do_not_hide_similar_ones() {
    let project = Project::new();
    if !project.server.data().tells_similar_names() {
        return;
    }
    project.cohort(json!({"name": "Loyl buyers"}));
    project.cohort(json!({"name": "Loyal buyers", "is_static": true}));
    for query in ["search=loyl&type=static", "type=static&search=loyl"] {
        let (names, types) = found(&project, query);
        assert_eq!(names, ["Loyal buyers"], "{query}");
        assert_eq!(types, [json!("similar")], "{query}");
    }
    let (names, _) = found(&project, "search=loyl&type=dynamic");
    assert_eq!(names, ["Loyl buyers"]);
}

#[test]
fn search_matches_names_with_a_wrong_first_letter() {
    let project = Project::new();
    for name in [
        "Enterprise customers",
        "Loyal buyers",
        "Checkout",
        "Something else",
    ] {
        project.cohort(json!({"name": name}));
    }
    for (term, name) in [
        ("wnterprise", "Enterprise customers"),
        ("xuyers", "Loyal buyers"),
        ("hceckout", "Checkout"),
    ] {
        let page = project.get(&format!("cohorts/?search={term}")).json();
        let names: Vec<&str> = page["results"]
            .as_array()
            .expect("rows")
            .iter()
            .filter_map(|row| row["name"].as_str())
            .collect();
        assert_eq!(names, [name], "{term}");
        assert_eq!(page["results"][0]["search_match_type"], "similar");
    }
}

/// Conformance case 25.
#[test]
fn nested_behavioral_criterion_hides_a_cohort() {
    let project = Project::new();
    let within = |node: Value| json!({"type": "AND", "values": [node]});
    let deep = only(within(within(did("open", 1))));
    project.cohort(json!({"name": "did it", "filters": deep}));
    project.cohort(json!({"name": "has it", "filters": only(person("plan", "exact", "pro"))}));
    assert_eq!(
        cohort_names(&project, "hide_behavioral_cohorts=true"),
        ["has it"]
    );
    assert_eq!(cohort_names(&project, ""), ["has it", "did it"]);
}

/// Conformance case 26.
#[test]
fn cohorts_that_reference_behavioral_cohorts_are_hidden() {
    let project = Project::new();
    let one = project.cohort(json!({"name": "1", "filters": only(did("open", 1))}));
    let two = project.cohort(json!({"name": "2", "filters": only(in_cohort(one))}));
    project.cohort(json!({"name": "3", "filters": only(in_cohort(two))}));
    project.cohort(json!({"name": "4", "filters": only(person("plan", "exact", "pro"))}));
    assert_eq!(
        cohort_names(&project, "hide_behavioral_cohorts=true"),
        ["4"]
    );
}

/// Conformance case 27.
#[test]
fn static_cohort_with_behavioral_criteria_is_not_hidden() {
    let project = Project::new();
    let filters = only(did("open", 1));
    let body = json!({"name": "fixed", "is_static": true, "filters": filters});
    project.cohort(body);
    project.cohort(json!({"name": "moving", "filters": filters}));
    assert_eq!(
        cohort_names(&project, "hide_behavioral_cohorts=true"),
        ["fixed"]
    );
}

#[test]
fn hide_behavioral_cohorts_accepts_only_true_in_any_case() {
    let project = Project::new();
    let on = |id: i64| any_of(json!([{"type": "cohort", "key": "id", "value": id}]));
    let nested =
        json!({"properties": {"type": "OR", "values": [{"type": "AND", "values": [did("x", 1)]}]}});
    let one = project.cohort(json!({"name": "1", "filters": nested}));
    let two = project.cohort(json!({"name": "2", "filters": on(one)}));
    project.cohort(json!({"name": "3", "filters": on(two)}));
    project.cohort(json!({"name": "4", "filters": any_of(json!([person("a", "exact", 1)]))}));
    project
        .cohort(json!({"name": "5", "is_static": true, "filters": any_of(json!([did("x", 1)]))}));
    assert_eq!(
        cohort_names(&project, "hide_behavioral_cohorts=TRUE"),
        ["5", "4"]
    );
    assert_eq!(
        cohort_names(&project, "hide_behavioral_cohorts=1"),
        ["5", "4", "3", "2", "1"]
    );
}

/// Conformance case 28.
#[test]
fn basic_rows_omit_the_definition() {
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
    let row = project.get("cohorts/").json()["results"][0].clone();
    assert!(row.get("filters").is_some());
}

#[test]
fn basic_accepts_each_spelling_of_true() {
    let project = Project::new();
    project.cohort(json!({"name": "A"}));
    for (query, there) in [
        ("basic=true", false),
        ("basic=ON", false),
        ("basic=no", true),
        ("", true),
    ] {
        let row = project.get(&format!("cohorts/?{query}")).json()["results"][0].clone();
        for key in ["filters", "query", "groups"] {
            assert_eq!(row.get(key).is_some(), there, "{query} {key}");
        }
        assert_eq!((&row["name"], &row["count"]), (&json!("A"), &Value::Null));
    }
}

/// Conformance case 29.
#[test]
fn cohort_type_is_in_the_list_and_in_the_detail() {
    let project = Project::new();
    let bare = project.cohort(json!({}));
    let typed = project.cohort(json!({"filters": only(person("plan", "exact", "pro"))}));
    let listed = project.get("cohorts/").json();
    for (row, id, kind) in [(0, typed, json!("realtime")), (1, bare, Value::Null)] {
        let shown = project.get(&cohort_path(id)).json();
        for cohort in [&shown, &rows(&listed)[row]] {
            assert_eq!(cohort["id"], id);
            assert_eq!(cohort.get("cohort_type"), Some(&kind));
        }
    }
}
