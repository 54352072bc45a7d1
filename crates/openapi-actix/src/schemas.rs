//! Reads schemas into types. A keyword that has no effect on the output is a finding.

mod compose;
mod scalars;

use std::collections::HashMap;

use serde_json::Value;

#[cfg(feature = "client")]
pub use compose::only_part;

use crate::keys;
use crate::model::{Field, Item, ItemId, Limit, Model, Shape, Struct, Type, TypeKind};
use crate::naming::{self, Namespace};
use crate::reader::{Reader, object, reference};

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

/// Reads the schemas that operations use.
pub struct Schemas<'a> {
    pub reader: Reader<'a>,
    pub model: Model,
    /// The types of the components; `None` while one is read.
    components: HashMap<String, Option<Type>>,
    /// The items of schemas that are not components, by location.
    inline: HashMap<String, Type>,
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
            names: Namespace::default(),
        }
    }

    fn report(&self, place: &Place, message: impl AsRef<str>) {
        self.reader.report(&place.location, message);
    }

    /// Reads the schema at a place.
    pub fn read(&mut self, schema: &Value, place: &Place) -> Type {
        if schema.get("$ref").is_some() {
            return match self.reader.resolve(schema, "schemas", &place.location) {
                Some(_) => self.component(reference(schema).unwrap_or_default()),
                None => Type::new(TypeKind::Json),
            };
        }
        if let Some(known) = self.inline.get(&place.location) {
            return known.clone();
        }
        let mut r#type = self.read_inline(schema, place, None);
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
        if let Some(id) = pending.filter(|id| r#type.item() != Some(*id)) {
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

    /// Reports keywords that have no meaning for the kind of schema.
    fn allow_structure(&self, schema: &Value, allowed: &[&str], place: &Place) {
        for key in STRUCTURE {
            if schema.get(key).is_some() && !allowed.contains(&key) {
                let kind = schema["type"].as_str().unwrap_or("schema without a type");
                let kind = match kind {
                    "array" | "integer" | "object" => format!("an {kind}"),
                    _ => format!("a {kind}"),
                };
                self.report(place, format!("`{key}` has no meaning here, for {kind}"));
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

    fn object(&mut self, schema: &Value, place: &Place, component: Option<&str>) -> Type {
        if schema.get("discriminator").is_some() {
            self.report(
                place,
                "`discriminator` without `oneOf` is not supported; list the alternatives with `oneOf`",
            );
        }
        let allowed = [
            "properties",
            "required",
            "additionalProperties",
            "discriminator",
            "minProperties",
            "maxProperties",
            "x-patch",
            "x-ignored-fields",
        ];
        self.allow_structure(schema, &allowed, place);
        let is_closed = schema["additionalProperties"] == false;
        if !object(&schema["properties"]).is_empty() || is_closed {
            return self.item(schema, place, component, |schemas, place| {
                let parts = [(schema.clone(), place.clone())];
                Shape::Struct(schemas.structure(&parts, place))
            });
        }
        self.required(schema, place);
        let mut r#type = match schema.get("additionalProperties") {
            None | Some(Value::Bool(_)) => Type::new(TypeKind::Object),
            Some(values) => {
                let value = self.read(values, &place.part("Value", "additionalProperties"));
                Type::new(TypeKind::Map(value.into()))
            }
        };
        let length = |name| self.reader.length(schema, name, &place.location);
        let limits = [
            length("minProperties").map(Limit::MinProperties),
            length("maxProperties").map(Limit::MaxProperties),
        ];
        r#type.limits.extend(limits.into_iter().flatten());
        r#type
    }

    /// Returns the names of the required properties. Each must be described.
    fn required(&self, schema: &Value, place: &Place) -> Vec<String> {
        let names = self.reader.strings(schema, "required", &place.location);
        names.unwrap_or_default()
    }

    /// Reads the fields of an object that has several parts, each with a place of its own.
    fn structure(&mut self, parts: &[(Value, Place)], place: &Place) -> Struct {
        let mut shape = Struct::default();
        let mut required = Vec::new();
        let mut names = Namespace::default();
        let mut properties: Vec<(String, Value, Place)> = Vec::new();
        for (schema, part) in parts {
            for name in self.required(schema, part) {
                required.push((name, part.clone()));
            }
            self.structure_keys(schema, part, &mut shape);
            for (name, property) in self.reader.object(&schema["properties"], &part.location) {
                let place = part.part(name, &format!("properties.{name}"));
                self.add_property(&mut properties, name, property, place);
            }
        }
        for (name, part) in &required {
            if !properties.iter().any(|(known, _, _)| known == name) {
                let message = format!("the required property `{name}` is not described");
                self.report(part, message);
            }
        }
        for (name, property, part) in &properties {
            let required = required.iter().any(|(known, _)| known == name);
            let field = self.field(name, property, required, part, shape.patch);
            names.claim(self.reader.findings, &field.rust, name, &part.location);
            shape.fields.push(field);
        }
        if shape.rest.is_some() {
            names.claim(
                self.reader.findings,
                "additional_properties",
                "additionalProperties",
                &place.location,
            );
        }
        shape
    }

    fn structure_keys(&mut self, schema: &Value, part: &Place, shape: &mut Struct) {
        let length = |name| self.reader.length(schema, name, &part.location);
        shape.min_properties = length("minProperties").or(shape.min_properties);
        shape.max_properties = length("maxProperties").or(shape.max_properties);
        shape.patch |= self.reader.flag(schema, "x-patch", &part.location);
        let ignored = self
            .reader
            .strings(schema, "x-ignored-fields", &part.location);
        if ignored.is_some() && self.reader.config.is_bundled() {
            self.report(part, "`x-ignored-fields` needs a runtime of the project");
        }
        shape.ignored = ignored.or(shape.ignored.take());
        match schema.get("additionalProperties") {
            None => {}
            Some(Value::Bool(false)) => shape.closed = true,
            Some(Value::Bool(true)) => shape.rest = Some(Type::new(TypeKind::Json)),
            Some(values) => {
                let place = part.part("Value", "additionalProperties");
                shape.rest = Some(self.read(values, &place));
            }
        }
    }

    /// Adds a property. If another part describes it too, the descriptions are combined.
    fn add_property(
        &self,
        properties: &mut Vec<(String, Value, Place)>,
        name: &str,
        property: &Value,
        place: Place,
    ) {
        let known = properties.iter_mut().find(|(known, _, _)| known == name);
        let Some((_, known, known_place)) = known else {
            return properties.push((name.to_owned(), property.clone(), place));
        };
        match compose::combine(known, property) {
            Some(combined) => {
                *known = combined;
                *known_place = place;
            }
            None => {
                let message = format!(
                    "`{name}` is described differently at {}; describe it once",
                    known_place.location
                );
                self.report(&place, message);
            }
        }
    }

    fn field(
        &mut self,
        name: &str,
        property: &Value,
        required: bool,
        place: &Place,
        patch: bool,
    ) -> Field {
        let mut r#type = self.read(property, place);
        let reader = self.reader;
        let location = &place.location;
        let null_passes = property.get("x-null");
        if null_passes.is_some_and(|null| null != "passes") {
            reader.report(location, "`x-null` must be `passes`");
        }
        let null_passes = null_passes.is_some();
        if null_passes && !matches!(r#type.kind, TypeKind::RawJson | TypeKind::Json) {
            reader.report(location, "`x-null` is only supported for free-form JSON");
        }
        r#type.nullable |= null_passes;
        let default = property.get("default").filter(|_| !patch && !required);
        let default = default.filter(|value| !value.is_null()).cloned();
        if let Some(value) = &default
            && !crate::literals::is_supported(&self.model, &r#type, value)
        {
            let message = format!(
                "the default {value} is not a value of the schema, or not supported for it"
            );
            reader.report(location, message);
        }
        Field {
            name: name.to_owned(),
            rust: naming::field(name),
            description: self.description(property, place),
            required,
            default,
            read_only: reader.flag(property, "readOnly", location),
            write_only: reader.flag(property, "writeOnly", location),
            deprecated: reader.flag(property, "deprecated", location),
            null_passes,
            r#type,
        }
    }

    /// The description of a property, or the first line of that of its component.
    fn description(&self, property: &Value, place: &Place) -> Option<String> {
        if let Some(text) = self.reader.text(property, "description", &place.location) {
            return Some(text.to_owned());
        }
        let inner = compose::only_part(property);
        let target = reference(inner).map(|name| &self.reader.root["components"]["schemas"][name]);
        let text = target.unwrap_or(inner)["description"].as_str()?;
        text.lines().next().map(str::to_owned)
    }
}

/// Checks the keywords of all component schemas, those that no operation uses included.
pub fn lint(reader: Reader) {
    let components = reader.object(&reader.root["components"]["schemas"], "components.schemas");
    for (name, schema) in components {
        let location = format!("components.schemas.{name}");
        let is_valid = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if !name.chars().all(is_valid) {
            reader.report(
                &location,
                "the name of a component has letters, digits, `.`, `-` and `_` only",
            );
        }
        lint_schema(reader, schema, &location);
    }
}

fn lint_schema(reader: Reader, schema: &Value, location: &str) {
    reader.allow_keys(schema, &[keys::SCHEMA], location);
    reader.resolve(schema, "schemas", location);
    for flag in [
        "nullable",
        "readOnly",
        "writeOnly",
        "x-raw-json",
        "x-trim",
        "x-patch",
    ] {
        reader.flag(schema, flag, location);
    }
    reader.strings(schema, "x-ignored-fields", location);
    for (path, subschema) in subschemas(schema) {
        lint_schema(reader, subschema, &format!("{location}.{path}"));
    }
    let required = reader.strings(schema, "required", location);
    let is_described = |name: &String| schema["properties"].get(name).is_some();
    for name in required
        .unwrap_or_default()
        .iter()
        .filter(|name| !is_described(name))
    {
        // Other parts of an `allOf` may describe it.
        if !location.contains(".allOf[") && schema.get("allOf").is_none() {
            reader.report(
                location,
                format!("the required property `{name}` is not described"),
            );
        }
    }
}

/// Returns the direct subschemas of `schema`, each with its path relative to `schema`.
pub fn subschemas(schema: &Value) -> Vec<(String, &Value)> {
    let mut subschemas = Vec::new();
    for (name, property) in object(&schema["properties"]) {
        subschemas.push((format!("properties.{name}"), property));
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, choice) in schema[name].as_array().into_iter().flatten().enumerate() {
            subschemas.push((format!("{name}[{index}]"), choice));
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(subschema) = schema.get(name).filter(|value| value.is_object()) {
            subschemas.push((name.to_owned(), subschema));
        }
    }
    subschemas
}
