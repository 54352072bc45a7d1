//! Lines of PostHog: events and persons of its batch exports and of its API, and the items that SDKs send.
//!
//! They are almost in the wire format. Exports of databases have objects as JSON text, and times as numbers.

use std::borrow::Cow;

use anyhow::{Context, ensure};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::formats::{Contents, WireItem};
use super::record::Record;

/// Fields of events that may be JSON text.
const OBJECT_FIELDS: [&str; 4] = ["properties", "person_properties", "$set", "$set_once"];

/// An event. The line is copied only if it has objects as JSON text.
pub fn event<'a>(line: &'a str, record: &Record<'a>) -> anyhow::Result<WireItem<'a>> {
    let is_text = |name: &str| {
        let json = record.get(name);
        json.is_some_and(|json| json.starts_with('"'))
    };
    let text = if OBJECT_FIELDS.iter().any(|name| is_text(name)) {
        Cow::Owned(with_objects(record)?)
    } else {
        Cow::Borrowed(line)
    };
    Ok(WireItem {
        text,
        time: record.time(&["timestamp"]),
        key: None,
        has_fixed_time: true,
        other_id: None,
    })
}

/// The text of the record, with objects instead of their JSON text.
fn with_objects(record: &Record<'_>) -> anyhow::Result<String> {
    let mut text = ObjectText::default();
    for (name, json) in record.members() {
        if OBJECT_FIELDS.contains(&name) {
            if let Some(object) = record.object(name)? {
                text.insert(name, &object);
            }
        } else {
            text.insert(name, json);
        }
    }
    Ok(text.finish())
}

/// A person: one distinct id of it in `distinct_id`, or several in `distinct_ids`.
pub fn person<'a>(record: &Record<'_>) -> anyhow::Result<Contents<'a>> {
    let ids = distinct_ids(record)?;
    let first = ids.first().context("`distinct_ids` is empty")?;
    let person = person_uuid(record, first);
    if is_true(record.get("is_deleted")) {
        return Ok(Contents::DeletedPerson(person));
    }
    let properties = record.object("properties")?;
    let properties = properties.as_deref().unwrap_or("{}");
    let is_identified = is_true(record.get("is_identified"));
    let last = ids.len() - 1;
    let items = ids.iter().enumerate().map(|(nth, id)| {
        // An identified person is not merged, so the last id identifies it.
        let identifies = is_identified && nth == last;
        let properties = if nth == 0 { properties } else { "{}" };
        WireItem {
            text: person_text(id, person, properties, identifies).into(),
            time: record.time(&["created_at"]),
            key: Some(format!("person/{person}/{id}/{properties}")),
            has_fixed_time: false,
            other_id: None,
        }
    });
    Ok(Contents::Items(items.collect()))
}

/// A person in the wire format. `id` and `properties` are JSON.
pub fn person_text(id: &str, person: Uuid, properties: &str, is_identified: bool) -> String {
    let mut text = ObjectText::default();
    text.insert("distinct_id", id);
    text.insert("person_id", &Value::from(person.to_string()).to_string());
    text.insert("properties", properties);
    text.insert("is_identified", &is_identified.to_string());
    text.finish()
}

/// The distinct ids of a person as JSON.
fn distinct_ids(record: &Record<'_>) -> anyhow::Result<Vec<String>> {
    let Some(list) = record.list("distinct_ids")? else {
        let id = record.get("distinct_id");
        let id = id.context("`distinct_id` is missing or is not a string or a number")?;
        return Ok(vec![id.to_owned()]);
    };
    let ids: Vec<&RawValue> = serde_json::from_str(&list)
        .ok()
        .context("`distinct_ids` is not a list")?;
    let ids: Vec<String> = ids.into_iter().map(|id| id.get().to_owned()).collect();
    ensure!(
        ids.iter()
            .all(|id| id.starts_with(['"', '-']) || id.starts_with(|c: char| c.is_ascii_digit())),
        "`distinct_ids` contains a value that is not a string or a number"
    );
    Ok(ids)
}

/// The uuid of a person; without one, it is derived from another id.
fn person_uuid(record: &Record<'_>, first_id: &str) -> Uuid {
    let fields = ["person_id", "uuid", "id"].into_iter();
    let sent = fields.clone().filter_map(|name| record.text(name));
    let uuid = sent.filter_map(|text| text.trim().parse().ok()).next();
    uuid.unwrap_or_else(|| {
        let id = fields.filter_map(|name| record.get(name)).next();
        Uuid::new_v5(&Uuid::NAMESPACE_OID, id.unwrap_or(first_id).as_bytes())
    })
}

/// Whether a flag is set, as a truth value, a number or a text.
fn is_true(json: Option<&str>) -> bool {
    let value = json.map(|json| json.trim_matches('"').trim().to_ascii_lowercase());
    matches!(value.as_deref(), Some("true" | "t" | "1" | "1.0"))
}

/// The text of an object that is being written.
struct ObjectText(String);

impl Default for ObjectText {
    fn default() -> Self {
        Self("{".to_owned())
    }
}

impl ObjectText {
    fn insert(&mut self, name: &str, json: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&Value::from(name).to_string());
        self.0.push(':');
        self.0.push_str(json);
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}
