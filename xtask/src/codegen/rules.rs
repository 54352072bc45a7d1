//! From the schema of a body to its table of field rules.
//!
//! A schema that a body is read by may only use what the rules enforce; anything else is a finding.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use serde_json::Value;

use super::contract::{Contract, object, reference};
use super::findings::Findings;
use super::print::case;
use super::schemas::{free_form, unwrap};

const OBJECT_KEYS: [&str; 9] = [
    "type",
    "title",
    "description",
    "example",
    "properties",
    "required",
    "nullable",
    "deprecated",
    "additionalProperties",
];
const COMMON_KEYS: [&str; 11] = [
    "$ref",
    "allOf",
    "type",
    "format",
    "title",
    "description",
    "example",
    "default",
    "nullable",
    "deprecated",
    "writeOnly",
];

/// Refuses bodies that the rules cannot be made for.
pub fn lint(contract: &Contract, findings: &Findings) {
    tables_with(contract, findings);
}

/// The tables of all bodies, and of the objects within them, as statics.
pub fn tables(contract: &Contract) -> Vec<TokenStream> {
    tables_with(contract, &Findings::default())
}

/// The name of a body's table.
pub fn table_name(schema: &str) -> Ident {
    format_ident!("{}_FIELDS", case::shouting(schema))
}

fn tables_with(contract: &Contract, findings: &Findings) -> Vec<TokenStream> {
    let mut rules = Rules {
        contract,
        findings,
        names: Vec::new(),
    };
    for operation in &contract.operations {
        if let Some(body) = operation.body.as_ref().filter(|body| !body.raw) {
            rules.want(&body.schema);
        }
    }
    let mut tables = Vec::new();
    while let Some(name) = rules.names.get(tables.len()).cloned() {
        tables.push(rules.table(&name));
    }
    tables
}

struct Rules<'a> {
    contract: &'a Contract,
    findings: &'a Findings,
    /// The component schemas that need a table, in the order found.
    names: Vec<String>,
}

impl Rules<'_> {
    fn want(&mut self, name: &str) {
        if !self.names.iter().any(|one| one == name) {
            self.names.push(name.to_owned());
        }
    }

    fn table(&mut self, name: &str) -> TokenStream {
        let schema = self.contract.schema(name);
        let place = format!("components.schemas.{name}");
        self.only(schema, &OBJECT_KEYS, &place);
        if schema["type"] != "object" {
            self.findings.add(&place, "a body is an object");
        }
        if schema["additionalProperties"] == false {
            let what =
                "`additionalProperties: false` is untrue: unknown keys of a body are ignored";
            self.findings.add(&place, what);
        }
        let required = schema["required"].as_array();
        let fields: Vec<_> = object(&schema["properties"])
            .iter()
            .map(|(name, property)| {
                let required = required.is_some_and(|all| all.iter().any(|one| one == name));
                let place = format!("{place}.properties.{name}");
                (name, property, required, place)
            })
            .filter(|(_, property, required, place)| {
                let ignored = property["readOnly"] == true;
                if ignored && *required {
                    self.findings
                        .add(place, "a body cannot require what is `readOnly`");
                }
                !ignored
            })
            .collect();
        let fields = fields
            .into_iter()
            .map(|(name, property, required, place)| self.field(name, property, required, &place));
        let fields: Vec<_> = fields.collect();
        let table = table_name(name);
        quote! { static #table: &[Field] = &[#(#fields),*]; }
    }

    fn field(&mut self, name: &str, property: &Value, required: bool, place: &str) -> TokenStream {
        let nullable = self.nullable(property) || property["x-null"] == "passes";
        let kind = self.kind(property, place);
        quote! { Field { name: #name, required: #required, nullable: #nullable, kind: #kind } }
    }

    fn nullable(&self, schema: &Value) -> bool {
        let target = self.contract.resolve(unwrap(schema));
        schema["nullable"] == true || target["nullable"] == true
    }

    fn kind(&mut self, schema: &Value, place: &str) -> TokenStream {
        let inner = unwrap(schema);
        if free_form(schema) || free_form(self.contract.resolve(inner)) {
            return quote! { Kind::Json };
        }
        if let Some(name) = reference(inner) {
            self.only_common(schema, &[], place);
            return self.component(name, place);
        }
        match schema["type"].as_str() {
            Some("string") => self.text(schema, place),
            Some("integer") => {
                self.only_common(schema, &["minimum", "maximum"], place);
                let (minimum, maximum) = (integer(schema, "minimum"), integer(schema, "maximum"));
                quote! { Kind::Integer { minimum: #minimum, maximum: #maximum } }
            }
            Some("number") => self.plain(schema, quote! { Kind::Number }, place),
            Some("boolean") => self.plain(schema, quote! { Kind::Boolean }, place),
            Some("array") => self.list(schema, place),
            _ => {
                let what = "no rule reads this from a body; name the object under components, \
                            or mark it `x-raw-json: true`";
                self.findings.add(place, what);
                quote! { Kind::Json }
            }
        }
    }

    fn component(&mut self, name: &str, place: &str) -> TokenStream {
        let target = self.contract.schema(name);
        if target["type"] == "object" {
            self.want(name);
            let table = table_name(name);
            return quote! { Kind::Object(#table) };
        }
        self.kind(target, place)
    }

    fn plain(&self, schema: &Value, kind: TokenStream, place: &str) -> TokenStream {
        self.only_common(schema, &[], place);
        kind
    }

    fn text(&self, schema: &Value, place: &str) -> TokenStream {
        if let Some(words) = schema["enum"].as_array() {
            self.only_common(schema, &["enum"], place);
            let words = words.iter().filter_map(Value::as_str);
            return quote! { Kind::Choice(&[#(#words),*]) };
        }
        match schema["format"].as_str() {
            Some("date-time") => return self.plain(schema, quote! { Kind::Instant }, place),
            Some("uuid") => return self.plain(schema, quote! { Kind::Uuid }, place),
            Some(other) if !["uri", "email"].contains(&other) => {
                self.findings
                    .add(place, format!("no rule checks the format `{other}`"));
            }
            _ => (),
        }
        self.only_common(schema, &["minLength", "maxLength", "x-trim"], place);
        let trim = schema["x-trim"] != false;
        let min_length = Literal::u64_unsuffixed(schema["minLength"].as_u64().unwrap_or(0));
        let max_length = length(schema, "maxLength");
        quote! {
            Kind::Text { trim: #trim, min_length: #min_length, max_length: #max_length }
        }
    }

    fn list(&mut self, schema: &Value, place: &str) -> TokenStream {
        self.only_common(schema, &["items", "maxItems"], place);
        let items = &schema["items"];
        let nullable = self.nullable(items);
        let item = self.kind(items, &format!("{place}.items"));
        let max_items = length(schema, "maxItems");
        quote! { Kind::List { item: &#item, nullable: #nullable, max_items: #max_items } }
    }

    fn only_common(&self, schema: &Value, more: &[&str], place: &str) {
        let known: Vec<_> = COMMON_KEYS.iter().chain(more).copied().collect();
        self.only(schema, &known, place);
    }

    fn only(&self, schema: &Value, known: &[&str], place: &str) {
        for key in object(schema).keys() {
            if !known.contains(&key.as_str()) {
                self.findings
                    .add(place, format!("no rule enforces `{key}` in a body"));
            }
        }
    }
}

fn integer(schema: &Value, name: &str) -> TokenStream {
    option(schema[name].as_i64().map(Literal::i64_unsuffixed))
}

fn length(schema: &Value, name: &str) -> TokenStream {
    option(schema[name].as_u64().map(Literal::u64_unsuffixed))
}

pub fn option(literal: Option<Literal>) -> TokenStream {
    match literal {
        Some(literal) => quote! { Some(#literal) },
        None => quote! { None },
    }
}
