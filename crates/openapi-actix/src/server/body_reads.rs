//! Generates how the body of a request is read: its fields, those that only forms have, and its files.

use proc_macro2::TokenStream;
use quote::quote;

use super::requests::is_raw;
use super::{rust_type, type_name};
use crate::bodies::{Body, Media, TypedBody};
use crate::contract::Contract;
use crate::model::{Type, TypeKind};
use crate::operations::Operation;
use crate::print::docs;
use crate::rules;

/// Adds the fields of the body, and returns the parameter through which they are read.
pub fn body_fields(
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
        let (required, optional) = (&typed.required_uploads, !body.required);
        reads.push(match contract.config.is_bundled() || !required.is_empty() {
            true => quote! { uploads: body.uploads(&[#(#required),*], #optional)? },
            false => quote! { uploads: body.uploads() },
        });
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
