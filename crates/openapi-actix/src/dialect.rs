//! Rewrites a document of OpenAPI 3.1 in the form of 3.0, which the other modules read, progenitor included.
//!
//! A keyword of 3.1 that has no form in 3.0 stays, and is a finding of the module that reads schemas.
//! Locations in findings are those of the document, because no schema moves, except into `allOf` and `anyOf`.

use serde_json::{Map, Value, json};

use crate::document::Document;
use crate::findings::{Collector, Findings};
use crate::operations::METHODS;
use crate::reader::object;

/// The schema dialect that a document of 3.1 has without a statement.
const DIALECT: &str = "https://spec.openapis.org/oas/3.1/dialect/base";

/// Returns the document in the form of 3.0.
pub fn to_3_0(document: &Document) -> Result<Document, Findings> {
    let mut document = document.clone();
    let version = document.root["openapi"].as_str().unwrap_or_default();
    if !version.starts_with("3.1.") {
        return Ok(document);
    }
    let findings = Collector::default();
    let dialect = Dialect {
        findings: &findings,
        components: document.root["components"].clone(),
    };
    dialect.root(&mut document.root);
    findings.into_result(&document.name)?;
    Ok(document)
}

/// Rewrites the object of a kind of component, at a location.
type Rewrite<'a> = fn(&Dialect<'a>, &mut Value, &str);

struct Dialect<'a> {
    findings: &'a Collector,
    /// The components as they are in the document.
    components: Value,
}

impl<'a> Dialect<'a> {
    fn root(&self, root: &mut Value) {
        root["openapi"] = "3.0.3".into();
        if let Some(root) = root.as_object_mut() {
            root.retain(|key, value| key != "jsonSchemaDialect" || value != DIALECT);
        }
        for (path, item) in entries(&mut root["paths"]) {
            let location = format!("paths.{path}");
            self.parameters(item, &location);
            for method in METHODS {
                if let Some(operation) = item.get_mut(method) {
                    self.operation(operation, &format!("{location}.{method}"));
                }
            }
        }
        let Some(components) = root.get_mut("components") else {
            return;
        };
        let kinds: [(&str, Rewrite<'a>); 5] = [
            ("schemas", Self::schema),
            ("parameters", Self::parameter),
            ("headers", Self::header),
            ("requestBodies", Self::body),
            ("responses", Self::response),
        ];
        for (kind, rewrite) in kinds {
            let Some(members) = components.get_mut(kind) else {
                continue;
            };
            for (name, member) in entries(members) {
                rewrite(self, member, &format!("components.{kind}.{name}"));
            }
        }
    }

    fn operation(&self, operation: &mut Value, location: &str) {
        self.parameters(operation, location);
        if let Some(body) = operation.get_mut("requestBody") {
            self.body(body, &format!("{location}.requestBody"));
        }
        for (status, response) in members(operation, "responses") {
            self.response(response, &format!("{location}.responses.{status}"));
        }
    }

    fn parameters(&self, holder: &mut Value, location: &str) {
        let list = holder.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in list.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            self.parameter(parameter, &format!("{location}.parameters.{name}"));
        }
    }

    fn parameter(&self, parameter: &mut Value, location: &str) {
        self.resolve_described(parameter, "parameters");
        self.member(parameter, "schema", location);
        self.content(parameter, location);
    }

    fn header(&self, header: &mut Value, location: &str) {
        self.resolve_described(header, "headers");
        self.member(header, "schema", location);
    }

    fn body(&self, body: &mut Value, location: &str) {
        self.resolve_described(body, "requestBodies");
        self.content(body, location);
    }

    fn response(&self, response: &mut Value, location: &str) {
        self.resolve_described(response, "responses");
        self.content(response, location);
        for (name, header) in members(response, "headers") {
            self.header(header, &format!("{location}.headers.{name}"));
        }
    }

    fn content(&self, holder: &mut Value, location: &str) {
        for (media_type, content) in members(holder, "content") {
            self.member(
                content,
                "schema",
                &format!("{location}.content.{media_type}"),
            );
        }
    }

    fn member(&self, holder: &mut Value, name: &str, location: &str) {
        if let Some(schema) = holder.get_mut(name) {
            self.schema(schema, &format!("{location}.{name}"));
        }
    }

    /// Replaces a reference with a text of its own by the component with that text.
    fn resolve_described(&self, value: &mut Value, kind: &str) {
        let own = object(value);
        let is_described = own.len() > 1
            && own
                .keys()
                .all(|key| ["$ref", "description", "summary"].contains(&key.as_str()));
        let prefix = format!("#/components/{kind}/");
        let name = value["$ref"]
            .as_str()
            .and_then(|target| target.strip_prefix(&prefix));
        let component = name.and_then(|name| self.components[kind].get(name));
        let Some(component) = component.filter(|_| is_described) else {
            return;
        };
        let mut component = component.clone();
        let description = value.get("description").cloned();
        if let (Some(description), Some(component)) = (description, component.as_object_mut()) {
            component.insert("description".to_owned(), description);
        }
        *value = component;
    }

    fn schema(&self, value: &mut Value, location: &str) {
        if *value == true {
            *value = json!({});
        }
        let Some(schema) = value.as_object_mut() else {
            return;
        };
        self.lint(schema, location);
        self.parts(schema, location);
        annotations(schema);
        bounds(schema);
        unevaluated(schema);
        constant(schema);
        media(schema);
        types(schema);
        null_alternative(schema);
        self.lint_null(schema, location);
        reference(schema);
    }

    /// Reports keywords of 3.0 that have another form in 3.1.
    fn lint(&self, schema: &Map<String, Value>, location: &str) {
        if schema.contains_key("nullable") {
            let message = "`nullable` is not OpenAPI 3.1; add 'null' to the list `type`";
            self.findings.report(location, message);
        }
        for key in ["exclusiveMinimum", "exclusiveMaximum"] {
            if schema.get(key).is_some_and(Value::is_boolean) {
                let message = format!("`{key}` of OpenAPI 3.1 is the bound itself, a number");
                self.findings.report(location, message);
            }
        }
    }

    fn lint_null(&self, schema: &Map<String, Value>, location: &str) {
        let is_null = schema.get("type").is_some_and(|name| name == "null");
        let has_only_null = |list: &Value| {
            list.as_array()
                .is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_null))
        };
        if is_null || schema.get("enum").is_some_and(has_only_null) {
            let message = "a schema that is null alone is not supported; add a type";
            self.findings.report(location, message);
        }
    }

    /// Rewrites the schemas inside a schema.
    fn parts(&self, schema: &mut Map<String, Value>, location: &str) {
        for key in ["items", "additionalProperties", "unevaluatedProperties"] {
            // `true` and `false` have a meaning of their own, except for items.
            let part = schema.get_mut(key);
            if let Some(part) = part.filter(|part| key == "items" || part.is_object()) {
                self.schema(part, &format!("{location}.{key}"));
            }
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            let list = schema.get_mut(key).and_then(Value::as_array_mut);
            for (index, part) in list.into_iter().flatten().enumerate() {
                // An alternative that is null becomes `nullable`.
                if part["type"] != "null" || object(part).len() > 1 {
                    self.schema(part, &format!("{location}.{key}[{index}]"));
                }
            }
        }
        if let Some(properties) = schema.get_mut("properties") {
            for (name, property) in entries(properties) {
                self.schema(property, &format!("{location}.properties.{name}"));
            }
        }
    }
}

/// The members of an object, each with its name. None for any other value.
fn entries(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flatten()
}

fn members<'a>(
    holder: &'a mut Value,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a mut Value)> {
    holder.get_mut(name).into_iter().flat_map(entries)
}

/// Removes comments, and keeps one example.
fn annotations(schema: &mut Map<String, Value>) {
    schema.remove("$comment");
    if let Some(Value::Array(examples)) = schema.get("examples") {
        let first = examples.first().cloned();
        schema.remove("examples");
        if let (Some(first), false) = (first, schema.contains_key("example")) {
            schema.insert("example".to_owned(), first);
        }
    }
}

/// A bound that is not a part of the range becomes the bound with a flag. Of two bounds, the narrower counts.
fn bounds(schema: &mut Map<String, Value>) {
    for (exclusive, inclusive, sign) in [
        ("exclusiveMinimum", "minimum", 1.0),
        ("exclusiveMaximum", "maximum", -1.0),
    ] {
        let Some(bound) = schema
            .get(exclusive)
            .filter(|bound| bound.is_number())
            .cloned()
        else {
            continue;
        };
        let number = |bound: &Value| bound.as_f64().unwrap_or_default() * sign;
        let other = schema.get(inclusive);
        if other.is_some_and(|other| number(other) > number(&bound)) {
            schema.remove(exclusive);
        } else {
            schema.insert(inclusive.to_owned(), bound);
            schema.insert(exclusive.to_owned(), true.into());
        }
    }
}

/// Members that no part describes: of an object, and of each alternative. An alternative that is a component keeps its own.
fn unevaluated(schema: &mut Map<String, Value>) {
    let Some(rest) = schema.get("unevaluatedProperties").cloned() else {
        return;
    };
    let rest_key = "additionalProperties";
    let list = ["oneOf", "anyOf"]
        .into_iter()
        .find(|key| schema.contains_key(*key));
    if let Some(list) = list {
        let alternatives = schema.get_mut(list).and_then(Value::as_array_mut);
        let Some(alternatives) = alternatives.filter(|alternatives| {
            let mut alternatives = alternatives.iter();
            alternatives.all(|part| part["type"] == "object" && part.get(rest_key).is_none())
        }) else {
            return;
        };
        for alternative in alternatives {
            alternative[rest_key] = rest.clone();
        }
    } else if !schema.contains_key(rest_key) {
        schema.insert(rest_key.to_owned(), rest);
    }
    schema.remove("unevaluatedProperties");
}

/// A constant becomes an enum with one value.
fn constant(schema: &mut Map<String, Value>) {
    if schema.contains_key("enum") {
        return;
    }
    if let Some(value) = schema.remove("const") {
        schema.insert("enum".to_owned(), json!([value]));
    }
}

/// The encoding of text that is a file or a part of one.
fn media(schema: &mut Map<String, Value>) {
    let is_encoded = schema.contains_key("contentEncoding");
    let is_file = schema.get("type").is_some_and(|name| name == "string")
        && schema.contains_key("contentMediaType")
        && !is_encoded
        && !schema.contains_key("format");
    if is_file {
        schema.insert("format".to_owned(), "binary".into());
    }
    if is_file || is_encoded {
        // Encodings inform readers, as formats do that the server does not check.
        schema.remove("contentMediaType");
        schema.remove("contentEncoding");
    }
}

/// The keywords that concern values of one type only.
fn keywords_of(name: &str) -> &'static [&'static str] {
    match name {
        "string" => &["format", "minLength", "maxLength", "pattern", "x-trim"],
        "integer" | "number" => &[
            "format",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
        ],
        "array" => &["items", "minItems", "maxItems", "uniqueItems"],
        "object" => &[
            "properties",
            "required",
            "additionalProperties",
            "minProperties",
            "maxProperties",
        ],
        _ => &[],
    }
}

/// A list of types becomes a type and `nullable`. More than one type becomes a choice.
fn types(schema: &mut Map<String, Value>) {
    let Some(Value::Array(list)) = schema.get("type") else {
        return infer_type(schema);
    };
    let has_null = list.iter().any(|name| name == "null");
    let names: Vec<Value> = list
        .iter()
        .filter(|name| *name != "null")
        .cloned()
        .collect();
    let list_has_null = |list: &Value| {
        list.as_array()
            .is_some_and(|list| list.contains(&Value::Null))
    };
    if has_null && schema.get("enum").is_none_or(list_has_null) {
        schema.insert("nullable".to_owned(), true.into());
    }
    match names.as_slice() {
        [] => schema.insert("type".to_owned(), "null".into()),
        [name] => schema.insert("type".to_owned(), name.clone()),
        names => {
            schema.remove("type");
            let alternatives = alternatives(schema, names);
            schema.insert("anyOf".to_owned(), alternatives)
        }
    };
}

/// Moves the keywords of each type into an alternative.
fn alternatives(schema: &mut Map<String, Value>, names: &[Value]) -> Value {
    let mut used: Vec<&str> = Vec::new();
    let alternatives = names.iter().map(|name| {
        let mut alternative = Map::new();
        alternative.insert("type".to_owned(), name.clone());
        for key in keywords_of(name.as_str().unwrap_or_default()) {
            if let Some(value) = schema.get(*key) {
                alternative.insert((*key).to_owned(), value.clone());
                used.push(key);
            }
        }
        Value::Object(alternative)
    });
    let alternatives = alternatives.collect();
    schema.retain(|key, _| !used.contains(&key.as_str()));
    alternatives
}

/// The type of a constant follows from its value.
fn infer_type(schema: &mut Map<String, Value>) {
    let Some(Value::Array(list)) = schema.get("enum").filter(|_| !schema.contains_key("type"))
    else {
        return;
    };
    let is_all = |test: fn(&Value) -> bool| list.iter().all(|value| value.is_null() || test(value));
    let name = if is_all(Value::is_boolean) {
        "boolean"
    } else if is_all(Value::is_i64) {
        "integer"
    } else if is_all(Value::is_number) {
        "number"
    } else {
        return;
    };
    schema.insert("type".to_owned(), name.into());
}

/// An alternative that is null becomes `nullable`. A single other alternative becomes the schema itself.
fn null_alternative(schema: &mut Map<String, Value>) {
    for key in ["anyOf", "oneOf"] {
        let Some(Value::Array(list)) = schema.get_mut(key) else {
            continue;
        };
        let count = list.len();
        list.retain(|part| part["type"] != "null" || object(part).len() > 1);
        if list.len() == count {
            continue;
        }
        let only = match list.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        };
        schema.insert("nullable".to_owned(), true.into());
        let Some(only) = only else { continue };
        schema.remove(key);
        if only.get("$ref").is_some() {
            schema.insert("allOf".to_owned(), json!([only]));
            continue;
        }
        for (key, value) in object(&only) {
            schema.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Keywords next to `$ref` become those next to an `allOf` with one element.
fn reference(schema: &mut Map<String, Value>) {
    if schema.len() > 1
        && !schema.contains_key("allOf")
        && let Some(target) = schema.remove("$ref")
    {
        schema.insert("allOf".to_owned(), json!([{ "$ref": target }]));
    }
}
