//! Leaves that refer to other cohorts.

use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::{check, now, persons, tree};
use crate::{Filter, Reference};

fn in_cohort(id: i64, negation: bool) -> Value {
    json!({"type": "cohort", "key": "id", "value": id, "negation": negation})
}

#[test]
fn an_unknown_cohort_matches_no_person_even_if_negated() {
    let project = persons(&[json!({}), json!({})]);
    let any = json!({"type": "person", "key": "x", "operator": "is_not_set"});
    for negation in [false, true] {
        let filters = tree("AND", json!([any, in_cohort(9, negation)]));
        assert_eq!(
            project.members(&filters, &now()).unwrap(),
            Vec::<u32>::new()
        );
        let inner = tree(
            "AND",
            json!([any, {"type": "OR", "values": [any, in_cohort(9, negation)]}]),
        );
        assert_eq!(project.members(&inner, &now()).unwrap(), [0, 1]);
    }
}

#[test]
fn stored_members_outside_the_project_are_ignored() {
    let mut project = persons(&[json!({}), json!({})]);
    let members = Arc::new(RoaringBitmap::from_iter([1, 7]));
    project.cohorts.insert(3, Reference::Members(members));
    check(&project, in_cohort(3, false), &[1]);
}

#[test]
fn cohorts_that_refer_to_each_other_have_no_members() {
    let mut project = persons(&[json!({})]);
    for (id, other) in [(1, 2), (2, 1), (3, 3)] {
        let filter = Filter::parse(&tree("OR", json!([in_cohort(other, false)]))).unwrap();
        project.cohorts.insert(id, Reference::Filter(filter));
    }
    check(&project, in_cohort(1, false), &[]);
    check(&project, in_cohort(3, false), &[]);
}

#[test]
fn a_cohort_that_excludes_itself_has_no_members() {
    let mut project = persons(&[json!({})]);
    let any = json!({"type": "person", "key": "x", "operator": "is_not_set"});
    let filter = Filter::parse(&tree("AND", json!([any, in_cohort(3, true)]))).unwrap();
    project.cohorts.insert(3, Reference::Filter(filter));
    check(&project, in_cohort(3, false), &[]);
}

#[test]
fn a_negated_unknown_cohort_empties_an_and_group() {
    let mut project = persons(&[json!({})]);
    project.cohorts.insert(
        1,
        Reference::Members(Arc::new(RoaringBitmap::from_iter([0]))),
    );
    let filters = tree("AND", json!([in_cohort(1, false), in_cohort(9, true)]));
    assert_eq!(
        project.members(&filters, &now()).unwrap(),
        Vec::<u32>::new()
    );
}

#[test]
fn filters_are_followed_through_at_most_sixteen_cohorts() {
    let mut project = persons(&[json!({})]);
    let any = json!({"type": "person", "key": "x", "operator": "is_not_set"});
    let last = Filter::parse(&tree("OR", json!([any]))).unwrap();
    project.cohorts.insert(2_000, Reference::Filter(last));
    for id in 0..2_000 {
        let next = Filter::parse(&tree("OR", json!([in_cohort(id + 1, false)]))).unwrap();
        project.cohorts.insert(id, Reference::Filter(next));
    }
    check(&project, in_cohort(1_985, false), &[0]);
    check(&project, in_cohort(1_984, false), &[]);
    check(&project, in_cohort(0, false), &[]);
}
