//! Every error of a filter, with its exact text and path: rejected when it is sent, or stored and failed when it is
//! calculated.

use serde_json::{Value, json};

use crate::harness::Project;

fn tree(join: &str, values: Value) -> Value {
    json!({"properties": {"type": join, "values": values}})
}

fn single(leaf: Value) -> Value {
    tree("OR", json!([leaf]))
}

/// The leaf with changed members; null removes a member.
fn with(mut leaf: Value, more: Value) -> Value {
    for (key, value) in more.as_object().expect("members") {
        leaf[key] = value.clone();
    }
    leaf
}

fn person(more: Value) -> Value {
    with(
        json!({"type": "person", "key": "plan", "operator": "exact", "value": "pro"}),
        more,
    )
}

/// A behavioral leaf of a kind with the fields of all kinds.
fn behavior(kind: &str, more: Value) -> Value {
    let leaf = json!({"type": "behavioral", "key": "paid", "value": kind, "event_type": "events",
        "time_value": 7, "time_interval": "day", "operator": "gte", "operator_value": 1,
        "seq_event": "seen", "seq_event_type": "events", "seq_time_value": 1, "seq_time_interval": "day",
        "min_periods": 1, "total_periods": 3});
    with(leaf, more)
}

const KINDS: [&str; 7] = [
    "performed_event",
    "performed_event_multiple",
    "performed_event_first_time",
    "performed_event_sequence",
    "performed_event_regularly",
    "stopped_performing_event",
    "restarted_performing_event",
];

/// Filters that must not be stored, each with its error.
fn rejected() -> Vec<(Value, &'static str)> {
    let here = |leaf: Value| single(leaf);
    let no_properties = "Must contain a 'properties' key with type and values";
    let mut all = vec![
        (json!({}), no_properties),
        (json!({"values": []}), no_properties),
        (json!({"properties": null}), no_properties),
        (
            tree("and", json!([])),
            "properties: unknown group type 'and'; expected one of AND, OR",
        ),
        (
            json!({"properties": {"type": "OR"}}),
            "properties: a group must have 'values'",
        ),
        (
            with(tree("OR", json!([])), json!({"more": 1})),
            "filters: unknown key 'more'; allowed are properties, filterTestAccounts",
        ),
        (
            json!({"properties": {"type": "OR", "values": [], "negation": true}}),
            "properties: unknown key 'negation'; allowed are type, values",
        ),
        (
            here(person(json!({"shade": 1}))),
            "properties.values[0]: unknown key 'shade'; allowed are type, key, value, operator, negation",
        ),
        (
            here(json!({"type": "cohort", "key": "id", "value": 1, "operator": "not_in"})),
            "properties.values[0]: unknown key 'operator'; allowed are type, key, value, negation",
        ),
        (
            here(json!({"type": "cohort", "key": "name", "value": 1})),
            "properties.values[0]: 'key' of a cohort filter must be 'id'",
        ),
        (
            here(json!({"type": "cohort", "key": "id", "value": "pros"})),
            "properties.values[0]: 'value' must be a whole number, got \"pros\"",
        ),
        (
            here(person(
                json!({"operator": "is_date_before", "value": "soon"}),
            )),
            "properties.values[0]: Invalid date value \"soon\" for operator 'is_date_before'",
        ),
        (
            here(person(
                json!({"operator": "is_date_after", "value": ["2025-01-01", 5]}),
            )),
            "properties.values[0]: Invalid date value 5 for operator 'is_date_after'",
        ),
        (
            here(person(json!({"type": "person_metadata"}))),
            "properties.values[0]: 'key' of a person_metadata filter must be created_at, got 'plan'",
        ),
        (
            here(behavior("performed_event", json!({"time_value": "seven"}))),
            "properties.values[0]: 'time_value' must be a whole number, got \"seven\"",
        ),
        (
            here(behavior(
                "performed_event",
                json!({"event_filters": [{"type": "hogql", "key": "1 = 1"}]}),
            )),
            "properties.values[0].event_filters[0]: event filters of type 'hogql' are not supported; only 'event' is",
        ),
        (
            here(behavior(
                "performed_event",
                json!({"event_filters": [{"type": "element", "key": "tag_name", "value": "a"}]}),
            )),
            "properties.values[0].event_filters[0]: event filters of type 'element' are not supported; only 'event' is",
        ),
        (
            here(behavior("performed_event", json!({"negation": "maybe"}))),
            "properties.values[0]: 'negation' must be true or false",
        ),
        (
            here(person(json!({"value": vec!["x"; 10_001]}))),
            "properties.values[0]: 'value' lists 10001 items; at most 10000 are allowed",
        ),
    ];
    let types = "properties.values[0]: unknown filter type 'mood'; expected one of behavioral, cohort, person, person_metadata, AND, OR";
    all.push((here(json!({"type": "mood", "key": "x"})), types));
    for (key, error) in [
        ("key", "Missing required keys for behavioral filter: key"),
        (
            "value",
            "Missing required keys for behavioral filter: value",
        ),
        (
            "event_type",
            "Missing required keys for behavioral filter: event_type",
        ),
    ] {
        all.push((here(behavior("performed_event", json!({key: null}))), error));
    }
    for (leaf, error) in [
        (
            json!({"type": "cohort", "value": 1}),
            "Missing required keys for cohort filter: key",
        ),
        (
            json!({"type": "cohort", "key": "id"}),
            "Missing required keys for cohort filter: value",
        ),
        (
            person(json!({"operator": null})),
            "Missing required keys for person filter: operator",
        ),
        (
            person(json!({"value": null})),
            "Missing required keys for person filter: value",
        ),
        (
            person(json!({"value": null, "operator": null})),
            "Missing required keys for person filter: value, operator",
        ),
    ] {
        all.push((here(leaf), error));
    }
    all
}

/// Filters that may be stored and cannot be calculated, each with its error.
fn uncalculable() -> Vec<(Value, String)> {
    let place = "properties.values[0]";
    let negative = "properties: the top level condition cannot be negated; every way to become a member needs a positive criterion";
    let not = person(json!({"negation": true}));
    let mut all = vec![
        (tree("AND", json!([not])), negative.to_owned()),
        (
            tree("OR", json!([person(json!({})), not])),
            negative.to_owned(),
        ),
        (
            tree(
                "OR",
                json!([{"type": "AND", "values": [person(json!({}))]},
                {"type": "AND", "values": [{"type": "OR", "values": [not]}, {"type": "OR", "values": [not]}]}]),
            ),
            negative.to_owned(),
        ),
        (
            tree(
                "AND",
                json!([tree("OR", json!([person(json!({})), not]))["properties"]]),
            ),
            negative.to_owned(),
        ),
        (
            tree(
                "OR",
                json!([person(json!({})), {"type": "AND", "values": []}]),
            ),
            "properties.values[1]: a group has no criteria in it".to_owned(),
        ),
    ];
    let mut at = |leaf: Value, error: &str| all.push((single(leaf), format!("{place}: {error}")));
    at(
        behavior("levitated", json!({})),
        "unknown behavioral value 'levitated'",
    );
    at(
        behavior("performed_event", json!({"event_type": "pages"})),
        "'event_type' must be events or actions, got 'pages'",
    );
    at(
        behavior("performed_event", json!({"event_type": "actions"})),
        "'paid' is not the id of an action",
    );
    at(
        behavior(
            "performed_event_sequence",
            json!({"seq_event_type": "pages"}),
        ),
        "'seq_event_type' must be events or actions, got 'pages'",
    );
    for kind in KINDS {
        at(
            behavior(kind, json!({"time_value": 0})),
            "'time_value' must be greater than zero, got 0",
        );
        at(
            behavior(kind, json!({"time_value": -3})),
            "'time_value' must be greater than zero, got -3",
        );
        for interval in ["minute", "fortnight"] {
            at(
                behavior(kind, json!({"time_interval": interval})),
                &format!(
                    "unknown 'time_interval' '{interval}'; expected one of hour, day, week, month, year"
                ),
            );
        }
    }
    let windowed = [
        "performed_event",
        "performed_event_multiple",
        "performed_event_first_time",
    ];
    for kind in windowed {
        for missing in ["time_value", "time_interval"] {
            at(
                behavior(kind, json!({missing: null, "explicit_datetime_to": "-1d"})),
                "no time window: expected time_value with time_interval, or explicit_datetime",
            );
        }
        at(
            behavior(kind, json!({"explicit_datetime": "soon"})),
            "'explicit_datetime' is no date: 'soon'",
        );
        at(
            behavior(
                kind,
                json!({"explicit_datetime": "-3d", "explicit_datetime_to": "late"}),
            ),
            "'explicit_datetime_to' is no date: 'late'",
        );
    }
    for (kind, fields) in [
        ("performed_event_multiple", vec!["operator_value"]),
        (
            "performed_event_sequence",
            vec![
                "time_value",
                "time_interval",
                "seq_event",
                "seq_event_type",
                "seq_time_value",
                "seq_time_interval",
            ],
        ),
        (
            "performed_event_regularly",
            vec![
                "time_value",
                "time_interval",
                "operator_value",
                "min_periods",
                "total_periods",
            ],
        ),
        (
            "stopped_performing_event",
            vec![
                "time_value",
                "time_interval",
                "seq_time_value",
                "seq_time_interval",
            ],
        ),
        (
            "restarted_performing_event",
            vec![
                "time_value",
                "time_interval",
                "seq_time_value",
                "seq_time_interval",
            ],
        ),
    ] {
        for field in fields {
            at(
                behavior(kind, json!({field: null})),
                &format!("'{field}' is missing"),
            );
        }
    }
    for kind in ["performed_event_multiple", "performed_event_regularly"] {
        at(
            behavior(kind, json!({"operator_value": 0})),
            "'operator_value' must be greater than zero, got 0",
        );
        at(
            behavior(kind, json!({"operator": "is_not"})),
            "unknown count operator 'is_not'; expected one of exact, eq, gte, lte, gt, lt",
        );
    }
    at(
        behavior("performed_event_regularly", json!({"min_periods": 4})),
        "'min_periods' (4) is greater than 'total_periods' (3)",
    );
    at(
        behavior(
            "performed_event_regularly",
            json!({"time_interval": "hour"}),
        ),
        "periods are whole days; 'time_interval' cannot be hour",
    );
    at(
        behavior(
            "performed_event_regularly",
            json!({"total_periods": 10_001}),
        ),
        "'total_periods' may be 10000 at most, got 10001",
    );
    at(
        behavior(
            "performed_event",
            json!({"time_value": 20_000, "time_interval": "year"}),
        ),
        "the time window reaches beyond the calendar",
    );
    for kind in ["stopped_performing_event", "restarted_performing_event"] {
        at(
            behavior(kind, json!({"seq_time_value": 8})),
            "the window of seq_time_value is longer than the window of time_value",
        );
    }
    at(
        person(json!({"operator": "sounds_like"})),
        "unknown operator 'sounds_like'",
    );
    for (operator, value) in [
        ("between", json!([5, 1])),
        ("between", json!(5)),
        ("not_between", json!(["a", 5])),
        ("between", json!([1, 2, 3])),
    ] {
        at(
            person(json!({"operator": operator, "value": value})),
            &format!("operator '{operator}' needs a list of two numbers, the lower one first"),
        );
    }
    at(
        json!({"type": "person_metadata", "key": "created_at", "operator": "exact", "value": "2025-01-01"}),
        "operator 'exact' cannot be used with created_at; expected one of is_date_exact, is_date_before, is_date_after",
    );
    at(
        person(json!({"operator": "regex", "value": vec!["x"; 1_025]})),
        "the regular expressions of this filter are too many or too large",
    );
    all
}

#[test]
fn rejected_filters_have_exact_details() {
    let project = Project::new();
    let known = project.cohort(json!({"name": "known", "filters": single(person(json!({})))}));
    let before = project.get(&format!("cohorts/{known}/")).json()["filters"].clone();
    for (filters, error) in rejected() {
        let attr = match error.starts_with("Must contain") {
            true => "filters__detail",
            false => "filters",
        };
        let answers = [
            project.post("cohorts/", json!({"filters": filters})),
            project.patch(&format!("cohorts/{known}/"), json!({"filters": filters})),
            project.post("cohorts/preview/", json!({"filters": filters})),
        ];
        for answer in answers {
            answer.is_error(400, "invalid_input", Some(attr));
            assert_eq!(answer.detail(), error, "{filters}");
        }
    }
    let listed = project.get("cohorts/").json();
    assert_eq!(
        (&listed["count"], &listed["results"][0]["filters"]),
        (&json!(1), &before)
    );
}

#[test]
fn uncalculable_filters_are_stored_and_have_exact_errors() {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "pro"}))]);
    let cohorts: Vec<(i64, Value, String)> = uncalculable()
        .into_iter()
        .map(|(filters, error)| (project.cohort(json!({"filters": filters})), filters, error))
        .collect();
    for (id, filters, error) in cohorts {
        let cohort = project.settle(id);
        let failed = (
            &cohort["errors_calculating"],
            &cohort["is_calculating"],
            &cohort["count"],
        );
        assert_eq!(failed, (&json!(1), &json!(false), &Value::Null), "{cohort}");
        let message = cohort["last_error_message"].as_str().expect("a message");
        assert_eq!(
            message,
            format!("The criteria cannot be calculated. Please review them: {error}")
        );
        let history = project
            .get(&format!("cohorts/{id}/calculation_history"))
            .json();
        let row = &history["results"][0];
        assert_eq!(row["error"], error, "{row}");
        let code = match error.ends_with("no criteria in it") {
            true => "no_properties",
            false => "validation_error",
        };
        assert_eq!(
            (&row["error_code"], &cohort["last_error_code"]),
            (&json!(code), &json!(code)),
            "{row}"
        );

        let preview = project.post("cohorts/preview/", json!({"filters": filters}));
        preview.is_error(400, "invalid_input", Some("filters"));
        assert_eq!(preview.detail(), error);
    }
}

/// Oversized filters are rejected or evaluated, and never hang.
#[test]
fn oversized_filters_get_a_response() {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "x".repeat(10_000)}))]);
    let deep = |levels: usize| {
        let open = r#"{"type": "AND", "values": ["#.repeat(levels);
        let close = "]}".repeat(levels);
        format!(
            r#"{{"filters": {{"properties": {open}{}{close}}}}}"#,
            person(json!({}))
        )
    };
    for path in ["cohorts/", "cohorts/preview/"] {
        for levels in [70, 10_000] {
            let request = crate::harness::request(reqwest::Method::POST, &project.path(path));
            let request = request
                .bearer_auth(&project.key)
                .header("Content-Type", "application/json");
            let answer = crate::harness::send(&reqwest::Method::POST, request.body(deep(levels)));
            assert_eq!(answer.status, 400, "{}", answer.text);
        }
        let long = single(person(
            json!({"operator": "in", "value": vec!["x"; 100_000]}),
        ));
        let answer = project.post(path, json!({"filters": long}));
        assert!([400, 413].contains(&answer.status), "{}", answer.text);
    }
    // A pattern that is too large or cannot be read is an error.
    for (pattern, status) in [
        (r"(x+x+)+y", 200),
        (r"(?:\w{100}){100}", 200),
        (r"(x|x)*$", 200),
        (r"((((x{9}){9}){9}){9}){9}", 400),
        ("(", 400),
    ] {
        for operator in ["regex", "not_regex"] {
            let filters = single(person(json!({"operator": operator, "value": pattern})));
            let answer = project.post("cohorts/preview/", json!({"filters": filters}));
            assert_eq!(answer.status, status, "{}", answer.text);
        }
    }
}
