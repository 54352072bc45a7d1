//! Lists: the maximum of `limit`, and rows that are too large for one piece.

use serde_json::{Value, json};

use crate::harness::{Project, id_of, only, person, rows, upload};

/// Filters with a value of `size` letters.
fn large(letter: &str, size: usize) -> Value {
    only(person("k", "exact", letter.repeat(size)))
}

#[test]
fn limit_above_the_maximum_counts_as_the_maximum() {
    let project = Project::new();
    let list = id_of(&upload(&project, None, "d1\n"));
    for path in [
        "cohorts/?limit=5000&offset=1000".to_owned(),
        "actions/?limit=5000&offset=1000".to_owned(),
        format!("cohorts/{list}/uploads/?limit=5000&offset=1000"),
        format!("cohorts/{list}/calculation_history/?limit=5000&offset=1000"),
        "cohorts/activity/?limit=1000000&page=2".to_owned(),
        format!("cohorts/{list}/activity/?limit=1000000&page=2"),
    ] {
        let page = project.get(&path);
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        let page = page.json();
        let previous = page["previous"].as_str().expect("a link").to_owned();
        let limit = previous
            .split(['?', '&'])
            .find(|part| part.starts_with("limit="));
        assert_eq!(limit, Some("limit=1000"), "{path}: {previous}");
    }
}

#[test]
fn list_of_large_rows_is_complete() {
    let project = Project::new();
    // Some rows are larger than a piece, and some pieces have several rows.
    let sizes = [2_500_000, 10, 300_000, 300_000, 3_000_000, 10];
    let mut ids = Vec::new();
    for size in sizes {
        let body = json!({"name": "A", "filters": large("d", size)});
        ids.push(project.cohort(body));
    }
    let page = project.get("cohorts/").json();
    let lengths: Vec<usize> = rows(&page)
        .iter()
        .map(|row| row["filters"].to_string().len() / 10_000)
        .collect();
    let newest_first: Vec<usize> = sizes.into_iter().rev().map(|size| size / 10_000).collect();
    assert_eq!(lengths, newest_first);
    assert_eq!((&page["count"], &page["next"]), (&json!(6), &Value::Null));
    let part = project.get("cohorts/?limit=3&offset=1").json();
    assert_eq!(rows(&part).len(), 3);
    assert!(part["next"].is_string() && part["previous"].is_string());

    let id = ids[1];
    for letter in ["a", "b", "c"] {
        let body = json!({"filters": large(letter, 1_500_000)});
        let answer = project.patch(&format!("cohorts/{id}/"), body);
        assert_eq!(answer.status, 200);
    }
    let log = project.get(&format!("cohorts/{id}/activity/")).json();
    assert_eq!(log["total_count"], 4);
    let log_text = |at: usize| rows(&log)[at]["detail"]["changes"].to_string();
    for (at, letter) in ["c", "b", "a"].into_iter().enumerate() {
        assert!(log_text(at).contains(&letter.repeat(1_500_000)), "{letter}");
    }
    assert_eq!(log_text(3), "null");
    let behavioral = project.get("cohorts/?hide_behavioral_cohorts=true").json();
    assert_eq!(behavioral["count"], 6);
}
