//! The ten kinds of cohort that are measured, as filters.

use serde_json::{Value, json};

pub struct Kind {
    pub name: &'static str,
    pub about: &'static str,
    pub filters: Value,
}

fn person(key: &str, operator: &str, value: Value) -> Value {
    json!({"type": "person", "key": key, "operator": operator, "value": value})
}

fn behavior(kind: &str, event: &str, more: Value) -> Value {
    let mut leaf =
        json!({"type": "behavioral", "value": kind, "key": event, "event_type": "events"});
    if let (Some(leaf), Some(more)) = (leaf.as_object_mut(), more.as_object()) {
        leaf.extend(more.clone());
    }
    leaf
}

fn days(count: u32) -> Value {
    json!({"time_value": count, "time_interval": "day"})
}

fn all(values: Vec<Value>) -> Value {
    json!({"properties": {"type": "AND", "values": values}})
}

pub fn kinds() -> Vec<Kind> {
    let bought = || behavior("performed_event", "purchase", days(30));
    let viewed = || {
        let often = json!({"time_value": 7, "time_interval": "day", "operator": "gte", "operator_value": 5});
        behavior("performed_event_multiple", "$pageview", often)
    };
    let dear = json!({"time_value": 30, "time_interval": "day", "event_filters": [
        {"type": "event", "key": "$browser", "operator": "exact", "value": "Chrome"},
        {"type": "event", "key": "price", "operator": "gt", "value": 50}]});
    let mut surveyed = behavior("performed_event", "churn_survey", days(90));
    surveyed["negation"] = json!(true);
    let then = json!({"time_value": 60, "time_interval": "day", "seq_event": "purchase", "seq_event_type": "events",
        "seq_time_value": 7, "seq_time_interval": "day"});
    let quiet = json!({"time_value": 30, "time_interval": "day", "seq_time_value": 7, "seq_time_interval": "day"});
    let weekly = json!({"time_value": 1, "time_interval": "week", "operator": "gte", "operator_value": 1,
        "min_periods": 3, "total_periods": 4});
    let kind = |name, about, filters| Kind {
        name,
        about,
        filters,
    };
    vec![
        kind(
            "Q1",
            "plan and country",
            all(vec![
                person("plan", "exact", json!("pro")),
                person("country", "exact", json!(["US", "DE"])),
            ]),
        ),
        kind(
            "Q2a",
            "text in a property",
            all(vec![person("email", "icontains", json!("goldman"))]),
        ),
        kind(
            "Q2b",
            "pattern in a property",
            all(vec![person(
                "email",
                "regex",
                json!("smith[0-9]+@(gmail|yahoo)[.]com$"),
            )]),
        ),
        kind("Q3", "event in 30 days", all(vec![bought()])),
        kind("Q4", "event 5 times in 7 days", all(vec![viewed()])),
        kind(
            "Q5",
            "event with two filters in 30 days",
            all(vec![behavior("performed_event", "purchase", dear)]),
        ),
        kind(
            "Q6",
            "(Q3 or Q4), no other event, plan",
            all(vec![
                json!({"type": "OR", "values": [bought(), viewed()]}),
                json!({"type": "AND", "values": [surveyed, person("plan", "exact", json!("pro"))]}),
            ]),
        ),
        kind(
            "Q7",
            "first time in 30 days",
            all(vec![behavior(
                "performed_event_first_time",
                "signup_completed",
                days(30),
            )]),
        ),
        kind(
            "Q8",
            "sequence within 7 days, in 60",
            all(vec![behavior(
                "performed_event_sequence",
                "signup_completed",
                then,
            )]),
        ),
        kind(
            "Q9",
            "in 30 days, not in the last 7",
            all(vec![behavior(
                "stopped_performing_event",
                "$pageview",
                quiet,
            )]),
        ),
        kind(
            "Q10",
            "in 3 of the last 4 weeks",
            all(vec![behavior(
                "performed_event_regularly",
                "$pageview",
                weekly,
            )]),
        ),
    ]
}
