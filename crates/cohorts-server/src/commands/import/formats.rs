//! The formats of lines, and how a line of each becomes items of the service.
//!
//! A module per vendor knows the names of its fields. It writes each event or person in the wire format, so that
//! `ingest` reads all lines by the same rules.

use std::borrow::Cow;
use std::fmt;

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::record::Record;
use super::{amplitude, mixpanel, posthog, segment};

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineFormat {
    /// Items as in the `batch` of a capture request.
    CaptureItems,
    PosthogEvents,
    PosthogPersons,
    /// Persons as the service and PostHog's API write them, one per line.
    Persons,
    MixpanelEvents,
    MixpanelProfiles,
    AmplitudeEvents,
    SegmentCalls,
}

impl fmt::Display for LineFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CaptureItems => "capture items",
            Self::PosthogEvents => "PostHog events",
            Self::PosthogPersons => "PostHog persons",
            Self::Persons => "Cohorts persons",
            Self::MixpanelEvents => "Mixpanel events",
            Self::MixpanelProfiles => "Mixpanel profiles",
            Self::AmplitudeEvents => "Amplitude events",
            Self::SegmentCalls => "Segment calls",
        })
    }
}

/// An event, or a person with one of its distinct ids, in the wire format.
#[derive(Debug)]
pub struct WireItem<'a> {
    pub text: Cow<'a, str>,
    /// The error is reported only if the text is an item.
    pub time: anyhow::Result<DateTime<Utc>>,
    /// The identity of an event without a uuid; `None` if the whole line is its identity.
    pub key: Option<String>,
    /// Whether the time is a part of the identity: all files with the event have the same time.
    pub has_fixed_time: bool,
    /// Another distinct id of the same person.
    pub other_id: Option<String>,
}

/// The contents of a line.
#[derive(Debug)]
pub enum Contents<'a> {
    Items(Vec<WireItem<'a>>),
    DeletedPerson(Uuid),
}

impl<'a> Contents<'a> {
    /// The format of a line, and its contents.
    pub fn read(line: &'a str) -> anyhow::Result<(LineFormat, Self)> {
        let record = Record::parse(line)?;
        let format = recognize(&record)?;
        let contents = match format {
            LineFormat::CaptureItems | LineFormat::PosthogEvents => {
                Self::Items(vec![posthog::event(line, &record)?])
            }
            LineFormat::PosthogPersons | LineFormat::Persons => posthog::person(&record)?,
            LineFormat::MixpanelEvents => Self::Items(vec![mixpanel::event(&record)?]),
            LineFormat::MixpanelProfiles => Self::Items(vec![mixpanel::profile(&record)?]),
            LineFormat::AmplitudeEvents => Self::Items(vec![amplitude::event(&record)?]),
            LineFormat::SegmentCalls => Self::Items(vec![segment::call(&record)?]),
        };
        Ok((format, contents))
    }
}

/// Fields of events that PostHog adds to those of the sender.
const POSTHOG_FIELDS: [&str; 6] = [
    "person_id",
    "person_properties",
    "team_id",
    "created_at",
    "elements_chain",
    "_inserted_at",
];

fn recognize(record: &Record<'_>) -> anyhow::Result<LineFormat> {
    if segment::is_call(record) {
        return Ok(LineFormat::SegmentCalls);
    }
    if record.has("event") {
        return Ok(if mixpanel::is_event(record) {
            LineFormat::MixpanelEvents
        } else if record.has_any(&POSTHOG_FIELDS) {
            LineFormat::PosthogEvents
        } else {
            LineFormat::CaptureItems
        });
    }
    if record.has("event_type") {
        Ok(LineFormat::AmplitudeEvents)
    } else if record.has("$distinct_id") {
        Ok(LineFormat::MixpanelProfiles)
    } else if record.has("distinct_ids") {
        Ok(LineFormat::Persons)
    } else if record.has("distinct_id") && record.has_any(&["person_id", "uuid", "id"]) {
        Ok(LineFormat::PosthogPersons)
    } else {
        bail!(
            "`event` is missing, and it is in no other known format; `cohorts import --help` lists the formats"
        )
    }
}

/// The identity of an event that its vendor identifies by `id`.
pub fn vendor_key(vendor: &str, id: Option<String>, event: &str, person: &str) -> Option<String> {
    Some(format!("{vendor}/{}/{event}/{person}", id?))
}

/// The name of an event.
pub fn event_name(record: &Record<'_>, field: &str) -> anyhow::Result<String> {
    let name = record.text(field).filter(|name| !name.trim().is_empty());
    name.with_context(|| format!("`{field}` is missing or is not a string"))
}

/// The error of an event without a person.
pub fn no_id(fields: &str) -> anyhow::Error {
    anyhow!("{fields} is missing or is not a string or a number")
}
