//! What a SELECT shows: constants select the persons of its table. A query is the path of its references.

use serde_json::json;

use super::{hogql, members, now, refused};
use crate::plan::query::{PlacedReference, plan_query};

/// As in PostHog, where `events` and `persons` allow any columns.
#[test]
fn constants_select_the_persons_of_the_table() {
    for (text, expected) in [
        ("select 1 from persons", vec![0, 1, 2, 3]),
        ("select 1 from events", vec![0, 1, 3]),
        (
            "SELECT 1, 'a' AS kind, NULL, true, -1.5 FROM events",
            vec![0, 1, 3],
        ),
        ("SELECT DISTINCT 1 FROM persons", vec![0, 1, 2, 3]),
        ("SELECT now() FROM events WHERE event = 'paid'", vec![0, 3]),
        (
            "SELECT 1 FROM persons WHERE properties.plan = 'free'",
            vec![1],
        ),
        (
            "SELECT 1 FROM events GROUP BY person_id HAVING count() > 2",
            vec![0, 1],
        ),
        ("SELECT 1 FROM persons EXCEPT SELECT 1 FROM events", vec![2]),
    ] {
        assert_eq!(members(&hogql(text)), expected, "{text}");
    }
    assert_eq!(
        refused(&hogql("SELECT 1 FROM cohort_people WHERE cohort_id = 7")),
        "query: SELECT over cohort_people must name person_id"
    );
}

#[test]
fn references_of_a_query_have_the_path_of_the_query() {
    let reference = json!({"type": "cohort", "key": "id", "value": 7});
    let texts = [
        hogql("SELECT person_id FROM cohort_people WHERE cohort_id = 7"),
        hogql("SELECT person_id FROM events WHERE person_id NOT IN COHORT 7"),
        json!({"kind": "ActorsQuery", "properties": [reference]}),
    ];
    for query in texts {
        let plan = plan_query(&query, &now()).unwrap();
        let path = "query".to_owned();
        assert_eq!(
            plan.placed_references(),
            [PlacedReference { path, cohort: 7 }]
        );
    }
}
