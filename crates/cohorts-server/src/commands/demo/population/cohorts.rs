//! The demo's cohorts: one of each kind that the filter language is for.

use serde_json::{Value, json};

/// A cohort to be made.
pub struct Definition {
    pub name: &'static str,
    /// What the filter goes by, in a few words for people.
    pub kind: &'static str,
    /// In the wire format, save that a cohort is referred to by its name; see [`resolve`].
    pub filters: Value,
}

/// The cohorts to make. Those that another one refers to come before it.
pub fn cohorts() -> Vec<Definition> {
    vec![
        Definition {
            name: "Paying customers",
            kind: "person property",
            filters: all([person(
                "plan",
                "exact",
                json!(["starter", "pro", "enterprise"]),
            )]),
        },
        Definition {
            name: "Works at a studio",
            kind: "text in a property",
            filters: all([person("company", "icontains", json!("studio"))]),
        },
        Definition {
            name: "Uploaded this week",
            kind: "event in a window",
            filters: all([did("upload", 7)]),
        },
        Definition {
            name: "Frequent searchers",
            kind: "event count",
            filters: all([did_often("search", 3, 30)]),
        },
        Definition {
            name: "Bought, never surveyed on leaving",
            kind: "event and not event",
            filters: all([did("purchase", 60), not(did("churn_survey", 60))]),
        },
        Definition {
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
        Definition {
            name: "Gone quiet",
            kind: "no event in a window",
            filters: all([
                did("$pageview", 60),
                not(did("$pageview", 14)),
                not(did("login", 14)),
            ]),
        },
        Definition {
            name: "Paying and gone quiet",
            kind: "other cohorts combined",
            filters: all([cohort("Paying customers"), cohort("Gone quiet")]),
        },
    ]
}

/// Puts cohorts' ids in the place of their names. Names that `id_of` does not know stay.
pub fn resolve(filters: &mut Value, id_of: &impl Fn(&str) -> Option<i64>) {
    match filters {
        Value::Object(leaf) if leaf.get("type").is_some_and(|kind| kind == "cohort") => {
            let id = leaf.get("value").and_then(Value::as_str).and_then(id_of);
            if let Some(id) = id {
                leaf.insert("value".to_owned(), id.into());
            }
        }
        Value::Object(node) => node.values_mut().for_each(|below| resolve(below, id_of)),
        Value::Array(nodes) => nodes.iter_mut().for_each(|below| resolve(below, id_of)),
        _ => {}
    }
}

/// One group that all leaves stand in, below a root that always has groups.
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
