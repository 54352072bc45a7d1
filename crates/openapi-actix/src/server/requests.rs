//! Generates the request type of an operation, and how it is read.

use proc_macro2::TokenStream;
use quote::quote;

use super::parameters::parameters;
use super::{rust_type, type_name};
use crate::bodies::{Body, Media, TypedBody};
use crate::contract::Contract;
use crate::model::{Type, TypeKind};
use crate::naming::ident;
use crate::operations::Operation;
use crate::parameters::Source;
use crate::print::docs;
use crate::rules;

pub fn generate(contract: &Contract, operation: &Operation) -> TokenStream {
    let parameters = Source::ALL.map(|source| parameters(contract, operation, source));
    let body = body_enum(contract, operation);
    let request = request(contract, operation);
    quote! { #(#parameters)* #body #request }
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
