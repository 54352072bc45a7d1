//! Items of a batch in the wire format. Each is read completely or refused with a reason.
//!
//! The rules for names, times and persons are those of PostHog's ingestion.

use std::mem::take;

use chrono::{DateTime, Utc};
use cohorts_engine::{LONGEST_NAME, is_too_long, stored_name};
use cohorts_store::JsonText;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::arrival::{Arrival, FaultyTime};
use super::fields::{EventOptions, IdText, NameList, ObjectField, Scalar};
use super::json::{PersonProperties, Properties, TEXT_TOO_LONG, replace_lone_surrogates};
use super::nonstandard::Standardized;
use super::person_members::{Members, is_same_value, members_memory, object_text};
use super::refusal::Refusal;

/// The most bytes of an item, as JSON text.
pub const MAX_ITEM_BYTES: usize = 1 << 20;

/// An event, or a line of a person export.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub event: String,
    pub distinct_id: String,
    /// Another distinct id of the same person, as `$identify` sends it.
    pub(super) other_id: Option<String>,
    pub timestamp: DateTime<Utc>,
    pub uuid: Uuid,
    /// The service has made the uuid for this item alone. So the log has it only if this item was written before.
    pub has_new_uuid: bool,
    /// A JSON object.
    pub properties: JsonText,
    pub(super) set: Members,
    pub(super) set_once: Members,
    /// NameList of the person properties to remove.
    pub(super) unset: Vec<String>,
    /// The event creates no person and changes none.
    pub(super) is_personless: bool,
    /// The person of a line of a person export. Such an item is not an event.
    pub exported_person: Option<Uuid>,
    /// Whether the export says that the person is identified.
    is_identified: bool,
    /// Properties that were dropped because their names are too long.
    pub dropped: usize,
    /// The time that was sent, if it was replaced by the time of the arrival.
    pub replaced_time: Option<FaultyTime>,
    pub truncated: Truncated,
}

/// The names of an item that were cut because they are too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    pub events: u64,
    pub distinct_ids: u64,
}

impl Truncated {
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.distinct_ids += other.distinct_ids;
    }
}

/// The fields of an item that the service reads.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawItem {
    event: Scalar,
    distinct_id: IdText,
    timestamp: Scalar,
    offset: Scalar,
    uuid: Scalar,
    properties: ObjectField<Properties>,
    #[serde(rename = "$set")]
    set: ObjectField<PersonProperties>,
    #[serde(rename = "$set_once")]
    set_once: ObjectField<PersonProperties>,
    #[serde(rename = "$unset")]
    unset: NameList,
    options: EventOptions,
    /// The properties of the person, in lines of an event export.
    person_properties: ObjectField<PersonProperties>,
    /// The uuid of the person, in lines of an export.
    person_id: Scalar,
    /// When the person was created, in lines of a person export.
    created_at: Scalar,
    /// Whether the person is identified, in lines of a person export.
    is_identified: Scalar,
}

/// The JSON text of the `event` field of an item that may be refused for other reasons. Nothing is copied.
pub fn sent_event(text: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct EventField<'a> {
        #[serde(borrow)]
        event: &'a RawValue,
    }
    let fields: EventField<'_> = serde_json::from_str(text).ok()?;
    Some(fields.event.get())
}

/// The `uuid` field of an item that may be refused for other reasons; `None` if it is longer than [`LONGEST_NAME`].
pub fn sent_uuid(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct UuidField {
        uuid: Scalar,
    }
    match serde_json::from_str(text).ok()? {
        UuidField {
            uuid: Scalar::Text(uuid),
        } if uuid.len() <= LONGEST_NAME => Some(uuid),
        _ => None,
    }
}

/// The uuid of an event. For a text that is no uuid, it is derived from the text, so that a retry has the same; a value of
/// another type counts as the text of the item. `None` if there is no uuid, or one of the words that programs write for
/// a missing value: all events would have the same.
fn event_uuid(value: &Scalar, item: &str) -> Option<Uuid> {
    const MISSING: [&str; 5] = ["", "null", "undefined", "None", "nil"];
    if value.is_absent() {
        return None;
    }
    let text = value.as_text().unwrap_or(item.into());
    let text = text.trim();
    if MISSING.contains(&text) {
        return None;
    }
    let derived = || Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes());
    Some(text.parse().unwrap_or_else(|_| derived()))
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
        let mut truncated = Truncated::default();
        let event = match name(take(&mut raw.event).into_text(), &mut truncated.events) {
            Some(event) => event,
            None if arrival.is_export && !raw.person_id.is_absent() => {
                return Self::of_person_export(raw, properties, arrival, uuid());
            }
            None => return Err(Refusal::NoEvent),
        };
        let id = take(&mut raw.distinct_id).0;
        let id = id.or_else(|| take(&mut properties.interpreted.distinct_id).0);
        let distinct_id = name(id, &mut truncated.distinct_ids).ok_or(Refusal::NoDistinctId)?;
        let mut set = set_of(&mut properties, SetField::Set, take(&mut raw.set))?;
        let set_once = set_of(&mut properties, SetField::SetOnce, take(&mut raw.set_once))?;
        if arrival.is_export {
            let mut exported = object(take(&mut raw.person_properties))?;
            exported.members.extend(set.members);
            exported.dropped += set.dropped;
            set = exported;
        }
        if properties.text.len() > MAX_ITEM_BYTES {
            return Err(Refusal::TooLarge);
        }
        let interpreted = properties.interpreted;
        let is_personless = interpreted.process_person_profile == Scalar::Bool(false)
            || raw.options.process_person_profile == Scalar::Bool(false);
        if is_personless && PERSON_EVENTS.contains(&event.as_str()) {
            return Err(Refusal::NeedsPerson);
        }
        let mut unset = interpreted.unset.0;
        unset.append(&mut raw.unset.0);
        let ignores_sent_at = interpreted.ignore_sent_at == Scalar::Bool(true);
        let other_id = match event.as_str() {
            "$identify" => interpreted.anon_distinct_id,
            "$create_alias" | "$merge_dangerously" => interpreted.alias,
            _ => IdText::default(),
        };
        let other_id = name(other_id.0, &mut truncated.distinct_ids);
        let other_id = other_id.filter(|id| *id != distinct_id);
        let (timestamp, replaced_time) = raw.time(arrival, ignores_sent_at)?;
        let mut item = Self {
            other_id: other_id.filter(|id| !is_illegal(id) && !is_illegal(&distinct_id)),
            event,
            timestamp,
            uuid: event_uuid(&raw.uuid, text).unwrap_or_else(uuid),
            has_new_uuid: false,
            distinct_id,
            properties: JsonText(properties.text),
            dropped: properties.dropped + set.dropped + set_once.dropped,
            set: set.members,
            set_once: set_once.members,
            unset,
            is_personless,
            exported_person: None,
            is_identified: false,
            replaced_time,
            truncated,
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
        let person = raw.person_id.text().and_then(|text| text.parse().ok());
        let set = serde_json::from_str(&properties.text);
        let set: PersonProperties = object(set.map_err(|error| Refusal::not_json(&error))?)?;
        raw.timestamp = take(&mut raw.created_at);
        let (timestamp, replaced_time) = raw.time(arrival, true)?;
        let mut truncated = Truncated::default();
        let id = take(&mut raw.distinct_id).0;
        let id = name(id, &mut truncated.distinct_ids);
        Ok(Self {
            event: String::new(),
            distinct_id: id.ok_or(Refusal::NoDistinctId)?,
            other_id: None,
            timestamp,
            uuid,
            has_new_uuid: false,
            properties: JsonText(properties.text),
            dropped: properties.dropped,
            set: set.members,
            set_once: Members::new(),
            unset: Vec::new(),
            is_personless: false,
            exported_person: Some(person.ok_or(Refusal::NoEvent)?),
            is_identified: raw.is_identified == Scalar::Bool(true),
            replaced_time,
            truncated,
        })
    }

    /// Adds another distinct id of the same person.
    pub fn link_to(&mut self, other_id: &str) {
        self.other_id = Some(other_id.to_owned());
    }

    /// Makes `other_id` another distinct id of the person, as `$identify` does. Ids that name no person are ignored.
    pub fn identify_with(&mut self, other_id: String) {
        let other_id = name(Some(other_id), &mut self.truncated.distinct_ids);
        let other_id = other_id.filter(|id| *id != self.distinct_id);
        let other_id = other_id.filter(|id| !is_illegal(id) && !is_illegal(&self.distinct_id));
        if !self.is_personless && other_id.is_some() {
            self.other_id = other_id;
        }
    }

    #[cfg(test)]
    pub fn other_id(&self) -> Option<&str> {
        self.other_id.as_deref()
    }

    #[cfg(test)]
    pub fn set_members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.set.iter().map(|(name, value)| (&**name, &**value))
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
    pub(super) fn changes(&self, properties: &Members) -> bool {
        let sets = |name: &str, value: &str| {
            let current = properties.get(name);
            current.is_none_or(|current| !is_same_value(current, value))
        };
        self.set.iter().any(|(name, value)| sets(name, value))
            || self
                .unset
                .iter()
                .any(|name| properties.contains_key(name.as_str()))
            || self
                .set_once
                .keys()
                .any(|name| !properties.contains_key(name))
    }

    /// Whether the item identifies the person. An identified person is merged into another one only by force.
    pub(super) fn identifies(&self) -> bool {
        self.is_identified || self.other_id.is_some() && self.exported_person.is_none()
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
            || self.is_identified
    }
}

/// Events that change no person, as in PostHog.
const PERSON_UNCHANGED_EVENTS: [&str; 2] = ["$exception", "$$heatmap"];

/// The approximate bytes of each value and each allocation, besides its text.
const OVERHEAD: usize = 80;

/// Events that need a person, as in PostHog.
const PERSON_EVENTS: [&str; 4] = [
    "$identify",
    "$create_alias",
    "$merge_dangerously",
    "$groupidentify",
];

impl RawItem {
    /// The corrected time of the event. If it cannot be used, a line of a file is refused; an event that arrives now has
    /// the current time, beside the fault.
    fn time(
        &self,
        arrival: &Arrival,
        ignores_sent_at: bool,
    ) -> Result<(DateTime<Utc>, Option<FaultyTime>), Refusal> {
        match arrival.time(&self.timestamp, &self.offset, ignores_sent_at) {
            Ok(time) => Ok((time, None)),
            Err(faulty) if arrival.is_export => Err(Refusal::Time(faulty)),
            Err(faulty) => Ok((arrival.now, Some(faulty))),
        }
    }

    fn read(text: &str) -> Result<Self, Refusal> {
        if !text.trim_start().starts_with('{') {
            return Err(match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => Refusal::NotAnObject,
                Err(error) => Refusal::not_json(&error),
            });
        }
        let parsed = serde_json::from_str(text);
        let parsed = parsed.or_else(|error| match repaired(text) {
            Some(text) => serde_json::from_str(&text),
            None => Err(error),
        });
        parsed.map_err(|error| {
            if error.to_string().starts_with(TEXT_TOO_LONG) {
                Refusal::TooLarge
            } else {
                Refusal::not_json(&error)
            }
        })
    }
}

/// The text without lone surrogates, and as standard JSON; `None` if that changes nothing.
fn repaired(text: &str) -> Option<String> {
    let standard = Standardized::of(text).map(|standard| standard.rewritten());
    if standard.is_some() || text.contains("\\u") {
        let text = standard.as_deref().unwrap_or(text);
        return Some(replace_lone_surrogates(text));
    }
    None
}

/// The two members of event properties that set properties of the person.
#[derive(Clone, Copy)]
enum SetField {
    Set,
    SetOnce,
}

/// The person properties of a member of the event properties, and of the field of the same name beside them. Members of
/// the field are added to the event properties.
fn set_of(
    properties: &mut Properties,
    name: SetField,
    field: ObjectField<PersonProperties>,
) -> Result<PersonProperties, Refusal> {
    let interpreted = &mut properties.interpreted;
    let (name, member) = match name {
        SetField::Set => ("$set", &mut interpreted.set),
        SetField::SetOnce => ("$set_once", &mut interpreted.set_once),
    };
    let mut set = object(take(member))?;
    let field = object(field)?;
    set.dropped += field.dropped;
    if !field.members.is_empty() {
        set.members.extend(field.members);
        properties.insert(name, &object_text(&set.members));
    }
    Ok(set)
}

/// The stored form of a name; `None` if it is blank. Counts it in `truncated` if it is cut.
fn name(text: Option<String>, truncated: &mut u64) -> Option<String> {
    let text = text?;
    *truncated += u64::from(is_too_long(&text));
    let name = stored_name(&text);
    (!name.is_empty()).then(|| name.into_owned())
}

fn object<T: Default>(field: ObjectField<T>) -> Result<T, Refusal> {
    match field {
        ObjectField::Absent => Ok(T::default()),
        ObjectField::Object(object) => Ok(object),
        ObjectField::NotAnObject => Err(Refusal::PropertiesNotAnObject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::TimeFault;

    const PERSON: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

    #[test]
    fn a_line_of_a_file_with_a_faulty_time_is_refused() {
        let now = Arrival {
            is_export: false,
            ..Arrival::of_file()
        };
        let event =
            |time: &str| format!(r#"{{"event": "x", "distinct_id": "a", "timestamp": {time}}}"#);
        for (text, fault) in [
            (event(r#""soon""#), TimeFault::Unreadable),
            (event("{}"), TimeFault::Unreadable),
            (event(r#""9999-12-31""#), TimeFault::Future),
            (
                format!(r#"{{"distinct_id": "a", "person_id": "{PERSON}", "created_at": "soon"}}"#),
                TimeFault::Unreadable,
            ),
        ] {
            let refusal = Item::read(&text, &Arrival::of_file(), Uuid::nil).unwrap_err();
            assert!(
                matches!(refusal, Refusal::Time(faulty) if faulty.fault == fault),
                "{text}"
            );
            if let Ok(item) = Item::read(&text, &now, Uuid::nil) {
                assert_eq!(item.timestamp, now.now);
                assert_eq!(item.replaced_time.unwrap().fault, fault);
            }
        }
        let line =
            format!(r#"{{"distinct_id": "a", "person_id": "{PERSON}", "created_at": 1577836800}}"#);
        let item = Item::read(&line, &Arrival::of_file(), Uuid::nil).unwrap();
        assert_eq!(item.timestamp.timestamp(), 1_577_836_800);
    }
}
