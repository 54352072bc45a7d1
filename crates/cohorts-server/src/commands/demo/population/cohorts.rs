//! The example cohorts of the demo, one for each kind of filter.

use serde_json::{Value, json};

/// An example cohort.
pub struct SampleCohort {
    pub name: &'static str,
    /// A short description of the filter.
    pub kind: &'static str,
    /// In the wire format, but with names of cohorts in place of their ids; see [`resolve`].
    pub filters: Value,
}

/// The cohorts, each after those that it refers to.
pub fn cohorts() -> Vec<SampleCohort> {
    vec![
        SampleCohort {
            name: "Paying customers",
            kind: "person property",
            filters: all([person(
                "plan",
                "exact",
                json!(["starter", "pro", "enterprise"]),
            )]),
        },
        SampleCohort {
            name: "Works at a studio",
            kind: "text in a property",
            filters: all([person("company", "icontains", json!("studio"))]),
        },
        SampleCohort {
            name: "Uploaded this week",
            kind: "event in a window",
            filters: all([did("upload", 7)]),
        },
        SampleCohort {
            name: "Frequent searchers",
            kind: "event count",
            filters: all([did_often("search", 3, 30)]),
        },
        SampleCohort {
            name: "Bought, never surveyed on leaving",
            kind: "event and not event",
            filters: all([did("purchase", 60), not(did("churn_survey", 60))]),
        },
        SampleCohort {
            name: "Young or new, from Iberia or Italy",
            kind: "nested AND and OR",
            filters: json!({"properties": group("AND", [
                group("OR", [person("country", "exact", json!(["ES", "PT"])), person("country", "exact", json!("IT"))]),
                group("OR", [
                    group("AND", [person("age", "lt", json!(30)), person("company", "is_set", json!("is_set"))]),
                    group("AND", [did("signup_completed", 30)]),
                ]),
            ])}),
        },
        SampleCohort {
            name: "Gone quiet",
            kind: "no event in a window",
            filters: all([
                did("$pageview", 60),
                not(did("$pageview", 14)),
                not(did("login", 14)),
            ]),
        },
        SampleCohort {
            name: "Paying and gone quiet",
            kind: "other cohorts combined",
            filters: all([cohort("Paying customers"), cohort("Gone quiet")]),
        },
    ]
}

/// Replaces the names of cohorts by their ids. Names without an id remain.
pub fn resolve(filters: &mut Value, id_of: &impl Fn(&str) -> Option<i64>) {
    match filters {
        Value::Object(leaf) if leaf.get("type").is_some_and(|kind| kind == "cohort") => {
            let id = leaf.get("value").and_then(Value::as_str).and_then(id_of);
            if let Some(id) = id {
                leaf.insert("value".to_owned(), id.into());
            }
        }
        Value::Object(node) => node.values_mut().for_each(|child| resolve(child, id_of)),
        Value::Array(nodes) => nodes.iter_mut().for_each(|child| resolve(child, id_of)),
        _ => {}
    }
}

/// A group of leaves that must all match, below a root group.
fn all<const N: usize>(leaves: [Value; N]) -> Value {
    json!({"properties": group("OR", [group("AND", leaves)])})
}

fn group<const N: usize>(operator: &str, values: [Value; N]) -> Value {
    json!({"type": operator, "values": values.to_vec()})
}

fn person(key: &str, operator: &str, value: Value) -> Value {
    json!({"type": "person", "key": key, "operator": operator, "value": value, "negation": false})
}

fn did(event: &str, days: u16) -> Value {
    json!({
        "type": "behavioral", "key": event, "event_type": "events", "value": "performed_event",
        "time_value": days, "time_interval": "day", "negation": false,
    })
}

fn did_often(event: &str, times: u16, days: u16) -> Value {
    json!({
        "type": "behavioral", "key": event, "event_type": "events", "value": "performed_event_multiple",
        "operator": "gte", "operator_value": times, "time_value": days, "time_interval": "day", "negation": false,
    })
}

fn cohort(name: &str) -> Value {
    json!({"type": "cohort", "key": "id", "value": name, "negation": false})
}

fn not(mut leaf: Value) -> Value {
    leaf["negation"] = true.into();
    leaf
}
