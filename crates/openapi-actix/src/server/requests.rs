//! Generates the request type of an operation, and how it is read.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use super::{rust_type, type_name};
use crate::bodies::{Body, Media, TypedBody};
use crate::contract::Contract;
use crate::literals;
use crate::model::{Type, TypeKind};
use crate::naming::ident;
use crate::operations::Operation;
use crate::parameters::{Parameter, Source};
use crate::print::docs;
use crate::rules;

pub fn generate(contract: &Contract, operation: &Operation) -> TokenStream {
    let parameters = Source::ALL.map(|source| parameters(contract, operation, source));
    let body = body_enum(contract, operation);
    let request = request(contract, operation);
    quote! { #(#parameters)* #body #request }
}

/// Generates the struct of the parameters of one part of the request. `None` if there are none.
fn parameters(contract: &Contract, operation: &Operation, source: Source) -> Option<TokenStream> {
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

/// The name of the enum of a body that the server parses or not, depending on its media type.
fn body_enum(contract: &Contract, operation: &Operation) -> Option<TokenStream> {
    let body = operation.body.as_ref()?;
    let typed = body.typed.as_ref().filter(|_| !body.opaque.is_empty())?;
    let name = type_name(operation, "Body");
    let r#type = rust_type(contract, &typed.r#type);
    let text = docs(&format!("The body of `{}`.", operation.id));
    let opaque = docs(&format!(
        "A body of the type {}, which the server does not parse.",
        body.opaque.join(", ")
    ));
    Some(quote! {
        #text
        #[derive(Debug, Clone)]
        pub enum #name {
            /// A body that the server has parsed.
            Parsed(#r#type),
            #opaque
            Raw(RawBody),
        }
    })
}

fn request(contract: &Contract, operation: &Operation) -> TokenStream {
    let name = type_name(operation, "Request");
    let mut fields = Vec::new();
    let mut reads = Vec::new();
    for source in Source::ALL {
        if !operation.parameters_in(source).is_empty() {
            let (field, r#type) = (
                ident(source.field()),
                type_name(operation, &source.suffix()),
            );
            let text = match source {
                Source::Path | Source::Query => format!("The parameters of the {}.", source.name()),
                _ => format!("The {} parameters.", source.name()),
            };
            let text = docs(&text);
            fields.push(quote! { #text pub #field: #r#type });
            reads.push(quote! { #field: #r#type::read(&request)? });
        }
    }
    let receiver = operation
        .body
        .as_ref()
        .map(|body| body_fields(contract, operation, body, &mut fields, &mut reads));
    let text = docs(&format!("The request of `{}`.", operation.id));
    // A large body is parsed on another thread.
    let reads_body = operation.body.as_ref().is_some_and(|body| !is_raw(body));
    let wait = reads_body.then(|| quote! { async });
    quote! {
        #text
        #[derive(Debug, Clone)]
        pub struct #name {
            #(#fields,)*
            /// The head of the request.
            pub http: RequestHead
        }

        impl #name {
            #wait fn read(request: HttpRequest, #receiver) -> Result<Self, Rejection> {
                Ok(Self { #(#reads,)* http: RequestHead::new(request) })
            }
        }
    }
}

/// Whether the handler receives the bytes of the body, whatever its media type.
pub fn is_raw(body: &Body) -> bool {
    body.raw || body.typed.is_none()
}

/// Adds the fields of the body, and returns the parameter through which they are read.
fn body_fields(
    contract: &Contract,
    operation: &Operation,
    body: &Body,
    fields: &mut Vec<TokenStream>,
    reads: &mut Vec<TokenStream>,
) -> TokenStream {
    let Some(typed) = body.typed.as_ref().filter(|_| !is_raw(body)) else {
        fields.push(quote! { #[doc = " The unparsed body."] pub raw: RawBody });
        let accepted = &body.opaque;
        let checks_media = contract.config.is_bundled() && !body.raw;
        reads.push(match checks_media {
            true => quote! { raw: raw.accept(&[#(#accepted),*])? },
            false => quote! { raw },
        });
        return quote! { raw: RawBody };
    };
    if !contract.config.is_bundled() {
        own_body(typed, contract, fields, reads);
    } else {
        bundled_body(contract, operation, body, typed, fields, reads);
    }
    if !typed.uploads.is_empty() {
        let text = docs("The files of a multipart body.");
        fields.push(quote! { #text pub uploads: Vec<UploadedFile> });
        reads.push(quote! { uploads: body.uploads() });
    }
    quote! { body: Body }
}

fn media(typed: &TypedBody) -> TokenStream {
    let media = typed.media.iter().map(|media| match media {
        Media::Json => quote! { Media::Json },
        Media::Form => quote! { Media::Form },
        Media::Multipart => quote! { Media::Multipart },
    });
    quote! { &[#(#media),*] }
}

fn own_body(
    typed: &TypedBody,
    contract: &Contract,
    fields: &mut Vec<TokenStream>,
    reads: &mut Vec<TokenStream>,
) {
    let Some(id) = typed.r#type.item() else {
        return;
    };
    let (r#type, media) = (rust_type(contract, &typed.r#type), media(typed));
    let table = rules::table_name(&contract.model.items[id].name);
    let unknown = rules::unknown_fields(contract, id);
    let form_table = match typed.form.as_ref().and_then(Type::item) {
        Some(id) => {
            let table = rules::table_name(&contract.model.items[id].name);
            quote! { #table }
        }
        None => quote! { &[] },
    };
    let rules = quote! { BodyRules { fields: #table, form: #form_table, unknown: #unknown } };
    fields.push(quote! { #[doc = " The fields of the body."] pub body: #r#type });
    reads.push(quote! { body: body.fields(&request, #media, #rules).await? });
    if let Some(form) = &typed.form {
        let r#type = rust_type(contract, form);
        fields.push(quote! { #[doc = #FORM_TEXT] pub form: Option<#r#type> });
        reads.push(quote! { form: body.form(#media, #form_table)? });
    }
}

const FORM_TEXT: &str = " The fields that only forms have; `None` for a JSON body.";

fn bundled_body(
    contract: &Contract,
    operation: &Operation,
    body: &Body,
    typed: &TypedBody,
    fields: &mut Vec<TokenStream>,
    reads: &mut Vec<TokenStream>,
) {
    let (media, kind) = (media(typed), rules::kind(contract, &typed.r#type));
    let nullable = typed.r#type.nullable || matches!(typed.r#type.kind, TypeKind::Json);
    let text = docs(if body.description.is_empty() {
        "The body."
    } else {
        &body.description
    });
    let mut r#type = rust_type(contract, &typed.r#type);
    let form_names = match &typed.form {
        Some(form) => contract.model.struct_of(form),
        None => None,
    };
    let form_names = form_names.into_iter().flat_map(|shape| &shape.fields);
    let form_names = form_names.map(|field| &field.name);
    let mut read = quote! {{
        static KIND: Kind = #kind;
        body.read(#media, &KIND, #nullable, &[#(#form_names),*])?
    }};
    if !body.opaque.is_empty() {
        let (name, accepted) = (type_name(operation, "Body"), &body.opaque);
        r#type = quote! { #name };
        read = quote! {
            match body.opaque(&[#(#accepted),*]) {
                Some(raw) => #name::Raw(raw),
                None => #name::Parsed(#read),
            }
        };
    }
    if !body.required {
        r#type = quote! { Option<#r#type> };
        read = quote! { if body.is_absent() { None } else { Some(#read) } };
    }
    fields.push(quote! { #text pub body: #r#type });
    reads.push(quote! { body: #read });
    if let Some(form) = &typed.form {
        let (r#type, kind) = (rust_type(contract, form), rules::kind(contract, form));
        fields.push(quote! { #[doc = #FORM_TEXT] pub form: Option<#r#type> });
        reads.push(quote! {
            form: {
                static KIND: Kind = #kind;
                body.form(#media, &KIND)?
            }
        });
    }
}
