//! Parses one leaf of each kind, and the event filters of a behavioural leaf.

use serde_json::{Map, Value};

use super::fields::{Fields, shown};
use super::{EXPECTED, Mode, kind_of, short};
use crate::FilterError;
use crate::date;
use crate::filter::{
    BehavioralLeaf, CohortKey, CohortLeaf, EventFilter, EventFilterKind, Leaf, PersonLeaf,
};

const BEHAVIORAL_KEYS: [&str; 18] = [
    "type",
    "key",
    "value",
    "event_type",
    "time_value",
    "time_interval",
    "negation",
    "operator",
    "operator_value",
    "seq_time_value",
    "seq_time_interval",
    "seq_event",
    "seq_event_type",
    "total_periods",
    "min_periods",
    "event_filters",
    "explicit_datetime",
    "explicit_datetime_to",
];

pub(super) fn leaf(
    path: &str,
    mode: Mode,
    kind: &str,
    object: &Map<String, Value>,
) -> Result<(Leaf, Value), FilterError> {
    let fields = Fields::new(path, kind, object);
    match kind {
        "person" => person(fields, mode).map(|(leaf, wire)| (Leaf::Person(leaf), wire)),
        "person_metadata" => metadata(fields, mode),
        "cohort" => cohort(fields, mode),
        "behavioral" => behavioral(fields, mode),
        other => Err(fields.fail(format!(
            "unknown filter type '{}'; {EXPECTED}",
            short(other)
        ))),
    }
}

fn person(mut fields: Fields, mode: Mode) -> Result<(PersonLeaf, Value), FilterError> {
    fields.require(&["key"])?;
    let valueless = matches!(
        fields.get("operator").and_then(Value::as_str),
        Some("is_set" | "is_not_set")
    );
    if mode == Mode::Write {
        fields.require(if valueless {
            &["operator"]
        } else {
            &["value", "operator"]
        })?;
    }
    fields.refuse_unknown(mode, &["type", "key", "value", "operator", "negation"])?;
    let leaf = PersonLeaf {
        key: fields.property("key", mode)?,
        operator: fields.word("operator", mode)?,
        value: fields.value("value")?,
        negation: fields.boolean("negation")?,
    };
    if mode == Mode::Write {
        check_date(&fields, &leaf)?;
    }
    Ok((leaf, fields.wire()))
}

fn check_date(fields: &Fields, leaf: &PersonLeaf) -> Result<(), FilterError> {
    let operator = leaf.operator.as_deref().unwrap_or_default();
    if !matches!(operator, "is_date_before" | "is_date_after") {
        return Ok(());
    }
    let values = match &leaf.value {
        Some(Value::Array(list)) if !list.is_empty() => list.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    let valid = |value: &&Value| value.as_str().is_some_and(date::is_valid_bound);
    match values.iter().find(|value| !valid(value)) {
        None => Ok(()),
        Some(value) => Err(fields.fail(format!(
            "Invalid date value {} for operator '{operator}'",
            shown(value)
        ))),
    }
}

fn metadata(fields: Fields, mode: Mode) -> Result<(Leaf, Value), FilterError> {
    let path = fields.path;
    let (leaf, wire) = person(fields, mode)?;
    if leaf.key != "created_at" {
        let sentence = format!(
            "'key' of a person_metadata filter must be created_at, got '{}'",
            short(&leaf.key)
        );
        return Err(FilterError::input(path, sentence));
    }
    Ok((Leaf::PersonMetadata(leaf), wire))
}

fn cohort(mut fields: Fields, mode: Mode) -> Result<(Leaf, Value), FilterError> {
    for key in ["key", "value"] {
        fields.require(&[key])?;
    }
    fields.refuse_unknown(mode, &["type", "key", "value", "negation"])?;
    if fields.text("key")?.as_deref() != Some("id") {
        return Err(fields.fail("'key' of a cohort filter must be 'id'".to_owned()));
    }
    let value = fields.integer("value")?.unwrap_or_default();
    let mut negation = fields.boolean("negation")?;
    if mode == Mode::Stored && fields.get("operator").and_then(Value::as_str) == Some("not_in") {
        negation = true;
    }
    let leaf = CohortLeaf {
        key: CohortKey::Id,
        value,
        negation,
    };
    Ok((Leaf::Cohort(leaf), fields.wire()))
}

fn behavioral(mut fields: Fields, mode: Mode) -> Result<(Leaf, Value), FilterError> {
    for key in ["key", "value", "event_type"] {
        fields.require(&[key])?;
    }
    fields.refuse_unknown(mode, &BEHAVIORAL_KEYS)?;
    let leaf = BehavioralLeaf {
        key: fields.name("key", mode)?.unwrap_or_default(),
        value: fields.word("value", mode)?.unwrap_or_default(),
        event_type: fields.word("event_type", mode)?.unwrap_or_default(),
        operator: fields.word("operator", mode)?,
        operator_value: fields.integer("operator_value")?,
        time_value: fields.integer("time_value")?,
        time_interval: fields.word("time_interval", mode)?,
        explicit_datetime: fields.word("explicit_datetime", mode)?,
        explicit_datetime_to: fields.word("explicit_datetime_to", mode)?,
        seq_event: fields.name("seq_event", mode)?,
        seq_event_type: fields.word("seq_event_type", mode)?,
        seq_time_value: fields.integer("seq_time_value")?,
        seq_time_interval: fields.word("seq_time_interval", mode)?,
        total_periods: fields.integer("total_periods")?,
        min_periods: fields.integer("min_periods")?,
        event_filters: event_filters(&mut fields, mode)?,
        negation: fields.boolean("negation")?,
    };
    Ok((Leaf::Behavioral(Box::new(leaf)), fields.wire()))
}

fn event_filters(fields: &mut Fields, mode: Mode) -> Result<Option<Vec<EventFilter>>, FilterError> {
    let Some(list) = fields.list("event_filters")? else {
        return Ok(None);
    };
    let mut filters = Vec::new();
    let mut wires = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let path = format!("{}.event_filters[{index}]", fields.path);
        let (filter, wire) = event_filter(&path, mode, item)?;
        filters.push(filter);
        wires.push(wire);
    }
    fields.replace("event_filters", wires.into());
    Ok(Some(filters))
}

fn event_filter(path: &str, mode: Mode, item: &Value) -> Result<(EventFilter, Value), FilterError> {
    let Some(object) = item.as_object() else {
        let sentence = format!("expected an object, got {}", kind_of(item));
        return Err(FilterError::input(path, sentence));
    };
    // As in PostHog, missing keys of an event filter are reported as those of its leaf.
    let fields = Fields::new(path, "behavioral", object);
    fields.require(&["type"])?;
    match fields.text("type")?.as_deref() {
        Some("event") => {}
        Some(kind @ ("element" | "hogql")) => {
            return Err(fields.fail(format!(
                "event filters of type '{kind}' are not supported; only 'event' is"
            )));
        }
        other => {
            let kind = short(other.unwrap_or_default());
            return Err(fields.fail(format!("unknown type '{kind}'; expected event")));
        }
    }
    fields.require(&["key"])?;
    let operator = fields.word("operator", mode)?;
    if mode == Mode::Write && !matches!(operator.as_deref(), Some("is_set" | "is_not_set")) {
        fields.require(&["value"])?;
    }
    fields.refuse_unknown(mode, &["type", "key", "value", "operator"])?;
    let filter = EventFilter {
        kind: EventFilterKind::Event,
        key: fields.property("key", mode)?,
        operator,
        value: fields.value("value")?,
    };
    Ok((filter, fields.wire()))
}
