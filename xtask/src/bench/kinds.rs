//! The kinds of cohort that the bench measures, as filters. `peers.py` has the same kinds as SQL.

use serde_json::{Value, json};

/// A cohort filter that exercises one part of the filter language.
pub struct CohortKind {
    pub name: &'static str,
    pub description: &'static str,
    pub filters: Value,
}

pub fn person(key: &str, operator: &str, value: Value) -> Value {
    json!({"type": "person", "key": key, "operator": operator, "value": value})
}

pub fn behavior(value: &str, event: &str, options: Value) -> Value {
    let mut leaf =
        json!({"type": "behavioral", "value": value, "key": event, "event_type": "events"});
    if let (Some(leaf), Some(options)) = (leaf.as_object_mut(), options.as_object()) {
        leaf.extend(options.clone());
    }
    leaf
}

fn days(count: u32) -> Value {
    json!({"time_value": count, "time_interval": "day"})
}

pub fn and(values: Vec<Value>) -> Value {
    json!({"properties": {"type": "AND", "values": values}})
}

/// All kinds in the order of the report.
pub fn kinds() -> Vec<CohortKind> {
    let purchase = || behavior("performed_event", "purchase", days(30));
    let five_pageviews = || {
        let options = json!({"time_value": 7, "time_interval": "day", "operator": "gte", "operator_value": 5});
        behavior("performed_event_multiple", "$pageview", options)
    };
    let chrome_over_50 = json!({"time_value": 30, "time_interval": "day", "event_filters": [
        {"type": "event", "key": "$browser", "operator": "exact", "value": "Chrome"},
        {"type": "event", "key": "price", "operator": "gt", "value": 50}]});
    let mut no_survey = behavior("performed_event", "churn_survey", days(90));
    no_survey["negation"] = json!(true);
    let then_purchase = json!({"time_value": 60, "time_interval": "day", "seq_event": "purchase", "seq_event_type": "events",
        "seq_time_value": 7, "seq_time_interval": "day"});
    let not_last_week = json!({"time_value": 30, "time_interval": "day", "seq_time_value": 7, "seq_time_interval": "day"});
    let three_of_four_weeks = json!({"time_value": 1, "time_interval": "week", "operator": "gte", "operator_value": 1,
        "min_periods": 3, "total_periods": 4});
    let kind = |name, description, filters| CohortKind {
        name,
        description,
        filters,
    };
    vec![
        kind(
            "Q1",
            "plan and country",
            and(vec![
                person("plan", "exact", json!("pro")),
                person("country", "exact", json!(["US", "DE"])),
            ]),
        ),
        kind(
            "Q2a",
            "substring of a property",
            and(vec![person("email", "icontains", json!("goldman"))]),
        ),
        kind(
            "Q2b",
            "regular expression on a property",
            and(vec![person(
                "email",
                "regex",
                json!("smith[0-9]+@(gmail|yahoo)[.]com$"),
            )]),
        ),
        kind("Q3", "event in the last 30 days", and(vec![purchase()])),
        kind(
            "Q4",
            "event 5 times in the last 7 days",
            and(vec![five_pageviews()]),
        ),
        kind(
            "Q5",
            "event with two property filters",
            and(vec![behavior(
                "performed_event",
                "purchase",
                chrome_over_50,
            )]),
        ),
        kind(
            "Q6",
            "(Q3 or Q4) and plan, not an event",
            and(vec![
                json!({"type": "OR", "values": [purchase(), five_pageviews()]}),
                json!({"type": "AND", "values": [no_survey, person("plan", "exact", json!("pro"))]}),
            ]),
        ),
        kind(
            "Q7",
            "first event in the last 30 days",
            and(vec![behavior(
                "performed_event_first_time",
                "signup_completed",
                days(30),
            )]),
        ),
        kind(
            "Q8",
            "sequence of two events in 7 days",
            and(vec![behavior(
                "performed_event_sequence",
                "signup_completed",
                then_purchase,
            )]),
        ),
        kind(
            "Q9",
            "in the last 30 days, not the last 7",
            and(vec![behavior(
                "stopped_performing_event",
                "$pageview",
                not_last_week,
            )]),
        ),
        kind(
            "Q10",
            "in 3 of the last 4 weeks",
            and(vec![behavior(
                "performed_event_regularly",
                "$pageview",
                three_of_four_weeks,
            )]),
        ),
    ]
}
