//! Sizes over time: recorded with each change, and before the first record evaluated.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Project, any_of, assert_invalid, did, in_cohort, only, person, request, rows, send,
};

fn sizes(project: &Project, cohort: i64, query: &str) -> Value {
    let answer = project.get(&format!("cohorts/{cohort}/sizes/?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The values of a field in all rows.
fn column(sizes: &Value, name: &str) -> Vec<Value> {
    rows(sizes).iter().map(|row| row[name].clone()).collect()
}

fn sum(sizes: &Value, name: &str) -> i64 {
    let values = column(sizes, name).into_iter();
    values.filter_map(|value| value.as_i64()).sum()
}

/// A static cohort of persons `a`, `b` and `c`, which `a` has left again.
fn changed_list(project: &Project) -> i64 {
    project.persons([("a", json!({})), ("b", json!({})), ("c", json!({}))]);
    let id = project.cohort(json!({"is_static": true}));
    let persons = ["a", "b", "c"].map(|id| project.person(id));
    let add = json!({"person_ids": persons});
    let path = format!("cohorts/{id}/add_persons_to_static_cohort/");
    assert_eq!(project.patch(&path, add).status, 200);
    let path = format!("cohorts/{id}/remove_person_from_static_cohort/");
    let remove = json!({"person_id": project.person("a")});
    assert_eq!(project.patch(&path, remove).status, 200);
    id
}

/// A cohort of the persons who did `open` within `days` days. `ann` did on February 20 and 22, `bob` on February 21.
fn opened(project: &Project, days: u32) -> i64 {
    let open =
        |id: &str, time: &str| json!({"event": "open", "distinct_id": id, "timestamp": time});
    project.capture(json!([
        open("ann", "2026-02-20T12:00:00Z"),
        open("ann", "2026-02-22T12:00:00Z"),
        open("bob", "2026-02-21T12:00:00Z"),
    ]));
    project.cohort(json!({"filters": only(did("open", days))}))
}

#[test]
fn each_change_is_recorded() {
    let project = Project::new();
    let id = changed_list(&project);
    for interval in ["minute", "hour", "day", "week", "month"] {
        let sizes = sizes(&project, id, &format!("interval={interval}"));
        let last = rows(&sizes).last().expect("a row").clone();
        assert_eq!(last["count"], 2, "{sizes}");
        assert_eq!(
            (sum(&sizes, "entered"), sum(&sizes, "left")),
            (3, 1),
            "{sizes}"
        );
        assert!((29..=31).contains(&rows(&sizes).len()), "{sizes}");
        assert_eq!(sizes["uses_current_properties"], false);
    }
}

#[test]
fn an_interval_without_changes_has_the_count_of_the_one_before() {
    let project = Project::new();
    let id = changed_list(&project);
    let before = sizes(&project, id, "interval=minute");
    let first = rows(&before).iter().find(|row| !row["count"].is_null());
    let first = first.expect("a record")["at"]
        .as_str()
        .expect("a time")
        .to_owned();
    // From the first record to the end of the hour, or as far as it has passed.
    let sizes = sizes(&project, id, &format!("interval=minute&from={first}"));
    assert_eq!(rows(&sizes)[0]["at"], first.as_str());
    assert_eq!(sizes["evaluated_before"], Value::Null);
    assert!(
        column(&sizes, "count")
            .iter()
            .all(|count| *count == 2 || *count == 3),
        "{sizes}"
    );
}

#[test]
fn a_static_cohort_has_no_size_before_its_first_record() {
    let project = Project::new();
    let id = changed_list(&project);
    let sizes = sizes(
        &project,
        id,
        "from=2026-02-20T00:00:00Z&to=2026-02-22T00:00:00Z",
    );
    let row = |day: &str| json!({"at": format!("2026-02-{day}T00:00:00Z"), "count": null, "entered": null, "left": null});
    let expected = json!({"results": [row("20"), row("21")],
        "evaluated_before": "2026-02-22T00:00:00Z", "uses_current_properties": false});
    assert_eq!(sizes, expected);
}

#[test]
fn a_list_without_changes_has_its_count_now() {
    let project = Project::new();
    let id = project.cohort(json!({"is_static": true}));
    let sizes = sizes(&project, id, "");
    let (last, earlier) = rows(&sizes).split_last().expect("rows");
    assert_eq!((&last["count"], &last["entered"]), (&json!(0), &json!(0)));
    assert!(earlier.iter().all(|row| row["count"].is_null()), "{sizes}");
    assert_eq!(sizes["evaluated_before"], last["at"]);
}

#[test]
fn sizes_before_the_record_are_evaluated_as_of_the_end_of_each_interval() {
    let project = Project::in_zone("Europe/Berlin");
    let id = opened(&project, 2);
    let query = "from=2026-02-19T12:00:00Z&to=2026-02-26T12:00:00Z";
    for is_calculated in [false, true] {
        if is_calculated {
            project.settle(id);
        }
        let sizes = sizes(&project, id, query);
        let days = ["18", "19", "20", "21", "22", "23", "24", "25"];
        assert_eq!(
            column(&sizes, "at"),
            days.map(|day| json!(format!("2026-02-{day}T23:00:00Z")))
        );
        assert_eq!(
            column(&sizes, "count"),
            [0, 1, 2, 2, 2, 1, 0, 0].map(Value::from),
            "{sizes}"
        );
        assert_eq!(column(&sizes, "entered"), vec![Value::Null; 8]);
        assert_eq!(sizes["evaluated_before"], "2026-02-26T23:00:00Z");
        assert_eq!(sizes["uses_current_properties"], false);
        // Each is what a preview counts.
        for (day, count) in days[1..].iter().zip(&column(&sizes, "count")) {
            let as_of = format!("2026-02-{day}T22:59:59.999999Z");
            let body = json!({"filters": only(did("open", 2)), "as_of": as_of});
            assert_eq!(
                project.post("cohorts/preview/", body).json()["count"],
                *count,
                "{day}"
            );
        }
    }
}

#[test]
fn the_record_begins_with_the_first_calculation() {
    let project = Project::new();
    let id = opened(&project, 30_000);
    let before = sizes(&project, id, "");
    assert_eq!(rows(&before).last().expect("a row")["count"], 2);
    assert_eq!(rows(&before).last().expect("a row")["entered"], Value::Null);
    project.settle(id);
    let after = sizes(&project, id, "");
    let (last, earlier) = rows(&after).split_last().expect("rows");
    assert_eq!(
        (&last["count"], &last["entered"], &last["left"]),
        (&json!(2), &json!(2), &json!(0))
    );
    assert_eq!(after["evaluated_before"], last["at"]);
    assert!(
        earlier
            .iter()
            .all(|row| row["entered"].is_null() && row["count"] == 2),
        "{after}"
    );
}

#[test]
fn at_most_60_sizes_are_evaluated_and_they_are_the_newest() {
    let project = Project::new();
    let id = opened(&project, 30_000);
    let sizes = sizes(
        &project,
        id,
        "interval=hour&from=2026-02-20T00:00:00Z&to=2026-02-24T00:00:00Z",
    );
    let counts = column(&sizes, "count");
    assert_eq!(counts.len(), 96);
    assert!(counts[..36].iter().all(Value::is_null), "{sizes}");
    assert!(
        counts[36..].iter().all(|count| *count == 2 || *count == 1),
        "{sizes}"
    );
    assert_eq!(
        (&counts[35], &counts[36], &counts[95]),
        (&Value::Null, &json!(2), &json!(2))
    );
}

#[test]
fn response_states_that_it_reads_current_properties() {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "pro"}))]);
    let list = project.cohort(json!({"is_static": true}));
    let events = opened(&project, 7);
    let create = |leaves: Value| project.cohort(json!({"filters": any_of(leaves)}));
    let plan = create(json!([person("plan", "exact", "pro")]));
    let created = json!({"type": "person_metadata", "key": "created_at", "operator": "is_date_after", "value": "-7d"});
    let cases = [
        (events, false),
        (plan, true),
        (create(json!([created])), true),
        (
            create(json!([did("open", 7), person("plan", "exact", "pro")])),
            true,
        ),
        (create(json!([in_cohort(events)])), false),
        (create(json!([in_cohort(plan)])), true),
        (create(json!([did("open", 7), in_cohort(list)])), true),
        (list, false),
    ];
    for (id, expected) in cases {
        let sizes = sizes(
            &project,
            id,
            "from=2026-02-20T00:00:00Z&to=2026-02-21T00:00:00Z",
        );
        assert_eq!(sizes["uses_current_properties"], expected, "{sizes}");
    }
    // Nothing is evaluated, so nothing is stated.
    project.settle(plan);
    let now = sizes(&project, plan, "interval=month&from=2026-11-01T00:00:00Z");
    let recorded = rows(&now).last().expect("a row")["at"].clone();
    let recorded = sizes(
        &project,
        plan,
        &format!("interval=month&from={}", recorded.as_str().expect("a time")),
    );
    assert_eq!(
        (
            &recorded["uses_current_properties"],
            &recorded["evaluated_before"]
        ),
        (&json!(false), &Value::Null)
    );
}

#[test]
fn a_cohort_that_cannot_be_calculated_has_no_sizes() {
    let project = Project::new();
    let broken = project.cohort(json!({"filters": only(person("plan", "regex", "("))}));
    let referring = project.cohort(json!({"filters": only(in_cohort(broken))}));
    for id in [broken, referring] {
        let sizes = sizes(&project, id, "");
        assert!(
            column(&sizes, "count").iter().all(Value::is_null),
            "{sizes}"
        );
    }
}

#[test]
fn intervals_are_those_of_the_time_zone() {
    let project = Project::in_zone("Europe/Berlin");
    let id = project.cohort(json!({"is_static": true}));
    let starts = |query: &str| {
        let sizes = sizes(&project, id, query);
        let starts = column(&sizes, "at").into_iter();
        let text = |start: Value| {
            start
                .as_str()
                .expect("a time")
                .trim_end_matches(":00Z")
                .to_owned()
        };
        starts.map(text).collect::<Vec<_>>()
    };
    let spring = "from=2026-03-28T12:00:00Z&to=2026-03-30T12:00:00Z";
    assert_eq!(
        starts(spring),
        ["2026-03-27T23:00", "2026-03-28T23:00", "2026-03-29T22:00"]
    );
    // A week begins on Sunday.
    assert_eq!(
        starts("interval=week&from=2026-03-27T12:00:00Z&to=2026-04-01T12:00:00Z"),
        ["2026-03-21T23:00", "2026-03-28T23:00"]
    );
    assert_eq!(
        starts("interval=month&from=2026-03-27T12:00:00Z&to=2026-05-01T12:00:00Z"),
        ["2026-02-28T23:00", "2026-03-31T22:00", "2026-04-30T22:00"]
    );
    // The local hour from 2 to 3 comes twice.
    let autumn = "interval=hour&from=2025-10-26T00:00:00Z&to=2025-10-26T02:00:00Z";
    assert_eq!(starts(autumn), ["2025-10-26T00:00", "2025-10-26T01:00"]);
    assert_eq!(
        starts("interval=minute&from=2026-03-01T00:00:30%2B01:00&to=2026-02-28T23:02:00Z"),
        ["2026-02-28T23:00", "2026-02-28T23:01"]
    );
}

#[test]
fn the_future_has_no_sizes() {
    let project = Project::new();
    let id = project.cohort(json!({"is_static": true}));
    let year = "to=2999-01-01T00:00:00Z";
    let clamped = sizes(&project, id, year);
    assert!(rows(&clamped).len() <= 31, "{clamped}");
    let future = sizes(&project, id, &format!("from=2998-12-01T00:00:00Z&{year}"));
    let expected =
        json!({"results": [], "evaluated_before": null, "uses_current_properties": false});
    assert_eq!(future, expected);
}

#[test]
fn impossible_spans_are_refused() {
    let project = Project::new();
    let id = project.cohort(json!({"is_static": true}));
    let ask = |query: &str| project.get(&format!("cohorts/{id}/sizes/?{query}"));
    for query in [
        "from=2026-02-02T00:00:00Z&to=2026-02-01T00:00:00Z",
        "from=2026-02-01T00:00:00Z&to=2026-02-01T00:00:00Z",
        "from=2999-01-01T00:00:00Z",
    ] {
        assert_invalid(&ask(query), Some("from"), "Must be before `to`");
    }
    let most = "interval=minute&from=2026-02-01T00:00:00Z&to=2026-02-01T16:";
    assert_eq!(rows(&ask(&format!("{most}40:00Z")).json()).len(), 1_000);
    assert_invalid(
        &ask(&format!("{most}40:01Z")),
        Some("interval"),
        "more than 1000 intervals",
    );
    assert_invalid(
        &ask("interval=month&from=0001-01-01T00:00:00Z"),
        Some("interval"),
        "1000",
    );
    assert_invalid(
        &ask("interval=year"),
        Some("interval"),
        "not a valid choice",
    );
    assert_invalid(&ask("from=yesterday"), Some("from"), "");
    assert_invalid(&ask("to=1e30"), Some("to"), "");
    for time in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
        let status = ask(&format!("to={time}")).status;
        assert!([200, 400].contains(&status), "{time}: {status}");
    }
}

#[test]
fn sizes_need_only_the_scope_of_cohorts_and_include_deleted_cohorts() {
    let project = Project::new();
    let id = changed_list(&project);
    project.patch(&format!("cohorts/{id}/"), json!({"deleted": true}));
    let key = project.key_with(&["cohort:read"]);
    let call = request(Method::GET, &project.path(&format!("cohorts/{id}/sizes/")));
    let answer = send(&Method::GET, call.bearer_auth(key));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(sum(&answer.json(), "entered"), 3);
}
