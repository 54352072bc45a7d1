//! Generates the request type of an operation, and how it is read.

use proc_macro2::TokenStream;
use quote::quote;

use super::parameters::parameters;
use super::{body_reads, rust_type, type_name};
use crate::bodies::Body;
use crate::contract::Contract;
use crate::naming::ident;
use crate::operations::Operation;
use crate::parameters::Source;
use crate::print::docs;

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
        .map(|body| body_reads::body_fields(contract, operation, body, &mut fields, &mut reads));
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
