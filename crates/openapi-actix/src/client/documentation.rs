//! Documents the public items that typify and progenitor generate without documentation.
//!
//! The text comes from the contract if it has a description. Otherwise it states what the item does.

use std::collections::HashMap;

use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, Fields, File, ImplItem, ImplItemFn, ItemEnum, ItemImpl, ItemMod, ItemStruct, Type,
    Visibility, parse_quote,
};

use crate::contract::Contract;
use crate::naming::pascal;
use crate::print::has_docs;
use crate::reader::{object, reference};
use crate::schemas::only_part;

/// Documents the items of `file`.
pub fn complete(file: &mut File, contract: &Contract) {
    let mut documenter = Documenter {
        descriptions: descriptions(contract),
        modules: Vec::new(),
    };
    documenter.visit_file_mut(file);
}

/// The descriptions of fields by schema and field, and of parameters by operation and parameter.
fn descriptions(contract: &Contract) -> HashMap<(String, String), String> {
    let mut descriptions = HashMap::new();
    for (name, schema) in object(&contract.document.root["components"]["schemas"]) {
        for (field, property) in object(&schema["properties"]) {
            let target = resolve(contract, only_part(property));
            let text = property["description"].as_str();
            // The description of a referenced schema is long, and the type shows it.
            let reference = target["description"].as_str();
            if let Some(text) = text.or(reference.and_then(|text| text.lines().next())) {
                descriptions.insert((name.clone(), field.clone()), text.to_owned());
            }
        }
    }
    for operation in &contract.operations {
        let name = pascal(&operation.id);
        for parameter in &operation.parameters {
            let key = (name.clone(), parameter.name.clone());
            descriptions.insert(key, parameter.description.clone());
        }
    }
    descriptions
}

struct Documenter {
    descriptions: HashMap<(String, String), String>,
    /// The names of the enclosing modules.
    modules: Vec<String>,
}

impl Documenter {
    fn in_builder(&self) -> bool {
        self.modules.last().is_some_and(|name| name == "builder")
    }

    /// The first paragraph of a description.
    fn summary(&self, r#type: &str, member: &str) -> Option<&str> {
        // A member named like a keyword ends with `_` in Rust.
        let find = |member: &str| {
            self.descriptions
                .get(&(r#type.to_owned(), member.to_owned()))
        };
        let text = find(member).or_else(|| find(member.strip_suffix('_')?))?;
        text.split("\n\n").next()
    }

    fn method_text(&self, r#type: &str, method: &str) -> String {
        if !self.in_builder() {
            return match method {
                "builder" => "Returns a builder without values.".to_owned(),
                _ => format!("Returns the `{method}`."),
            };
        }
        match method {
            "new" => "Creates a call without parameters.".to_owned(),
            "body" => "Sets the request body.".to_owned(),
            "body_map" => "Changes the request body.".to_owned(),
            _ => match self.summary(r#type, method) {
                Some(summary) => format!("Sets `{method}`. {summary}"),
                None => format!("Sets `{method}`."),
            },
        }
    }
}

impl VisitMut for Documenter {
    fn visit_item_mod_mut(&mut self, item: &mut ItemMod) {
        let name = item.ident.to_string();
        if name == "builder" {
            document(&mut item.attrs, || {
                "Builders of the types or calls.".to_owned()
            });
        }
        self.modules.push(name);
        visit_mut::visit_item_mod_mut(self, item);
        self.modules.pop();
    }

    fn visit_item_struct_mut(&mut self, item: &mut ItemStruct) {
        let name = item.ident.to_string();
        let in_builder = self.in_builder();
        document(&mut item.attrs, || {
            if in_builder {
                format!("Builder of [`{name}`](super::{name}).")
            } else {
                format!("The type `{name}`.")
            }
        });
        for field in &mut item.fields {
            if !matches!(field.vis, Visibility::Public(_)) || field.ident.is_none() {
                continue;
            }
            let wire_name = wire_name(field);
            let text = || match self.summary(&name, &wire_name) {
                Some(summary) => summary.to_owned(),
                None => format!("The field `{wire_name}`."),
            };
            document(&mut field.attrs, text);
        }
    }

    fn visit_item_enum_mut(&mut self, item: &mut ItemEnum) {
        let name = item.ident.to_string();
        document(&mut item.attrs, || format!("The values of `{name}`."));
        for variant in &mut item.variants {
            let text = match &variant.fields {
                Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                    alternative_text(&variant.ident.to_string(), &fields.unnamed[0].ty)
                }
                _ => format!("The value `{}`.", variant_name(variant)),
            };
            document(&mut variant.attrs, || text);
        }
    }

    fn visit_item_impl_mut(&mut self, item: &mut ItemImpl) {
        let name = type_name(&item.self_ty);
        for member in &mut item.items {
            if let ImplItem::Fn(ImplItemFn {
                attrs,
                vis: Visibility::Public(_),
                sig,
                ..
            }) = member
            {
                document(attrs, || self.method_text(&name, &sig.ident.to_string()));
            }
        }
    }
}

/// Adds `text` as documentation, unless there is one.
fn document(attributes: &mut Vec<Attribute>, text: impl FnOnce() -> String) {
    if !has_docs(attributes) {
        let text = text();
        attributes.insert(0, parse_quote! { #[doc = #text] });
    }
}

/// Describes an alternative of a choice between types.
fn alternative_text(variant: &str, r#type: &Type) -> String {
    match (variant, type_name(r#type).as_str()) {
        ("Other", _) => "An object that this version of the contract does not describe.".to_owned(),
        (_, "Map") => "A JSON object.".to_owned(),
        (_, "Vec") => "A list.".to_owned(),
        (_, "Option") => "A value or null.".to_owned(),
        (_, name) => format!("A value of the type `{name}`."),
    }
}

/// The last segment of a type's path; empty for a type without a path.
pub fn type_name(r#type: &Type) -> String {
    match r#type {
        Type::Path(path) => {
            let last = path.path.segments.last();
            last.map(|segment| segment.ident.to_string())
        }
        _ => None,
    }
    .unwrap_or_default()
}

/// The value of a variant in JSON.
fn variant_name(variant: &syn::Variant) -> String {
    renamed(&variant.attrs).unwrap_or_else(|| variant.ident.to_string())
}

fn resolve<'a>(contract: &'a Contract, schema: &'a serde_json::Value) -> &'a serde_json::Value {
    let schemas = &contract.document.root["components"]["schemas"];
    reference(schema).map_or(schema, |name| &schemas[name])
}

/// The name of a field in JSON.
fn wire_name(field: &syn::Field) -> String {
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
