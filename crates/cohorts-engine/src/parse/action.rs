//! Parses the steps of an action from JSON.
//!
//! Parts that the engine cannot evaluate are refused, never ignored.

use serde_json::{Map, Value};

use super::{event_name, limits, long_name, short};
use crate::error::FilterError;
use crate::predicate::Predicate;
use crate::source::{Action, ActionProperty, ActionStep};
use crate::window::Moment;

const MAX_STEPS: usize = 100;
const MAX_PROPERTIES: usize = 100;
/// Parts of a step that match page elements.
const UNSUPPORTED: [&str; 5] = ["selector", "selector_regex", "tag_name", "text", "href"];

impl Action {
    /// Parses the JSON text of steps; also returns its JSON. Text that is not JSON is null.
    ///
    /// # Errors
    ///
    /// Fails like [`Action::parse`], and with code `invalid_input` if the text has more than 50,000
    /// objects or 500,000 values, which are counted before any is built.
    pub fn read(text: &str) -> Result<(Action, Value), FilterError> {
        let steps = limits::read_within_limits(text);
        let steps = steps.map_err(|size| size.error("steps", "an action"))?;
        Ok((Action::parse(&steps)?, steps))
    }

    /// Parses a JSON list of at most 100 steps with at most 100 property tests each; null is an
    /// empty list.
    ///
    /// # Errors
    ///
    /// Fails with code `invalid_input` if a step is malformed or uses an unsupported part, and
    /// with `validation_error` if an operator is unknown or the regular expressions exceed their
    /// budget. The path names the place, such as `steps[0].url`.
    pub fn parse(steps: &Value) -> Result<Action, FilterError> {
        let mut pattern_cost = 0;
        let steps = list("steps", Some(steps), MAX_STEPS)?
            .iter()
            .enumerate()
            .map(|(nth, step)| parse_step(&format!("steps[{nth}]"), step, &mut pattern_cost))
            .collect::<Result<_, _>>()?;
        Ok(Action { steps })
    }
}

fn parse_step(
    path: &str,
    value: &Value,
    pattern_cost: &mut u32,
) -> Result<ActionStep, FilterError> {
    let step = object(path, value)?;
    for name in UNSUPPORTED {
        if text(path, step, name)?.is_some() {
            let place = format!("{path}.{name}");
            return Err(FilterError::input(
                &place,
                format!("'{name}' is not supported"),
            ));
        }
    }
    let url_matching = text(path, step, "url_matching")?;
    if let Some(other) = &url_matching
        && !["exact", "regex", "contains"].contains(&other.as_str())
    {
        let place = format!("{path}.url_matching");
        let sentence = format!("'{}' is none of exact, regex and contains", short(other));
        return Err(FilterError::input(&place, sentence));
    }
    let place = format!("{path}.properties");
    let properties = list(&place, step.get("properties"), MAX_PROPERTIES)?
        .iter()
        .enumerate()
        .map(|(nth, property)| parse_property(&format!("{place}[{nth}]"), property, pattern_cost))
        .collect::<Result<_, _>>()?;
    let url = text(path, step, "url")?;
    if let Some(url) = &url {
        let predicate = Predicate::url(url, url_matching.as_deref());
        let predicate = predicate.map_err(|sentence| FilterError::pattern(path, sentence))?;
        predicate.charge_patterns(pattern_cost, path)?;
    }
    Ok(ActionStep {
        event: name(path, step, "event")?.map(|name| event_name(&name)),
        url,
        url_matching,
        properties,
    })
}

fn parse_property(
    path: &str,
    value: &Value,
    pattern_cost: &mut u32,
) -> Result<ActionProperty, FilterError> {
    let property = object(path, value)?;
    let key = name(path, property, "key")?;
    let key = key.ok_or_else(|| FilterError::input(path, "'key' is missing"))?;
    if let Some(kind) = text(path, property, "type")?
        && kind != "event"
    {
        let sentence = format!(
            "properties of type '{}' are not supported; only 'event' is",
            short(&kind)
        );
        return Err(FilterError::input(path, sentence));
    }
    let operator = text(path, property, "operator")?;
    let value = property.get("value").filter(|value| !value.is_null());
    let predicate = Predicate::compile(path, operator.as_deref(), value, &Moment::utc(0))?;
    predicate.charge_patterns(pattern_cost, path)?;
    Ok(ActionProperty {
        key,
        operator,
        value: value.cloned(),
    })
}

fn object<'a>(path: &str, value: &'a Value) -> Result<&'a Map<String, Value>, FilterError> {
    let object = value.as_object();
    object.ok_or_else(|| FilterError::input(path, "expected an object"))
}

/// A non-empty text; null counts as absent.
fn text(
    path: &str,
    object: &Map<String, Value>,
    name: &str,
) -> Result<Option<String>, FilterError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then(|| text.clone())),
        Some(_) => {
            let place = format!("{path}.{name}");
            Err(FilterError::input(&place, "expected text"))
        }
    }
}

/// The name of an event or a property.
fn name(
    path: &str,
    object: &Map<String, Value>,
    field: &str,
) -> Result<Option<String>, FilterError> {
    let name = text(path, object, field)?;
    let sentence = name
        .as_deref()
        .and_then(|name| long_name(&format!("'{field}'"), name));
    match sentence {
        Some(sentence) => Err(FilterError::input(path, sentence)),
        None => Ok(name),
    }
}

fn list<'a>(path: &str, value: Option<&'a Value>, max: usize) -> Result<&'a [Value], FilterError> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) if list.len() <= max => Ok(list),
        Some(Value::Array(_)) => {
            let sentence = format!("at most {max} are allowed");
            Err(FilterError::input(path, sentence))
        }
        Some(_) => Err(FilterError::input(path, "expected a list")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_parsed_with_all_their_parts() {
        let steps = json!([{"event": " buy ", "url": "/shop", "url_matching": "contains", "selector": null,
            "properties": [{"key": "amount", "operator": "gt", "value": 5, "type": "event"}]}, {"event": null}]);
        let action = Action::parse(&steps).unwrap();
        assert_eq!(action.steps.len(), 2);
        assert_eq!(action.steps[0].event.as_deref(), Some("buy"));
        assert_eq!(action.steps[0].properties[0].value, Some(json!(5)));
        assert_eq!(action.steps[1], ActionStep::default());
        assert_eq!(Action::parse(&Value::Null).unwrap(), Action::default());
    }

    #[test]
    fn steps_are_counted_before_they_are_built() {
        let (action, steps) = Action::read(r#"[{"event":"buy"}]"#).unwrap();
        assert_eq!(action, Action::parse(&steps).unwrap());
        assert_eq!(Action::read("null").unwrap(), Default::default());
        for (unit, limit) in [("{},", "50000 JSON objects"), ("0,", "500000 JSON values")] {
            let text = format!("[{}0]", unit.repeat(600_000));
            let detail = Action::read(&text).unwrap_err().detail;
            assert_eq!(detail, format!("steps: an action may hold {limit} at most"));
        }
    }

    #[test]
    fn unsupported_parts_are_refused_with_their_path() {
        for (steps, detail) in [
            (json!({}), "steps: expected a list"),
            (json!([1]), "steps[0]: expected an object"),
            (json!([{"event": 5}]), "steps[0].event: expected text"),
            (
                json!([{}, {"selector": "a"}]),
                "steps[1].selector: 'selector' is not supported",
            ),
            (
                json!([{"url_matching": "like"}]),
                "steps[0].url_matching: 'like' is none of exact, regex and contains",
            ),
            (
                json!([{"properties": [{"value": 1}]}]),
                "steps[0].properties[0]: 'key' is missing",
            ),
            (
                json!([{"properties": [{"key": "a", "operator": "is", "value": 1}]}]),
                "steps[0].properties[0]: unknown operator 'is'",
            ),
            (
                json!([{"properties": [{"key": "a", "type": "person", "value": 1}]}]),
                "steps[0].properties[0]: properties of type 'person' are not supported; only 'event' is",
            ),
            (
                json!([{"event": "e".repeat(1_001)}]),
                "steps[0]: 'event' has 1001 bytes; the name of a property or an event may have 1000 at most",
            ),
            (
                json!([{"properties": [{"key": "k".repeat(1_001), "value": 1}]}]),
                "steps[0].properties[0]: 'key' has 1001 bytes; the name of a property or an event may have 1000 at most",
            ),
            (
                json!(vec![json!({}); 101]),
                "steps: at most 100 are allowed",
            ),
        ] {
            let error = Action::parse(&steps).unwrap_err();
            assert_eq!(error.detail, detail, "{steps}");
        }
    }
}
