//! Predicates: the meaning of each operator for one value.

use serde_json::json;

use super::*;
use crate::cases::at;

fn predicate(operator: &str, value: Value) -> Predicate {
    let moment = at("2025-06-18T15:30:00.7Z", "Asia/Kolkata");
    Predicate::compile("p", Some(operator), Some(&value), &moment).unwrap()
}

#[track_caller]
fn check(operator: &str, value: Value, yes: &[Value], no: &[Value]) {
    let predicate = predicate(operator, value.clone());
    for stored in yes {
        assert!(predicate.matches(stored), "{stored} {operator} {value}");
    }
    for stored in no {
        assert!(
            !predicate.matches(stored),
            "not {stored} {operator} {value}"
        );
    }
}

#[track_caller]
fn refused(operator: &str, value: Option<Value>) -> String {
    let moment = at("2025-06-18T15:30:00Z", "UTC");
    let compiled = Predicate::compile("p", Some(operator), value.as_ref(), &moment);
    compiled.unwrap_err().detail
}

#[test]
fn equality_is_by_text_and_for_stored_numbers_by_number() {
    check(
        "exact",
        json!("5.0"),
        &[json!(5), json!("5.0")],
        &[json!("5")],
    );
    check(
        "exact",
        json!(5.0),
        &[json!(5), json!(5.0), json!("5")],
        &[json!("5.0")],
    );
    check(
        "exact",
        json!("007"),
        &[json!("007"), json!(7)],
        &[json!("7")],
    );
    check(
        "exact",
        json!(9007199254740993_i64),
        &[],
        &[json!(9007199254740992_i64)],
    );
    check(
        "exact",
        json!(""),
        &[json!("")],
        &[json!(null), json!(0), json!(false)],
    );
    check(
        "exact",
        json!(true),
        &[json!(true), json!("true")],
        &[json!(1), json!("True")],
    );
    check(
        "exact",
        json!({"a": 1}),
        &[json!({"a": 1}), json!("{\"a\":1}")],
        &[json!("a")],
    );
    check(
        "exact",
        json!([null]),
        &[],
        &[json!(null), json!("null"), json!("")],
    );
}

#[test]
fn negative_operators_hold_for_missing_values_and_null() {
    let negative = [
        ("is_not", json!("x")),
        ("not_in", json!(["x"])),
        ("not_icontains", json!("x")),
        ("not_icontains_multi", json!(["x", "y"])),
        ("not_starts_with", json!("x")),
        ("not_ends_with", json!("x")),
        ("not_regex", json!("x")),
        ("not_between", json!([1, 2])),
        ("is_not_set", json!("is_not_set")),
    ];
    for (operator, value) in negative {
        let predicate = predicate(operator, value);
        assert!(predicate.matches_missing(), "{operator}");
        assert!(predicate.matches(&json!(null)), "{operator}");
    }
}

#[test]
fn positive_operators_never_hold_for_missing_values_or_null() {
    let positive = [
        ("exact", json!("null")),
        ("in", json!([""])),
        ("icontains", json!("")),
        ("icontains_multi", json!(["", "n"])),
        ("starts_with", json!("")),
        ("ends_with", json!("")),
        ("regex", json!(".*")),
        ("gt", json!(-1)),
        ("lt", json!(1)),
        ("min", json!(0)),
        ("max", json!(0)),
        ("between", json!([-1, 1])),
        ("is_set", json!(null)),
        ("is_date_exact", json!("1970-01-01")),
        ("is_date_before", json!("2030-01-01")),
        ("semver_neq", json!("1.0.0")),
        ("semver_eq", json!("0.0.0")),
    ];
    for (operator, value) in positive {
        let predicate = predicate(operator, value);
        assert!(!predicate.matches_missing(), "{operator}");
        assert!(!predicate.matches(&json!(null)), "{operator}");
    }
}

#[test]
fn parts_are_literal_and_case_insensitive() {
    check(
        "icontains",
        json!("É%"),
        &[json!("caf\u{e9}%s")],
        &[json!("café")],
    );
    check("icontains", json!("_"), &[json!("a_b")], &[json!("ab")]);
    check("starts_with", json!("Ab"), &[json!("ABC")], &[json!("cab")]);
    check(
        "ends_with",
        json!(["C", "d"]),
        &[json!("ABC"), json!("xD")],
        &[json!("ca")],
    );
    check(
        "not_starts_with",
        json!("Ab"),
        &[json!("cab")],
        &[json!("ABC")],
    );
    check(
        "not_ends_with",
        json!(["C", "d"]),
        &[json!("ca")],
        &[json!("xD")],
    );
    check(
        "not_icontains",
        json!(["a", "b"]),
        &[json!("c")],
        &[json!("xB")],
    );
}

#[test]
fn one_matching_pattern_suffices() {
    check("regex", json!(["x", "^b"]), &[json!("bc")], &[json!("(")]);
    check(
        "not_regex",
        json!(["^a", "^b"]),
        &[json!("c")],
        &[json!("a"), json!("b")],
    );
}

#[test]
fn order_is_numeric_and_needs_numbers_on_both_sides() {
    check(
        "gt",
        json!("9"),
        &[json!("10"), json!(9.5)],
        &[json!(9), json!("x"), json!(true)],
    );
    check("lt", json!("x"), &[], &[json!(1), json!("a")]);
    check("gte", json!([5, 100]), &[json!(5)], &[json!(4)]);
    let large = json!(9007199254740992_i64);
    check(
        "gt",
        large,
        &[json!(9007199254740993_i64)],
        &[json!(9007199254740992_i64)],
    );
}

#[test]
fn ranges_are_inclusive_and_their_complement_needs_a_number() {
    check(
        "between",
        json!(["1", 2.5]),
        &[json!(1), json!("2.5")],
        &[json!(2.6), json!("x")],
    );
    check(
        "not_between",
        json!([1, 2]),
        &[json!(0), json!("3")],
        &[json!(1), json!("x")],
    );
    for value in [
        json!([2, 1]),
        json!([1]),
        json!(["a", 2]),
        json!(1),
        json!([]),
    ] {
        for operator in ["between", "not_between"] {
            assert_eq!(
                refused(operator, Some(value.clone())),
                format!(
                    "p: operator '{operator}' needs a list of two numbers, the lower one first"
                )
            );
        }
    }
}

#[test]
fn dates_compare_strictly_and_relative_dates_are_truncated_to_seconds() {
    let instant = |text: &str| json!(text);
    let bound = json!("-1h");
    let exact = instant("2025-06-18T14:30:00Z");
    check(
        "is_date_exact",
        bound.clone(),
        std::slice::from_ref(&exact),
        &[instant("2025-06-18T14:30:01Z")],
    );
    check(
        "is_date_after",
        bound.clone(),
        &[instant("2025-06-18T14:30:00.1Z")],
        std::slice::from_ref(&exact),
    );
    check(
        "is_date_before",
        bound,
        &[instant("2025-06-18T14:29:59Z")],
        &[exact],
    );
    let wall_clock = instant("2025-06-18 20:00:00");
    check(
        "is_date_exact",
        instant("2025-06-18T14:30:00Z"),
        &[wall_clock, json!(1750257000)],
        &[],
    );
    check(
        "is_date_after",
        json!("soon"),
        &[],
        &[json!("2025-06-18"), json!(null)],
    );
    check(
        "is_date_exact",
        json!(["2025-01-01", "2025-01-02"]),
        &[instant("2025-01-02")],
        &[],
    );
}

#[test]
fn versions_must_be_valid_on_both_sides() {
    check(
        "semver_neq",
        json!("1.2"),
        &[json!("1.3")],
        &[json!("1.2.0"), json!("x")],
    );
    check(
        "semver_neq",
        json!(["1.2", "1.3"]),
        &[json!("1.4")],
        &[json!("1.3")],
    );
    check("semver_neq", json!("x"), &[], &[json!("1.3")]);
    check(
        "semver_gte",
        json!("1.2.0"),
        &[json!("1.2.0"), json!("2")],
        &[json!("1.2.0-rc.1")],
    );
    check("semver_gt", json!("1.2"), &[json!(1.3)], &[json!("1.2")]);
    check(
        "semver_lte",
        json!("1.2"),
        &[json!("1.2.0")],
        &[json!("1.2.1")],
    );
    check(
        "semver_tilde",
        json!("1.2.3"),
        &[json!("1.2.9")],
        &[json!("1.3.0")],
    );
    check(
        "semver_caret",
        json!("1.2.3"),
        &[json!("1.9")],
        &[json!("2")],
    );
    check(
        "semver_eq",
        json!("beta"),
        &[],
        &[json!("beta"), json!("1")],
    );
}

#[test]
fn empty_lists_drop_the_condition() {
    for operator in [
        "exact",
        "is_not",
        "gt",
        "regex",
        "is_date_after",
        "semver_eq",
        "not_in",
    ] {
        let predicate = predicate(operator, json!([]));
        assert!(
            predicate.matches_missing() && predicate.matches(&json!("x")),
            "{operator}"
        );
    }
    check(
        "is_set",
        json!([]),
        &[json!(0), json!(false), json!("")],
        &[json!(null)],
    );
}

#[test]
fn a_missing_operator_means_exact() {
    let moment = at("2025-06-18T15:30:00Z", "UTC");
    let predicate = Predicate::compile("p", None, Some(&json!("a")), &moment).unwrap();
    assert!(predicate.matches(&json!("a")) && !predicate.matches(&json!("A")));
}

#[test]
fn unknown_operators_and_missing_values_are_errors() {
    assert_eq!(
        refused("like", Some(json!("x"))),
        "p: unknown operator 'like'"
    );
    assert_eq!(
        refused("semver_like", Some(json!([]))),
        "p: unknown operator 'semver_like'"
    );
    assert_eq!(refused("gt", None), "p: operator 'gt' needs a value");
}
