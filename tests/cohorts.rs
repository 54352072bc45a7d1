//! Creating, reading, changing and listing cohorts.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::harness::{EMAIL, Project, any_of, did, person, request, send};

#[test]
fn a_new_dynamic_cohort_waits_for_its_calculation() {
    let project = Project::new();
    let made = project.post(
        "cohorts/",
        json!({"name": "Pros", "filters": any_of(json!([person("plan", "exact", "pro")]))}),
    );
    assert_eq!(made.status, 201);
    let made = made.json();
    let expected = json!({
        "name": "Pros", "description": "", "groups": [], "deleted": false, "query": null, "version": null,
        "pending_version": 1, "is_calculating": true, "last_calculation": null, "errors_calculating": 0,
        "last_error_message": null, "last_error_code": null, "count": null, "is_static": false, "cohort_type": "realtime", "experiment_set": [],
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(made[key], *value, "{key}");
    }
    assert_eq!(made["created_by"]["email"], EMAIL);
    assert_eq!(made["created_by"]["first_name"], "Ana");
    assert_eq!(
        project.get(&format!("cohorts/{}/", made["id"])).json(),
        made
    );
}

#[test]
fn an_absent_body_makes_an_unnamed_cohort_without_criteria() {
    let project = Project::new();
    let asked = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    let made = send(&Method::POST, asked).json();
    assert_eq!(made["name"], Value::Null);
    assert_eq!(made["filters"], json!({"properties": {}}));
    let settled = project.settle(made["id"].as_i64().expect("an id"));
    assert_eq!(
        (&settled["count"], &settled["errors_calculating"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn unknown_and_read_only_fields_are_ignored() {
    let project = Project::new();
    let made = project.post(
        "cohorts/",
        json!({"id": "x", "count": [], "colour": 1, "_create_in_folder": "A/B"}),
    );
    assert_eq!(made.status, 201, "{}", made.text);
    assert!(made.json().get("_create_in_folder").is_none());
}

#[test]
fn filters_come_back_normalised_and_otherwise_as_sent() {
    let project = Project::new();
    let sent = json!({"properties": {"values": [
        {"value": "performed_event", "type": "behavioral", "key": "x", "event_type": "events",
            "time_value": "30", "time_interval": "day", "seq_event": null},
        {"type": "cohort", "key": "id", "value": "12"},
    ], "type": "OR"}});
    let made = project.post("cohorts/", json!({"filters": sent}));
    assert_eq!(made.status, 201, "{}", made.text);
    let expected = r#""filters":{"properties":{"values":[{"value":"performed_event","type":"behavioral","key":"x","event_type":"events","time_value":30,"time_interval":"day","negation":false},{"type":"cohort","key":"id","value":12,"negation":false}],"type":"OR"}}"#;
    assert!(made.text.contains(expected), "{}", made.text);
}

#[test]
fn legacy_groups_become_filters() {
    let project = Project::new();
    project.people([
        ("ann", json!({"plan": "trial"})),
        ("bob", json!({"plan": "pro"})),
    ]);
    let id =
        project.cohort(json!({"name": "Trialists", "groups": [{"properties": {"plan": "trial"}}]}));
    let cohort = project.settle(id);
    let tree = json!({"type": "OR", "values": [{"type": "AND", "values": [{"key": "plan", "value": "trial", "type": "person"}]}]});
    assert_eq!(cohort["filters"]["properties"], tree);
    assert_eq!(project.members(id), ["ann"]);
}

#[test]
fn a_field_that_breaks_a_rule_is_named() {
    let project = Project::new();
    let long = "a".repeat(401);
    let cases = [
        (
            json!({"name": long}),
            "max_length",
            "name",
            "Ensure this field has no more than 400 characters.",
        ),
        (
            json!({"name": long, "description": null}),
            "max_length",
            "name",
            "Ensure this field has no more than 400 characters.",
        ),
        (
            json!({"name": [1]}),
            "invalid_input",
            "name",
            "Not a valid string.",
        ),
        (
            json!({"description": null}),
            "null",
            "description",
            "This field may not be null.",
        ),
        (
            json!({"deleted": "banana"}),
            "invalid_input",
            "deleted",
            "Must be a valid boolean.",
        ),
        (
            json!({"cohort_type": "nope"}),
            "invalid_choice",
            "cohort_type",
            "\"nope\" is not a valid choice.",
        ),
    ];
    for (body, code, attr, detail) in cases {
        let answer = project.post("cohorts/", body);
        assert_eq!(answer.is_error(400, code, Some(attr)).detail(), detail);
        assert_eq!(answer.json()["type"], "validation_error");
    }
    assert_eq!(
        project
            .post("cohorts/", json!({"name": "a".repeat(400)}))
            .status,
        201
    );
}

#[test]
fn a_body_that_is_no_object_or_no_json_is_refused() {
    let project = Project::new();
    let send_text = |text: &'static str| {
        let asked = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
        send(
            &Method::POST,
            asked.header(CONTENT_TYPE, "application/json").body(text),
        )
    };
    let list = send_text("[1]");
    let detail = list.is_error(400, "invalid_input", None).detail();
    assert_eq!(detail, "Invalid data. Expected a dictionary, but got list.");
    let broken = send_text("{\"name\": ");
    assert!(
        broken
            .is_error(400, "parse_error", None)
            .detail()
            .starts_with("JSON parse error - ")
    );
}

#[test]
fn a_wrong_filter_is_refused_with_its_place() {
    let project = Project::new();
    let cases = [
        (
            any_of(json!([{"type": "event"}])),
            "filters",
            "properties.values[0]: unknown filter type 'event'",
        ),
        (
            any_of(json!([{"type": "person", "key": "a"}])),
            "filters",
            "Missing required keys for person filter: value, operator",
        ),
        (
            json!("[not json]"),
            "filters__detail",
            "Must contain a 'properties' key with type and values",
        ),
        (
            json!({"properties": {"type": "or", "values": []}}),
            "filters",
            "unknown group type 'or'",
        ),
    ];
    for (filters, attr, part) in cases {
        let answer = project.post("cohorts/", json!({"filters": filters}));
        let detail = answer.is_error(400, "invalid_input", Some(attr)).detail();
        assert!(detail.contains(part), "{detail}");
    }
    assert_eq!(project.get("cohorts/").json()["count"], 0);
}

#[test]
fn a_type_must_be_the_one_that_the_criteria_need() {
    let project = Project::new();
    let body = json!({"cohort_type": "person_property", "filters": any_of(json!([did("x", 1)]))});
    let detail = project
        .post("cohorts/", body)
        .is_error(400, "invalid_input", Some("cohort_type"))
        .detail();
    assert_eq!(
        detail,
        "Cohort type 'person_property' does not match the filters. Expected type: 'behavioral'"
    );
}

#[test]
fn a_static_cohort_without_criteria_is_complete_at_once() {
    let project = Project::new();
    let body = json!({"is_static": true, "filters": {"colour": "red"}});
    let made = project.post("cohorts/", body).json();
    assert_eq!(made["filters"], json!({"properties": {}}));
    assert_eq!(
        (&made["count"], &made["is_calculating"]),
        (&json!(0), &json!(false))
    );
    assert_ne!(made["last_calculation"], Value::Null);
}

#[test]
fn a_static_cohort_with_criteria_is_a_snapshot() {
    let project = Project::new();
    project.people([("ann", json!({"plan": "pro"}))]);
    let body =
        json!({"is_static": true, "filters": any_of(json!([person("plan", "exact", "pro")]))});
    let id = project.cohort(body);
    project.settle(id);
    project.people([("bob", json!({"plan": "pro"}))]);
    let settled = project.settle(id);
    assert_eq!(
        (&settled["count"], &settled["version"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(project.members(id), ["ann"]);
}

#[test]
fn only_what_is_sent_changes() {
    let project = Project::new();
    let id = project
        .cohort(json!({"name": "A", "description": "b", "filters": any_of(json!([did("x", 1)]))}));
    let before = project.settle(id);
    let path = format!("cohorts/{id}/");

    let changed = project.patch(&path, json!({"name": null})).json();
    assert_eq!(
        (&changed["name"], &changed["description"]),
        (&Value::Null, &json!("b"))
    );
    assert_eq!(changed["filters"], before["filters"]);
    assert_eq!(
        (&changed["pending_version"], &changed["version"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(changed["is_calculating"], true);

    let same = project.patch(&path, json!({})).json();
    assert_eq!(
        (&same["name"], &same["pending_version"]),
        (&Value::Null, &json!(3))
    );
    project
        .patch(&path, json!({"description": null}))
        .is_error(400, "null", Some("description"));
    project.patch(&path, json!({"filters": null})).is_error(
        400,
        "invalid_input",
        Some("filters__detail"),
    );
    assert_eq!(project.get(&path).json()["pending_version"], 3);
}

#[test]
fn a_deleted_cohort_is_shown_but_not_listed_and_can_be_restored() {
    let project = Project::new();
    // It is deleted while it waits for its calculation, which it then does no more.
    let id = project.cohort(json!({"name": "A"}));
    let path = format!("cohorts/{id}/");
    let deleted = project.patch(&path, json!({"deleted": true})).json();
    assert_eq!(
        (&deleted["deleted"], &deleted["is_calculating"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(project.get(&path).json()["deleted"], true);
    assert_eq!(project.get("cohorts/").json()["count"], 0);
    let restored = project.patch(&path, json!({"deleted": false})).json();
    assert_eq!(
        (&restored["deleted"], &restored["is_calculating"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(project.get("cohorts/").json()["count"], 1);
}

#[test]
fn deleting_by_method_is_not_allowed_and_changes_nothing() {
    let project = Project::new();
    let id = project.cohort(json!({}));
    for id in [id, 999_999_999] {
        let answer = project.ask(Method::DELETE, &format!("cohorts/{id}/"), None);
        assert_eq!((answer.status, answer.text.as_str()), (405, ""));
    }
    assert_eq!(
        project.get(&format!("cohorts/{id}/")).json()["deleted"],
        false
    );
}

#[test]
fn other_methods_are_refused_and_the_possible_ones_named() {
    let project = Project::new();
    let answer = project.ask(Method::PUT, "cohorts/", None);
    answer.is_error(405, "method_not_allowed", None);
    assert_eq!(answer.detail(), "Method \"PUT\" not allowed.");
    assert_eq!(answer.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
}

#[test]
fn a_list_is_paged_with_links_that_lead_on() {
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

#[test]
fn a_limit_or_offset_that_makes_no_sense_counts_as_absent() {
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

#[test]
fn an_id_that_is_no_number_is_not_found() {
    let project = Project::new();
    for id in ["abc", "999999999", "1.5", "99999999999999999999999"] {
        let answer = project.get(&format!("cohorts/{id}/"));
        assert_eq!(
            answer.is_error(404, "not_found", None).detail(),
            "Not found."
        );
    }
}

/// The names in a list.
fn names(project: &Project, query: &str) -> Vec<String> {
    let page = project.get(&format!("cohorts/?{query}"));
    assert_eq!(page.status, 200, "{}", page.text);
    let rows = page.json()["results"].as_array().expect("rows").clone();
    rows.iter()
        .map(|row| row["name"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_list_is_of_the_type_and_the_maker_asked_for() {
    let project = Project::new();
    let made = project
        .post("cohorts/", json!({"name": "listed", "is_static": true}))
        .json();
    project.cohort(json!({"name": "moving"}));
    assert_eq!(names(&project, "type=static"), ["listed"]);
    assert_eq!(names(&project, "type=dynamic"), ["moving"]);
    assert_eq!(names(&project, "type=banana"), ["moving", "listed"]);
    let ana = &made["created_by"]["id"];
    assert_eq!(
        names(&project, &format!("created_by_id={ana}&type=static")),
        ["listed"]
    );
    assert_eq!(names(&project, "created_by_id=999999999").len(), 0);
    project
        .get("cohorts/?created_by_id=ana")
        .is_error(400, "invalid_input", Some("created_by_id"));
}

#[test]
fn a_search_finds_parts_of_names_and_names_with_typing_errors() {
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
            names(&project, &format!("search={term}")),
            ["Loyal buyers"],
            "{term}"
        );
    }
    assert_eq!(names(&project, "search=100%25_"), ["100%_sure"]);
    assert_eq!(names(&project, "search=%25").len(), 1);
    assert_eq!(names(&project, "search=qqqqnothing").len(), 0);
    let rows = project.get("cohorts/?search=loyal").json();
    assert_eq!(rows["results"][0]["search_match_type"], "exact");
    for query in ["", "search=", "search=%20%20"] {
        let rows = project.get(&format!("cohorts/?{query}")).json();
        assert_eq!(
            (&rows["count"], rows["results"][0].get("search_match_type")),
            (&json!(4), None)
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

#[test]
fn behavioral_cohorts_and_what_builds_on_them_can_be_hidden() {
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
    assert_eq!(names(&project, "hide_behavioral_cohorts=TRUE"), ["5", "4"]);
    assert_eq!(
        names(&project, "hide_behavioral_cohorts=1"),
        ["5", "4", "3", "2", "1"]
    );
}

#[test]
fn basic_rows_have_no_definition() {
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

#[test]
fn a_text_that_no_database_holds_is_refused_in_criteria() {
    let project = Project::new();
    let mut unknown = did("x", 1);
    unknown["value"] = json!("performed\u{0}");
    for leaf in [
        person("a\u{0}", "exact", 1),
        person("a", "exact", "\u{0}"),
        unknown,
    ] {
        let filters = any_of(json!([leaf]));
        for path in ["cohorts/", "cohorts/preview/"] {
            let answer = project.post(path, json!({"filters": filters}));
            let detail = answer
                .is_error(400, "invalid_input", Some("filters"))
                .detail();
            assert!(detail.contains("NUL"), "{detail}");
        }
    }
}

#[test]
fn a_cohort_that_turns_static_while_it_waits_keeps_its_members() {
    let project = Project::new();
    project.people([("d1", json!({"a": 1}))]);
    let id = project.cohort(json!({"filters": any_of(json!([person("a", "exact", 1)]))}));
    let turned = project
        .patch(&format!("cohorts/{id}/"), json!({"is_static": true}))
        .json();
    assert_eq!(turned["is_calculating"], false);
    project.settle(id);
    assert_eq!(project.members(id).len(), 0);
}

#[test]
fn a_snapshot_that_was_deleted_before_it_was_filled_is_filled_when_restored() {
    let project = Project::new();
    project.people([("d1", json!({"a": 1}))]);
    let id = project
        .cohort(json!({"is_static": true, "filters": any_of(json!([person("a", "exact", 1)]))}));
    for deleted in [true, false] {
        project.patch(&format!("cohorts/{id}/"), json!({"deleted": deleted}));
    }
    assert_eq!(project.settle(id)["count"], 1);
}
