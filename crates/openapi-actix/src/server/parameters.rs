//! Generates the structs of parameters, and how each parameter is read.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use super::{rust_type, type_name};
use crate::contract::Contract;
use crate::literals;
use crate::model::{Type, TypeKind};
use crate::naming::ident;
use crate::operations::Operation;
use crate::parameters::{Parameter, Source};
use crate::print::docs;
use crate::rules;

/// Generates the struct of the parameters of one part of the request. `None` if there are none.
pub fn parameters(
    contract: &Contract,
    operation: &Operation,
    source: Source,
) -> Option<TokenStream> {
    let members = operation.parameters_in(source);
    if members.is_empty() {
        return None;
    }
    let name = type_name(operation, &source.suffix());
    let text = docs(&format!(
        "The {1} parameters of `{0}`.",
        operation.id,
        source.name()
    ));
    let fields = members.iter().map(|parameter| {
        let field = ident(&parameter.rust);
        let docs = docs(&parameter_text(parameter));
        let r#type = parameter_type(contract, parameter);
        quote! { #docs pub #field: #r#type }
    });
    let reads = members.iter().map(|parameter| {
        let (field, value) = (ident(&parameter.rust), read_parameter(contract, parameter));
        quote! { #field: #value }
    });
    let reader = match source {
        Source::Path => None,
        Source::Query => Some(quote! { let query = Query::from_request(request); }),
        Source::Header => Some(quote! { let query = Query::from_headers(request); }),
        Source::Cookie => Some(quote! { let query = Query::from_cookies(request); }),
    };
    Some(quote! {
        #text
        #[derive(Debug, Clone, PartialEq)]
        pub struct #name { #(#fields),* }

        impl #name {
            fn read(request: &HttpRequest) -> Result<Self, Rejection> {
                #reader
                Ok(Self { #(#reads),* })
            }
        }
    })
}

fn parameter_text(parameter: &Parameter) -> String {
    let Parameter {
        name,
        description,
        deprecated,
        ..
    } = parameter;
    let text = if description.is_empty() {
        format!("The parameter `{name}`.")
    } else {
        description.clone()
    };
    if *deprecated {
        format!("{text}\n\nDeprecated.")
    } else {
        text
    }
}

/// Whether the parameter always has a value, so its field is not an `Option`.
fn is_always_present(parameter: &Parameter) -> bool {
    let is_switch = matches!(parameter.r#type.kind, TypeKind::Boolean) && parameter.lenient;
    parameter.in_path()
        || parameter.default.is_some()
        || parameter.required
        || is_switch
        || matches!(parameter.r#type.kind, TypeKind::List { .. })
}

fn parameter_type(contract: &Contract, parameter: &Parameter) -> TokenStream {
    let plain = plain_type(contract, &parameter.r#type);
    if is_always_present(parameter) {
        plain
    } else {
        quote! { Option<#plain> }
    }
}

fn plain_type(contract: &Contract, r#type: &Type) -> TokenStream {
    match &r#type.kind {
        TypeKind::Text { .. } | TypeKind::Word(_) => quote! { String },
        TypeKind::Instant => quote! { ::chrono::DateTime<::chrono::Utc> },
        TypeKind::List { item, .. } => {
            let item = plain_type(contract, item);
            quote! { Vec<#item> }
        }
        _ => rust_type(contract, r#type),
    }
}

fn read_parameter(contract: &Contract, parameter: &Parameter) -> TokenStream {
    if parameter.in_path() {
        return read_path(contract, parameter);
    }
    // Names of headers are in lower case in a request.
    let name = &match parameter.source {
        Source::Header => parameter.name.to_ascii_lowercase(),
        _ => parameter.name.clone(),
    };
    let is_text_list = matches!(&parameter.r#type.kind, TypeKind::List { item, max_items: None }
        if is_plain_text(item))
        && parameter.r#type.limits.is_empty();
    if is_text_list
        && parameter.separator.is_none()
        && !parameter.required
        && parameter.default.is_none()
    {
        return quote! { query.texts(#name) };
    }
    if let (TypeKind::Boolean, true) = (&parameter.r#type.kind, parameter.lenient) {
        let words = &parameter.words;
        return quote! { query.switch(#name, &[#(#words),*]) };
    }
    let read = read_value(
        contract,
        &parameter.r#type,
        name,
        parameter.separator,
        &quote! { query },
    );
    let read = if parameter.lenient {
        quote! { #read.unwrap_or_default() }
    } else {
        quote! { #read? }
    };
    let is_list = matches!(parameter.r#type.kind, TypeKind::List { .. });
    let default = parameter.default.as_ref();
    let default = default.and_then(|value| {
        literals::expression(
            &contract.model,
            &parameter.r#type,
            value,
            &quote! { types:: },
        )
    });
    match (default, parameter.r#type.kind.clone()) {
        (Some(default), TypeKind::Integer { .. } | TypeKind::Boolean | TypeKind::Number { .. }) => {
            quote! { #read.unwrap_or(#default) }
        }
        (Some(default), _) => quote! { #read.unwrap_or_else(|| #default) },
        (None, _) if parameter.required => quote! { required(#name, #read)? },
        (None, _) if is_list => quote! { #read.unwrap_or_default() },
        (None, _) => read,
    }
}

fn is_plain_text(r#type: &Type) -> bool {
    matches!(
        r#type.kind,
        TypeKind::Text {
            min_length: 0,
            max_length: None,
            ..
        }
    ) && r#type.limits.is_empty()
}

fn read_path(contract: &Contract, parameter: &Parameter) -> TokenStream {
    let name = &parameter.rust;
    match &parameter.r#type.kind {
        TypeKind::Text { .. } if is_plain_text(&parameter.r#type) => {
            quote! { path_text(request, #name) }
        }
        TypeKind::Integer {
            bits: 64,
            minimum: None,
            maximum: None,
        } if parameter.r#type.limits.is_empty() => {
            quote! { path_integer(request, #name)? }
        }
        _ => {
            let read = read_value(
                contract,
                &parameter.r#type,
                name,
                None,
                &quote! { Query::from_path(request) },
            );
            quote! { required(#name, #read.map_err(|_| Rejection::Path)?)? }
        }
    }
}

/// Generates an expression of the type `Result<Option<T>, Rejection>`.
fn read_value(
    contract: &Contract,
    r#type: &Type,
    name: &str,
    separator: Option<char>,
    query: &TokenStream,
) -> TokenStream {
    let is_limited = match &r#type.kind {
        TypeKind::Text { .. } => !is_plain_text(r#type),
        TypeKind::Word(_) => true,
        TypeKind::List { max_items, .. } => max_items.is_some() || !r#type.limits.is_empty(),
        _ => !r#type.limits.is_empty(),
    };
    let read = match &r#type.kind {
        TypeKind::Integer {
            bits,
            minimum,
            maximum,
        } => {
            let [minimum, maximum] =
                [minimum, maximum].map(|bound| rules::option(bound.map(Literal::i64_unsuffixed)));
            let read = quote! { #query.integer(#name, #minimum, #maximum) };
            match bits {
                // The bounds are those of the type.
                32 => quote! { #read.map(|value| value.map(|value| value as i32)) },
                _ => read,
            }
        }
        TypeKind::Boolean => quote! { #query.boolean(#name) },
        TypeKind::Instant => quote! { #query.instant(#name) },
        TypeKind::Item(_) => quote! { #query.choice(#name) },
        TypeKind::Uuid => quote! { #query.uuid(#name) },
        TypeKind::Date => quote! { #query.date(#name) },
        TypeKind::Number { bits } => {
            let method = format_ident!("f{bits}");
            quote! { #query.#method(#name) }
        }
        TypeKind::List { item, .. } => {
            let separator = match separator {
                Some(separator) => quote! { Some(#separator) },
                None => quote! { None },
            };
            let read = read_value(contract, item, name, None, &quote! { item });
            quote! { #query.list(#name, #separator, |item| #read) }
        }
        _ => quote! { #query.text(#name) },
    };
    if !is_limited {
        return read;
    }
    let kind = rules::kind(contract, r#type);
    quote! { #read.and_then(|value| within(#name, value, &#kind)) }
}
