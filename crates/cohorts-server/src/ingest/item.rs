//! Items of a batch in the wire format. Each is read completely or refused with a reason.
//!
//! The rules for names, times and persons are those of PostHog's ingestion.

use std::fmt;
use std::mem::take;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::arrival::{Arrival, instant};
use super::json::{ObjectField, Properties, replace_lone_surrogates};
use cohorts_store::JsonText;

/// The most bytes of an item, as JSON text.
const MAX_ITEM_BYTES: usize = 1 << 20;
/// Longer event names and distinct ids are cut, as PostHog does.
pub const LONGEST_NAME: usize = 200;

/// Why an item is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotJson(String),
    NotAnObject,
    TooLarge,
    NoEvent,
    NoDistinctId,
    PropertiesNotAnObject,
    NeedsPerson,
    UnknownToken,
}

impl Refusal {
    /// The value of the `reason` label of the metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::TooLarge => "too_large",
            Self::NoEvent => "no_event",
            Self::NoDistinctId => "no_distinct_id",
            Self::PropertiesNotAnObject => "properties_not_an_object",
            Self::NeedsPerson => "needs_person",
            Self::UnknownToken => "unknown_token",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(why) => write!(f, "it is not valid JSON: {why}"),
            Self::NotAnObject => f.write_str("it is not a JSON object"),
            Self::TooLarge => write!(f, "it is longer than {MAX_ITEM_BYTES} bytes"),
            Self::NoEvent => f.write_str("`event` is missing or is not a string"),
            Self::NoDistinctId => {
                f.write_str("`distinct_id` is missing or is not a string or a number")
            }
            Self::PropertiesNotAnObject => {
                f.write_str("`properties`, `$set` or `$set_once` is not an object")
            }
            Self::NeedsPerson => {
                f.write_str("it needs a person, but `$process_person_profile` is false")
            }
            Self::UnknownToken => f.write_str("its token is missing or unknown"),
        }
    }
}

/// An event, or a line of a person export.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub event: String,
    pub distinct_id: String,
    /// Another distinct id of the same person, as `$identify` sends it.
    pub(super) other_id: Option<String>,
    pub timestamp: DateTime<Utc>,
    pub uuid: Uuid,
    /// A JSON object.
    pub properties: JsonText,
    pub(super) set: Map<String, Value>,
    pub(super) set_once: Map<String, Value>,
    /// Names of the person properties to remove.
    pub(super) unset: Vec<String>,
    /// The event creates no person and changes none.
    pub(super) is_personless: bool,
    /// The person of a line of a person export. Such an item is not an event.
    pub exported_person: Option<Uuid>,
}

/// The fields of an item that the service reads.
#[derive(Deserialize)]
struct RawItem {
    event: Option<Value>,
    distinct_id: Option<Value>,
    timestamp: Option<Value>,
    offset: Option<Value>,
    uuid: Option<Value>,
    #[serde(default)]
    properties: ObjectField,
    #[serde(default, rename = "$set")]
    set: ObjectField,
    #[serde(default, rename = "$set_once")]
    set_once: ObjectField,
    #[serde(rename = "$unset")]
    unset: Option<Value>,
    options: Option<Value>,
    /// The properties of the person, in lines of an event export.
    #[serde(default)]
    person_properties: ObjectField,
    /// The uuid of the person, in lines of an export.
    person_id: Option<Value>,
    /// When the person was created, in lines of a person export.
    created_at: Option<Value>,
}

/// The `uuid` field of an item that may be refused for other reasons.
pub fn sent_uuid(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct UuidField {
        uuid: String,
    }
    let field: UuidField = serde_json::from_str(text).ok()?;
    Some(field.uuid)
}

/// Whether PostHog ignores the id in `$identify` and aliases. SDKs send such ids when a program has none. Ids of the
/// first list match in any case, and all also match in quotes.
fn is_illegal(id: &str) -> bool {
    const ANY_CASE: [&str; 11] = [
        "anonymous",
        "guest",
        "distinctid",
        "distinct_id",
        "id",
        "not_authenticated",
        "email",
        "undefined",
        "true",
        "false",
        "null",
    ];
    const EXACT: [&str; 5] = ["[object Object]", "NaN", "None", "none", "0"];
    let bare = |quote| id.strip_prefix(quote)?.strip_suffix(quote);
    let id = bare('"').or_else(|| bare('\'')).unwrap_or(id);
    let lower = id.to_lowercase();
    let zeros = id.len() > 1 && id.bytes().all(|byte| matches!(byte, b'0' | b'-'));
    ANY_CASE.contains(&lower.as_str()) || EXACT.contains(&id) || zeros
}

impl Item {
    /// Parses the JSON text of an item. `uuid` makes a uuid for an item without one.
    ///
    /// # Errors
    ///
    /// Fails with the reason why the item is refused.
    pub fn read(
        text: &str,
        arrival: &Arrival,
        uuid: impl FnOnce() -> Uuid,
    ) -> Result<Self, Refusal> {
        if text.len() > MAX_ITEM_BYTES {
            return Err(Refusal::TooLarge);
        }
        let mut raw = RawItem::read(text)?;
        let mut properties = object(take(&mut raw.properties))?;
        let event = match name(raw.event.take()) {
            Some(event) => event,
            None if arrival.is_export && raw.person_id.is_some() => {
                return Self::of_person_export(raw, properties, arrival, uuid());
            }
            None => return Err(Refusal::NoEvent),
        };
        let id = raw.distinct_id.take();
        let id = id.or_else(|| properties.interpreted.remove("distinct_id"));
        let distinct_id = name(id).ok_or(Refusal::NoDistinctId)?;
        let set = person_properties(&mut properties, "$set", take(&mut raw.set))?;
        let set_once = person_properties(&mut properties, "$set_once", take(&mut raw.set_once))?;
        let set = if arrival.is_export {
            let mut exported = members_of(&object(take(&mut raw.person_properties))?)?;
            exported.extend(set);
            exported
        } else {
            set
        };
        if properties.text.len() > MAX_ITEM_BYTES {
            return Err(Refusal::TooLarge);
        }
        let interpreted = properties.interpreted;
        let is_personless = is_false(interpreted.get("$process_person_profile"))
            || is_false(options(&raw).and_then(|all| all.get("process_person_profile")));
        if is_personless && PERSON_EVENTS.contains(&event.as_str()) {
            return Err(Refusal::NeedsPerson);
        }
        let unset = [interpreted.get("$unset"), raw.unset.as_ref()];
        let unset = unset.into_iter().flatten().flat_map(names).collect();
        let ignores_sent_at = interpreted.get("$ignore_sent_at") == Some(&Value::Bool(true));
        let uuid_sent = raw.uuid.as_ref().and_then(Value::as_str);
        let other_id = match event.as_str() {
            "$identify" => interpreted.get("$anon_distinct_id"),
            "$create_alias" | "$merge_dangerously" => interpreted.get("alias"),
            _ => None,
        };
        let other_id = name(other_id.cloned()).filter(|id| *id != distinct_id);
        let mut item = Self {
            other_id: other_id.filter(|id| !is_illegal(id) && !is_illegal(&distinct_id)),
            event,
            timestamp: raw.time(arrival, ignores_sent_at),
            uuid: uuid_sent
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(uuid),
            distinct_id,
            properties: JsonText(properties.text),
            set,
            set_once,
            unset,
            is_personless,
            exported_person: None,
        };
        if is_personless || PERSON_UNCHANGED_EVENTS.contains(&item.event.as_str()) {
            item.clear_person_changes();
        }
        Ok(item)
    }

    /// A line of PostHog's person export: one distinct id of a person, and the person's properties.
    fn of_person_export(
        mut raw: RawItem,
        properties: Properties,
        arrival: &Arrival,
        uuid: Uuid,
    ) -> Result<Self, Refusal> {
        let person = raw.person_id.as_ref().and_then(Value::as_str);
        let person = person.and_then(|text| text.parse().ok());
        let set = members_of(&properties)?;
        raw.timestamp = raw.created_at.take();
        Ok(Self {
            event: String::new(),
            distinct_id: name(raw.distinct_id.take()).ok_or(Refusal::NoDistinctId)?,
            other_id: None,
            timestamp: raw.time(arrival, true),
            uuid,
            properties: JsonText(properties.text),
            set,
            set_once: Map::new(),
            unset: Vec::new(),
            is_personless: false,
            exported_person: Some(person.ok_or(Refusal::NoEvent)?),
        })
    }

    /// Adds another distinct id of the same person.
    pub fn link_to(&mut self, other_id: &str) {
        self.other_id = Some(other_id.to_owned());
    }

    /// The approximate memory of the item in bytes, which may be many times the length of its text.
    pub fn memory(&self) -> usize {
        let texts = [&self.event, &self.distinct_id, &self.properties.0];
        let texts = texts.into_iter().chain(&self.other_id).chain(&self.unset);
        let texts: usize = texts.map(|text| text.len() + OVERHEAD).sum();
        size_of::<Self>() + texts + members_memory(&self.set) + members_memory(&self.set_once)
    }

    fn clear_person_changes(&mut self) {
        self.set.clear();
        self.set_once.clear();
        self.unset.clear();
    }

    /// Whether the item changes a person with these properties.
    pub(super) fn changes(&self, properties: &Map<String, Value>) -> bool {
        let sets = |(name, value): (&String, &Value)| properties.get(name) != Some(value);
        self.set.iter().any(sets)
            || self.unset.iter().any(|name| properties.contains_key(name))
            || self
                .set_once
                .keys()
                .any(|name| !properties.contains_key(name))
    }

    /// Whether the item identifies the person. An identified person is merged into another one only by force.
    pub(super) fn identifies(&self) -> bool {
        self.other_id.is_some() && self.exported_person.is_none()
    }

    /// Whether the item merges persons even if they are identified.
    pub(super) fn forces_merge(&self) -> bool {
        self.event == "$merge_dangerously"
    }

    /// Whether the item may change properties or distinct ids of the person.
    pub(super) fn describes_person(&self) -> bool {
        !self.set.is_empty()
            || !self.set_once.is_empty()
            || !self.unset.is_empty()
            || self.other_id.is_some()
    }
}

/// Events that change no person, as in PostHog.
const PERSON_UNCHANGED_EVENTS: [&str; 2] = ["$exception", "$$heatmap"];

/// The approximate bytes of each value and each allocation, besides its text.
const OVERHEAD: usize = 80;

fn members_memory(map: &Map<String, Value>) -> usize {
    let member = |(name, value): (&String, &Value)| OVERHEAD + name.len() + memory(value);
    map.iter().map(member).sum()
}

fn memory(value: &Value) -> usize {
    OVERHEAD
        + match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(memory).sum(),
            Value::Object(map) => members_memory(map),
            _ => 0,
        }
}

/// Events that need a person, as in PostHog.
const PERSON_EVENTS: [&str; 4] = [
    "$identify",
    "$create_alias",
    "$merge_dangerously",
    "$groupidentify",
];

impl RawItem {
    /// The corrected time of the event.
    fn time(&self, arrival: &Arrival, ignores_sent_at: bool) -> DateTime<Utc> {
        let timestamp = self.timestamp.as_ref().and_then(instant);
        let offset_ms = self.offset.as_ref().and_then(Value::as_i64);
        arrival.time(timestamp, offset_ms, ignores_sent_at)
    }

    fn read(text: &str) -> Result<Self, Refusal> {
        let parsed = serde_json::from_str(text);
        let parsed = if parsed.is_err() && text.contains("\\u") {
            serde_json::from_str(&replace_lone_surrogates(text))
        } else {
            parsed
        };
        parsed.map_err(|error| {
            let is_object = text.trim_start().starts_with('{');
            match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) if !is_object => Refusal::NotAnObject,
                _ => Refusal::NotJson(error.to_string()),
            }
        })
    }
}

/// The object in which newer SDKs send options of an event.
fn options(raw: &RawItem) -> Option<&Map<String, Value>> {
    raw.options.as_ref()?.as_object()
}

fn is_false(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(false))
}

/// The person properties of member `name` of the event properties, and of the field `name` beside them. Members of the
/// field are added to the event properties.
fn person_properties(
    properties: &mut Properties,
    name: &str,
    field: ObjectField,
) -> Result<Map<String, Value>, Refusal> {
    let mut set = match properties.interpreted.remove(name) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(Refusal::PropertiesNotAnObject),
    };
    let field = members_of(&object(field)?)?;
    if !field.is_empty() {
        set.extend(field);
        properties.insert(name, &Value::Object(set.clone()));
    }
    Ok(set)
}

/// The strings of a list, or the names of an object's members.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => {
            let names = list.iter().filter_map(Value::as_str);
            names.map(str::to_owned).collect()
        }
        Value::Object(map) => map.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// The trimmed name, cut to [`LONGEST_NAME`] characters; `None` if it is blank. Numbers become text.
fn name(value: Option<Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let text = match text.trim().char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => text.trim()[..end].to_owned(),
        None if text.trim().len() == text.len() => text,
        None => text.trim().to_owned(),
    };
    let text = if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    };
    (!text.is_empty()).then_some(text)
}

fn object(field: ObjectField) -> Result<Properties, Refusal> {
    match field {
        ObjectField::Absent => Ok(Properties::default()),
        ObjectField::Object(properties) => Ok(properties),
        ObjectField::NotAnObject => Err(Refusal::PropertiesNotAnObject),
    }
}

fn members_of(properties: &Properties) -> Result<Map<String, Value>, Refusal> {
    let members = serde_json::from_str(&properties.text);
    members.map_err(|error| Refusal::NotJson(error.to_string()))
}
