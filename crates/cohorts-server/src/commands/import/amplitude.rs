//! Lines of Amplitude's Export API.

use serde_json::{Map, Value, json};

use super::formats::{WireItem, event_name, no_id, vendor_key};
use super::record::Record;

/// Fields that have a place of their own in an item.
const MAPPED_FIELDS: [&str; 6] = [
    "event_type",
    "event_time",
    "uuid",
    "event_properties",
    "user_properties",
    "$insert_id",
];

/// Other fields that PostHog has a property for.
const RENAMED_FIELDS: [(&str, &str); 4] = [
    ("country", "$geoip_country_name"),
    ("region", "$geoip_subdivision_1_name"),
    ("city", "$geoip_city_name"),
    ("ip_address", "$ip"),
];

pub fn event(record: &Record<'_>) -> anyhow::Result<WireItem<'static>> {
    let event = event_name(record, "event_type")?;
    let (user, device) = (record.id("user_id"), record.id("device_id"));
    let (distinct_id, other_id) = match (user, device) {
        (Some(user), device) => (user, device),
        (None, Some(device)) => (device, None),
        (None, None) => return Err(no_id("`user_id` or `device_id`")),
    };
    let mut properties = record.values("event_properties")?;
    add_fields(&mut properties, record);
    let insert_id = record.id("$insert_id");
    let item = json!({
        "event": event,
        "distinct_id": distinct_id,
        "uuid": record.id("uuid"),
        "properties": properties,
        "person_properties": record.values("user_properties")?,
    });
    Ok(WireItem {
        text: item.to_string().into(),
        time: record.time(&["event_time", "client_event_time", "time"]),
        key: vendor_key("amplitude", insert_id, &event, &distinct_id),
        has_fixed_time: true,
        other_id,
    })
}

/// Adds the other fields that are texts, numbers or truth values, such as `platform`.
fn add_fields(properties: &mut Map<String, Value>, record: &Record<'_>) {
    for (name, json) in record.members() {
        let is_scalar = !json.starts_with(['{', '[']) && json != r#""""#;
        if MAPPED_FIELDS.contains(&name) || !is_scalar {
            continue;
        }
        let renamed = RENAMED_FIELDS.iter().find(|(from, _)| *from == name);
        let property = match renamed {
            Some((_, to)) => (*to).to_owned(),
            None => format!("$amplitude_{}", name.trim_start_matches('$')),
        };
        if let Ok(value) = serde_json::from_str(json) {
            properties.entry(property).or_insert(value);
        }
    }
}
