//! Items of a batch in the wire format: each is read whole, or refused with its reason.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

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
    pub properties: Map<String, Value>,
    pub(super) set: Map<String, Value>,
    pub(super) set_once: Map<String, Value>,
    /// Names of properties that the person loses.
    pub(super) unset: Vec<String>,
}

/// How items came in, by which their times are put right.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub now: DateTime<Utc>,
    /// When they were sent, by the sender's clock.
    pub sent_at: Option<DateTime<Utc>>,
}

impl Arrival {
    /// What was read from a file, and knows its times.
    pub fn of_file() -> Self {
        Self {
            now: Utc::now(),
            sent_at: None,
        }
    }

    /// The time of an event, by PostHog's rules: the sender's clock is set by ours, an event without a time may say
    /// how long ago it was, and the future is the present.
    fn time(&self, item: &Map<String, Value>, ignores_sent_at: bool) -> DateTime<Utc> {
        let told = item.get("timestamp").and_then(instant);
        let time = match (told, self.sent_at.filter(|_| !ignores_sent_at)) {
            (Some(told), Some(sent)) => self.now.checked_add_signed(told - sent).unwrap_or(told),
            (Some(told), None) => told,
            (None, _) => {
                let ago = item.get("offset").and_then(Value::as_i64);
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
/// Those of the first list count in any letters, as PostHog has it.
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
        let value = parsed(text).map_err(|error| Refusal::NotJson(error.to_string()))?;
        let Value::Object(mut item) = storable(value) else {
            return Err(Refusal::NotAnObject);
        };
        let event = name(item.get("event")).ok_or(Refusal::NoEvent)?;
        let mut properties = object(item.remove("properties"))?;
        let id = item
            .get("distinct_id")
            .or_else(|| properties.get("distinct_id"));
        let distinct_id = name(id).ok_or(Refusal::NoDistinctId)?;
        let sets = |name: &str, properties: &Map<String, Value>| {
            let mut sets = object(properties.get(name).cloned())?;
            sets.extend(object(item.get(name).cloned())?);
            Ok(sets)
        };
        let set = sets("$set", &properties)?;
        let set_once = sets("$set_once", &properties)?;
        for (name, sets) in [("$set", &set), ("$set_once", &set_once)] {
            if !sets.is_empty() {
                properties.insert(name.to_owned(), sets.clone().into());
            }
        }
        let unset = [properties.get("$unset"), item.get("$unset")];
        let unset = unset.into_iter().flatten().flat_map(names).collect();
        let ignores_sent_at = properties.get("$ignore_sent_at") == Some(&Value::Bool(true));
        let sent = item.get("uuid").and_then(Value::as_str);
        let other_id = match event.as_str() {
            "$identify" => properties.get("$anon_distinct_id"),
            "$create_alias" | "$merge_dangerously" => properties.get("alias"),
            _ => None,
        };
        Ok(Self {
            other_id: name(other_id).filter(|id| !is_illegal(id) && !is_illegal(&distinct_id)),
            event,
            distinct_id,
            timestamp: arrival.time(&item, ignores_sent_at),
            uuid: sent.and_then(|text| text.parse().ok()).unwrap_or_else(uuid),
            properties,
            set,
            set_once,
            unset,
        })
    }

    /// Whether the item says something of the person, beside what they did.
    pub(super) fn tells_of_person(&self) -> bool {
        !self.set.is_empty()
            || !self.set_once.is_empty()
            || !self.unset.is_empty()
            || self.event == "$identify"
    }
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

/// The value of JSON text; halves of a character that JavaScript lets stand alone are replaced.
fn parsed(text: &str) -> serde_json::Result<Value> {
    let parsed = serde_json::from_str(text);
    match parsed.is_err() && text.contains("\\u") {
        true => serde_json::from_str(&mended(text)),
        false => parsed,
    }
}

/// Replaces each `\uD800` to `\uDFFF` that is no half of a pair.
fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let unit = |text: &str| {
            let digits = text.strip_prefix("\\u")?.get(..4)?;
            u32::from_str_radix(digits, 16).ok()
        };
        let length = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            // A backslash and what it stands for.
            _ => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    mended.push_str(rest);
    mended
}

/// A name of at most 200 characters that is not blank; numbers count as text.
fn name(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let text: String = text.trim().chars().take(LONGEST_NAME).collect();
    (!text.is_empty()).then_some(text)
}

fn object(value: Option<Value>) -> Result<Map<String, Value>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(Refusal::PropertiesNotAnObject),
    }
}

/// The value with what Postgres cannot store in a text, the character NUL, replaced.
fn storable(value: Value) -> Value {
    let text = |text: String| match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    };
    match value {
        Value::String(value) => text(value).into(),
        Value::Array(list) => list.into_iter().map(storable).collect(),
        Value::Object(map) => {
            let members = map
                .into_iter()
                .map(|(key, value)| (text(key), storable(value)));
            Value::Object(members.collect())
        }
        other => other,
    }
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
