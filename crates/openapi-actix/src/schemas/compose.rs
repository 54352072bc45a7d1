//! Schemas that consist of others: `allOf`, `oneOf` and `anyOf`.

use serde_json::Value;

use super::{Place, Schemas};
use crate::model::{Alternative, Shape, Type, TypeKind, Union};
use crate::naming;
use crate::reader::{SCHEMA_PREFIX, object, reference};

/// Keywords that do not change which values a schema accepts.
const ANNOTATIONS: [&str; 13] = [
    "deprecated",
    "default",
    "description",
    "example",
    "externalDocs",
    "nullable",
    "readOnly",
    "title",
    "writeOnly",
    "x-always-sent",
    "x-null",
    "x-rust-name",
    "xml",
];

/// The most objects that one `allOf` combines, with those inside of its parts.
const MAX_PARTS: usize = 100;

/// Returns the schema inside an `allOf` with one element, or `schema` itself.
pub fn only_part(schema: &Value) -> &Value {
    match schema["allOf"].as_array().map(Vec::as_slice) {
        Some([inner]) if is_wrapper(schema) => inner,
        _ => schema,
    }
}

/// Whether a schema has nothing but annotations next to its `allOf`.
fn is_wrapper(schema: &Value) -> bool {
    let mut keys = object(schema).keys();
    keys.all(|key| key == "allOf" || key == "type" || ANNOTATIONS.contains(&key.as_str()))
}

/// Combines two descriptions of one property, if one of them says nothing that the other contradicts.
pub fn combine(first: &Value, second: &Value) -> Option<Value> {
    if is_open_object(first) && is_object_like(second) {
        return Some(second.clone());
    }
    if is_open_object(second) && is_object_like(first) {
        return Some(first.clone());
    }
    let mut combined = first.clone();
    for (key, value) in object(second) {
        let known = first.get(key);
        let value = match known {
            Some(known) if key == "items" => combine(known, value)?,
            Some(known) if known != value && !ANNOTATIONS.contains(&key.as_str()) => return None,
            _ => value.clone(),
        };
        combined.as_object_mut()?.insert(key.clone(), value);
    }
    Some(combined)
}

/// Returns the enum and the text of an `anyOf` of a text's known values and any text.
pub fn open_choices<'a>(root: &'a Value, schema: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let [first, second] = schema["anyOf"].as_array()?.as_slice() else {
        return None;
    };
    if !matches!(schema["type"].as_str(), None | Some("string")) || schema.get("oneOf").is_some() {
        return None;
    }
    let target = |schema: &'a Value| {
        let schema = only_part(schema);
        reference(schema).map_or(schema, |name| &root["components"]["schemas"][name])
    };
    let pair = [(target(first), second), (target(second), first)];
    pair.into_iter()
        .find(|(known, text)| is_choice_of_texts(known) && is_any_text(text))
}

fn is_choice_of_texts(schema: &Value) -> bool {
    let values = schema["enum"].as_array();
    let is_word = |value: &Value| value.is_string() || value.is_null();
    matches!(schema["type"].as_str(), None | Some("string"))
        && values
            .is_some_and(|values| values.iter().any(Value::is_string) && values.iter().all(is_word))
}

fn is_any_text(schema: &Value) -> bool {
    schema["type"] == "string" && schema.get("enum").is_none() && schema.get("format").is_none()
}

fn is_open_object(schema: &Value) -> bool {
    let mut keys = object(schema).keys();
    schema["type"] == "object"
        && keys.all(|key| key == "type" || ANNOTATIONS.contains(&key.as_str()))
}

fn is_object_like(schema: &Value) -> bool {
    schema["type"] == "object"
        || ["$ref", "allOf", "properties"]
            .iter()
            .any(|key| schema.get(key).is_some())
}

impl Schemas<'_> {
    pub(super) fn all_of(
        &mut self,
        schema: &Value,
        place: &Place,
        component: Option<&str>,
    ) -> Type {
        let list = self.reader.list(schema, "allOf", &place.location);
        if let [inner] = list
            && is_wrapper(schema)
        {
            let inner_place =
                Place::new(place.name.clone(), format!("{}.allOf[0]", place.location));
            return self.read(inner, &inner_place);
        }
        if schema.get("oneOf").is_some() || schema.get("anyOf").is_some() {
            self.report(place, "`allOf` next to `oneOf` or `anyOf` is not supported");
        }
        self.item(schema, place, component, |schemas, place| {
            let mut parts = Vec::new();
            schemas.parts(schema, place, &mut Vec::new(), &mut parts);
            Shape::Struct(schemas.structure(&parts, place))
        })
    }

    /// Collects the objects of an `allOf`, and of those inside it. `around` has the locations of the enclosing ones.
    fn parts(
        &self,
        schema: &Value,
        place: &Place,
        around: &mut Vec<String>,
        parts: &mut Vec<(Value, Place)>,
    ) {
        let is_long = around.len() > MAX_PARTS || parts.len() > MAX_PARTS;
        if is_long || around.contains(&place.location) {
            let message = "the parts of `allOf` contain each other, or are more than 100";
            return self.report(place, message);
        }
        around.push(place.location.clone());
        let list = self.reader.list(schema, "allOf", &place.location);
        for (index, part) in list.iter().enumerate() {
            let location = format!("{}.allOf[{index}]", place.location);
            let (target, target_place) = match reference(part) {
                Some(name) => {
                    let Some(target) = self.reader.resolve(part, "schemas", &location) else {
                        continue;
                    };
                    let location = format!("components.schemas.{name}");
                    (target, Place::new(naming::pascal(name), location))
                }
                None => (part, Place::new(place.name.clone(), location)),
            };
            self.parts(target, &target_place, around, parts);
        }
        self.reader
            .allow_keys(schema, &[crate::keys::SCHEMA], &place.location);
        let structure = [
            "properties",
            "required",
            "additionalProperties",
            "minProperties",
            "maxProperties",
            "x-patch",
            "x-ignored-fields",
        ];
        let is_object = matches!(schema["type"].as_str(), None | Some("object"));
        let mut keys = object(schema).keys();
        let has_only = keys.all(|key| {
            let key = key.as_str();
            key == "type"
                || key == "allOf"
                || structure.contains(&key)
                || ANNOTATIONS.contains(&key)
        });
        if !is_object || !has_only {
            let message = "a part of `allOf` must be an object with `properties`; move other keywords into a property";
            self.report(place, message);
        }
        around.pop();
        parts.push((schema.clone(), place.clone()));
    }

    pub(super) fn union(&mut self, schema: &Value, place: &Place, component: Option<&str>) -> Type {
        let keyword = match (schema.get("oneOf"), schema.get("anyOf")) {
            (Some(_), Some(_)) => {
                self.report(place, "`oneOf` next to `anyOf` is not supported");
                "oneOf"
            }
            (Some(_), None) => "oneOf",
            _ => "anyOf",
        };
        if let Some((known, text)) = open_choices(self.reader.root, schema) {
            self.allow_structure(schema, &[], place);
            return self.open_choices(schema, known, text, place, component);
        }
        self.allow_structure(schema, &["discriminator"], place);
        if schema["type"].as_str().is_some_and(|name| name != "object") {
            self.report(
                place,
                format!(
                    "`type` next to `{keyword}` is not supported; move it into the alternatives"
                ),
            );
        }
        let list = self.reader.list(schema, keyword, &place.location);
        match list {
            [] => {
                self.report(
                    place,
                    format!("`{keyword}` must have at least one alternative"),
                );
                Type::new(TypeKind::Json)
            }
            [only] => {
                let location = format!("{}.{keyword}[0]", place.location);
                self.read(only, &Place::new(place.name.clone(), location))
            }
            list => self.item(schema, place, component, |schemas, place| {
                Shape::Union(schemas.alternatives(schema, list, keyword, place))
            }),
        }
    }

    fn alternatives(
        &mut self,
        schema: &Value,
        list: &[Value],
        keyword: &str,
        place: &Place,
    ) -> Union {
        let mut alternatives: Vec<Alternative> = Vec::new();
        for (index, alternative) in list.iter().enumerate() {
            let title = self.reader.text(alternative, "title", &place.location);
            let suffix = title.map_or_else(|| format!("Variant{}", index + 1), naming::pascal);
            let part = place.part(&suffix, &format!("{keyword}[{index}]"));
            let r#type = self.read(alternative, &part);
            let mut rust = self.alternative_name(alternative, &r#type);
            if alternatives.iter().any(|known| known.rust == rust) {
                rust.push_str(&(index + 1).to_string());
            }
            alternatives.push(Alternative {
                rust,
                r#type,
                tags: Vec::new(),
            });
        }
        let is_object = |alternative: &&Alternative| {
            matches!(alternative.r#type.kind, TypeKind::Object | TypeKind::Map(_))
                || self.model.struct_of(&alternative.r#type).is_some()
        };
        if keyword == "anyOf" && alternatives.iter().filter(is_object).count() > 1 {
            let message = "`anyOf` with several objects is not supported, because a value may match more than one; use `oneOf`";
            self.report(place, message);
        }
        let tag = self.discriminator(schema, list, &mut alternatives, place);
        Union {
            alternatives,
            tag,
            exclusive: keyword == "oneOf",
        }
    }

    fn alternative_name(&self, schema: &Value, r#type: &Type) -> String {
        let title = schema["title"].as_str().map(naming::pascal);
        if let Some(title) = title.filter(|title| !title.is_empty()) {
            return title;
        }
        let name = match &r#type.kind {
            TypeKind::Item(id) => return self.model.items[*id].name.clone(),
            TypeKind::Json | TypeKind::RawJson => "Json",
            TypeKind::Text { .. } | TypeKind::Word(_) => "Text",
            TypeKind::Uuid => "Uuid",
            TypeKind::Date => "Date",
            TypeKind::Instant => "Instant",
            TypeKind::Boolean => "Boolean",
            TypeKind::Integer { .. } => "Integer",
            TypeKind::Number { .. } => "Number",
            TypeKind::List { .. } => "List",
            TypeKind::Map(_) => "Map",
            TypeKind::Object => "Object",
        };
        name.to_owned()
    }

    /// Reads the discriminator into the tags of the alternatives, and returns the name of its property.
    fn discriminator(
        &self,
        schema: &Value,
        list: &[Value],
        alternatives: &mut [Alternative],
        place: &Place,
    ) -> Option<String> {
        let discriminator = schema.get("discriminator")?;
        let location = format!("{}.discriminator", place.location);
        self.reader
            .allow_keys(discriminator, &[&["propertyName", "mapping"]], &location);
        let property = self.reader.text(discriminator, "propertyName", &location);
        let Some(property) = property else {
            self.reader.report(&location, "`propertyName` is missing");
            return None;
        };
        for (value, target) in self.reader.object(&discriminator["mapping"], &location) {
            let target = target.as_str().unwrap_or_default();
            let name = target.strip_prefix(SCHEMA_PREFIX).unwrap_or(target);
            let index = list
                .iter()
                .position(|schema| reference(schema) == Some(name));
            match index {
                Some(index) => alternatives[index].tags.push(value.clone()),
                None => self.reader.report(
                    &location,
                    format!("`{target}` is not one of the alternatives"),
                ),
            }
        }
        for (schema, alternative) in list.iter().zip(alternatives) {
            let Some(name) = reference(schema) else {
                let message = "with a `discriminator`, every alternative must be a component";
                self.reader.report(&location, message);
                continue;
            };
            // The alternative may be being read, so its fields are not known.
            if self.property(schema, property).is_none() {
                let message =
                    format!("the alternative `{name}` does not describe the property `{property}`");
                self.reader.report(&location, message);
            }
            if alternative.tags.is_empty() {
                let tag = self.default_tag(schema, property).unwrap_or(name);
                alternative.tags.push(tag.to_owned());
            }
        }
        Some(property.to_owned())
    }

    /// The only value of the property that selects the alternative.
    fn default_tag<'v>(&'v self, schema: &'v Value, property: &str) -> Option<&'v str> {
        let property = self.property(schema, property)?;
        match self.target(only_part(property))["enum"]
            .as_array()?
            .as_slice()
        {
            [value] => value.as_str(),
            _ => None,
        }
    }

    /// The description of a property in an object or in a part of its `allOf`.
    fn property<'v>(&'v self, schema: &'v Value, name: &str) -> Option<&'v Value> {
        let mut queue = vec![schema];
        for index in 0..MAX_PARTS {
            let target = self.target(queue.get(index)?);
            if let Some(property) = target["properties"].get(name) {
                return Some(property);
            }
            queue.extend(target["allOf"].as_array().into_iter().flatten());
        }
        None
    }

    /// The component that a schema refers to, or the schema itself.
    fn target<'v>(&'v self, schema: &'v Value) -> &'v Value {
        let name = reference(schema);
        name.map_or(schema, |name| {
            &self.reader.root["components"]["schemas"][name]
        })
    }
}
