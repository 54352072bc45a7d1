//! The types that the server reads and answers.
//!
//! typify makes them from the component schemas, prepared so that an answer loses nothing:
//! free-form JSON stays as it was written, and a field that is always present is null rather than left out.
//! `Patched…` bodies tell null from absent.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use serde_json::{Map, Value, json};
use syn::{Fields, File, Item, ItemStruct, parse_quote};
use typify::{TypeSpace, TypeSpaceSettings};

use super::contract::{Contract, object, reference};
use super::parameters::{Kind, Parameter};
use super::print::{case, file};
use super::schemas::{parts, raw_json, unwrap};

const RAW: &str = "RawJson";

/// What does not shape a Rust type: the field rules enforce it, or it is for readers.
const CHECKS: [&str; 15] = [
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "example",
    "readOnly",
    "writeOnly",
    "deprecated",
    "externalDocs",
    "nullable",
];

pub fn generate(contract: &Contract) -> Result<String> {
    let names = reachable(contract);
    let mut schemas: Vec<(String, Value)> = names
        .iter()
        .map(|name| (name.clone(), component(contract, name)))
        .collect();
    schemas.extend(choices(contract));
    let properties: Vec<_> = schemas.clone();
    let mut types: File = syn::parse2(typify(schemas)?).context("typify's code is not Rust")?;
    for item in &mut types.items {
        if let Item::Struct(item) = item {
            let name = item.ident.to_string();
            if let Some((_, schema)) = properties.iter().find(|(one, _)| *one == name) {
                in_document_order(item, schema);
            }
            if is_patch(&name) {
                tell_null_from_absent(item);
            }
            let_null_pass(item, contract.schema(&name));
        }
    }
    let docs = ["What requests and answers carry."];
    file(&docs, types.into_token_stream())
}

fn is_patch(name: &str) -> bool {
    name.starts_with("Patched")
}

/// The name of the type of a query parameter with choices.
pub fn choice_name(operation: &str, parameter: &str) -> String {
    case::pascal(&format!("{operation}_{parameter}"))
}

fn choices(contract: &Contract) -> Vec<(String, Value)> {
    let mut types = Vec::new();
    for operation in &contract.operations {
        for Parameter { name, kind, .. } in &operation.parameters {
            if let Kind::Choice(words) = kind {
                let schema = json!({ "type": "string", "enum": words });
                types.push((choice_name(&operation.id, name), schema));
            }
        }
    }
    types
}

/// The component schemas that the server needs types for, in the order of the document.
///
/// What lies within raw JSON needs none, nor does a body that is handed on as it came.
fn reachable(contract: &Contract) -> Vec<String> {
    let mut found = BTreeSet::new();
    for operation in &contract.operations {
        let body = operation.body.iter().filter(|body| !body.raw);
        let bodies = body.map(|body| body.schema.as_str());
        for name in bodies.chain(operation.answers.iter().filter_map(|answer| answer.json())) {
            reach(contract, name, &mut found);
        }
    }
    let names = contract.schemas().keys();
    names
        .filter(|name| found.contains(*name))
        .cloned()
        .collect()
}

fn reach(contract: &Contract, name: &str, found: &mut BTreeSet<String>) {
    let schema = contract.schema(name);
    if !raw_json(schema) && found.insert(name.to_owned()) {
        reach_parts(contract, schema, found);
    }
}

fn reach_parts(contract: &Contract, schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(name) = reference(schema) {
        reach(contract, name, found);
    }
    if !raw_json(schema) {
        for (_, part) in parts(schema) {
            reach_parts(contract, part, found);
        }
    }
}

fn typify(schemas: Vec<(String, Value)>) -> Result<TokenStream> {
    let mut settings = TypeSpaceSettings::default();
    settings.with_derive("PartialEq".to_owned());
    settings.with_replacement(RAW, "crate::RawJson", std::iter::empty());
    let mut space = TypeSpace::new(&settings);
    let mut definitions = Vec::new();
    for (name, schema) in schemas {
        let schema = serde_json::from_value(schema)
            .with_context(|| format!("components.schemas.{name} is no schema"))?;
        definitions.push((name, schema));
    }
    definitions.push((RAW.to_owned(), serde_json::from_value(json!({}))?));
    space
        .add_ref_types(definitions)
        .context("typify cannot express the component schemas")?;
    Ok(space.to_stream())
}

fn component(contract: &Contract, name: &str) -> Value {
    let mut schema = convert(contract, contract.schema(name));
    if is_patch(name)
        && let Some(properties) = schema["properties"].as_object_mut()
    {
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            property.remove("default");
        }
    }
    schema
}

/// From OpenAPI's dialect to the JSON Schema that typify reads.
fn convert(contract: &Contract, schema: &Value) -> Value {
    let inner = unwrap(schema);
    let target = contract.resolve(inner);
    let nullable = schema["nullable"] == true || target["nullable"] == true;
    let described = |mut value: Value| {
        if let Some(description) = schema.get("description") {
            value["description"] = description.clone();
        }
        value
    };
    if raw_json(schema) || raw_json(target) {
        return described(optional(refer(RAW), nullable));
    }
    if let Some(name) = reference(inner) {
        return described(optional(refer(name), nullable));
    }
    let shape = Value::Object(convert_members(contract, inner));
    if inner.get("type").is_some() {
        return if nullable { with_null(shape) } else { shape };
    }
    // What has no type may be null anyway, unless it is a choice between schemas.
    let null = nullable && !parts(inner).is_empty();
    described(optional(shape, null))
}

fn refer(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn optional(schema: Value, nullable: bool) -> Value {
    if nullable {
        json!({ "oneOf": [schema, { "type": "null" }] })
    } else {
        schema
    }
}

/// Adds null to the types of a schema that has one.
fn with_null(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    if let Some(words) = schema["enum"].as_array_mut()
        && !words.contains(&Value::Null)
    {
        words.push(Value::Null);
    }
    schema
}

fn convert_members(contract: &Contract, schema: &Value) -> Map<String, Value> {
    let mut members = Map::new();
    for (key, value) in object(schema) {
        let value = match (key.as_str(), value) {
            (key, _) if CHECKS.contains(&key) || key.starts_with("x-") => continue,
            // A blank choice has no name in Rust; the rules have checked the word.
            ("enum", Value::Array(words)) if words.contains(&json!("")) => continue,
            ("properties", Value::Object(properties)) => properties
                .iter()
                .map(|(name, property)| (name.clone(), convert(contract, property)))
                .collect::<Map<_, _>>()
                .into(),
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => {
                all.iter().map(|one| convert(contract, one)).collect()
            }
            ("items" | "additionalProperties", Value::Object(_)) => convert(contract, value),
            _ => value.clone(),
        };
        members.insert(key.clone(), value);
    }
    members
}

/// Puts fields in the order of the document, which is the order that callers see in answers.
fn in_document_order(item: &mut ItemStruct, schema: &Value) {
    let Fields::Named(fields) = &mut item.fields else {
        return;
    };
    let order: Vec<_> = object(&schema["properties"]).keys().collect();
    let mut named: Vec<_> = std::mem::take(&mut fields.named).into_iter().collect();
    named.sort_by_key(|field| {
        let name = wire_name(field);
        order
            .iter()
            .position(|one| **one == name)
            .unwrap_or(order.len())
    });
    fields.named.extend(named);
}

/// The name of a field in JSON.
fn wire_name(field: &syn::Field) -> String {
    let mut name = field
        .ident
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    for attribute in field
        .attrs
        .iter()
        .filter(|one| one.path().is_ident("serde"))
    {
        // What is not a rename is read past.
        let _ = attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") {
                name = meta.value()?.parse::<syn::LitStr>()?.value();
            } else if let Ok(value) = meta.value() {
                value.parse::<syn::Expr>()?;
            }
            Ok(())
        });
    }
    name
}

/// Makes each field a `Patch`, whatever typify made optional and how.
fn tell_null_from_absent(item: &mut ItemStruct) {
    for field in &mut item.fields {
        let name = wire_name(field);
        let inner = option_inner(&field.ty).unwrap_or_else(|| field.ty.clone());
        field.ty = parse_quote! { crate::Patch<#inner> };
        set_serde(
            field,
            &name,
            quote! { default, skip_serializing_if = "crate::Patch::is_absent" },
        );
    }
}

/// Keeps a null that a rule lets through: it is a value of its own, not an absent field.
fn let_null_pass(item: &mut ItemStruct, schema: &Value) {
    if is_patch(&item.ident.to_string()) {
        return;
    }
    for field in &mut item.fields {
        let name = wire_name(field);
        let passes = schema["properties"][&name]["x-null"] == "passes";
        if passes && option_inner(&field.ty).is_some() {
            let serde = quote! {
                default,
                skip_serializing_if = "::std::option::Option::is_none",
                deserialize_with = "crate::RawJson::present"
            };
            set_serde(field, &name, serde);
        }
    }
}

fn set_serde(field: &mut syn::Field, name: &str, serde: TokenStream) {
    field
        .attrs
        .retain(|attribute| !attribute.path().is_ident("serde"));
    let renamed = field.ident.as_ref().is_none_or(|ident| ident != name);
    let rename = renamed.then(|| quote! { rename = #name, });
    field.attrs.push(parse_quote! { #[serde(#rename #serde)] });
}

fn option_inner(r#type: &syn::Type) -> Option<syn::Type> {
    let syn::Type::Path(path) = r#type else {
        return None;
    };
    let last = path
        .path
        .segments
        .last()
        .filter(|last| last.ident == "Option")?;
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        syn::GenericArgument::Type(inner) => Some(inner.clone()),
        _ => None,
    }
}
