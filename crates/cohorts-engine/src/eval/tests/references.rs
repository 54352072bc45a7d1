//! Leaves that refer to other cohorts.

use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::{check, now, persons, tree};
use crate::cases::Project;
use crate::{Filter, LeafCache, Reference, plan};

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

/// A project of two persons, in which each of the cohorts 0 to `length` refers to the next one, and
/// the last one has the first person.
fn chain(length: i64) -> Project {
    let mut project = persons(&[json!({"x": 1}), json!({})]);
    let is_set = json!({"type": "person", "key": "x", "operator": "is_set"});
    for id in 0..=length {
        let leaf = if id < length {
            in_cohort(id + 1, false)
        } else {
            is_set.clone()
        };
        add(&mut project, id, json!([leaf]));
    }
    project
}

fn add(project: &mut Project, id: i64, leaves: Value) {
    let filter = Filter::parse(&tree("OR", leaves)).unwrap();
    project.cohorts.insert(id, Reference::Filter(filter));
}

#[test]
fn a_chain_of_any_length_gives_the_members_of_its_last_cohort() {
    let project = chain(20_000);
    check(&project, in_cohort(0, false), &[0]);
    let others = json!({"type": "person", "key": "x", "operator": "is_not_set"});
    let filters = tree("AND", json!([others, in_cohort(0, true)]));
    assert_eq!(project.members(&filters, &now()).unwrap(), [1]);
}

fn add_query(project: &mut Project, id: i64, text: &str) {
    let query = json!({"kind": "HogQLQuery", "query": text});
    project.cohorts.insert(id, Reference::Query(query));
}

#[test]
fn a_dynamic_cohort_by_query_is_evaluated_as_a_reference() {
    let mut project = persons(&[json!({"x": 1}), json!({"x": 2}), json!({})]);
    add_query(
        &mut project,
        1,
        "SELECT id FROM persons WHERE properties.x >= 1",
    );
    add(&mut project, 2, json!([in_cohort(1, false)]));
    add_query(
        &mut project,
        3,
        "SELECT person_id FROM cohort_people WHERE cohort_id = 2 \
         EXCEPT SELECT id FROM persons WHERE properties.x = 2",
    );
    check(&project, in_cohort(1, false), &[0, 1]);
    check(&project, in_cohort(2, false), &[0, 1]);
    check(&project, in_cohort(3, false), &[0]);
    // A query that cannot be planned is a missing cohort.
    add_query(&mut project, 1, "SELECT id FROM people");
    check(&project, in_cohort(2, false), &[]);
}

#[test]
fn a_loop_through_a_query_is_a_missing_cohort() {
    let mut project = persons(&[json!({"x": 1}), json!({})]);
    add(&mut project, 1, json!([in_cohort(2, false)]));
    add_query(
        &mut project,
        2,
        "SELECT id FROM persons UNION SELECT person_id FROM cohort_people WHERE cohort_id = 1",
    );
    add_query(
        &mut project,
        3,
        "SELECT id FROM persons WHERE id NOT IN COHORT 2",
    );
    for id in 1..4 {
        check(&project, in_cohort(id, false), &[]);
    }
}

#[test]
fn members_do_not_depend_on_the_order_of_references() {
    let project = chain(40);
    for ids in [[5, 20], [20, 5], [40, 0], [0, 40]] {
        let leaves = ids.map(|id| in_cohort(id, false));
        let members = project.members(&tree("OR", json!(leaves)), &now());
        assert_eq!(members.unwrap(), [0], "{ids:?}");
    }
}

#[test]
fn a_loop_is_a_missing_cohort_wherever_it_is_entered() {
    let mut project = persons(&[json!({"x": 1}), json!({})]);
    let is_set = json!({"type": "person", "key": "x", "operator": "is_set"});
    // 1, 2 and 3 form a loop; 4 refers to it, and 5 does not.
    add(
        &mut project,
        1,
        json!([in_cohort(2, false), in_cohort(5, false)]),
    );
    add(&mut project, 2, json!([is_set, in_cohort(3, false)]));
    add(
        &mut project,
        3,
        json!([in_cohort(5, false), in_cohort(1, false)]),
    );
    add(&mut project, 4, json!([is_set, in_cohort(3, false)]));
    add(&mut project, 5, json!([is_set]));
    for order in [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [4, 1, 5, 3, 2]] {
        let cache = LeafCache::default();
        for id in order {
            let filter = Filter::parse(&tree("OR", json!([in_cohort(id, false)]))).unwrap();
            let plan = plan(&filter, &now()).unwrap();
            let Ok(members) = plan.evaluate_with(&project, &cache);
            let expected: &[u32] = if id < 4 { &[] } else { &[0] };
            assert_eq!(Vec::from_iter(members), expected, "{id} in {order:?}");
        }
    }
}

#[test]
fn a_cohort_that_many_refer_to_is_evaluated_once() {
    let mut project = chain(0);
    let layers = 30;
    // Each of two cohorts per layer refers to both cohorts of the next layer.
    for layer in 0..layers {
        let next = |side| {
            if layer + 1 < layers {
                100 + 2 * (layer + 1) + side
            } else {
                0
            }
        };
        let leaves = json!([in_cohort(next(0), false), in_cohort(next(1), false)]);
        add(&mut project, 100 + 2 * layer, leaves.clone());
        add(&mut project, 101 + 2 * layer, leaves);
    }
    check(&project, in_cohort(100, false), &[0]);
}
