//! The deprecated definition of a cohort: a list of `groups`, joined by OR.
//!
//! Groups are stored and returned in their own form, and converted to a filter for calculation.

use serde_json::{Map, Value, json};

use crate::FilterError;
use crate::parse::{MAX_NODES, kind_of, long_name, long_word, short};

const KEYS: [&str; 9] = [
    "properties",
    "action_id",
    "event_id",
    "label",
    "days",
    "count",
    "count_operator",
    "start_date",
    "end_date",
];

/// The window in days of a group without `days`.
const DEFAULT_DAYS: i64 = 365;

/// The form in which groups are stored: each has all nine keys, null if absent from `groups`.
///
/// # Errors
///
/// Fails with code `invalid_input` if `groups` is not a list of at most 10,000 objects, or if a
/// group has an unknown key, no criterion, or a name that is too long. The path is `groups` or
/// `groups[n]`.
pub fn complete_groups(groups: &Value) -> Result<Value, FilterError> {
    let mut complete = Vec::new();
    let groups = list(groups)?;
    if groups.len() > MAX_NODES {
        let sentence = format!("a cohort may have {MAX_NODES} groups at most");
        return Err(FilterError::input("groups", sentence));
    }
    for (index, group) in groups.iter().enumerate() {
        let path = format!("groups[{index}]");
        let object = entry(&path, group)?;
        if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(FilterError::input(
                &path,
                format!("unknown key '{}'", short(key)),
            ));
        }
        criterion(&path, object)?;
        if let Some(sentence) = long_text_in(object) {
            return Err(FilterError::input(&path, sentence));
        }
        let member = |key: &str| {
            let value = object.get(key).cloned().unwrap_or(Value::Null);
            (key.to_owned(), value)
        };
        complete.push(Value::Object(KEYS.into_iter().map(member).collect()));
    }
    Ok(Value::Array(complete))
}

/// A sentence about a name or a word in a group that is too long.
fn long_text_in(group: &Map<String, Value>) -> Option<String> {
    let in_properties = match group.get("properties") {
        Some(Value::Object(map)) if !is_group(map) => {
            map.keys().find_map(|key| long_name("a key", key))
        }
        Some(properties) => long_text_in_tree(properties),
        None => None,
    };
    in_properties.or_else(|| {
        let members = group.iter().filter(|(key, _)| *key != "properties");
        members.into_iter().find_map(long_member)
    })
}

/// As [`long_text_in`], for a list or a tree of criteria. Their values may be long. Texts of requests
/// have few levels, because the parser of JSON limits them.
fn long_text_in_tree(criteria: &Value) -> Option<String> {
    match criteria {
        Value::Array(list) => list.iter().find_map(long_text_in_tree),
        Value::Object(map) => map.iter().find_map(|(key, value)| match value {
            Value::String(_) if key == "value" => None,
            Value::String(_) => long_member((key, value)),
            inner => long_text_in_tree(inner),
        }),
        _ => None,
    }
}

/// A sentence about a member with a text that is too long.
fn long_member((key, value): (&String, &Value)) -> Option<String> {
    let text = value.as_str()?;
    match key.as_str() {
        "key" => long_name("a key", text),
        "event_id" | "label" => long_name(&format!("'{key}'"), text),
        _ => long_word(&format!("'{}'", short(key)), text),
    }
}

/// The form in which groups are returned: `properties` is a list of person criteria, also if it
/// was stored as a map. Malformed parts are returned unchanged.
pub fn rewrite_groups(groups: &Value) -> Value {
    let mut groups = groups.clone();
    for group in groups.as_array_mut().into_iter().flatten() {
        if let Some(properties) = group.get_mut("properties") {
            rewrite_properties(properties);
        }
    }
    groups
}

fn rewrite_properties(properties: &mut Value) {
    match properties {
        Value::Array(items) => {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                let kind = item.get("type").and_then(Value::as_str);
                if matches!(kind, None | Some("event")) {
                    item.insert("type".to_owned(), "person".into());
                }
            }
        }
        Value::Object(map) if !is_group(map) => {
            let leaf = |(key, value): (&String, &Value)| json!({"key": key, "value": value, "type": "person"});
            *properties = Value::Array(map.iter().map(leaf).collect());
        }
        _ => {}
    }
}

fn is_group(map: &Map<String, Value>) -> bool {
    map.contains_key("type") || map.contains_key("values")
}

/// Converts groups to the JSON of the equivalent filter.
///
/// Parse the result with [`Filter::parse_stored`](crate::Filter::parse_stored), because its leaves
/// may have no operator.
///
/// # Errors
///
/// Fails with code `invalid_input` if `groups` is not a list of objects, or if a group has no
/// criterion.
pub fn filters_from_groups(groups: &Value) -> Result<Value, FilterError> {
    let mut values = Vec::new();
    for (index, group) in list(&rewrite_groups(groups))?.iter().enumerate() {
        let path = format!("groups[{index}]");
        values.push(match criterion(&path, entry(&path, group)?)? {
            GroupCriterion::Properties(Value::Array(leaves)) => {
                let leaves = leaves.iter().map(without_nulls);
                json!({"type": "AND", "values": leaves.collect::<Vec<_>>()})
            }
            GroupCriterion::Properties(tree) => tree.clone(),
            GroupCriterion::Behavior(leaf) => json!({"type": "AND", "values": [leaf]}),
        });
    }
    Ok(json!({"properties": {"type": "OR", "values": values}}))
}

fn list(groups: &Value) -> Result<&Vec<Value>, FilterError> {
    let expected = || {
        let sentence = format!("expected a list, got {}", kind_of(groups));
        FilterError::input("groups", sentence)
    };
    groups.as_array().ok_or_else(expected)
}

fn entry<'a>(path: &str, group: &'a Value) -> Result<&'a Map<String, Value>, FilterError> {
    let expected =
        || FilterError::input(path, format!("expected an object, got {}", kind_of(group)));
    group.as_object().ok_or_else(expected)
}

/// The criterion of one group.
enum GroupCriterion<'a> {
    Properties(&'a Value),
    Behavior(Value),
}

fn criterion<'a>(
    path: &str,
    group: &'a Map<String, Value>,
) -> Result<GroupCriterion<'a>, FilterError> {
    let set = |key: &str| group.get(key).filter(|value| is_set(value));
    if let Some(properties) = set("properties") {
        return Ok(GroupCriterion::Properties(properties));
    }
    let (key, event_type) = match (set("action_id"), set("event_id")) {
        (Some(id), _) => (id, "actions"),
        (None, Some(name)) => (name, "events"),
        (None, None) => {
            let sentence = "expected one of properties, action_id, event_id";
            return Err(FilterError::input(path, sentence));
        }
    };
    let count = set("count").and_then(whole_number).unwrap_or(0).max(0);
    let value = if count == 0 {
        "performed_event"
    } else {
        "performed_event_multiple"
    };
    let days = set("days").and_then(whole_number).unwrap_or(DEFAULT_DAYS);
    let mut leaf = json!({"key": key, "type": "behavioral", "value": value,
        "event_type": event_type, "time_interval": "day", "time_value": days});
    if let Some(operator) = set("count_operator") {
        leaf["operator"] = operator.clone();
    }
    leaf["operator_value"] = count.into();
    Ok(GroupCriterion::Behavior(leaf))
}

/// Whether a value is truthy in Python: false, zero and empty texts, lists and objects are not.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    }
}

fn without_nulls(leaf: &Value) -> Value {
    let mut leaf = leaf.clone();
    if let Some(members) = leaf.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    leaf
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;

    #[test]
    fn stored_groups_have_all_nine_keys() {
        let complete = complete_groups(&json!([{"properties": {"plan": "pro"}}])).unwrap();
        assert_eq!(
            complete.to_string(),
            r#"[{"properties":{"plan":"pro"},"action_id":null,"event_id":null,"label":null,"days":null,"count":null,"count_operator":null,"start_date":null,"end_date":null}]"#
        );
    }

    #[test]
    fn properties_are_returned_as_person_criteria() {
        let groups = json!([
            {"properties": {"plan": "pro", "seats": 3}},
            {"properties": [{"key": "a", "value": 1, "type": "event"}, {"key": "b", "value": 2},
                {"key": "id", "value": 4, "type": "cohort"}]},
            {"event_id": "x"},
        ]);
        let shown = json!([
            {"properties": [{"key": "plan", "value": "pro", "type": "person"},
                {"key": "seats", "value": 3, "type": "person"}]},
            {"properties": [{"key": "a", "value": 1, "type": "person"},
                {"key": "b", "value": 2, "type": "person"},
                {"key": "id", "value": 4, "type": "cohort"}]},
            {"event_id": "x"},
        ]);
        assert_eq!(rewrite_groups(&groups), shown);
        assert_eq!(rewrite_groups(&shown), shown);
    }

    #[test]
    fn each_group_becomes_an_and_group_under_one_or() {
        let filters = filters_from_groups(&json!([{"properties": {"plan": "pro"}}])).unwrap();
        assert_eq!(
            filters["properties"].to_string(),
            r#"{"type":"OR","values":[{"type":"AND","values":[{"key":"plan","value":"pro","type":"person"}]}]}"#
        );
        assert!(Filter::parse_stored(&filters).is_ok());
    }

    #[test]
    fn events_and_actions_become_behavioral_leaves() {
        let leaf = |group: Value| {
            let filters = filters_from_groups(&json!([group])).unwrap();
            assert!(Filter::parse_stored(&filters).is_ok());
            filters["properties"]["values"][0]["values"][0].clone()
        };
        let counted =
            json!({"event_id": "visit", "days": "7", "count": 2, "count_operator": "gte"});
        assert_eq!(
            leaf(counted).to_string(),
            r#"{"key":"visit","type":"behavioral","value":"performed_event_multiple","event_type":"events","time_interval":"day","time_value":7,"operator":"gte","operator_value":2}"#
        );
        assert_eq!(
            leaf(json!({"action_id": 12, "properties": null, "count": null})).to_string(),
            r#"{"key":12,"type":"behavioral","value":"performed_event","event_type":"actions","time_interval":"day","time_value":365,"operator_value":0}"#
        );
    }

    #[test]
    fn groups_without_a_criterion_are_refused() {
        let refused = |groups: Value| complete_groups(&groups).unwrap_err().detail;
        assert_eq!(refused(json!({})), "groups: expected a list, got an object");
        assert_eq!(
            refused(json!(["x"])),
            "groups[0]: expected an object, got text"
        );
        assert_eq!(
            refused(json!([{"event_id": "x"}, {"properties": []}])),
            "groups[1]: expected one of properties, action_id, event_id"
        );
        assert_eq!(
            refused(json!([{"event": "x"}])),
            "groups[0]: unknown key 'event'"
        );
        assert!(filters_from_groups(&json!([{"days": 3}])).is_err());
        assert_eq!(
            refused(json!(vec![json!({"event_id": "x"}); 10_001])),
            "groups: a cohort may have 10000 groups at most"
        );
        let long = "x".repeat(1_001);
        for (group, field) in [
            (json!({"event_id": long}), "'event_id'"),
            (json!({"properties": {long.clone(): 1}}), "a key"),
            (json!({"properties": [{"key": long, "value": 1}]}), "a key"),
            (
                json!({"properties": {"type": "AND", "values": [{"key": long, "value": 1}]}}),
                "a key",
            ),
            (
                json!({"properties": [{"key": "a", "operator": long, "value": 1}]}),
                "'operator'",
            ),
            (
                json!({"event_id": "x", "count_operator": long}),
                "'count_operator'",
            ),
            (json!({"event_id": "x", "label": long}), "'label'"),
            (json!({"event_id": "x", "days": long}), "'days'"),
        ] {
            let start = format!("groups[0]: {field} has 1001 bytes;");
            assert!(refused(json!([group])).starts_with(&start), "{group}");
        }
    }
}
