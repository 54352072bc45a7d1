//! Reads schemas into types. A keyword that has no effect on the output is a finding.

mod compose;
mod lint;
mod objects;
mod scalars;

use std::collections::HashMap;

use serde_json::Value;

pub use compose::only_part;
#[cfg(feature = "client")]
pub use compose::open_choices;

pub use lint::{lint, subschemas};

use crate::keys;
use crate::model::{Item, ItemId, Limit, Model, Shape, Struct, Type, TypeKind};
use crate::naming::{self, Namespace};
use crate::reader::{Reader, reference};

/// Keywords that only some kinds of schemas have.
const STRUCTURE: [&str; 23] = [
    "additionalProperties",
    "discriminator",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "properties",
    "required",
    "uniqueItems",
    "x-ignored-fields",
    "x-patch",
    "x-trim",
];

/// The most schemas that contain each other. A chain of them is a chain of calls, here and in the compiler of the output.
const MAX_DEPTH: usize = 200;

/// The most lists and maps inside each other.
const MAX_NESTING: usize = 16;

/// Reads the schemas that operations use.
pub struct Schemas<'a> {
    pub reader: Reader<'a>,
    pub model: Model,
    /// The types of the components; `None` while one is read.
    components: HashMap<String, Option<Type>>,
    /// The items of schemas that are not components, by location.
    inline: HashMap<String, Type>,
    /// The locations of schemas that are not components and are being read.
    reading: Vec<String>,
    /// The number of schemas that are being read.
    depth: usize,
    names: Namespace,
}

/// A schema with the name that its type would have, and its location.
#[derive(Clone)]
pub struct Place {
    pub name: String,
    pub location: String,
}

impl Place {
    pub fn new(name: impl Into<String>, location: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            location: location.into(),
        }
    }

    /// The place of a part of the schema.
    fn part(&self, suffix: &str, path: &str) -> Self {
        let name = format!("{}{}", self.name, naming::pascal(suffix));
        Self::new(name, format!("{}.{path}", self.location))
    }
}

impl<'a> Schemas<'a> {
    pub fn new(reader: Reader<'a>) -> Self {
        Self {
            reader,
            model: Model::default(),
            components: HashMap::new(),
            inline: HashMap::new(),
            reading: Vec::new(),
            depth: 0,
            names: Namespace::default(),
        }
    }

    fn report(&self, place: &Place, message: impl AsRef<str>) {
        self.reader.report(&place.location, message);
    }

    /// Reads the schema at a place.
    pub fn read(&mut self, schema: &Value, place: &Place) -> Type {
        if self.depth == MAX_DEPTH {
            let message = format!(
                "this schema is inside {MAX_DEPTH} others, which refer to each other; shorten the chain"
            );
            self.report(place, message);
            return Type::new(TypeKind::Json);
        }
        self.depth += 1;
        let r#type = self.read_any(schema, place);
        self.depth -= 1;
        r#type
    }

    fn read_any(&mut self, schema: &Value, place: &Place) -> Type {
        if schema.get("$ref").is_some() {
            return match self.reader.resolve(schema, "schemas", &place.location) {
                Some(_) => self.component(reference(schema).unwrap_or_default()),
                None => Type::new(TypeKind::Json),
            };
        }
        if let Some(known) = self.inline.get(&place.location) {
            return known.clone();
        }
        if self.reading.contains(&place.location) {
            self.report(
                place,
                "the schema contains itself by `allOf`; refer to a component instead",
            );
            return Type::new(TypeKind::Json);
        }
        self.reading.push(place.location.clone());
        let mut r#type = self.read_inline(schema, place, None);
        self.reading.pop();
        r#type.nullable |= self.reader.flag(schema, "nullable", &place.location);
        self.inline.insert(place.location.clone(), r#type.clone());
        r#type
    }

    /// Reads a component schema.
    pub fn component(&mut self, name: &str) -> Type {
        let place = Place::new(naming::pascal(name), format!("components.schemas.{name}"));
        let schema = &self.reader.root["components"]["schemas"][name];
        match self.components.get(name) {
            Some(Some(known)) => return known.clone(),
            // It is being read, so it refers to itself.
            Some(None) => return Type::new(TypeKind::Item(self.pending(name, schema, &place))),
            None => {}
        }
        self.components.insert(name.to_owned(), None);
        let mut r#type = if schema.get("$ref").is_some() {
            self.read(schema, &place)
        } else {
            self.read_inline(schema, &place, Some(name))
        };
        r#type.nullable |= self.reader.flag(schema, "nullable", &place.location);
        let pending = self.position(name);
        let is_endless = |id: &ItemId| {
            r#type.item() != Some(*id) || matches!(self.model.items[*id].shape, Shape::Pending)
        };
        if let Some(id) = pending.filter(is_endless) {
            let message = "the schema contains itself only through lists or references; put the list into an object";
            self.report(&place, message);
            self.model.items[id].shape = Shape::Struct(Struct::default());
        }
        self.components
            .insert(name.to_owned(), Some(r#type.clone()));
        r#type
    }

    fn position(&self, component: &str) -> Option<ItemId> {
        let mut items = self.model.items.iter();
        items.position(|item| item.component.as_deref() == Some(component))
    }

    /// The item of a component that refers to itself.
    fn pending(&mut self, name: &str, schema: &Value, place: &Place) -> ItemId {
        match self.position(name) {
            Some(id) => id,
            None => self.add(schema, place, Some(name)),
        }
    }

    /// Adds an item without a shape. Its name must be free.
    fn add(&mut self, schema: &Value, place: &Place, component: Option<&str>) -> ItemId {
        let chosen = self.reader.text(schema, "x-rust-name", &place.location);
        if let Some(chosen) = chosen.filter(|chosen| naming::pascal(chosen) != *chosen) {
            let message = format!("`x-rust-name` must be in PascalCase, not `{chosen}`");
            self.report(place, message);
        }
        let name = chosen.unwrap_or(&place.name).to_owned();
        let shown = component.unwrap_or(&place.name);
        self.names
            .claim(self.reader.findings, &name, shown, &place.location);
        let description = self.reader.text(schema, "description", &place.location);
        self.model.items.push(Item {
            name,
            component: component.map(str::to_owned),
            location: place.location.clone(),
            description: description.map(str::to_owned),
            shape: Shape::Pending,
        });
        self.model.items.len() - 1
    }

    /// Adds an item with the shape that `read` returns. A component may have an item already, because it refers to itself.
    fn item(
        &mut self,
        schema: &Value,
        place: &Place,
        component: Option<&str>,
        read: impl FnOnce(&mut Self, &Place) -> Shape,
    ) -> Type {
        let id = match component {
            Some(name) => self.pending(name, schema, place),
            None => self.add(schema, place, None),
        };
        // The parts of a renamed type have names that begin with the new name.
        let place = Place::new(self.model.items[id].name.clone(), place.location.clone());
        let shape = read(self, &place);
        self.model.items[id].shape = shape;
        Type::new(TypeKind::Item(id))
    }

    fn read_inline(&mut self, schema: &Value, place: &Place, component: Option<&str>) -> Type {
        self.reader
            .allow_keys(schema, &[keys::SCHEMA], &place.location);
        for flag in ["readOnly", "writeOnly", "deprecated", "x-raw-json"] {
            self.reader.flag(schema, flag, &place.location);
        }
        if schema["x-raw-json"] == true {
            return Type::new(TypeKind::RawJson);
        }
        if schema.get("allOf").is_some() {
            return self.all_of(schema, place, component);
        }
        if schema.get("oneOf").is_some() || schema.get("anyOf").is_some() {
            return self.union(schema, place, component);
        }
        match self.reader.text(schema, "type", &place.location) {
            Some("object") => self.object(schema, place, component),
            None if schema.get("properties").is_some() => self.object(schema, place, component),
            Some("array") => self.array(schema, place),
            None if schema.get("enum").is_none() => {
                self.allow_structure(schema, &[], place);
                Type::new(TypeKind::Json)
            }
            None | Some("string") => self.string(schema, place, component),
            Some("integer") => self.integer(schema, place),
            Some("number") => self.number(schema, place),
            Some("boolean") => {
                self.allow_structure(schema, &[], place);
                Type::new(TypeKind::Boolean)
            }
            Some(other) => {
                let message = format!(
                    "`{other}` is not a type of OpenAPI 3.0; use array, boolean, integer, number, object or string"
                );
                self.report(place, message);
                Type::new(TypeKind::Json)
            }
        }
    }

    /// Reports lists and maps in which the compiler of the output would get lost.
    fn lint_nesting(&self, item: &Type, place: &Place) {
        let (mut nesting, mut inner) = (1, item);
        while let TypeKind::List { item, .. } | TypeKind::Map(item) = &inner.kind {
            (nesting, inner) = (nesting + 1, item);
        }
        if nesting == MAX_NESTING + 1 {
            let message = format!(
                "more than {MAX_NESTING} lists and maps are inside each other; put one of them into an object"
            );
            self.report(place, message);
        }
    }

    /// Reports keywords that have no meaning for the kind of schema.
    fn allow_structure(&self, schema: &Value, allowed: &[&str], place: &Place) {
        for key in STRUCTURE {
            if schema.get(key).is_some() && !allowed.contains(&key) {
                let kind = schema["type"].as_str().unwrap_or("schema without a type");
                let kind = match kind {
                    "array" | "integer" | "object" => format!("an {kind}"),
                    _ => format!("a {kind}"),
                };
                let message = match key {
                    "enum" => format!("`enum` is not supported for {kind}"),
                    key => format!("`{key}` has no meaning here, for {kind}"),
                };
                self.report(place, message);
            }
        }
    }

    fn array(&mut self, schema: &Value, place: &Place) -> Type {
        let allowed = ["items", "maxItems", "minItems", "uniqueItems"];
        self.allow_structure(schema, &allowed, place);
        if schema.get("items").is_none() {
            self.report(place, "an array must have `items`");
        }
        let items = &schema["items"];
        let item = match items.is_null() {
            true => Type::new(TypeKind::Json),
            false => self.read(items, &place.part("Item", "items")),
        };
        self.lint_nesting(&item, place);
        let length = |name| self.reader.length(schema, name, &place.location);
        let mut r#type = Type::new(TypeKind::List {
            item: item.into(),
            max_items: length("maxItems"),
        });
        r#type
            .limits
            .extend(length("minItems").map(Limit::MinItems));
        if self.reader.flag(schema, "uniqueItems", &place.location) {
            r#type.limits.push(Limit::UniqueItems);
        }
        r#type
    }
}
