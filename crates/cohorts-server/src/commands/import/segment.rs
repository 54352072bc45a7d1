//! Calls of Segment's spec, as its archives and those of compatible products contain them.

use serde_json::{Map, Value, json};

use super::formats::{WireItem, event_name, no_id, vendor_key};
use super::record::Record;

const TYPES: [&str; 6] = ["track", "identify", "page", "screen", "alias", "group"];

/// Properties of PostHog, each with the path of its value in `context`.
const CONTEXT: [(&str, &str); 9] = [
    ("$ip", "/ip"),
    ("$current_url", "/page/url"),
    ("$pathname", "/page/path"),
    ("$referrer", "/page/referrer"),
    ("utm_source", "/campaign/source"),
    ("utm_medium", "/campaign/medium"),
    ("utm_campaign", "/campaign/name"),
    ("utm_term", "/campaign/term"),
    ("utm_content", "/campaign/content"),
];

/// Whether a line is a call. Other formats have neither of the ids.
pub fn is_call(record: &Record<'_>) -> bool {
    record.has_any(&["messageId", "anonymousId", "userId"])
        && record
            .text("type")
            .is_some_and(|kind| TYPES.contains(&kind.as_str()))
}

pub fn call(record: &Record<'_>) -> anyhow::Result<WireItem<'static>> {
    let kind = event_name(record, "type")?;
    let event = match kind.as_str() {
        "track" => event_name(record, "event")?,
        "identify" => "$identify".to_owned(),
        "page" => "$pageview".to_owned(),
        "screen" => "$screen".to_owned(),
        "alias" => "$create_alias".to_owned(),
        _ => "$groupidentify".to_owned(),
    };
    let (distinct_id, other_id) = match (record.id("userId"), record.id("anonymousId")) {
        (Some(user), anonymous) => (user, anonymous),
        (None, Some(anonymous)) => (anonymous, None),
        (None, None) => return Err(no_id("`userId` or `anonymousId`")),
    };
    let mut context = record.values("context")?;
    let mut set = match context.remove("traits") {
        Some(Value::Object(traits)) => traits,
        _ => Map::new(),
    };
    let mut properties = record.values("properties")?;
    match kind.as_str() {
        "identify" => {
            set.extend(record.values("traits")?);
            if let Some(other_id) = &other_id {
                properties.insert("$anon_distinct_id".to_owned(), json!(other_id));
            }
        }
        "alias" => {
            let previous = record
                .id("previousId")
                .ok_or_else(|| no_id("`previousId`"))?;
            properties.insert("alias".to_owned(), json!(previous));
        }
        "group" => {
            let group = record.id("groupId").ok_or_else(|| no_id("`groupId`"))?;
            properties.insert("$group_type".to_owned(), json!("segment_group"));
            properties.insert("$group_key".to_owned(), json!(group));
            properties.insert("$group_set".to_owned(), record.values("traits")?.into());
        }
        _ => add_names(&mut properties, record, &kind),
    }
    add_context(&mut properties, &context.into());
    let key = vendor_key("segment", record.id("messageId"), &event, &distinct_id);
    let item =
        json!({"event": event, "distinct_id": distinct_id, "properties": properties, "$set": set});
    Ok(WireItem {
        text: item.to_string().into(),
        time: record.time(&["timestamp", "originalTimestamp", "sentAt", "receivedAt"]),
        // A call that was sent again has its id, but perhaps another time.
        has_fixed_time: key.is_none(),
        key,
        // An alias has another id already.
        other_id: other_id.filter(|_| kind != "alias"),
    })
}

/// Adds the name and the category of a page or a screen.
fn add_names(properties: &mut Map<String, Value>, record: &Record<'_>, kind: &str) {
    let fields = match kind {
        "page" => [("name", "name"), ("category", "category")],
        "screen" => [("name", "$screen_name"), ("category", "category")],
        _ => return,
    };
    for (field, property) in fields {
        if let Some(value) = record.text(field) {
            properties.entry(property).or_insert(value.into());
        }
    }
    for (field, property) in [
        ("url", "$current_url"),
        ("path", "$pathname"),
        ("referrer", "$referrer"),
    ] {
        if let Some(value) = properties.get(field).cloned() {
            properties.entry(property).or_insert(value);
        }
    }
}

fn add_context(properties: &mut Map<String, Value>, context: &Value) {
    for (property, path) in CONTEXT {
        if let Some(value) = context.pointer(path).filter(|value| !value.is_null()) {
            properties.entry(property).or_insert(value.clone());
        }
    }
}
