//! Criteria of cohorts as JSON.

use serde_json::{Value, json};

/// A criterion on a property of a person.
pub fn person(key: &str, operator: &str, value: impl Into<Value>) -> Value {
    json!({"type": "person", "key": key, "operator": operator, "value": value.into()})
}

/// A criterion on an event within the last `days` days.
pub fn did(event: &str, days: u32) -> Value {
    json!({"type": "behavioral", "key": event, "value": "performed_event", "event_type": "events",
        "time_value": days, "time_interval": "day"})
}

/// A criterion on the members of another cohort.
pub fn in_cohort(cohort: i64) -> Value {
    json!({"type": "cohort", "key": "id", "value": cohort})
}

/// Filters that join criteria by OR.
pub fn any_of(leaves: Value) -> Value {
    json!({"properties": {"type": "OR", "values": leaves}})
}

/// Filters of one criterion.
pub fn only(leaf: Value) -> Value {
    any_of(json!([leaf]))
}
