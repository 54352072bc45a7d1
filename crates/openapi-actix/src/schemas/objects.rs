//! Schemas of objects: maps, and structures with fields.

use serde_json::Value;

use super::compose;
use super::{Place, Schemas};
use crate::model::{Field, Limit, Shape, Struct, Type, TypeKind};
use crate::naming::{self, Namespace};
use crate::reader::{object, reference};

impl Schemas<'_> {
    pub(super) fn object(
        &mut self,
        schema: &Value,
        place: &Place,
        component: Option<&str>,
    ) -> Type {
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
                self.lint_nesting(&value, place);
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
    pub(super) fn structure(&mut self, parts: &[(Value, Place)], place: &Place) -> Struct {
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
        let always_sent = reader.flag(property, "x-always-sent", location);
        if always_sent && required {
            reader.report(
                location,
                "`x-always-sent` has no effect on a required property",
            );
        }
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
            always_sent,
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
