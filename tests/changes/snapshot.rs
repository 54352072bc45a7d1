//! Feeds that begin with all members.

use serde_json::{Value, json};

use super::{
    Members, add, apply, cursor, feed_of, members, page, read_all, remove, static_cohort, summary,
    with_persons,
};
use crate::harness::rows;

#[test]
fn the_members_come_first_as_entered() {
    let project = with_persons(5);
    let cohort = static_cohort(&project);
    add(&project, cohort, &["d0", "d1", "d2", "d3"]);
    remove(&project, cohort, "d2");
    for limit in [1, 2, 3, 4, 100] {
        let (rows, end) = read_all(&project, &feed_of(cohort), "from=start", limit);
        assert_eq!(summary(&rows), ["+d0", "+d1", "+d3"], "{limit}");
        for row in &rows {
            assert_eq!(
                (&row["cause"], &row["version"]),
                (&json!("snapshot"), &json!(2))
            );
        }
        let (rows, _) = read_all(&project, &feed_of(cohort), &end, limit);
        assert!(rows.is_empty(), "{rows:?}");
    }
}

#[test]
fn members_that_change_between_the_pages_are_not_lost() {
    let project = with_persons(40);
    let cohorts = [static_cohort(&project), static_cohort(&project)];
    let ids: Vec<String> = (0..40).map(|number| format!("d{number}")).collect();
    for cohort in cohorts {
        let first: Vec<&str> = ids[10..30].iter().map(String::as_str).collect();
        add(&project, cohort, &first);
    }
    let query = format!("cohort_id={}&cohort_id={}", cohorts[0], cohorts[1]);
    let mut followed = Members::new();
    let mut from = "from=start".to_owned();
    // Before each page, one person enters each cohort and one leaves it: before and after those of the page.
    for step in 0..30 {
        let page = page(
            &project,
            "cohorts/changes/",
            &format!("{query}&{from}&limit=3"),
        );
        apply(&mut followed, rows(&page));
        from = cursor(&page);
        if step < 10 {
            for cohort in cohorts {
                add(&project, cohort, &[&ids[step], &ids[30 + step]]);
                remove(&project, cohort, &ids[10 + 2 * step]);
            }
        }
    }
    let (rest, _) = read_all(&project, &format!("cohorts/changes/?{query}"), &from, 7);
    apply(&mut followed, &rest);
    let expected: Members = cohorts
        .into_iter()
        .flat_map(|cohort| members(&project, cohort))
        .collect();
    assert_eq!(followed, expected);
    assert_eq!(followed.len(), 60);
}

#[test]
fn replay_from_any_position_ends_with_the_members() {
    let project = with_persons(6);
    let cohort = static_cohort(&project);
    let mut positions = vec![(
        Members::new(),
        cursor(&page(&project, &feed_of(cohort), "")),
    )];
    for step in 0..12_usize {
        let (enters, leaves) = (format!("d{}", step * 5 % 6), format!("d{}", step * 7 % 6));
        add(&project, cohort, &[&enters]);
        if step % 3 == 0 {
            let path = format!("cohorts/{cohort}/remove_person_from_static_cohort/");
            project.patch(&path, json!({"person_id": project.person(&leaves)}));
        }
        let at = cursor(&page(&project, &feed_of(cohort), ""));
        positions.push((members(&project, cohort), at));
    }
    let (all, _) = read_all(&project, &feed_of(cohort), "from=2026-01-01", 100);
    let mut state = std::collections::HashMap::new();
    for row in &all {
        let is_new = state.insert(row["person"]["uuid"].clone(), row["change"].clone());
        assert_ne!(
            is_new,
            Some(row["change"].clone()),
            "`entered` and `left` alternate"
        );
    }
    let expected = members(&project, cohort);
    for (mut followed, position) in positions {
        for limit in [1, 100] {
            let (rows, _): (Vec<Value>, _) = read_all(&project, &feed_of(cohort), &position, limit);
            apply(&mut followed, &rows);
            assert_eq!(followed, expected);
        }
    }
}
