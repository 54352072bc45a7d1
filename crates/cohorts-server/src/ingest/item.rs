//! Items of a batch in the wire format: each is read whole, or refused with its reason.

use std::fmt;
use std::mem::take;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::json::{Properties, Told, mended};
use cohorts_store::JsonText;

/// The longest item, as JSON text.
const LONGEST_ITEM: usize = 1 << 20;
/// Longer event names and distinct ids are cut, as PostHog does.
pub const LONGEST_NAME: usize = 200;
/// An event further ahead happens now.
const MOST_AHEAD: TimeDelta = TimeDelta::hours(23);

/// Why an item is not taken.
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
    /// A word for the metrics.
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
            Self::NotJson(why) => write!(f, "it is no JSON: {why}"),
            Self::NotAnObject => f.write_str("it is no JSON object"),
            Self::TooLarge => write!(f, "it is longer than {LONGEST_ITEM} bytes"),
            Self::NoEvent => f.write_str("`event` is missing, or is no text"),
            Self::NoDistinctId => {
                f.write_str("`distinct_id` is missing, or is neither text nor a number")
            }
            Self::PropertiesNotAnObject => {
                f.write_str("`properties`, `$set` or `$set_once` is no object")
            }
            Self::NeedsPerson => f.write_str(
                "it is about a person, and `$process_person_profile` says that there is none",
            ),
            Self::UnknownToken => f.write_str("its token is missing or is no project's"),
        }
    }
}

/// An item that can be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub event: String,
    pub distinct_id: String,
    /// Another distinct id of the same person, where the item tells it.
    pub(super) other_id: Option<String>,
    pub timestamp: DateTime<Utc>,
    pub uuid: Uuid,
    /// The text of a JSON object.
    pub properties: JsonText,
    pub(super) set: Map<String, Value>,
    pub(super) set_once: Map<String, Value>,
    /// Names of properties that the person loses.
    pub(super) unset: Vec<String>,
    /// It makes nobody, and tells nothing of whoever did it.
    pub(super) is_personless: bool,
    /// Whose line of an export of people it is: it tells of a person, and is no event.
    pub exported_person: Option<Uuid>,
}

/// What an item consists of, as far as it means something.
#[derive(Deserialize)]
struct Sent {
    event: Option<Value>,
    distinct_id: Option<Value>,
    timestamp: Option<Value>,
    offset: Option<Value>,
    uuid: Option<Value>,
    #[serde(default)]
    properties: Told,
    #[serde(default, rename = "$set")]
    set: Told,
    #[serde(default, rename = "$set_once")]
    set_once: Told,
    #[serde(rename = "$unset")]
    unset: Option<Value>,
    options: Option<Value>,
    /// What an export tells of the person beside the event.
    #[serde(default)]
    person_properties: Told,
    /// The person, in lines of an export.
    person_id: Option<Value>,
    /// When the person was created, in lines of an export of people.
    created_at: Option<Value>,
}

/// How items came in, by which their times are put right.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub now: DateTime<Utc>,
    /// When they were sent, by the sender's clock.
    pub sent_at: Option<DateTime<Utc>>,
    /// Whether they may be lines of PostHog's export of events, which tells of the person what was known.
    pub is_export: bool,
}

impl Arrival {
    /// What was read from a file, and knows its times.
    pub fn of_file() -> Self {
        Self {
            now: Utc::now(),
            sent_at: None,
            is_export: true,
        }
    }

    /// The time of an event, by PostHog's rules: the sender's clock is set by ours, an event without a time may say
    /// how long ago it was, and the future is the present.
    fn time(&self, item: &Sent, ignores_sent_at: bool) -> DateTime<Utc> {
        let told = item.timestamp.as_ref().and_then(instant);
        let time = match (told, self.sent_at.filter(|_| !ignores_sent_at)) {
            (Some(told), Some(sent)) => self.now.checked_add_signed(told - sent).unwrap_or(told),
            (Some(told), None) => told,
            (None, _) => {
                let ago = item.offset.as_ref().and_then(Value::as_i64);
                let ago = ago.and_then(TimeDelta::try_milliseconds);
                ago.and_then(|ago| self.now.checked_sub_signed(ago))
                    .unwrap_or(self.now)
            }
        };
        let time = storable_time(time).unwrap_or(self.now);
        match time > self.now + MOST_AHEAD {
            true => self.now,
            false => time,
        }
    }
}

/// The uuid that an item was sent with, if it can be read at all.
pub fn sent_uuid(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        uuid: String,
    }
    let named: Named = serde_json::from_str(text).ok()?;
    Some(named.uuid)
}

/// Ids that mean nobody, which SDKs send where a program has no id: they do not tie people together.
/// Those of the first list count in any letters, and all of them in quotes too, as PostHog has it.
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
    /// Reads the JSON text of an item. `uuid` is the identity of one that has none.
    pub fn read(
        text: &str,
        arrival: &Arrival,
        uuid: impl FnOnce() -> Uuid,
    ) -> Result<Self, Refusal> {
        if text.len() > LONGEST_ITEM {
            return Err(Refusal::TooLarge);
        }
        let mut sent = Sent::read(text)?;
        let mut properties = object(take(&mut sent.properties))?;
        let event = match name(sent.event.take()) {
            Some(event) => event,
            None if arrival.is_export && sent.person_id.is_some() => {
                return Self::of_export(sent, properties, arrival, uuid());
            }
            None => return Err(Refusal::NoEvent),
        };
        let id = sent.distinct_id.take();
        let id = id.or_else(|| properties.picked.remove("distinct_id"));
        let distinct_id = name(id).ok_or(Refusal::NoDistinctId)?;
        let set = sets(&mut properties, "$set", take(&mut sent.set))?;
        let set_once = sets(&mut properties, "$set_once", take(&mut sent.set_once))?;
        let set = match arrival.is_export {
            true => {
                let mut known = members_of(&object(take(&mut sent.person_properties))?)?;
                known.extend(set);
                known
            }
            false => set,
        };
        if properties.text.len() > LONGEST_ITEM {
            return Err(Refusal::TooLarge);
        }
        let picked = properties.picked;
        let is_personless = says_no(picked.get("$process_person_profile"))
            || says_no(options(&sent).and_then(|all| all.get("process_person_profile")));
        if is_personless && NEED_PERSON.contains(&event.as_str()) {
            return Err(Refusal::NeedsPerson);
        }
        let unset = [picked.get("$unset"), sent.unset.as_ref()];
        let unset = unset.into_iter().flatten().flat_map(names).collect();
        let ignores_sent_at = picked.get("$ignore_sent_at") == Some(&Value::Bool(true));
        let uuid_sent = sent.uuid.as_ref().and_then(Value::as_str);
        let other_id = match event.as_str() {
            "$identify" => picked.get("$anon_distinct_id"),
            "$create_alias" | "$merge_dangerously" => picked.get("alias"),
            _ => None,
        };
        let other_id = name(other_id.cloned()).filter(|id| *id != distinct_id);
        let mut item = Self {
            other_id: other_id.filter(|id| !is_illegal(id) && !is_illegal(&distinct_id)),
            event,
            timestamp: arrival.time(&sent, ignores_sent_at),
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
        if is_personless || SAY_NOTHING.contains(&item.event.as_str()) {
            item.forget_person();
        }
        Ok(item)
    }

    /// A line of PostHog's export of people: one distinct id of a person, and the person's properties.
    fn of_export(
        mut sent: Sent,
        properties: Properties,
        arrival: &Arrival,
        uuid: Uuid,
    ) -> Result<Self, Refusal> {
        let person = sent.person_id.as_ref().and_then(Value::as_str);
        let person = person.and_then(|text| text.parse().ok());
        let set = members_of(&properties)?;
        sent.timestamp = sent.created_at.take();
        Ok(Self {
            event: String::new(),
            distinct_id: name(sent.distinct_id.take()).ok_or(Refusal::NoDistinctId)?,
            other_id: None,
            timestamp: arrival.time(&sent, true),
            uuid,
            properties: JsonText(properties.text),
            set,
            set_once: Map::new(),
            unset: Vec::new(),
            is_personless: false,
            exported_person: Some(person.ok_or(Refusal::NoEvent)?),
        })
    }

    /// The other id is one of the same person.
    pub fn is_of(&mut self, other_id: &str) {
        self.other_id = Some(other_id.to_owned());
    }

    /// About how many bytes the item takes in memory, which may be many times those of its text.
    pub fn memory(&self) -> usize {
        let texts = [&self.event, &self.distinct_id, &self.properties.0];
        let texts = texts.into_iter().chain(&self.other_id).chain(&self.unset);
        let texts: usize = texts.map(|text| text.len() + OVERHEAD).sum();
        size_of::<Self>() + texts + members(&self.set) + members(&self.set_once)
    }

    fn forget_person(&mut self) {
        self.set.clear();
        self.set_once.clear();
        self.unset.clear();
    }

    /// Whether a person with these properties has others after it.
    pub(super) fn changes(&self, properties: &Map<String, Value>) -> bool {
        let sets = |(name, value): (&String, &Value)| properties.get(name) != Some(value);
        self.set.iter().any(sets)
            || self.unset.iter().any(|name| properties.contains_key(name))
            || self
                .set_once
                .keys()
                .any(|name| !properties.contains_key(name))
    }

    /// Whether it says who the person is. One who is known so is not merged into somebody else, unless by force.
    pub(super) fn identifies(&self) -> bool {
        self.other_id.is_some() && self.exported_person.is_none()
    }

    /// Whether people who are known already become one, whoever they are.
    pub(super) fn merges_by_force(&self) -> bool {
        self.event == "$merge_dangerously"
    }

    /// Whether the item says something of the person, beside what they did.
    pub(super) fn tells_of_person(&self) -> bool {
        !self.set.is_empty()
            || !self.set_once.is_empty()
            || !self.unset.is_empty()
            || self.other_id.is_some()
    }
}

/// Events whose properties are not about the person, as PostHog has it.
const SAY_NOTHING: [&str; 2] = ["$exception", "$$heatmap"];

/// What each value and each allocation takes beside its text, about.
const OVERHEAD: usize = 80;

fn members(map: &Map<String, Value>) -> usize {
    let member = |(name, value): (&String, &Value)| OVERHEAD + name.len() + memory(value);
    map.iter().map(member).sum()
}

fn memory(value: &Value) -> usize {
    OVERHEAD
        + match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(memory).sum(),
            Value::Object(map) => members(map),
            _ => 0,
        }
}

/// Events that make no sense without a person, as PostHog has it.
const NEED_PERSON: [&str; 4] = [
    "$identify",
    "$create_alias",
    "$merge_dangerously",
    "$groupidentify",
];

impl Sent {
    fn read(text: &str) -> Result<Self, Refusal> {
        let read = serde_json::from_str(text);
        let read = match read.is_err() && text.contains("\\u") {
            true => serde_json::from_str(&mended(text)),
            false => read,
        };
        read.map_err(|error| {
            let is_object = text.trim_start().starts_with('{');
            match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) if !is_object => Refusal::NotAnObject,
                _ => Refusal::NotJson(error.to_string()),
            }
        })
    }
}

/// What newer SDKs say of an event outside of its properties.
fn options(sent: &Sent) -> Option<&Map<String, Value>> {
    sent.options.as_ref()?.as_object()
}

fn says_no(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(false))
}

/// What is set by the properties and by what stands beside them, which is put into them.
fn sets(
    properties: &mut Properties,
    name: &str,
    beside: Told,
) -> Result<Map<String, Value>, Refusal> {
    let mut sets = match properties.picked.remove(name) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(Refusal::PropertiesNotAnObject),
    };
    let beside = members_of(&object(beside)?)?;
    if !beside.is_empty() {
        sets.extend(beside);
        properties.insert(name, &Value::Object(sets.clone()));
    }
    Ok(sets)
}

/// The names in a list, or those of an object's members.
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

/// A name of at most 200 characters that is not blank; numbers count as text.
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
    let text = match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    };
    (!text.is_empty()).then_some(text)
}

fn object(told: Told) -> Result<Properties, Refusal> {
    match told {
        Told::Nothing => Ok(Properties::default()),
        Told::Object(properties) => Ok(properties),
        Told::NoObject => Err(Refusal::PropertiesNotAnObject),
    }
}

fn members_of(properties: &Properties) -> Result<Map<String, Value>, Refusal> {
    let members = serde_json::from_str(&properties.text);
    members.map_err(|error| Refusal::NotJson(error.to_string()))
}

/// An instant in ISO 8601, with a space or a `T` between date and time; without an offset it is in UTC.
pub fn instant(value: &Value) -> Option<DateTime<Utc>> {
    let text = value.as_str()?.trim();
    let zoned = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
        .map(|time| time.to_utc());
    let local = || {
        let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
        let times = formats
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
        let midnight = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0);
        Some(times.or_else(midnight)?.and_utc())
    };
    storable_time(zoned.ok().or_else(local)?)
}

/// Postgres counts microseconds.
fn storable_time(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let time = DateTime::from_timestamp_micros(time.timestamp_micros())?;
    (1..=9999).contains(&time.year()).then_some(time)
}
