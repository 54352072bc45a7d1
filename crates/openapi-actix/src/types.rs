//! Generates the types of requests and responses.
//!
//! A response loses no information: free-form JSON keeps its text where the document asks for it, and a field that is
//! always present is null instead of absent. With `x-patch`, a body distinguishes null from absent.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::config::Runtime;
use crate::contract::Contract;
use crate::literals;
use crate::model::{
    Alternative, Enumeration, Field, Item, ItemId, Model, Shape, Struct, Type, TypeKind, Union,
    containers,
};
use crate::naming::{field, ident, snake};
use crate::print::{docs, file};
use enums::{conversion_error, enumeration};

mod enums;

#[cfg(feature = "client")]
pub use enums::open_enumeration;

pub fn generate(contract: &Contract) -> String {
    let mut printer = Printer {
        model: &contract.model,
        boxed: Vec::new(),
        support: match contract.config.runtime {
            Runtime::Bundled => quote! { super::support },
            Runtime::Own => quote! { crate },
        },
    };
    let mut items: Vec<(ItemId, &Item)> = contract.model.items.iter().enumerate().collect();
    items.sort_by(|(_, first), (_, second)| first.name.cmp(&second.name));
    let holders = contract.model.holders();
    let types = items.iter().map(|(id, item)| {
        printer.boxed = containers(&holders, *id);
        printer.item(item)
    });
    let types: Vec<_> = types.collect();
    let defaults = printer.defaults(&items);
    let has_enums = items
        .iter()
        .any(|(_, item)| matches!(item.shape, Shape::Enum(Enumeration { other: None, .. })));
    let error = has_enums.then(conversion_error);
    let lines = ["The types of requests and responses."];
    file(contract, &lines, quote! { #(#types)* #defaults #error })
}

/// Returns the Rust type of a value. `types` is the path of the module with the types, and `support` that of the runtime.
pub fn rust_type(
    model: &Model,
    r#type: &Type,
    types: &TokenStream,
    support: &TokenStream,
) -> TokenStream {
    let plain = match &r#type.kind {
        TypeKind::Json => quote! { ::serde_json::Value },
        TypeKind::RawJson => quote! { #support::RawJson },
        TypeKind::Text { .. } | TypeKind::Word(_) => quote! { ::std::string::String },
        TypeKind::Uuid => quote! { ::uuid::Uuid },
        TypeKind::Date => quote! { ::chrono::NaiveDate },
        TypeKind::Instant => quote! { ::chrono::DateTime<::chrono::offset::Utc> },
        TypeKind::Boolean => quote! { bool },
        TypeKind::Integer { bits, .. } => {
            let name = format_ident!("i{bits}");
            quote! { #name }
        }
        TypeKind::Number { bits } => {
            let name = format_ident!("f{bits}");
            quote! { #name }
        }
        TypeKind::List { item, .. } => {
            let item = rust_type(model, item, types, support);
            quote! { ::std::vec::Vec<#item> }
        }
        TypeKind::Map(value) => {
            let value = rust_type(model, value, types, support);
            quote! { ::std::collections::HashMap<::std::string::String, #value> }
        }
        TypeKind::Object => {
            quote! { ::serde_json::Map<::std::string::String, ::serde_json::Value> }
        }
        TypeKind::Item(id) => {
            let name = ident(&model.items[*id].name);
            quote! { #types #name }
        }
    };
    if r#type.nullable && !matches!(r#type.kind, TypeKind::Json) {
        quote! { ::std::option::Option<#plain> }
    } else {
        plain
    }
}

struct Printer<'a> {
    model: &'a Model,
    /// Whether a part with the type of each item is in a box, in the item that is being printed.
    boxed: Vec<bool>,
    support: TokenStream,
}

impl Printer<'_> {
    fn rust_type(&self, r#type: &Type) -> TokenStream {
        rust_type(self.model, r#type, &quote! {}, &self.support)
    }

    /// The type of a part of an item, in a box if the item contains itself.
    fn part_type(&self, r#type: &Type) -> TokenStream {
        if !r#type.item().is_some_and(|id| self.boxed[id]) {
            return self.rust_type(r#type);
        }
        let mut plain = r#type.clone();
        let nullable = std::mem::take(&mut plain.nullable);
        let inner = self.rust_type(&plain);
        let boxed = quote! { ::std::boxed::Box<#inner> };
        if nullable {
            quote! { ::std::option::Option<#boxed> }
        } else {
            boxed
        }
    }

    fn item(&self, item: &Item) -> TokenStream {
        match &item.shape {
            Shape::Pending => quote! {},
            Shape::Struct(shape) => self.structure(item, shape),
            Shape::Enum(shape) => enumeration(item, shape),
            Shape::Union(shape) => self.union(item, shape),
        }
    }

    fn structure(&self, item: &Item, shape: &Struct) -> TokenStream {
        let name = ident(&item.name);
        let text = item
            .description
            .clone()
            .unwrap_or_else(|| format!("The type `{}`.", item.name));
        let text = docs(&text);
        let fields = shape
            .fields
            .iter()
            .map(|field| self.field(item, shape, field));
        let rest = shape.rest.as_ref().map(|rest| {
            let value = self.rust_type(rest);
            quote! {
                /// The members that are not described.
                #[serde(flatten)]
                pub additional_properties: ::std::collections::HashMap<::std::string::String, #value>,
            }
        });
        let has_default = shape.patch
            || shape
                .fields
                .iter()
                .all(|field| !field.required && field.default.is_none());
        let default = has_default.then(|| quote! { Default, });
        let closed = (shape.closed && shape.rest.is_none())
            .then(|| quote! { #[serde(deny_unknown_fields)] });
        quote! {
            #text
            #[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, #default PartialEq)]
            #closed
            pub struct #name { #(#fields,)* #rest }
        }
    }

    fn field(&self, item: &Item, shape: &Struct, field: &Field) -> TokenStream {
        let name = ident(&field.rust);
        let mut text = field.description.as_deref().map_or_else(
            || format!("The field `{}`.", field.name),
            |text| text.to_owned(),
        );
        if field.deprecated {
            text.push_str("\n\nDeprecated.");
        }
        let text = docs(&text);
        let mut serde = Vec::new();
        if field.rust != field.name {
            let name = &field.name;
            serde.push(quote! { rename = #name });
        }
        let r#type = self.field_type(item, shape, field, &mut serde);
        if field.write_only {
            serde.push(quote! { skip_serializing });
        }
        let serde = (!serde.is_empty()).then(|| quote! { #[serde(#(#serde),*)] });
        quote! { #text #serde pub #name: #r#type }
    }

    /// Returns the type of a field, and adds what serde must know about it.
    fn field_type(
        &self,
        item: &Item,
        shape: &Struct,
        field: &Field,
        serde: &mut Vec<TokenStream>,
    ) -> TokenStream {
        let mut plain = field.r#type.clone();
        let nullable = std::mem::take(&mut plain.nullable) && !matches!(plain.kind, TypeKind::Json);
        let inner = self.part_type(&plain);
        let option = quote! { ::std::option::Option<#inner> };
        let support = &self.support;
        if shape.patch {
            let absent = path_text(&quote! { #support::Patch::is_absent });
            serde.push(quote! { default, skip_serializing_if = #absent });
            return quote! { #support::Patch<#inner> };
        }
        if field.default.is_some() {
            let function = format!("defaults::{}", default_name(item, field));
            match self.is_rust_default(field) {
                true => serde.push(quote! { default }),
                false => serde.push(quote! { default = #function }),
            }
            return if nullable { option } else { inner };
        }
        if field.required || field.always_sent {
            if nullable {
                serde.push(quote! { deserialize_with = "::std::option::Option::deserialize" });
                return option;
            }
            return inner;
        }
        if field.null_passes {
            let present = path_text(&quote! { #support::RawJson::present });
            serde.push(quote! { default });
            serde.push(quote! { skip_serializing_if = "::std::option::Option::is_none" });
            if matches!(field.r#type.kind, TypeKind::RawJson) {
                serde.push(quote! { deserialize_with = #present });
            }
            return option;
        }
        serde.push(quote! { skip_serializing_if = "::std::option::Option::is_none" });
        option
    }

    /// Whether the default in the document is that of the Rust type.
    fn is_rust_default(&self, field: &Field) -> bool {
        let value = field.default.as_ref();
        !field.r#type.nullable
            && match &field.r#type.kind {
                TypeKind::Text { .. } | TypeKind::Word(_) => value.is_some_and(|value| value == ""),
                TypeKind::Boolean => value.is_some_and(|value| *value == false),
                TypeKind::Integer { .. } => value.and_then(serde_json::Value::as_i64) == Some(0),
                TypeKind::List { .. } => value
                    .and_then(|value| value.as_array())
                    .is_some_and(Vec::is_empty),
                _ => false,
            }
    }

    /// Generates the module with one function per default.
    fn defaults(&self, items: &[(ItemId, &Item)]) -> Option<TokenStream> {
        let mut functions = Vec::new();
        for (_, item) in items {
            let Shape::Struct(shape) = &item.shape else {
                continue;
            };
            for field in &shape.fields {
                let Some(value) = &field.default else {
                    continue;
                };
                let expression =
                    literals::expression(self.model, &field.r#type, value, &quote! { super:: });
                let expression = expression.filter(|_| !self.is_rust_default(field));
                functions.extend(
                    expression.map(|expression| self.default_function(item, field, &expression)),
                );
            }
        }
        let functions = (!functions.is_empty()).then_some(functions)?;
        Some(quote! {
            mod defaults { #(#functions)* }
        })
    }

    fn default_function(
        &self,
        item: &Item,
        field: &Field,
        expression: &TokenStream,
    ) -> TokenStream {
        let name = ident(&default_name(item, field));
        let support = &self.support;
        let support = quote! { super::#support };
        let r#type = rust_type(self.model, &field.r#type, &quote! { super:: }, &support);
        let expression = if field.r#type.nullable {
            quote! { Some(#expression) }
        } else {
            expression.clone()
        };
        quote! { pub(super) fn #name() -> #r#type { #expression } }
    }

    fn union(&self, item: &Item, shape: &Union) -> TokenStream {
        let name = ident(&item.name);
        let text = item
            .description
            .clone()
            .unwrap_or_else(|| format!("The alternatives of `{}`.", item.name));
        let text = docs(&text);
        let variants = shape.alternatives.iter().map(|alternative| {
            let (name, inner) = (
                ident(&alternative.rust),
                self.part_type(&alternative.r#type),
            );
            let text = docs(&format!(
                "A value of the alternative `{}`.",
                alternative.rust
            ));
            quote! { #text #name(#inner) }
        });
        let (deserialize, tagged) = match &shape.tag {
            Some(tag) => (quote! {}, Some(tagged(&name, tag, &shape.alternatives))),
            None => (quote! { ::serde::Deserialize, }, None),
        };
        quote! {
            #text
            #[derive(#deserialize ::serde::Serialize, Clone, Debug, PartialEq)]
            #[serde(untagged)]
            pub enum #name { #(#variants),* }
            #tagged
        }
    }
}

/// Returns a path as the text that an attribute of serde contains.
fn path_text(path: &TokenStream) -> String {
    path.to_string().split_whitespace().collect()
}

fn default_name(item: &Item, part: &Field) -> String {
    field(&format!("{}_{}", snake(&item.name), part.rust))
}

/// Generates the deserialization of a union that a property selects.
fn tagged(name: &Ident, tag: &str, alternatives: &[Alternative]) -> TokenStream {
    let arms = alternatives.iter().map(|alternative| {
        let (variant, tags) = (ident(&alternative.rust), &alternative.tags);
        quote! { Some(#(#tags)|*) => ::serde_json::from_value(value).map(Self::#variant) }
    });
    let message = format!("`{tag}` selects no alternative");
    quote! {
        impl<'de> ::serde::Deserialize<'de> for #name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> ::std::result::Result<Self, D::Error> {
                use ::serde::de::Error;
                let value = <::serde_json::Value as ::serde::Deserialize>::deserialize(deserializer)?;
                let tag = value.get(#tag).and_then(::serde_json::Value::as_str);
                match tag { #(#arms,)* _ => return Err(D::Error::custom(#message)) }.map_err(D::Error::custom)
            }
        }
    }
}
