//! The numbers of members that cohorts have in common.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, only, person};

fn with_cohorts() -> (Project, Vec<i64>) {
    let project = Project::new();
    project.persons([
        ("a", json!({"plan": "pro"})),
        ("b", json!({"plan": "pro"})),
        ("c", json!({})),
        ("d", json!({})),
    ]);
    let pros = project.cohort(json!({"filters": only(person("plan", "exact", "pro"))}));
    project.settle(pros);
    let lists = [&["a", "c"][..], &["b", "c", "d"], &[]].map(|ids| {
        let ids: Vec<String> = ids.iter().map(|id| project.person(id)).collect();
        project.cohort(json!({"is_static": true, "_create_static_person_ids": ids}))
    });
    let mut cohorts = vec![pros];
    cohorts.extend(lists);
    (project, cohorts)
}

fn overlap(project: &Project, ids: &[i64]) -> Value {
    let answer = project.post("cohorts/overlap/", json!({"cohort_ids": ids}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The same from the exported members.
fn expected(project: &Project, ids: &[i64]) -> Value {
    let members = ids.iter().map(|id| project.members(*id));
    let members: Vec<BTreeSet<String>> = members.map(BTreeSet::from_iter).collect();
    let intersections = members.iter().map(|one| {
        let common = members.iter().map(|other| one.intersection(other).count());
        common.collect::<Vec<_>>()
    });
    json!({
        "counts": members.iter().map(BTreeSet::len).collect::<Vec<_>>(),
        "intersections": intersections.collect::<Vec<_>>(),
    })
}

#[test]
fn overlap_equals_the_intersections_of_the_exported_members() {
    let (project, mut ids) = with_cohorts();
    assert_eq!(overlap(&project, &ids), expected(&project, &ids));
    ids.reverse();
    ids.push(ids[0]);
    ids.push(ids[1]);
    assert_eq!(overlap(&project, &ids), expected(&project, &ids));
    let shown = overlap(&project, &ids[..3]);
    assert_eq!(shown["counts"], json!([0, 3, 2]));
    assert_eq!(shown["intersections"][1], json!([0, 3, 1]));
    let body = json!({"person_ids": [project.person("a")]});
    let path = format!("cohorts/{}/add_persons_to_static_cohort/", ids[0]);
    assert_eq!(project.patch(&path, body).status, 200);
    assert_eq!(overlap(&project, &ids), expected(&project, &ids));
}

#[test]
fn a_deleted_person_is_not_counted() {
    let (project, ids) = with_cohorts();
    assert_eq!(overlap(&project, &ids)["counts"], json!([2, 2, 3, 0]));
    let path = format!("persons/{}/", project.person("b"));
    assert_eq!(project.ask(Method::DELETE, &path, None).status, 204);
    assert_eq!(overlap(&project, &ids)["counts"], json!([1, 2, 2, 0]));
    assert_eq!(overlap(&project, &ids), expected(&project, &ids));
}

#[test]
fn limits_and_unknown_cohorts_are_refused() {
    let (project, ids) = with_cohorts();
    let deleted = json!({"deleted": true});
    let path = format!("cohorts/{}/", ids[0]);
    assert_eq!(project.patch(&path, deleted).status, 200);
    let many: Vec<i64> = vec![ids[1]; 101];
    for cohorts in [&[999_999_999][..], &ids, &many] {
        let refused = project.post("cohorts/overlap/", json!({"cohort_ids": cohorts}));
        refused.is_error(400, "invalid_input", Some("cohort_ids"));
    }
    assert_eq!(
        overlap(&project, &many[..100])["counts"],
        json!(vec![2; 100])
    );
    let none = json!({"counts": [], "intersections": []});
    assert_eq!(overlap(&project, &[]), none);
}
