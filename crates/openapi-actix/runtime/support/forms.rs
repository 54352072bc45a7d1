//! Fields of forms as JSON, which the rules of the body then check.

use serde_json::{Map, Value};

use super::fields::Kind;

/// Builds an object from the fields of a form. A text that does not fit its rule stays text, which the rule then rejects.
pub(crate) fn from_pairs(pairs: &[(String, String)], kind: &Kind) -> Value {
    let fields = kind.fields();
    let mut members = Map::new();
    for (name, text) in pairs {
        let kind = fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| &field.kind);
        let items = kind.and_then(item_kind);
        let value = from_text(text, items.or(kind).unwrap_or(&Kind::Json));
        match (items, members.get_mut(name)) {
            (Some(_), Some(Value::Array(list))) => list.push(value),
            (Some(_), _) => drop(members.insert(name.clone(), Value::Array(vec![value]))),
            (None, _) => drop(members.insert(name.clone(), value)),
        }
    }
    Value::Object(members)
}

fn item_kind(kind: &Kind) -> Option<&Kind> {
    match kind {
        Kind::List { item, .. } => Some(item),
        Kind::Of(kind) | Kind::Limited(kind, _) => item_kind(kind),
        _ => None,
    }
}

fn from_text(text: &str, kind: &Kind) -> Value {
    match kind {
        Kind::Of(kind) | Kind::Limited(kind, _) => from_text(text, kind),
        Kind::Text { .. } | Kind::Choice(_) | Kind::Uuid | Kind::Date | Kind::Instant => {
            text.into()
        }
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}
