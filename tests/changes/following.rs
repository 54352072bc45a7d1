//! Following a feed: the rows, their order, and waiting for them.

use std::thread;

use serde_json::{Value, json};

use super::{
    add, apply, cursor, feed_of, members, page, read_all, remove, static_cohort, summary,
    with_persons,
};
use crate::harness::{Project, any_of, assert_invalid, person, rows};

#[test]
fn a_row_says_who_entered_or_left_when_and_why() {
    let project = with_persons(1);
    project.capture(
        json!([{"event": "$create_alias", "distinct_id": "d0", "properties": {"alias": "b"}}]),
    );
    let cohort = static_cohort(&project);
    let start = cursor(&page(&project, &feed_of(cohort), ""));
    add(&project, cohort, &["d0"]);
    remove(&project, cohort, "d0");
    let page = page(&project, &feed_of(cohort), &start);
    assert_eq!(page["has_more"], false);
    let [entered, left] = rows(&page) else {
        panic!("{page}");
    };
    let uuid = project.person("d0");
    for (row, change, version) in [(entered, "entered", 1), (left, "left", 2)] {
        let expected = json!({
            "cohort_id": cohort,
            "change": change,
            "at": row["at"],
            "version": version,
            "cause": "manual",
            "person": {"uuid": uuid, "distinct_ids": ["b", "d0"]},
        });
        assert_eq!(*row, expected);
    }
    assert!(entered["at"].as_str() <= left["at"].as_str());
}

#[test]
fn a_feed_begins_with_the_next_change_unless_from_says_otherwise() {
    let project = with_persons(2);
    let cohort = static_cohort(&project);
    add(&project, cohort, &["d0"]);
    for query in ["", "from=now"] {
        let first = page(&project, &feed_of(cohort), query);
        assert_eq!((rows(&first).len(), &first["has_more"]), (0, &json!(false)));
    }
    let (rows, _) = read_all(&project, &feed_of(cohort), "from=2026-01-01T00:00:00Z", 10);
    assert_eq!(summary(&rows), ["+d0"]);
    let at = rows[0]["at"].as_str().expect("a time").to_owned();
    add(&project, cohort, &["d1"]);
    let (rows, _) = read_all(&project, &feed_of(cohort), &format!("from={at}"), 10);
    assert_eq!(summary(&rows), ["+d1"], "only later changes");
    let (rows, _) = read_all(&project, &feed_of(cohort), "from=2099-01-01", 10);
    assert!(rows.is_empty());
}

#[test]
fn rows_of_all_cohorts_are_in_the_order_of_publication() {
    let project = with_persons(3);
    let cohorts = [0, 1, 2].map(|_| static_cohort(&project));
    let all = cursor(&page(&project, "cohorts/changes/", ""));
    let named = format!(
        "cohorts/changes/?cohort_id={}&cohort_id={}",
        cohorts[2], cohorts[0]
    );
    let (_, some) = read_all(&project, &named, "", 10);
    for (cohort, id) in [(1, "d0"), (0, "d1"), (2, "d0"), (0, "d2"), (1, "d1")] {
        add(&project, cohorts[cohort], &[id]);
    }
    let order = |rows: &[Value]| -> Vec<i64> {
        rows.iter()
            .map(|row| row["cohort_id"].as_i64().expect("a cohort"))
            .collect()
    };
    for limit in [1, 2, 10] {
        let (rows, _) = read_all(&project, "cohorts/changes/", &all, limit);
        assert_eq!(
            order(&rows),
            [1, 0, 2, 0, 1].map(|at| cohorts[at]),
            "{limit}"
        );
        assert_eq!(summary(&rows), ["+d0", "+d1", "+d0", "+d2", "+d1"]);
        let (rows, _) = read_all(&project, &named, &some, limit);
        assert_eq!(order(&rows), [0, 2, 0].map(|at| cohorts[at]), "{limit}");
    }
    // A cohort that was created later is in the feed of all.
    let later = static_cohort(&project);
    add(&project, later, &["d0"]);
    let (rows, _) = read_all(&project, "cohorts/changes/", &all, 100);
    assert_eq!(order(&rows).last(), Some(&later));
}

#[test]
fn a_change_of_many_persons_is_divided_into_pages() {
    let project = with_persons(25);
    let cohort = static_cohort(&project);
    let start = cursor(&page(&project, &feed_of(cohort), ""));
    let ids: Vec<String> = (0..25).map(|number| format!("d{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    add(&project, cohort, &ids);
    remove(&project, cohort, "d3");
    for limit in [1, 7, 25, 100] {
        let (rows, end) = read_all(&project, &feed_of(cohort), &start, limit);
        assert_eq!(rows.len(), 26, "{limit}");
        assert_eq!(summary(&rows).last().map(String::as_str), Some("-d3"));
        let mut followed = Default::default();
        apply(&mut followed, &rows);
        assert_eq!(followed, members(&project, cohort));
        let (rows, _) = read_all(&project, &feed_of(cohort), &end, limit);
        assert!(rows.is_empty());
    }
}

#[test]
fn dynamic_cohort_without_a_calculation_has_no_members_and_then_changes() {
    let project = with_persons(3);
    let filters = any_of(json!([person("number", "gt", 0)]));
    let cohort = project.cohort(json!({"filters": filters}));
    let (rows, end) = read_all(&project, &feed_of(cohort), "from=start", 10);
    assert!(rows.is_empty());
    project.settle(cohort);
    let (rows, end) = read_all(&project, &feed_of(cohort), &end, 10);
    assert_eq!(summary(&rows), ["+d1", "+d2"]);
    assert_eq!(rows[0]["cause"], "criteria");
    project.persons([("d1", json!({"number": 0}))]);
    project.patch(&format!("cohorts/{cohort}/"), json!({}));
    project.settle(cohort);
    let (rows, _) = read_all(&project, &feed_of(cohort), &end, 10);
    assert_eq!(summary(&rows), ["-d1"]);
}

#[test]
fn a_request_that_waits_returns_with_the_first_change() {
    let project = with_persons(2);
    let (cohort, other) = (static_cohort(&project), static_cohort(&project));
    let start = cursor(&page(&project, &feed_of(cohort), ""));
    let waiting = thread::scope(|scope| {
        let wait = || page(&project, &feed_of(cohort), &format!("{start}&wait=30"));
        let waiting = scope.spawn(wait);
        // A change of another cohort does not end it.
        add(&project, other, &["d0"]);
        add(&project, cohort, &["d1"]);
        waiting.join().expect("a page")
    });
    assert_eq!(summary(rows(&waiting)), ["+d1"]);
    let end = cursor(&waiting);
    let none = page(&project, &feed_of(cohort), &format!("{end}&wait=1"));
    assert!(rows(&none).is_empty());
}

#[test]
fn deleted_cohort_keeps_its_feed_and_continues_when_it_is_restored() {
    let project = with_persons(3);
    let cohort = static_cohort(&project);
    let start = cursor(&page(&project, &feed_of(cohort), ""));
    let all = cursor(&page(&project, "cohorts/changes/", ""));
    add(&project, cohort, &["d0"]);
    let path = format!("cohorts/{cohort}/");
    assert_eq!(project.patch(&path, json!({"deleted": true})).status, 200);
    for (feed, from) in [
        (feed_of(cohort), &start),
        ("cohorts/changes/".to_owned(), &all),
    ] {
        let (rows, _) = read_all(&project, &feed, from, 10);
        assert_eq!(summary(&rows), ["+d0"], "the deletion is no change");
    }
    assert_eq!(project.patch(&path, json!({"deleted": false})).status, 200);
    add(&project, cohort, &["d1"]);
    for (feed, from) in [
        (feed_of(cohort), &start),
        ("cohorts/changes/".to_owned(), &all),
    ] {
        let (rows, _) = read_all(&project, &feed, from, 10);
        assert_eq!(summary(&rows), ["+d0", "+d1"]);
    }
}

#[test]
fn hostile_parameters_are_refused() {
    let (project, other) = (with_persons(1), Project::new());
    let cohort = static_cohort(&project);
    let feed = feed_of(cohort);
    let ask = |query: &str| project.get(&format!("{feed}?{query}"));
    let huge = "A".repeat(30_000);
    for (query, attr) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e30", "limit"),
        ("limit=x", "limit"),
        ("wait=-1", "wait"),
        ("wait=31", "wait"),
        ("wait=1e30", "wait"),
        ("from=yesterday", "from"),
        ("from=", "from"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        (&format!("cursor={huge}"), "cursor"),
    ] {
        ask(query).is_error(400, "invalid_input", Some(attr));
    }
    assert_eq!(ask("limit=9223372036854775807").status, 200);
    let cohorts = |query: &str| project.get(&format!("cohorts/changes/?{query}"));
    let theirs = static_cohort(&other);
    for query in [
        "from=start".to_owned(),
        "cohort_id=x".to_owned(),
        "cohort_id=999999999".to_owned(),
        format!("cohort_id={cohort}&cohort_id={theirs}"),
        "cohort_id=1&".repeat(201),
        format!("from=start&{}", "cohort_id=1&".repeat(21)),
    ] {
        cohorts(&query).is_error(400, "invalid_input", Some("cohort_id"));
    }
    let unknown = cohorts("cohort_id=999999999");
    let detail = "The project has no cohort with the ID 999999999.";
    assert_invalid(&unknown, Some("cohort_id"), detail);
    project
        .get(&feed_of(theirs))
        .is_error(404, "not_found", None);
}

#[test]
fn a_cursor_belongs_to_its_feed() {
    let (project, other) = (with_persons(1), Project::new());
    let cohorts = [static_cohort(&project), static_cohort(&project)];
    let theirs = static_cohort(&other);
    let own = cursor(&page(&project, &feed_of(cohorts[0]), ""));
    for (project, path) in [
        (&project, feed_of(cohorts[1])),
        (&project, "cohorts/changes/".to_owned()),
        (&other, feed_of(theirs)),
        (&other, "cohorts/changes/".to_owned()),
    ] {
        let answer = project.get(&format!("{path}?{own}"));
        assert_invalid(
            &answer,
            Some("cursor"),
            "another project or to other cohorts",
        );
    }
    // The feed of one named cohort is that of the cohort.
    let named = format!("cohorts/changes/?cohort_id={}&{own}", cohorts[0]);
    assert_eq!(project.get(&named).status, 200);
}
