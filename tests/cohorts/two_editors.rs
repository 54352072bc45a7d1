//! Two editors of one cohort: `ETag` and `If-Match`.

use std::sync::Barrier;
use std::thread;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Project, any_of, cohort_path, id_of, person, request_to, send};

/// Sends a request with the header `If-Match` once per tag.
pub fn edit(project: &Project, method: Method, path: &str, tags: &[&str], body: Value) -> Answer {
    let request = request_to(project.server, method.clone(), &project.path(path));
    let mut request = request.bearer_auth(&project.key).json(&body);
    for tag in tags {
        request = request.header("If-Match", *tag);
    }
    send(&method, request)
}

fn tag(answer: &Answer) -> String {
    answer.header("etag").expect("an ETag").to_owned()
}

fn current(project: &Project, id: i64) -> String {
    tag(&project.get(&cohort_path(id)))
}

fn is_conflict(answer: &Answer, current: &str) {
    answer.is_error(412, "precondition_failed", Some("If-Match"));
    assert_eq!(answer.header("etag"), Some(current));
    assert!(answer.detail().contains(current), "{}", answer.text);
}

#[test]
fn each_edit_of_the_definition_raises_the_tag() {
    let project = Project::new();
    let created = project.post("cohorts/", json!({"name": "A"}));
    assert_eq!(tag(&created), "\"d1\"");
    let path = cohort_path(id_of(&created));
    let query = json!({"kind": "HogQLQuery", "query": "SELECT id FROM persons"});
    let edits = [
        json!({"name": "B"}),
        json!({"description": "b"}),
        json!({"filters": any_of(json!([person("plan", "exact", "pro")]))}),
        json!({"groups": [{"properties": {"plan": "trial"}}]}),
        json!({"query": query}),
        json!({"is_static": true}),
        json!({"deleted": true}),
        json!({"deleted": false}),
    ];
    for (number, body) in (2..).zip(edits) {
        let changed = project.patch(&path, body.clone());
        assert_eq!(changed.status, 200, "{body}: {}", changed.text);
        assert_eq!(tag(&changed), format!("\"d{number}\""), "{body}");
        assert_eq!(tag(&project.get(&path)), tag(&changed), "{body}");
    }
    let put = project.ask(Method::PUT, &path, Some(json!({"name": "C"})));
    assert_eq!(tag(&put), "\"d10\"");
    let same = project.patch(&path, json!({"name": "C"}));
    assert_eq!(tag(&same), "\"d10\"", "no field has another value");
}

#[test]
fn members_and_calculations_do_not_change_the_tag() {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "pro"}))]);
    let filters = any_of(json!([person("plan", "exact", "pro")]));
    let dynamic = project.cohort(json!({"filters": filters}));
    project.settle(dynamic);
    let list = project.cohort(json!({"is_static": true}));
    let add = format!("cohorts/{list}/add_persons_to_static_cohort/");
    let added = project.patch(&add, json!({"person_ids": [project.person("ann")]}));
    assert_eq!(added.status, 200, "{}", added.text);
    for id in [dynamic, list] {
        let shown = project.get(&cohort_path(id));
        assert_eq!(shown.json()["count"], 1);
        assert_eq!(tag(&shown), "\"d1\"");
    }
}

#[test]
fn an_edit_of_a_stale_copy_changes_nothing_and_returns_the_current_cohort() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let path = cohort_path(id);
    let read = current(&project, id);
    let first = edit(
        &project,
        Method::PATCH,
        &path,
        &[&read],
        json!({"name": "B"}),
    );
    assert_eq!((first.status, tag(&first).as_str()), (200, "\"d2\""));
    for method in [Method::PATCH, Method::PUT] {
        let second = edit(&project, method, &path, &[&read], json!({"name": "C"}));
        is_conflict(&second, "\"d2\"");
        assert_eq!(second.json()["cohort"], project.get(&path).json());
        assert_eq!(second.json()["cohort"]["name"], "B");
    }
    let again = edit(
        &project,
        Method::PATCH,
        &path,
        &["\"d2\""],
        json!({"name": "C"}),
    );
    assert_eq!(again.json()["name"], "C");
}

#[test]
fn a_condition_is_a_list_of_strong_tags_or_a_star() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let path = cohort_path(id);
    let patch = |tags: &[&str]| edit(&project, Method::PATCH, &path, tags, json!({}));
    let matching: [&[&str]; 4] = [&["*"], &["\"x\", \"d1\""], &["\"x\"", "\"d1\""], &[]];
    for tags in matching {
        assert_eq!(patch(tags).status, 200, "{tags:?}");
    }
    for tag in ["W/\"d1\"", "\"d10\"", "d1", "", "\"d0\",W/\"d1\""] {
        is_conflict(&patch(&[tag]), "\"d1\"");
    }
    let unknown = edit(
        &project,
        Method::PATCH,
        &cohort_path(999_999),
        &["*"],
        json!({}),
    );
    unknown.is_error(404, "not_found", None);
}

#[test]
fn of_editors_at_the_same_moment_one_wins_each_round() {
    const EDITORS: usize = 4;
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let path = cohort_path(id);
    for round in 0..5 {
        let read = current(&project, id);
        let start = Barrier::new(EDITORS);
        let compete = |editor: usize| {
            start.wait();
            let body = json!({"name": format!("{round}.{editor}")});
            edit(&project, Method::PATCH, &path, &[&read], body)
        };
        let answers: Vec<Answer> = thread::scope(|scope| {
            let editors: Vec<_> = (0..EDITORS)
                .map(|editor| scope.spawn(move || compete(editor)))
                .collect();
            editors
                .into_iter()
                .map(|editor| editor.join().unwrap())
                .collect()
        });
        let winners: Vec<_> = answers
            .iter()
            .filter(|answer| answer.status == 200)
            .collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(winners[0].json()["name"], project.get(&path).json()["name"]);
        for loser in answers.iter().filter(|answer| answer.status != 200) {
            is_conflict(loser, &tag(winners[0]));
        }
    }
}

#[test]
fn a_dry_run_checks_the_condition_and_keeps_the_tag() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let path = format!("{}?dry_run=true", cohort_path(id));
    let dry = |tag: &str| edit(&project, Method::PATCH, &path, &[tag], json!({"name": "B"}));
    let shown = dry("\"d1\"");
    assert_eq!((shown.status, tag(&shown).as_str()), (200, "\"d1\""));
    is_conflict(&dry("\"d2\""), "\"d1\"");
    assert_eq!(current(&project, id), "\"d1\"");
}
