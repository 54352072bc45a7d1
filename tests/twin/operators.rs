//! The operators of the naive evaluator.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::naive::{NaiveEvaluator, text};

impl NaiveEvaluator<'_> {
    /// Whether a condition holds for the property that it names. Supports numbers, booleans, short
    /// texts, dates and null.
    pub(super) fn holds(&self, condition: &Value, properties: &Value) -> bool {
        let operator = text(&condition["operator"]);
        let stored = properties
            .get(text(&condition["key"]))
            .filter(|stored| !stored.is_null());
        let values: Vec<&Value> = match &condition["value"] {
            Value::Array(list) => list.iter().collect(),
            Value::Null => Vec::new(),
            value => vec![value],
        };
        let any = |holds: &dyn Fn(&Value, &Value) -> bool| {
            stored.is_some_and(|stored| values.iter().any(|value| holds(stored, value)))
        };
        let ordered = |holds: &dyn Fn(f64, f64) -> bool| {
            any(&|stored, value| {
                decimal(stored)
                    .zip(decimal(value))
                    .is_some_and(|(a, b)| holds(a, b))
            })
        };
        let dated = |holds: &dyn Fn(i64, i64) -> bool| {
            any(&|stored, value| {
                stored_instant(stored).is_some_and(|stored| holds(stored, self.date(text(value))))
            })
        };
        match operator {
            "is_set" => stored.is_some(),
            "is_not_set" => stored.is_none(),
            "between" | "not_between" => {
                let bounds = (decimal(values[0]), decimal(values[1]));
                let (Some(low), Some(high)) = bounds else {
                    panic!("{condition} is not generated");
                };
                let is_inside = |n: f64| low <= n && n <= high;
                match (operator, stored) {
                    ("not_between", None) => true,
                    (_, None) => false,
                    ("between", Some(stored)) => decimal(stored).is_some_and(is_inside),
                    (_, Some(stored)) => decimal(stored).is_some_and(|n| !is_inside(n)),
                }
            }
            // An empty list removes the condition.
            _ if values.is_empty() => true,
            "exact" | "in" => any(&|stored, value| text_of(stored) == text_of(value)),
            "is_not" | "not_in" => !any(&|stored, value| text_of(stored) == text_of(value)),
            "icontains" => any(&|stored, value| lower(stored).contains(&lower(value))),
            "not_icontains" => !any(&|stored, value| lower(stored).contains(&lower(value))),
            "starts_with" => any(&|stored, value| lower(stored).starts_with(&lower(value))),
            "not_ends_with" => !any(&|stored, value| lower(stored).ends_with(&lower(value))),
            "gt" => ordered(&|a, b| a > b),
            "gte" => ordered(&|a, b| a >= b),
            "lt" => ordered(&|a, b| a < b),
            "lte" => ordered(&|a, b| a <= b),
            "is_date_before" => dated(&|a, b| a < b),
            "is_date_after" => dated(&|a, b| a > b),
            other => panic!("{other} is not generated"),
        }
    }

    /// The instant of a date in a filter: absolute, or days before now, to the second.
    fn date(&self, text: &str) -> i64 {
        if let Ok(instant) = text.parse::<Timestamp>() {
            return instant.as_microsecond();
        }
        let days: i64 = text.trim_matches(['-', 'd']).parse().expect("days");
        let back = self
            .back(&json!(days), &json!("day"))
            .timestamp()
            .as_microsecond();
        back - back.rem_euclid(1_000_000)
    }
}

/// The instant of a stored value. A number, also as text, counts seconds.
fn stored_instant(stored: &Value) -> Option<i64> {
    if let Some(seconds) = decimal(stored) {
        return Some((seconds * 1e6) as i64);
    }
    let instant = text_of(stored).parse::<Timestamp>().ok()?;
    Some(instant.as_microsecond())
}

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn lower(value: &Value) -> String {
    text_of(value).to_lowercase()
}

fn decimal(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(_) => None,
        value => text_of(value).parse().ok(),
    }
}
