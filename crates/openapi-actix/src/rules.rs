//! Generates a table of field rules from the schema of a request body.
//!
//! The schema of a body may use only the keywords that the rules enforce. Any other keyword is a finding.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use serde_json::Value;

use super::contract::{Contract, object, reference};
use super::findings::Findings;
use super::print::case;
use super::schemas::{is_free_form, unwrap_all_of};

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

/// Reports the bodies that the rules cannot express.
pub fn lint(contract: &Contract, findings: &Findings) {
    tables_with(contract, findings);
}

/// Generates one static table for each body and for each object inside a body.
pub fn tables(contract: &Contract) -> Vec<TokenStream> {
    tables_with(contract, &Findings::default())
}

/// The name of the static table of a component schema.
pub fn table_name(schema: &str) -> Ident {
    format_ident!("{}_FIELDS", case::shouting(schema))
}

fn tables_with(contract: &Contract, findings: &Findings) -> Vec<TokenStream> {
    let mut rules = Rules {
        contract,
        findings,
        table_names: Vec::new(),
    };
    for operation in &contract.operations {
        if let Some(body) = operation.body.as_ref().filter(|body| !body.raw) {
            rules.require_table(&body.schema);
        }
    }
    let mut tables = Vec::new();
    while let Some(name) = rules.table_names.get(tables.len()).cloned() {
        tables.push(rules.table(&name));
    }
    tables
}

struct Rules<'a> {
    contract: &'a Contract,
    findings: &'a Findings,
    /// The component schemas that need a table, in order of discovery.
    table_names: Vec<String>,
}

impl Rules<'_> {
    fn require_table(&mut self, name: &str) {
        if !self.table_names.iter().any(|known| known == name) {
            self.table_names.push(name.to_owned());
        }
    }

    fn table(&mut self, name: &str) -> TokenStream {
        let schema = self.contract.schema(name);
        let location = format!("components.schemas.{name}");
        self.allow_keys(schema, &OBJECT_KEYS, &location);
        if schema["type"] != "object" {
            self.findings.report(&location, "a body must be an object");
        }
        if schema["additionalProperties"] == false {
            let message =
                "`additionalProperties: false` is wrong: unknown keys of a body are ignored";
            self.findings.report(&location, message);
        }
        let required = schema["required"].as_array();
        let fields: Vec<_> = object(&schema["properties"])
            .iter()
            .map(|(name, property)| {
                let required =
                    required.is_some_and(|names| names.iter().any(|required| required == name));
                let location = format!("{location}.properties.{name}");
                (name, property, required, location)
            })
            .filter(|(_, property, required, location)| {
                let ignored = property["readOnly"] == true;
                if ignored && *required {
                    self.findings.report(
                        location,
                        "a `readOnly` property cannot be required in a body",
                    );
                }
                !ignored
            })
            .collect();
        let fields = fields
            .into_iter()
            .map(|(name, property, required, location)| {
                self.field(name, property, required, &location)
            });
        let fields: Vec<_> = fields.collect();
        let table = table_name(name);
        quote! { static #table: &[Field] = &[#(#fields),*]; }
    }

    fn field(
        &mut self,
        name: &str,
        property: &Value,
        required: bool,
        location: &str,
    ) -> TokenStream {
        let nullable = self.is_nullable(property) || property["x-null"] == "passes";
        let kind = self.kind(property, location);
        quote! { Field { name: #name, required: #required, nullable: #nullable, kind: #kind } }
    }

    fn is_nullable(&self, schema: &Value) -> bool {
        let target = self.contract.resolve(unwrap_all_of(schema));
        schema["nullable"] == true || target["nullable"] == true
    }

    fn kind(&mut self, schema: &Value, location: &str) -> TokenStream {
        let inner = unwrap_all_of(schema);
        if is_free_form(schema) || is_free_form(self.contract.resolve(inner)) {
            return quote! { Kind::Json };
        }
        if let Some(name) = reference(inner) {
            self.allow_common_keys(schema, &[], location);
            return self.component(name, location);
        }
        match schema["type"].as_str() {
            Some("string") => self.text(schema, location),
            Some("integer") => {
                self.allow_common_keys(schema, &["minimum", "maximum"], location);
                let (minimum, maximum) = (
                    integer_bound(schema, "minimum"),
                    integer_bound(schema, "maximum"),
                );
                quote! { Kind::Integer { minimum: #minimum, maximum: #maximum } }
            }
            Some("number") => self.plain(schema, quote! { Kind::Number }, location),
            Some("boolean") => self.plain(schema, quote! { Kind::Boolean }, location),
            Some("array") => self.list(schema, location),
            _ => {
                let message = "no rule can read this schema from a body; move the object to `components` \
                               or mark it `x-raw-json: true`";
                self.findings.report(location, message);
                quote! { Kind::Json }
            }
        }
    }

    fn component(&mut self, name: &str, location: &str) -> TokenStream {
        let target = self.contract.schema(name);
        if target["type"] == "object" {
            self.require_table(name);
            let table = table_name(name);
            return quote! { Kind::Object(#table) };
        }
        self.kind(target, location)
    }

    fn plain(&self, schema: &Value, kind: TokenStream, location: &str) -> TokenStream {
        self.allow_common_keys(schema, &[], location);
        kind
    }

    fn text(&self, schema: &Value, location: &str) -> TokenStream {
        if let Some(words) = schema["enum"].as_array() {
            self.allow_common_keys(schema, &["enum"], location);
            let words = words.iter().filter_map(Value::as_str);
            return quote! { Kind::Choice(&[#(#words),*]) };
        }
        match schema["format"].as_str() {
            Some("date-time") => return self.plain(schema, quote! { Kind::Instant }, location),
            Some("uuid") => return self.plain(schema, quote! { Kind::Uuid }, location),
            Some(other) if !["uri", "email"].contains(&other) => {
                self.findings
                    .report(location, format!("no rule checks the format `{other}`"));
            }
            _ => (),
        }
        self.allow_common_keys(schema, &["minLength", "maxLength", "x-trim"], location);
        let trim = schema["x-trim"] != false;
        let min_length = Literal::u64_unsuffixed(schema["minLength"].as_u64().unwrap_or(0));
        let max_length = length_bound(schema, "maxLength");
        quote! {
            Kind::Text { trim: #trim, min_length: #min_length, max_length: #max_length }
        }
    }

    fn list(&mut self, schema: &Value, location: &str) -> TokenStream {
        self.allow_common_keys(schema, &["items", "maxItems"], location);
        let items = &schema["items"];
        let nullable = self.is_nullable(items);
        let item = self.kind(items, &format!("{location}.items"));
        let max_items = length_bound(schema, "maxItems");
        quote! { Kind::List { item: &#item, nullable: #nullable, max_items: #max_items } }
    }

    fn allow_common_keys(&self, schema: &Value, extra: &[&str], location: &str) {
        let allowed: Vec<_> = COMMON_KEYS.iter().chain(extra).copied().collect();
        self.allow_keys(schema, &allowed, location);
    }

    fn allow_keys(&self, schema: &Value, allowed: &[&str], location: &str) {
        for key in object(schema).keys() {
            if !allowed.contains(&key.as_str()) {
                self.findings
                    .report(location, format!("no rule enforces `{key}` in a body"));
            }
        }
    }
}

fn integer_bound(schema: &Value, name: &str) -> TokenStream {
    option(schema[name].as_i64().map(Literal::i64_unsuffixed))
}

fn length_bound(schema: &Value, name: &str) -> TokenStream {
    option(schema[name].as_u64().map(Literal::u64_unsuffixed))
}

/// Generates `Some(literal)` or `None`.
pub fn option(literal: Option<Literal>) -> TokenStream {
    match literal {
        Some(literal) => quote! { Some(#literal) },
        None => quote! { None },
    }
}
