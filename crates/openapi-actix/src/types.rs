//! Generates the types of requests and responses on the server.
//!
//! typify generates them from the component schemas, which are prepared so that a response loses no information:
//! free-form JSON keeps its text, and a field that is always present is null instead of absent.
//! `Patched…` bodies distinguish null from absent.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use serde_json::{Map, Value, json};
use syn::{Fields, File, Item, ItemStruct, parse_quote};
use typify::{TypeSpace, TypeSpaceSettings};

use super::contract::{Contract, object, reference};
use super::documentation;
use super::parameters::{Parameter, ParameterKind};
use super::print::{case, file};
use super::schemas::{is_raw_json, subschemas, unwrap_all_of};

const RAW_JSON: &str = "RawJson";

/// Keywords that do not affect the Rust type: the field rules enforce them, or they only inform readers.
const IGNORED_KEYWORDS: [&str; 15] = [
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
    let mut types: File =
        syn::parse2(typify(&schemas)?).context("typify generated invalid Rust")?;
    for item in &mut types.items {
        if let Item::Struct(item) = item {
            let name = item.ident.to_string();
            if let Some((_, schema)) = schemas.iter().find(|(schema_name, _)| *schema_name == name)
            {
                sort_fields(item, schema);
            }
            if is_patch(&name) {
                use_patch_types(item);
            }
            keep_explicit_nulls(item, contract.schema(&name));
        }
    }
    let docs = ["The types of requests and responses."];
    documentation::complete(&mut types, contract);
    file(&docs, types.into_token_stream())
}

fn is_patch(name: &str) -> bool {
    name.starts_with("Patched")
}

/// The name of the enum of a query parameter with choices.
pub fn choice_name(operation: &str, parameter: &str) -> String {
    case::pascal(&format!("{operation}_{parameter}"))
}

/// Returns a schema for the enum of each query parameter with choices.
fn choices(contract: &Contract) -> Vec<(String, Value)> {
    let mut types = Vec::new();
    for operation in &contract.operations {
        for Parameter { name, kind, .. } in &operation.parameters {
            if let ParameterKind::Choice(choices) = kind {
                let schema = json!({ "type": "string", "enum": choices });
                types.push((choice_name(&operation.id, name), schema));
            }
        }
    }
    types
}

/// Returns the names of the component schemas that the server needs types for, in the order of the document.
///
/// Schemas inside raw JSON and raw bodies need no type.
fn reachable(contract: &Contract) -> Vec<String> {
    let mut reachable = BTreeSet::new();
    for operation in &contract.operations {
        let body = operation.body.iter().filter(|body| !body.raw);
        let bodies = body.map(|body| body.schema.as_str());
        for name in bodies.chain(
            operation
                .responses
                .iter()
                .filter_map(|response| response.json_schema()),
        ) {
            collect_reachable(contract, name, &mut reachable);
        }
    }
    let names = contract.schemas().keys();
    names
        .filter(|name| reachable.contains(*name))
        .cloned()
        .collect()
}

fn collect_reachable(contract: &Contract, name: &str, reachable: &mut BTreeSet<String>) {
    let schema = contract.schema(name);
    if !is_raw_json(schema) && reachable.insert(name.to_owned()) {
        collect_from_schema(contract, schema, reachable);
    }
}

fn collect_from_schema(contract: &Contract, schema: &Value, reachable: &mut BTreeSet<String>) {
    if let Some(name) = reference(schema) {
        collect_reachable(contract, name, reachable);
    }
    if !is_raw_json(schema) {
        for (_, subschema) in subschemas(schema) {
            collect_from_schema(contract, subschema, reachable);
        }
    }
}

fn typify(schemas: &[(String, Value)]) -> Result<TokenStream> {
    let mut settings = TypeSpaceSettings::default();
    settings.with_derive("PartialEq".to_owned());
    settings.with_replacement(RAW_JSON, "crate::RawJson", std::iter::empty());
    let mut space = TypeSpace::new(&settings);
    let mut definitions = Vec::new();
    for (name, schema) in schemas {
        let schema = serde_json::from_value(schema.clone())
            .with_context(|| format!("components.schemas.{name} is not a schema"))?;
        definitions.push((name.clone(), schema));
    }
    definitions.push((RAW_JSON.to_owned(), serde_json::from_value(json!({}))?));
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

/// Converts a schema of OpenAPI 3.0 to the JSON Schema that typify reads.
fn convert(contract: &Contract, schema: &Value) -> Value {
    let inner = unwrap_all_of(schema);
    let target = contract.resolve(inner);
    let nullable = schema["nullable"] == true || target["nullable"] == true;
    let with_description = |mut value: Value| {
        if let Some(description) = schema.get("description") {
            value["description"] = description.clone();
        }
        value
    };
    if is_raw_json(schema) || is_raw_json(target) {
        return with_description(optional(refer(RAW_JSON), nullable));
    }
    if let Some(name) = reference(inner) {
        return with_description(optional(refer(name), nullable));
    }
    let shape = Value::Object(convert_members(contract, inner));
    if inner.get("type").is_some() {
        return if nullable { with_null(shape) } else { shape };
    }
    // A schema without a type already accepts null, unless it is a choice between schemas.
    let needs_null = nullable && !subschemas(inner).is_empty();
    with_description(optional(shape, needs_null))
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

/// Adds null to the type of a schema and to its choices.
fn with_null(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    if let Some(choices) = schema["enum"].as_array_mut()
        && !choices.contains(&Value::Null)
    {
        choices.push(Value::Null);
    }
    schema
}

fn convert_members(contract: &Contract, schema: &Value) -> Map<String, Value> {
    let mut members = Map::new();
    for (key, value) in object(schema) {
        let value = match (key.as_str(), value) {
            (key, _) if IGNORED_KEYWORDS.contains(&key) || key.starts_with("x-") => continue,
            // An empty choice has no variant name. The field rules check the value.
            ("enum", Value::Array(choices)) if choices.contains(&json!("")) => continue,
            ("properties", Value::Object(properties)) => properties
                .iter()
                .map(|(name, property)| (name.clone(), convert(contract, property)))
                .collect::<Map<_, _>>()
                .into(),
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => schemas
                .iter()
                .map(|schema| convert(contract, schema))
                .collect(),
            ("items" | "additionalProperties", Value::Object(_)) => convert(contract, value),
            _ => value.clone(),
        };
        members.insert(key.clone(), value);
    }
    members
}

/// Sorts the fields by their order in the document, which is their order in responses.
fn sort_fields(item: &mut ItemStruct, schema: &Value) {
    let Fields::Named(fields) = &mut item.fields else {
        return;
    };
    let order: Vec<_> = object(&schema["properties"]).keys().collect();
    let mut sorted: Vec<_> = std::mem::take(&mut fields.named).into_iter().collect();
    sorted.sort_by_key(|field| {
        let name = wire_name(field);
        order
            .iter()
            .position(|property| **property == name)
            .unwrap_or(order.len())
    });
    fields.named.extend(sorted);
}

/// The name of a field in JSON.
pub fn wire_name(field: &syn::Field) -> String {
    let ident = || field.ident.as_ref().map(ToString::to_string);
    renamed(&field.attrs).or_else(ident).unwrap_or_default()
}

/// The name in JSON that a field or variant has, if it differs from the Rust name.
pub fn renamed(attributes: &[syn::Attribute]) -> Option<String> {
    let mut name = None;
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"))
    {
        // Other serde arguments are parsed and ignored.
        let _ = attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") {
                name = Some(meta.value()?.parse::<syn::LitStr>()?.value());
            } else if let Ok(value) = meta.value() {
                value.parse::<syn::Expr>()?;
            }
            Ok(())
        });
    }
    name
}

/// Changes the type of every field to `Patch`.
fn use_patch_types(item: &mut ItemStruct) {
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

/// Makes fields with `x-null: passes` keep an explicit null instead of treating it as absent.
fn keep_explicit_nulls(item: &mut ItemStruct, schema: &Value) {
    if is_patch(&item.ident.to_string()) {
        return;
    }
    for field in &mut item.fields {
        let name = wire_name(field);
        let passes_null = schema["properties"][&name]["x-null"] == "passes";
        if passes_null && option_inner(&field.ty).is_some() {
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
