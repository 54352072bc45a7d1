//! Generates the response type of an operation, and how it is sent.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};

use super::{rust_type, type_name};
use crate::contract::Contract;
use crate::model::TypeKind;
use crate::naming::ident;
use crate::operations::Operation;
use crate::print::docs;
use crate::responses::{JSON, Response, ResponseContent, ResponseHeader, Status};

pub fn generate(contract: &Contract, operation: &Operation) -> TokenStream {
    let name = type_name(operation, "Response");
    let mut variants = Vec::new();
    let mut arms = Vec::new();
    let mut headers = Vec::new();
    for response in sent(contract, operation) {
        headers.extend(header_struct(contract, operation, response));
        let mut printer = Variants {
            contract,
            operation,
            response,
            variants: &mut variants,
            arms: &mut arms,
        };
        printer.add();
    }
    let text = match contract.config.rules.envelope {
        Some(_) => format!(
            "The responses of `{}`, except errors with a body.",
            operation.id
        ),
        None => format!("The responses of `{}`.", operation.id),
    };
    let text = docs(&text);
    quote! {
        #(#headers)*
        #text
        #[derive(Debug)]
        pub enum #name { #(#variants),* }

        impl #name {
            fn into_http(self) -> HttpResponse {
                match self { #(#arms),* }
            }
        }
    }
}

/// The responses that a handler sends. With one envelope for all errors, errors with a body are not among them.
fn sent<'a>(contract: &Contract, operation: &'a Operation) -> impl Iterator<Item = &'a Response> {
    let has_envelope = contract.config.rules.envelope.is_some();
    let responses = operation.responses.iter();
    responses.filter(move |response| {
        !has_envelope || !response.has_error_body() || response.may_be_empty
    })
}

/// The names of the structs with headers.
pub fn header_structs(operation: &Operation) -> Vec<Ident> {
    let responses = operation.responses.iter();
    let with_headers =
        responses.filter(|response| !response.headers.is_empty() && !response.has_error_body());
    with_headers
        .map(|response| header_name(operation, response))
        .collect()
}

fn header_name(operation: &Operation, response: &Response) -> Ident {
    type_name(operation, &format!("{}Headers", response.status.variant()))
}

fn header_struct(
    contract: &Contract,
    operation: &Operation,
    response: &Response,
) -> Option<TokenStream> {
    if response.headers.is_empty() {
        return None;
    }
    let name = header_name(operation, response);
    let text = docs(&format!(
        "The headers of the response `{}` of `{}`.",
        response.status.text(),
        operation.id
    ));
    let is_optional = response.headers.iter().all(|header| !header.required);
    let default = is_optional.then(|| quote! { Default, });
    let fields = response.headers.iter().map(|header| {
        let (field, r#type) = (ident(&header.rust), rust_type(contract, &header.r#type));
        let text = docs(&header_text(header));
        match header.required {
            true => quote! { #text pub #field: #r#type },
            false => quote! { #text pub #field: Option<#r#type> },
        }
    });
    let writes = response.headers.iter().map(|header| {
        let (name, field) = (header.name.to_ascii_lowercase(), ident(&header.rust));
        let text = match header.r#type.kind {
            TypeKind::Instant => quote! { value.to_rfc3339() },
            _ => quote! { value.to_string() },
        };
        match header.required {
            true => quote! { { let value = self.#field; set_header(response, #name, #text); } },
            false => {
                quote! { if let Some(value) = self.#field { set_header(response, #name, #text); } }
            }
        }
    });
    Some(quote! {
        #text
        #[derive(Debug, Clone, #default PartialEq)]
        pub struct #name { #(#fields),* }

        impl #name {
            fn write(self, response: &mut HttpResponse) { #(#writes)* }
        }
    })
}

fn header_text(header: &ResponseHeader) -> String {
    let text = match header.description.as_str() {
        "" => format!("The header `{}`.", header.name),
        description => description.to_owned(),
    };
    if header.deprecated {
        format!("{text}\n\nDeprecated.")
    } else {
        text
    }
}

/// Adds the variants of one response.
struct Variants<'a> {
    contract: &'a Contract<'a>,
    operation: &'a Operation,
    response: &'a Response,
    variants: &'a mut Vec<TokenStream>,
    arms: &'a mut Vec<TokenStream>,
}

impl Variants<'_> {
    fn add(&mut self) {
        let response = self.response;
        let has_envelope = self.contract.config.rules.envelope.is_some();
        if response.content.is_empty() || response.may_be_empty {
            let name = if response.content.is_empty() || has_envelope {
                format_ident!("{}", response.status.variant())
            } else {
                format_ident!("{}Empty", response.status.variant())
            };
            self.variant(
                &name,
                None,
                quote! {},
                |status| quote! { empty_response(#status) },
            );
        }
        if has_envelope && response.has_error_body() {
            return;
        }
        for content in &response.content {
            self.content(content);
        }
    }

    fn content(&mut self, content: &ResponseContent) {
        let name = format_ident!("{}{}", self.response.status.variant(), content.suffix);
        let media_type = &content.media_type;
        match &content.r#type {
            Some(r#type) if !content.is_streamed => {
                let r#type = rust_type(self.contract, r#type);
                let body = if media_type == JSON {
                    |status: TokenStream, _: &str| quote! { json_response(#status, &body) }
                } else {
                    |status: TokenStream, media_type: &str| quote! { json_response_of(#status, #media_type, &body) }
                };
                self.variant(&name, Some(r#type), quote! { body }, |status| {
                    body(status, media_type)
                });
            }
            _ => {
                let r#type = quote! { ResponseBody };
                self.variant(
                    &name,
                    Some(r#type),
                    quote! { body },
                    |status| quote! { body.respond(#status, #media_type) },
                );
            }
        }
    }

    /// Adds a variant. `respond` generates the response from the expression for the status.
    fn variant(
        &mut self,
        name: &Ident,
        body: Option<TokenStream>,
        value: TokenStream,
        respond: impl FnOnce(TokenStream) -> TokenStream,
    ) {
        let docs = docs(&self.response.description);
        let mut types = Vec::new();
        let mut values = Vec::new();
        let status = match self.response.status {
            Status::Code(code) => {
                let code = Literal::u16_unsuffixed(code);
                quote! { #code }
            }
            Status::Range(_) | Status::Default => {
                types.push(quote! { ::actix_web::http::StatusCode });
                values.push(quote! { status });
                quote! { status.as_u16() }
            }
        };
        if let Some(body) = body {
            types.push(body);
            values.push(value);
        }
        let respond = respond(status);
        let respond = if self.response.headers.is_empty() {
            respond
        } else {
            let name = header_name(self.operation, self.response);
            types.push(quote! { #name });
            values.push(quote! { headers });
            quote! { { let mut response = #respond; headers.write(&mut response); response } }
        };
        if types.is_empty() {
            self.variants.push(quote! { #docs #name });
            self.arms.push(quote! { Self::#name => #respond });
        } else {
            self.variants.push(quote! { #docs #name(#(#types),*) });
            self.arms
                .push(quote! { Self::#name(#(#values),*) => #respond });
        }
    }
}
