//! A schema in one piece, for comparisons.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{members, resolve};

/// A schema with its references resolved and `allOf` merged.
#[derive(Clone)]
pub struct Flat<'a> {
    keys: Map<String, Value>,
    /// Each property with its schema in the document.
    pub properties: Vec<(&'a str, &'a Value)>,
    pub required: BTreeSet<&'a str>,
    pub items: Option<&'a Value>,
    pub others: Option<&'a Value>,
    /// The schemas of `anyOf` and `oneOf`, without null.
    pub alternatives: Vec<&'a Value>,
    pub nullable: bool,
}

impl<'a> Flat<'a> {
    pub fn new(document: &'a Value, schema: &'a Value) -> Self {
        let schema = resolve(document, schema);
        let lists = ["anyOf", "oneOf"].map(|key| schema[key].as_array());
        let alternatives: Vec<&Value> = lists.into_iter().flatten().flatten().collect();
        let required = schema["required"].as_array().into_iter().flatten();
        let mut flat = Self {
            keys: schema.as_object().cloned().unwrap_or_default(),
            properties: members(&schema["properties"]).collect(),
            required: required.filter_map(Value::as_str).collect(),
            items: schema.get("items"),
            others: schema.get("additionalProperties"),
            nullable: schema["nullable"] == true || types(&schema["type"]).contains("null"),
            alternatives: Vec::new(),
        };
        for alternative in alternatives {
            let one = Self::new(document, alternative);
            flat.nullable |= one.nullable;
            if one.keys.get("type") != Some(&Value::from("null")) {
                flat.alternatives.push(alternative);
            }
        }
        let parts = schema["allOf"].as_array().into_iter().flatten();
        for part in parts {
            flat.merge(Self::new(document, part));
        }
        flat
    }

    fn merge(&mut self, part: Self) {
        for (key, value) in part.keys {
            self.keys.entry(key).or_insert(value);
        }
        self.properties.extend(part.properties);
        self.required.extend(part.required);
        self.items = self.items.or(part.items);
        self.others = self.others.or(part.others);
        self.alternatives.extend(part.alternatives);
        self.nullable |= part.nullable;
    }

    pub fn get(&self, key: &str) -> &Value {
        self.keys.get(key).unwrap_or(&Value::Null)
    }

    /// The types without null; empty if every type is possible.
    pub fn types(&self) -> BTreeSet<&str> {
        let mut types = types(self.get("type"));
        types.remove("null");
        types
    }

    /// The values without null; `None` if the schema does not list them.
    pub fn values(&self) -> Option<Vec<&Value>> {
        let list = match self.keys.get("const") {
            Some(value) => vec![value],
            None => self.get("enum").as_array()?.iter().collect(),
        };
        Some(list.into_iter().filter(|value| !value.is_null()).collect())
    }

    pub fn property(&self, name: &str) -> Option<&'a Value> {
        let mut properties = self.properties.iter();
        properties
            .find(|(other, _)| *other == name)
            .map(|(_, schema)| *schema)
    }

    /// Whether it is only a union of other schemas.
    pub fn is_union(&self) -> bool {
        !self.alternatives.is_empty() && self.types().is_empty()
    }

    /// Whether every value fits, null as well.
    pub fn is_any(&self) -> bool {
        self.alternatives.is_empty()
            && self.types().is_empty()
            && self.values().is_none()
            && !self.nullable
    }
}

fn types(value: &Value) -> BTreeSet<&str> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    }
}
