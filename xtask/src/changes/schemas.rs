//! Compares schemas. Requests must still accept all that they accepted, and responses must contain no more than before.
//!
//! One of the two schemas must therefore be at least as narrow as the other: in requests the old one, in responses the new one.

use std::collections::HashSet;

use serde_json::Value;

use super::flat::Flat;
use super::operations::was;
use super::{Comparison, resolve, show};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    Request,
    Response,
}

/// Pairs of schemas that were compared, by their addresses.
pub type Compared = HashSet<(usize, usize, Direction)>;

/// Limits that a narrower schema may raise.
const LOWER: [&str; 5] = [
    "minimum",
    "exclusiveMinimum",
    "minLength",
    "minItems",
    "minProperties",
];
/// Limits that a narrower schema may reduce.
const UPPER: [&str; 5] = [
    "maximum",
    "exclusiveMaximum",
    "maxLength",
    "maxItems",
    "maxProperties",
];
/// Restrictions that a narrower schema must have as well.
const SAME: [&str; 4] = ["pattern", "multipleOf", "uniqueItems", "format"];

/// A place of the document, and the direction of the data there.
#[derive(Clone)]
struct Place {
    location: String,
    direction: Direction,
    /// Whether a comparison of unions has compared null already.
    null_is_compared: bool,
}

impl Place {
    fn at(&self, rest: &str) -> Self {
        Self {
            location: format!("{}.{rest}", self.location),
            null_is_compared: false,
            ..*self
        }
    }

    /// A component has its own location, so that each change of it is reported once.
    fn of(&self, old: &Value, new: &Value) -> Self {
        match (old["$ref"].as_str(), new["$ref"].as_str()) {
            (Some(_), Some(new)) => Self {
                location: new.trim_start_matches("#/").replace('/', "."),
                ..*self
            },
            _ => self.clone(),
        }
    }
}

impl<'a> Comparison<'a> {
    pub fn schema(&mut self, location: &str, old: &'a Value, new: &'a Value, direction: Direction) {
        let place = Place {
            location: location.to_owned(),
            direction,
            null_is_compared: false,
        };
        self.compare(&place, old, new);
    }

    fn compare(&mut self, place: &Place, old: &'a Value, new: &'a Value) {
        let place = &place.of(old, new);
        let (old_schema, new_schema) = (resolve(self.old, old), resolve(self.new, new));
        let address = |schema: &Value| std::ptr::from_ref(schema) as usize;
        let pair = (address(old_schema), address(new_schema), place.direction);
        if !self.compared.insert(pair) {
            return;
        }
        let old = Flat::new(self.old, old_schema);
        let new = Flat::new(self.new, new_schema);
        let (narrow, wide) = place.direction.order(&old, &new);
        let has_null = |one: &Flat| one.nullable || one.is_any();
        if has_null(narrow) && !has_null(wide) && !place.null_is_compared {
            self.say(place, "null is no longer accepted", "may be null");
        }
        if narrow.is_union() || wide.is_union() {
            self.alternatives(place, old_schema, new_schema);
        } else if self.types(place, &old, &new) {
            self.values(place, &old, &new);
            self.restrictions(place, &old, &new);
            self.object(place, &old, &new);
            self.items(place, &old, &new);
        }
    }

    /// Reports a change with the words for its direction. Without words it is no break.
    fn say(&mut self, place: &Place, request: &str, response: &str) {
        let (direction, text) = match place.direction {
            Direction::Request => ("request", request),
            Direction::Response => ("response", response),
        };
        if !text.is_empty() {
            self.report(&place.location, format!("{direction}: {text}"));
        }
    }

    /// Compares the types. Returns whether a comparison of the rest makes sense.
    fn types(&mut self, place: &Place, old: &Flat<'a>, new: &Flat<'a>) -> bool {
        let (narrow, wide) = place.direction.order(old, new);
        let (narrow, wide) = (narrow.types(), wide.types());
        let fits =
            |one: &&str| wide.contains(one) || (*one == "integer" && wide.contains("number"));
        let is_narrower = wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(fits));
        if !is_narrower {
            let text = was("type", old.get("type"), new.get("type"));
            self.say(place, &text, &text);
        }
        is_narrower
    }

    fn values(&mut self, place: &Place, old: &Flat<'a>, new: &Flat<'a>) {
        let (narrow, wide) = place.direction.order(old, new);
        match (narrow.values(), wide.values()) {
            (_, None) => (),
            (None, Some(_)) => self.say(
                place,
                "accepts only listed values",
                "has other than the listed values",
            ),
            (Some(narrow), Some(wide)) => {
                for value in narrow.into_iter().filter(|value| !wide.contains(value)) {
                    let value = show(value);
                    let (request, response) = (
                        format!("{value} is no longer accepted"),
                        format!("{value} is new"),
                    );
                    self.say(place, &request, &response);
                }
            }
        }
    }

    fn restrictions(&mut self, place: &Place, old: &Flat<'a>, new: &Flat<'a>) {
        let (narrow, wide) = place.direction.order(old, new);
        let broken = |key: &&str| is_broken(key, narrow.get(key), wide.get(key));
        let mut broken: Vec<&str> = LOWER
            .iter()
            .chain(&UPPER)
            .chain(&SAME)
            .copied()
            .filter(|key| broken(key))
            .collect();
        let has_default = !old.get("default").is_null() && old.get("default") != new.get("default");
        if place.direction == Direction::Request && has_default {
            broken.push("default");
        }
        for key in broken {
            let text = was(key, old.get(key), new.get(key));
            self.say(place, &text, &text);
        }
    }

    fn object(&mut self, place: &Place, old: &Flat<'a>, new: &Flat<'a>) {
        for (name, schema) in &old.properties {
            let place = place.at(name);
            match new.property(name) {
                Some(other) => self.compare(&place, schema, other),
                None => self.say(&place, "the field was removed", "the field was removed"),
            }
        }
        let (narrow, wide) = place.direction.order(old, new);
        for name in wide.required.difference(&narrow.required) {
            let exists = narrow.property(name).is_some() && wide.property(name).is_some();
            // A removed field was reported above.
            match exists {
                true => self.say(
                    &place.at(name),
                    "the field is required",
                    "the field may be absent",
                ),
                false => self.say(&place.at(name), "a new required field", ""),
            }
        }
        self.other_properties(place, old, new);
    }

    /// Compares the fields that the schemas do not name.
    fn other_properties(&mut self, place: &Place, old: &Flat<'a>, new: &Flat<'a>) {
        let any = Value::Bool(true);
        let (narrow, wide) = place.direction.order(old, new);
        let (narrow, wide) = (narrow.others.unwrap_or(&any), wide.others.unwrap_or(&any));
        if *wide == false && *narrow != false {
            self.say(
                place,
                "other fields are no longer accepted",
                "may have other fields",
            );
        } else if let (Some(old), Some(new)) = (old.others, new.others)
            && old.is_object()
            && new.is_object()
        {
            self.compare(&place.at("*"), old, new);
        } else if wide.as_object().is_some_and(|wide| !wide.is_empty()) && *narrow == true {
            self.say(
                place,
                "other fields have a schema",
                "other fields may have any type",
            );
        }
    }

    fn items(&mut self, place: &Place, old: &Flat<'a>, new: &Flat<'a>) {
        let place = place.at("items");
        match (old.items, new.items) {
            (Some(old), Some(new)) => self.compare(&place, old, new),
            (None, Some(_)) => self.say(&place, "items have a schema", ""),
            (Some(_), None) => self.say(&place, "", "items may have any type"),
            (None, None) => (),
        }
    }

    /// Each alternative of the narrower schema must fit one of the wider schema. A schema that is no union is the only one.
    fn alternatives(&mut self, place: &Place, old: &'a Value, new: &'a Value) {
        let list = |document: &'a Value, schema: &'a Value| {
            let flat = Flat::new(document, schema);
            match flat.is_union() {
                true => flat.alternatives,
                false => vec![schema],
            }
        };
        let (old, new) = (list(self.old, old), list(self.new, new));
        let (narrow, wide) = place.direction.order(old, new);
        let place = &Place {
            null_is_compared: true,
            ..place.clone()
        };
        for (position, alternative) in narrow.iter().enumerate() {
            let fits = |other: &&'a Value| {
                let (old, new) = place.direction.order(*alternative, *other);
                let mut trial = Self {
                    breaks: Vec::new(),
                    compared: self.compared.clone(),
                    ..*self
                };
                trial.compare(place, old, new);
                trial.breaks.is_empty()
            };
            if wide.iter().any(fits) {
                continue;
            }
            match counterpart(alternative, position, &narrow, &wide) {
                Some(other) => {
                    let (old, new) = place.direction.order(*alternative, other);
                    self.compare(place, old, new);
                }
                None => {
                    let name = show(alternative.get("$ref").unwrap_or(alternative));
                    let (request, response) = (
                        format!("{name} is no longer accepted"),
                        format!("{name} is new"),
                    );
                    self.say(place, &request, &response);
                }
            }
        }
    }
}

/// The alternative that an alternative was before, or has become.
fn counterpart<'a>(
    one: &Value,
    position: usize,
    list: &[&Value],
    others: &[&'a Value],
) -> Option<&'a Value> {
    match one.get("$ref") {
        Some(reference) => others
            .iter()
            .find(|other| other.get("$ref") == Some(reference))
            .copied(),
        None => only(list).and(only(others)).or_else(|| {
            let other = others.get(position).copied();
            other.filter(|other| list.len() == others.len() && other.get("$ref").is_none())
        }),
    }
}

/// The only alternative besides null.
fn only<'a>(list: &[&'a Value]) -> Option<&'a Value> {
    let mut rest = list.iter().filter(|one| one["type"] != "null");
    rest.next().filter(|_| rest.next().is_none()).copied()
}

/// Whether a restriction of the wider schema is missing in the narrower one, or is stricter.
fn is_broken(key: &str, narrow: &Value, wide: &Value) -> bool {
    let (narrow_number, wide_number) = (narrow.as_f64(), wide.as_f64());
    match (narrow_number, wide_number) {
        (_, None) if wide.is_null() || *wide == false => false,
        (Some(narrow), Some(wide)) if LOWER.contains(&key) => narrow < wide,
        (Some(narrow), Some(wide)) if UPPER.contains(&key) => narrow > wide,
        _ if key == "format" => {
            let pairs = [("int32", "int64"), ("float", "double")];
            narrow != wide
                && !pairs
                    .iter()
                    .any(|(small, large)| narrow == small && wide == large)
        }
        _ => narrow != wide,
    }
}

impl Direction {
    /// The schema that must be the narrower one, and the other.
    fn order<T>(self, old: T, new: T) -> (T, T) {
        match self {
            Self::Request => (old, new),
            Self::Response => (new, old),
        }
    }
}
