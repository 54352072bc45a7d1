//! Rules of values in bodies and parameters. The first violation is reported, with its place.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use regex::Regex;
use serde_json::{Map, Value};

use super::Rejection;

/// The rule of a member of an object.
pub(crate) struct Field {
    pub name: &'static str,
    pub required: bool,
    pub nullable: bool,
    pub kind: Kind,
}

/// The rule of a value that is not null.
pub(crate) enum Kind {
    /// Any value.
    Json,
    Text {
        /// Whether white space at both ends is removed.
        trim: bool,
        /// In characters.
        min_length: usize,
        /// In characters.
        max_length: Option<usize>,
    },
    Choice(&'static [&'static str]),
    Uuid,
    Date,
    Instant,
    Boolean,
    Integer {
        minimum: Option<i64>,
        maximum: Option<i64>,
    },
    Number,
    List {
        item: &'static Kind,
        /// Whether items can be null.
        nullable: bool,
        max_items: Option<usize>,
    },
    Map {
        value: &'static Kind,
        /// Whether values can be null.
        nullable: bool,
    },
    AnyObject,
    /// An object that can have other members, which are ignored.
    Object(&'static &'static [Field]),
    ObjectWith(&'static &'static [Field], Rest),
    Union {
        /// Whether exactly one alternative must match.
        exclusive: bool,
        alternatives: &'static [Kind],
    },
    /// The value of the property `tag` selects the alternative.
    Tagged {
        tag: &'static str,
        alternatives: &'static [(&'static [&'static str], Kind)],
    },
    /// The rule of a named type.
    Of(&'static Kind),
    Limited(&'static Kind, &'static [Limit]),
}

impl Kind {
    /// The fields of an object; none for another kind.
    fn fields(&self) -> &[Field] {
        match self {
            Self::Object(fields) | Self::ObjectWith(fields, _) => fields,
            Self::Of(kind) | Self::Limited(kind, _) => kind.fields(),
            _ => &[],
        }
    }

    /// Whether an object has a field with this name.
    pub fn has_field(&self, name: &str) -> bool {
        self.fields().iter().any(|field| field.name == name)
    }
}

/// The rule of members that are not described.
pub(crate) enum Rest {
    Ignored,
    Forbidden,
    Of(&'static Kind),
}

/// A constraint beyond the kind.
pub(crate) enum Limit {
    Pattern(&'static str),
    Minimum { bound: f64, exclusive: bool },
    Maximum { bound: f64, exclusive: bool },
    MultipleOf(f64),
    OneOf(&'static [i64]),
    MinItems(usize),
    UniqueItems,
    MinProperties(usize),
    MaxProperties(usize),
}

/// A violated rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    path: String,
    pub detail: String,
}

impl Violation {
    fn new(detail: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            detail: detail.into(),
        }
    }

    fn within(mut self, outer: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{outer}{dot}{}", self.path);
        self
    }

    pub fn into_rejection(self) -> Rejection {
        Rejection::Body {
            path: self.path,
            detail: self.detail,
        }
    }
}

/// Checks a value that is not null, and converts it: ignored members are removed, and `1.0` is an integer.
pub(crate) fn check(kind: &Kind, value: &mut Value) -> Result<(), Violation> {
    match kind {
        Kind::Json => Ok(()),
        Kind::Text {
            trim,
            min_length,
            max_length,
        } => text(value, *trim, *min_length, *max_length),
        Kind::Choice(words) => match value.as_str() {
            Some(word) if words.contains(&word) => Ok(()),
            _ => Err(Violation::new(format!(
                "it must be one of: {}",
                words.join(", ")
            ))),
        },
        Kind::Uuid => parsed::<uuid::Uuid>(value, "a UUID"),
        Kind::Date => parsed::<chrono::NaiveDate>(value, "a date such as 2026-01-31"),
        Kind::Instant => parsed::<chrono::DateTime<chrono::FixedOffset>>(
            value,
            "a time such as 2026-01-31T12:00:00Z",
        ),
        Kind::Boolean => expect(value.is_boolean(), "it must be true or false"),
        Kind::Integer { minimum, maximum } => integer(value, *minimum, *maximum),
        Kind::Number => expect(value.is_number(), "it must be a number"),
        Kind::List {
            item,
            nullable,
            max_items,
        } => list(value, item, *nullable, *max_items),
        Kind::Map {
            value: kind,
            nullable,
        } => {
            let members = value
                .as_object_mut()
                .ok_or_else(|| Violation::new("it must be an object"))?;
            members
                .iter_mut()
                .try_for_each(|(name, value)| member(name, kind, *nullable, value))
        }
        Kind::AnyObject => expect(value.is_object(), "it must be an object"),
        Kind::Object(fields) => object(value, fields, &Rest::Ignored),
        Kind::ObjectWith(fields, rest) => object(value, fields, rest),
        Kind::Union {
            exclusive,
            alternatives,
        } => union(value, alternatives, *exclusive),
        Kind::Tagged { tag, alternatives } => tagged(value, tag, alternatives),
        Kind::Of(kind) => check(kind, value),
        Kind::Limited(kind, limits) => {
            check(kind, value)?;
            limits
                .iter()
                .try_for_each(|limit| within_limit(limit, value))
        }
    }
}

fn expect(is_valid: bool, detail: &str) -> Result<(), Violation> {
    is_valid.then_some(()).ok_or_else(|| Violation::new(detail))
}

fn parsed<T: std::str::FromStr>(value: &Value, name: &str) -> Result<(), Violation> {
    let is_valid = value.as_str().is_some_and(|text| text.parse::<T>().is_ok());
    expect(is_valid, &format!("it must be {name}"))
}

fn text(
    value: &mut Value,
    trim: bool,
    min_length: usize,
    max_length: Option<usize>,
) -> Result<(), Violation> {
    let Value::String(text) = value else {
        return Err(Violation::new("it must be text"));
    };
    if trim {
        *text = text.trim().to_owned();
    }
    let length = text.chars().count();
    if length < min_length {
        return Err(Violation::new(format!(
            "it must have at least {min_length} characters"
        )));
    }
    match max_length.filter(|max| length > *max) {
        Some(max) => Err(Violation::new(format!(
            "it must have at most {max} characters"
        ))),
        None => Ok(()),
    }
}

fn integer(value: &mut Value, minimum: Option<i64>, maximum: Option<i64>) -> Result<(), Violation> {
    let whole = value
        .as_f64()
        .filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
    let number = value.as_i64().or(whole.map(|number| number as i64));
    let number = number.ok_or_else(|| Violation::new("it must be an integer of 64 bits"))?;
    *value = number.into();
    if let Some(minimum) = minimum.filter(|minimum| number < *minimum) {
        return Err(Violation::new(format!("it must be at least {minimum}")));
    }
    match maximum.filter(|maximum| number > *maximum) {
        Some(maximum) => Err(Violation::new(format!("it must be at most {maximum}"))),
        None => Ok(()),
    }
}

fn list(
    value: &mut Value,
    kind: &Kind,
    nullable: bool,
    max_items: Option<usize>,
) -> Result<(), Violation> {
    let items = value
        .as_array_mut()
        .ok_or_else(|| Violation::new("it must be a list"))?;
    if let Some(max) = max_items.filter(|max| items.len() > *max) {
        return Err(Violation::new(format!("it must have at most {max} items")));
    }
    let mut items = items.iter_mut().enumerate();
    items.try_for_each(|(index, item)| member(&format!("[{index}]"), kind, nullable, item))
}

fn member(name: &str, kind: &Kind, nullable: bool, value: &mut Value) -> Result<(), Violation> {
    let result = match (value.is_null(), nullable) {
        (true, true) => Ok(()),
        (true, false) => Err(Violation::new("it must not be null")),
        (false, _) => check(kind, value),
    };
    result.map_err(|violation| violation.within(name))
}

fn object(value: &mut Value, fields: &[Field], rest: &Rest) -> Result<(), Violation> {
    let members = value
        .as_object_mut()
        .ok_or_else(|| Violation::new("it must be an object"))?;
    for field in fields {
        match members.get_mut(field.name) {
            Some(value) => member(field.name, &field.kind, field.nullable, value)?,
            None if field.required => {
                return Err(Violation::new("it is required").within(field.name));
            }
            None => {}
        }
    }
    let is_described = |name: &str| fields.iter().any(|field| field.name == name);
    match rest {
        Rest::Ignored => members.retain(|name, _| is_described(name)),
        Rest::Forbidden => {
            if let Some(name) = members.keys().find(|name| !is_described(name)) {
                return Err(Violation::new("it is not a member of this object").within(name));
            }
        }
        Rest::Of(kind) => {
            for (name, value) in members.iter_mut().filter(|(name, _)| !is_described(name)) {
                member(name, kind, matches!(kind, Kind::Json), value)?;
            }
        }
    }
    Ok(())
}

fn union(value: &mut Value, alternatives: &[Kind], exclusive: bool) -> Result<(), Violation> {
    let mut converted = None;
    let mut matches = 0;
    let mut first_violation = None;
    for kind in alternatives {
        let mut candidate = value.clone();
        match check(kind, &mut candidate) {
            Ok(()) => {
                matches += 1;
                converted.get_or_insert(candidate);
            }
            Err(violation) => drop(first_violation.get_or_insert(violation)),
        }
    }
    match (converted, first_violation) {
        (Some(_), _) if exclusive && matches > 1 => {
            Err(Violation::new("it matches more than one alternative"))
        }
        (Some(candidate), _) => {
            *value = candidate;
            Ok(())
        }
        (None, Some(violation)) if alternatives.len() == 1 => Err(violation),
        _ => Err(Violation::new("it matches no alternative")),
    }
}

fn tagged(
    value: &mut Value,
    tag: &'static str,
    alternatives: &[(&[&str], Kind)],
) -> Result<(), Violation> {
    let word = value.get(tag).and_then(Value::as_str);
    let mut kinds = alternatives.iter();
    let kind = kinds.find(|(tags, _)| word.is_some_and(|word| tags.contains(&word)));
    match kind {
        Some((_, kind)) => check(kind, value),
        None => Err(Violation::new("it selects no alternative").within(tag)),
    }
}

fn within_limit(limit: &Limit, value: &Value) -> Result<(), Violation> {
    let number = value.as_f64().unwrap_or_default();
    let items = value.as_array().map_or(0, Vec::len);
    let members = value.as_object().map_or(0, Map::len);
    let (is_valid, detail) = match limit {
        Limit::Pattern(pattern) => (
            value.as_str().is_some_and(|text| is_match(pattern, text)),
            format!("it must match the pattern {pattern}"),
        ),
        Limit::Minimum {
            bound,
            exclusive: false,
        } => (number >= *bound, format!("it must be at least {bound}")),
        Limit::Minimum {
            bound,
            exclusive: true,
        } => (number > *bound, format!("it must be above {bound}")),
        Limit::Maximum {
            bound,
            exclusive: false,
        } => (number <= *bound, format!("it must be at most {bound}")),
        Limit::Maximum {
            bound,
            exclusive: true,
        } => (number < *bound, format!("it must be below {bound}")),
        Limit::MultipleOf(step) => {
            let quotient = number / step;
            let is_multiple = (quotient - quotient.round()).abs() < 1e-9;
            (is_multiple, format!("it must be a multiple of {step}"))
        }
        Limit::OneOf(numbers) => (
            value
                .as_i64()
                .is_some_and(|number| numbers.contains(&number)),
            format!("it must be one of: {numbers:?}"),
        ),
        Limit::MinItems(count) => (
            items >= *count,
            format!("it must have at least {count} items"),
        ),
        Limit::UniqueItems => (is_unique(value), "its items must differ".to_owned()),
        Limit::MinProperties(count) => (
            members >= *count,
            format!("it must have at least {count} members"),
        ),
        Limit::MaxProperties(count) => (
            members <= *count,
            format!("it must have at most {count} members"),
        ),
    };
    expect(is_valid, &detail)
}

fn is_unique(value: &Value) -> bool {
    let mut seen = std::collections::HashSet::new();
    let items = value.as_array().into_iter().flatten();
    items.map(ToString::to_string).all(|item| seen.insert(item))
}

/// Codegen accepts only patterns that compile.
fn is_match(pattern: &'static str, text: &str) -> bool {
    static PATTERNS: LazyLock<Mutex<HashMap<&'static str, Option<Regex>>>> =
        LazyLock::new(Mutex::default);
    let regex = match PATTERNS.lock() {
        Ok(mut patterns) => patterns
            .entry(pattern)
            .or_insert_with(|| Regex::new(pattern).ok())
            .clone(),
        Err(_) => None,
    };
    regex.is_some_and(|regex| regex.is_match(text))
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static TREE: Kind = Kind::ObjectWith(&TREE_FIELDS, Rest::Forbidden);
    static TREE_FIELDS: &[Field] = &[
        Field {
            name: "name",
            required: true,
            nullable: false,
            kind: Kind::Limited(
                &Kind::Text {
                    trim: false,
                    min_length: 1,
                    max_length: Some(3),
                },
                &[Limit::Pattern("^[a-z]*$")],
            ),
        },
        Field {
            name: "trees",
            required: false,
            nullable: true,
            kind: Kind::Limited(
                &Kind::List {
                    item: &Kind::Of(&TREE),
                    nullable: false,
                    max_items: Some(2),
                },
                &[Limit::UniqueItems],
            ),
        },
    ];

    fn violation(kind: &Kind, mut value: Value) -> Option<(String, String)> {
        let violation = check(kind, &mut value).err()?;
        Some((violation.path, violation.detail))
    }

    #[test]
    fn violations_have_a_place() {
        for (value, path, detail) in [
            (json!([]), "", "it must be an object"),
            (json!({}), "name", "it is required"),
            (json!({ "name": null }), "name", "it must not be null"),
            (
                json!({ "name": "A" }),
                "name",
                "it must match the pattern ^[a-z]*$",
            ),
            (
                json!({ "name": "a", "x": 1 }),
                "x",
                "it is not a member of this object",
            ),
            (
                json!({ "name": "a", "trees": [{ "name": "" }] }),
                "trees[0].name",
                "it must have at least 1 characters",
            ),
            (
                json!({ "name": "a", "trees": [{ "name": "b" }, { "name": "b" }] }),
                "trees",
                "its items must differ",
            ),
        ] {
            assert_eq!(
                violation(&TREE, value.clone()),
                Some((path.to_owned(), detail.to_owned())),
                "{value}"
            );
        }
        assert_eq!(
            violation(&TREE, json!({ "name": "a", "trees": [{ "name": "b" }] })),
            None
        );
    }

    #[test]
    fn numbers_are_within_their_bounds() {
        let kind = Kind::Integer {
            minimum: Some(1),
            maximum: Some(5),
        };
        for (value, is_valid) in [
            (json!(1), true),
            (json!(5.0), true),
            (json!(0), false),
            (json!(1.5), false),
            (json!("1"), false),
        ] {
            assert_eq!(
                violation(&kind, value.clone()).is_none(),
                is_valid,
                "{value}"
            );
        }
        let kind = Kind::Limited(
            &Kind::Number,
            &[
                Limit::Minimum {
                    bound: 0.5,
                    exclusive: true,
                },
                Limit::MultipleOf(0.1),
            ],
        );
        for (value, is_valid) in [
            (json!(0.7), true),
            (json!(0.5), false),
            (json!(0.75), false),
        ] {
            assert_eq!(
                violation(&kind, value.clone()).is_none(),
                is_valid,
                "{value}"
            );
        }
    }

    #[test]
    fn union_matches_one_alternative() {
        let kind = Kind::Union {
            exclusive: true,
            alternatives: &[
                Kind::Integer {
                    minimum: None,
                    maximum: None,
                },
                Kind::Number,
            ],
        };
        assert_eq!(violation(&kind, json!(1.5)), None);
        assert!(violation(&kind, json!(1)).is_some());
        assert!(violation(&kind, json!("a")).is_some());
    }

    #[test]
    fn form_is_an_object() {
        let pairs = [
            ("name", "12"),
            ("trees", "{\"name\":\"b\"}"),
            ("trees", "x"),
        ];
        let pairs = pairs.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(
            from_pairs(&pairs, &TREE),
            json!({ "name": "12", "trees": [{ "name": "b" }, "x"] })
        );
    }
}
