//! Why an item is refused, for the sender, the log and the metric.

use std::fmt;

use super::arrival::FaultyTime;
use super::item::MAX_ITEM_BYTES;

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
    /// The time of a line in a file cannot be used. Capture replaces such a time.
    Time(FaultyTime),
}

/// The most characters of the error of a JSON library.
const SHOWN_CHARS: usize = 200;

impl Refusal {
    pub fn not_json(error: &serde_json::Error) -> Self {
        Self::NotJson(error.to_string().chars().take(SHOWN_CHARS).collect())
    }

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
            Self::Time(_) => "time",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(why) => write!(f, "it is not valid JSON: {why}"),
            Self::NotAnObject => f.write_str("it is not a JSON object"),
            Self::TooLarge => write!(f, "it is longer than {MAX_ITEM_BYTES} bytes"),
            Self::NoEvent => f.write_str("`event` is missing, empty or not a string"),
            Self::NoDistinctId => f.write_str("`distinct_id` is missing or empty"),
            Self::PropertiesNotAnObject => {
                f.write_str("`properties`, `$set` or `$set_once` is not an object")
            }
            Self::NeedsPerson => {
                f.write_str("it needs a person, but `$process_person_profile` is false")
            }
            Self::UnknownToken => f.write_str("its token is missing or unknown"),
            Self::Time(time) => time.fmt(f),
        }
    }
}
