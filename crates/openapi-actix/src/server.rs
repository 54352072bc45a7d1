//! Generates the traits that the service implements, and the request and response types of each operation.

mod requests;
mod responses;

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};

use crate::config::Runtime;
use crate::contract::{Contract, tag_description};
use crate::naming::{ident, pascal, shouting};
use crate::operations::Operation;
use crate::print::{docs, file};
use crate::responses::Status;
use crate::security::{SchemeKind, Security};
use crate::{routes, rules};

pub use requests::is_raw as requests_is_raw;

pub fn generate(contract: &Contract) -> String {
    let schemes = schemes(contract);
    let table = operations(contract);
    let traits = contract
        .by_tag()
        .into_iter()
        .map(|(tag, members)| tag_trait(contract, tag, &members));
    let parts = contract.operations.iter().map(|operation| {
        let request = requests::generate(contract, operation);
        let response = responses::generate(contract, operation);
        quote! { #request #response }
    });
    let tables = rules::tables(contract);
    let routes = routes::generate(contract);
    let preludes = preludes(contract);
    let lines = ["The operations of the contract: traits, requests, responses and routes."];
    let support = support(contract);
    let types = uses_types(contract).then(|| quote! { use super::types; });
    let tokens = quote! {
        use std::future::Future;

        use actix_web::{HttpRequest, HttpResponse, web};

        #types
        use #support::*;

        #schemes
        #table
        #(#traits)*
        #(#parts)*
        #(#tables)*
        #routes
        #preludes
    };
    file(contract, &lines, tokens)
}

fn uses_types(contract: &Contract) -> bool {
    !contract.model.items.is_empty() || !contract.config.is_bundled()
}

/// The path of the runtime.
pub fn support(contract: &Contract) -> TokenStream {
    match contract.config.runtime {
        Runtime::Bundled => quote! { super::support },
        Runtime::Own => quote! { crate::support },
    }
}

/// The Rust type of a value, outside of the module with the types.
pub fn rust_type(contract: &Contract, r#type: &crate::model::Type) -> TokenStream {
    crate::types::rust_type(&contract.model, r#type, &quote! { types:: }, &quote! {})
}

pub fn trait_name(tag: &str) -> Ident {
    format_ident!("{}Api", pascal(tag))
}

/// The name of a type of one operation.
pub fn type_name(operation: &Operation, suffix: &str) -> Ident {
    format_ident!("{}{suffix}", operation.pascal)
}

fn scheme_name(name: &str) -> Ident {
    format_ident!("{}_SCHEME", shouting(name))
}

/// Generates the security schemes of the document. The hand-written runtime of a project reads its key.
fn schemes(contract: &Contract) -> TokenStream {
    if !contract.config.is_bundled() {
        return quote! {};
    }
    let schemes = contract.schemes.iter().map(|scheme| {
        let (constant, name) = (scheme_name(&scheme.name), &scheme.name);
        let kind = match &scheme.kind {
            SchemeKind::Header(name) => quote! { SchemeKind::Header(#name) },
            SchemeKind::Query(name) => quote! { SchemeKind::Query(#name) },
            SchemeKind::Cookie(name) => quote! { SchemeKind::Cookie(#name) },
            SchemeKind::Bearer => quote! { SchemeKind::Bearer },
            SchemeKind::Basic => quote! { SchemeKind::Basic },
        };
        let text = docs(&format!("The security scheme `{name}`."));
        quote! { #text pub static #constant: Scheme = Scheme { name: #name, kind: #kind }; }
    });
    quote! { #(#schemes)* }
}

fn operations(contract: &Contract) -> TokenStream {
    let rows = contract.operations.iter().map(|operation| {
        let Operation { id, tag, path, .. } = operation;
        let method = operation.method.to_uppercase();
        let security = security(contract, operation.security.as_ref());
        let parameter_scopes = parameter_scopes(contract, operation);
        let statuses = statuses(operation);
        quote! {
            Operation {
                id: #id,
                tag: #tag,
                method: #method,
                path: #path,
                #security
                #parameter_scopes
                #statuses
            }
        }
    });
    quote! {
        /// All operations in the order of the contract.
        pub const OPERATIONS: &[Operation] = &[#(#rows),*];
    }
}

/// The field of an operation with its security.
pub fn security(contract: &Contract, security: Option<&Security>) -> TokenStream {
    if !contract.config.is_bundled() {
        let scopes = security.map(Security::scopes).unwrap_or_default();
        return quote! { scopes: &[#(#scopes),*], };
    }
    let alternatives = match security {
        Some(Security::Alternatives(alternatives)) => alternatives.as_slice(),
        _ => &[],
    };
    let alternatives = alternatives.iter().map(|requirements| {
        let requirements = requirements.iter().map(|requirement| {
            let (scheme, scopes) = (scheme_name(&requirement.scheme), &requirement.scopes);
            quote! { Requirement { scheme: &#scheme, scopes: &[#(#scopes),*] } }
        });
        quote! { &[#(#requirements),*] }
    });
    quote! { security: &[#(#alternatives),*], }
}

/// The field of an operation with the scopes that parameters of the query need. Only the hand-written runtime has it.
fn parameter_scopes(contract: &Contract, operation: &Operation) -> Option<TokenStream> {
    if contract.config.is_bundled() {
        return None;
    }
    let parameters = operation.parameters.iter();
    let parameters = parameters.filter(|parameter| !parameter.scopes.is_empty());
    let rows = parameters.map(|parameter| {
        let (name, scopes) = (&parameter.name, &parameter.scopes);
        quote! { (#name, &[#(#scopes),*]) }
    });
    Some(quote! { parameter_scopes: &[#(#rows),*], })
}

/// The field of an operation with the statuses that the document describes: the first digit of a range, and 0 for all.
fn statuses(operation: &Operation) -> TokenStream {
    let statuses = operation
        .responses
        .iter()
        .map(|response| match response.status {
            Status::Code(number) | Status::Range(number) => Literal::u16_unsuffixed(number),
            Status::Default => Literal::u16_unsuffixed(0),
        });
    quote! { statuses: &[#(#statuses),*], }
}

fn tag_trait(contract: &Contract, tag: &str, members: &[&Operation]) -> TokenStream {
    let name = trait_name(tag);
    let text = tag_description(&contract.document.root, tag);
    let docs = docs(text.unwrap_or(tag));
    let methods = members.iter().map(|operation| method(operation));
    quote! {
        #docs
        pub trait #name: Api {
            #(#methods)*
        }
    }
}

fn method(operation: &Operation) -> TokenStream {
    let name = ident(&operation.rust);
    let docs = docs(&method_text(operation));
    let caller = operation
        .security
        .is_some()
        .then(|| quote! { caller: Self::Caller, });
    let (request, response) = (
        type_name(operation, "Request"),
        type_name(operation, "Response"),
    );
    quote! {
        #docs
        fn #name(&self, #caller request: #request)
            -> impl Future<Output = Result<#response, Self::Error>>;
    }
}

fn method_text(operation: &Operation) -> String {
    let Operation {
        summary,
        description,
        path,
        ..
    } = operation;
    let summary = if summary.is_empty() {
        &operation.id
    } else {
        summary
    };
    let summary = summary.trim_end_matches('.');
    let line = format!("`{} {path}`", operation.method.to_uppercase());
    let errors = operation
        .responses
        .iter()
        .filter(|response| response.has_error_body());
    let errors =
        errors.filter(|response| matches!(response.status, Status::Code(_) | Status::Range(2..=4)));
    let statuses: Vec<_> = errors.map(|response| response.status.text()).collect();
    let errors = if statuses.is_empty() {
        "Fails with server errors only.".to_owned()
    } else {
        format!("Fails with {} or a server error.", statuses.join(", "))
    };
    let deprecated = if operation.deprecated {
        "Deprecated."
    } else {
        ""
    };
    let parts = [
        &format!("{summary}."),
        deprecated,
        description,
        &line,
        "# Errors",
        &errors,
    ];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("\n\n")
}

/// Generates one module per tag with everything that an implementation of its trait needs.
fn preludes(contract: &Contract) -> TokenStream {
    let modules = contract.by_tag().into_iter().map(|(tag, members)| {
        let (module, name) = (ident(&crate::naming::field(tag)), trait_name(tag));
        let types = members.iter().map(|operation| {
            let (request, response) = (
                type_name(operation, "Request"),
                type_name(operation, "Response"),
            );
            let headers = responses::header_structs(operation);
            quote! { #request, #response, #(#headers,)* }
        });
        let text = docs(&format!(
            "The trait of the tag `{tag}`, and the requests and responses of its operations."
        ));
        quote! {
            #text
            pub mod #module {
                pub use super::super::{#name, #(#types)*};
            }
        }
    });
    quote! {
        /// Imports for the implementation of each trait.
        pub mod prelude { #(#modules)* }
    }
}
