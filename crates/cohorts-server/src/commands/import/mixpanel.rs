//! Lines of Mixpanel: its raw export of events, and profiles as its query of profiles returns them.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::formats::{WireItem, event_name, no_id, vendor_key};
use super::posthog::person_text;
use super::record::{Record, id};

/// The prefix of ids of devices.
const DEVICE: &str = "$device:";

/// Whether an event has the time of Mixpanel's, which is a property.
pub fn is_event(record: &Record<'_>) -> bool {
    let has_time = |properties: &str| Record::parse(properties).is_ok_and(|it| it.has("time"));
    !record.has("timestamp")
        && matches!(record.object("properties"), Ok(Some(properties)) if has_time(&properties))
}

pub fn event(record: &Record<'_>) -> anyhow::Result<WireItem<'static>> {
    let event = event_name(record, "event")?;
    let object = record.object("properties")?;
    let time = Record::parse(object.as_deref().unwrap_or("{}"))?.time(&["time"]);
    let properties = record.values("properties")?;
    let MixpanelIds { distinct_id, other } = ids(&event, record, &properties)?;
    let insert_id = id(properties.get("$insert_id"));
    let key = vendor_key("mixpanel", insert_id, &event, &distinct_id);
    let item = json!({"event": event, "distinct_id": distinct_id, "properties": properties});
    Ok(WireItem {
        text: item.to_string().into(),
        time,
        key,
        has_fixed_time: true,
        other_id: other,
    })
}

struct MixpanelIds {
    distinct_id: String,
    /// Another id that Mixpanel has assigned to the same user.
    other: Option<String>,
}

fn ids(
    event: &str,
    record: &Record<'_>,
    properties: &Map<String, Value>,
) -> anyhow::Result<MixpanelIds> {
    let property = |name: &str| id(properties.get(name));
    let user = property("$user_id");
    let device = property("$device_id").map(|id| match id.starts_with(DEVICE) {
        true => id,
        false => format!("{DEVICE}{id}"),
    });
    let before = property("$distinct_id_before_identity");
    let identified = property("$identified_id").filter(|_| event == "$identify");
    let anonymous = property("$anon_id").filter(|_| identified.is_some());
    let other = anonymous.or_else(|| before.clone());
    let other = other.or_else(|| device.clone().filter(|_| user.is_some()));
    let sent = [record.id("distinct_id"), property("distinct_id")];
    let mut candidates = [identified]
        .into_iter()
        .chain(sent)
        .chain([user, before, device]);
    let distinct_id = candidates.find_map(|id| id);
    let distinct_id = distinct_id.ok_or_else(|| no_id("`properties.distinct_id`"))?;
    Ok(MixpanelIds { distinct_id, other })
}

/// A profile. Its time is that of its creation, or else the last time that the user was seen.
pub fn profile(record: &Record<'_>) -> anyhow::Result<WireItem<'static>> {
    let distinct_id = record.id("$distinct_id");
    let distinct_id = distinct_id.ok_or_else(|| no_id("`$distinct_id`"))?;
    let object = record.object("$properties")?;
    let time = Record::parse(object.as_deref().unwrap_or("{}"))?.time(&["$created", "$last_seen"]);
    let mut properties = record.values("$properties")?;
    for (from, to) in [("$email", "email"), ("$name", "name")] {
        if let Some(value) = properties.get(from).cloned() {
            properties.entry(to).or_insert(value);
        }
    }
    let person = Uuid::new_v5(
        &Uuid::NAMESPACE_OID,
        format!("mixpanel/{distinct_id}").as_bytes(),
    );
    let properties = Value::from(properties).to_string();
    let json_id = Value::from(distinct_id).to_string();
    Ok(WireItem {
        text: person_text(&json_id, person, &properties, false).into(),
        time,
        key: None,
        has_fixed_time: true,
        other_id: None,
    })
}
