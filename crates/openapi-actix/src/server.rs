//! Generates the traits that the service implements, and the request and response types of each operation.

use anyhow::Result;
use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};

use super::contract::Contract;
use super::operations::{Media, Operation};
use super::parameters::{Parameter, ParameterKind};
use super::print::{case, docs, file};
use super::responses::{JSON, Response};
use super::{routes, rules, types};

pub fn generate(contract: &Contract) -> Result<String> {
    let table = operations(contract);
    let traits = contract
        .by_tag()
        .into_iter()
        .map(|(tag, members)| tag_trait(contract, tag, &members));
    let parts = contract.operations.iter().map(operation);
    let tables = rules::tables(contract);
    let routes = routes::generate(contract);
    let lines = ["The operations of the contract: traits, requests, responses and routes."];
    let tokens = quote! {
        use std::future::Future;

        use actix_web::{HttpRequest, HttpResponse, web};

        use super::types;
        use crate::support::*;

        #table
        #(#traits)*
        #(#parts)*
        #(#tables)*
        #routes
    };
    file(&lines, tokens)
}

pub fn trait_name(tag: &str) -> Ident {
    format_ident!("{}Api", case::pascal(tag))
}

/// The name of a type of one operation.
pub fn type_name(operation: &Operation, suffix: &str) -> Ident {
    format_ident!("{}{suffix}", case::pascal(&operation.id))
}

/// Returns `name` as a valid Rust identifier, with a `_` after a keyword.
pub fn ident(name: &str) -> Ident {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    syn::parse_str(&plain).unwrap_or_else(|_| format_ident!("{plain}_"))
}

fn operations(contract: &Contract) -> TokenStream {
    let rows = contract.operations.iter().map(|operation| {
        let Operation { id, tag, path, .. } = operation;
        let method = operation.method.to_uppercase();
        let scopes = operation.scopes.iter().flatten();
        quote! {
            Operation {
                id: #id,
                tag: #tag,
                method: #method,
                path: #path,
                scopes: &[#(#scopes),*],
            }
        }
    });
    quote! {
        /// All operations in the order of the contract.
        pub const OPERATIONS: &[Operation] = &[#(#rows),*];
    }
}

fn tag_trait(contract: &Contract, tag: &str, members: &[&Operation]) -> TokenStream {
    let name = trait_name(tag);
    let entries = contract.document["tags"].as_array().into_iter().flatten();
    let text = entries
        .filter(|entry| entry["name"] == tag)
        .find_map(|entry| entry["description"].as_str());
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
    let name = ident(&operation.id);
    let Operation {
        summary,
        description,
        path,
        ..
    } = operation;
    let line = format!("`{} {path}`", operation.method.to_uppercase());
    let errors = operation
        .responses
        .iter()
        .filter(|response| response.has_envelope());
    let statuses: Vec<_> = errors.map(|response| response.status.to_string()).collect();
    let errors = if statuses.is_empty() {
        "Fails with server errors only.".to_owned()
    } else {
        format!("Fails with {} or a server error.", statuses.join(", "))
    };
    let docs = docs(&format!(
        "{summary}.\n\n{description}\n\n{line}\n\n# Errors\n\n{errors}"
    ));
    let caller = operation
        .scopes
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

fn operation(operation: &Operation) -> TokenStream {
    let path = parameters(operation, "Path", true);
    let query = parameters(operation, "Query", false);
    let request = request(operation);
    let response = response(operation);
    quote! { #path #query #request #response }
}

fn parameters_in(operation: &Operation, in_path: bool) -> Vec<&Parameter> {
    let parameters = operation.parameters.iter();
    parameters
        .filter(|parameter| parameter.in_path == in_path)
        .collect()
}

/// Generates the struct of the path or query parameters. `None` if there are none.
fn parameters(operation: &Operation, suffix: &str, in_path: bool) -> Option<TokenStream> {
    let members = parameters_in(operation, in_path);
    if members.is_empty() {
        return None;
    }
    let name = type_name(operation, suffix);
    let text = format!(
        "The {1} parameters of `{0}`.",
        operation.id,
        suffix.to_lowercase()
    );
    let (name_docs, fields) = (
        docs(&text),
        members.iter().map(|parameter| {
            let (field, docs) = (ident(&parameter.name), docs(&parameter.description));
            let r#type = parameter_type(operation, parameter);
            quote! { #docs pub #field: #r#type }
        }),
    );
    let reads = members.iter().map(|parameter| {
        let (field, value) = (ident(&parameter.name), read_parameter(parameter));
        quote! { #field: #value }
    });
    let source = (!in_path).then(|| quote! { let query = Query::from_request(request); });
    Some(quote! {
        #name_docs
        #[derive(Debug, Clone, PartialEq)]
        pub struct #name { #(#fields),* }

        impl #name {
            fn read(request: &HttpRequest) -> Result<Self, Rejection> {
                #source
                Ok(Self { #(#reads),* })
            }
        }
    })
}

/// Whether the parameter always has a value, so its field is not an `Option`.
fn is_always_present(parameter: &Parameter) -> bool {
    let is_switch = matches!(parameter.kind, ParameterKind::Boolean(_)) && parameter.lenient;
    parameter.in_path
        || parameter.default.is_some()
        || parameter.required
        || is_switch
        || matches!(parameter.kind, ParameterKind::TextList)
}

fn parameter_type(operation: &Operation, parameter: &Parameter) -> TokenStream {
    let plain = match &parameter.kind {
        ParameterKind::Text => quote! { String },
        ParameterKind::TextList => quote! { Vec<String> },
        ParameterKind::Integer { .. } => quote! { i64 },
        ParameterKind::Boolean(_) => quote! { bool },
        ParameterKind::Instant => quote! { ::chrono::DateTime<::chrono::Utc> },
        ParameterKind::Choice(_) => {
            let name = ident(&types::choice_name(&operation.id, &parameter.name));
            quote! { types::#name }
        }
    };
    if is_always_present(parameter) {
        plain
    } else {
        quote! { Option<#plain> }
    }
}

fn read_parameter(parameter: &Parameter) -> TokenStream {
    let name = &parameter.name;
    if parameter.in_path {
        return match parameter.kind {
            ParameterKind::Integer { .. } => quote! { path_integer(request, #name)? },
            _ => quote! { path_text(request, #name) },
        };
    }
    let read = match &parameter.kind {
        ParameterKind::Boolean(words) if parameter.lenient => {
            return quote! { query.switch(#name, &[#(#words),*]) };
        }
        ParameterKind::TextList => return quote! { query.texts(#name) },
        ParameterKind::Text => quote! { query.text(#name) },
        ParameterKind::Integer { minimum, maximum } => {
            let [minimum, maximum] =
                [minimum, maximum].map(|bound| rules::option(bound.map(Literal::i64_unsuffixed)));
            quote! { query.integer(#name, #minimum, #maximum) }
        }
        ParameterKind::Boolean(_) => quote! { query.boolean(#name) },
        ParameterKind::Instant => quote! { query.instant(#name) },
        ParameterKind::Choice(_) => quote! { query.choice(#name) },
    };
    let read = if parameter.lenient {
        quote! { #read.unwrap_or_default() }
    } else {
        quote! { #read? }
    };
    match &parameter.default {
        Some(default) => {
            let default = Literal::i64_unsuffixed(default.as_i64().unwrap_or_default());
            quote! { #read.unwrap_or(#default) }
        }
        None if parameter.required => quote! { required(#name, #read)? },
        None => read,
    }
}

fn request(operation: &Operation) -> TokenStream {
    let name = type_name(operation, "Request");
    let mut fields = Vec::new();
    let mut reads = Vec::new();
    for (field, suffix, in_path) in [("path", "Path", true), ("query", "Query", false)] {
        if !parameters_in(operation, in_path).is_empty() {
            let (field, r#type) = (ident(field), type_name(operation, suffix));
            let text = docs(&format!("The parameters of the {field}."));
            fields.push(quote! { #text pub #field: #r#type });
            reads.push(quote! { #field: #r#type::read(&request)? });
        }
    }
    let raw = operation.body.as_ref().is_some_and(|body| body.raw);
    if let Some(body) = operation.body.as_ref().filter(|_| !raw) {
        let r#type = ident(&body.schema);
        let table = rules::table_name(&body.schema);
        let media = body.media.iter().map(|media| match media {
            Media::Json => quote! { Media::Json },
            Media::Form => quote! { Media::Form },
            Media::Multipart => quote! { Media::Multipart },
        });
        fields.push(quote! { #[doc = " The fields of the body."] pub body: types::#r#type });
        reads.push(quote! { body: body.fields(&request, &[#(#media),*], #table).await? });
        if !body.uploads.is_empty() {
            let text = docs("The files of a multipart body.");
            fields.push(quote! { #text pub uploads: Vec<UploadedFile> });
            reads.push(quote! { uploads: body.uploads() });
        }
    }
    if raw {
        fields.push(quote! { #[doc = " The unparsed body."] pub raw: RawBody });
        reads.push(quote! { raw });
    }
    let text = docs(&format!("The request of `{}`.", operation.id));
    let body = match (raw, routes::reads_body(operation)) {
        (true, _) => quote! { raw: RawBody },
        (false, true) => quote! { body: Body },
        (false, false) => quote! {},
    };
    // A large body is parsed on another thread.
    let wait = routes::reads_body(operation).then(|| quote! { async });
    quote! {
        #text
        #[derive(Debug, Clone)]
        pub struct #name {
            #(#fields,)*
            /// The head of the request.
            pub http: RequestHead
        }

        impl #name {
            #wait fn read(request: HttpRequest, #body) -> Result<Self, Rejection> {
                Ok(Self { #(#reads,)* http: RequestHead::new(request) })
            }
        }
    }
}

fn response(operation: &Operation) -> TokenStream {
    let name = type_name(operation, "Response");
    let mut variants = Vec::new();
    let mut arms = Vec::new();
    for response in operation
        .responses
        .iter()
        .filter(|response| !response.has_envelope() || response.may_be_empty)
    {
        variant(response, &mut variants, &mut arms);
    }
    let text = docs(&format!(
        "The responses of `{}`, except errors with a body.",
        operation.id
    ));
    quote! {
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

fn variant(response: &Response, variants: &mut Vec<TokenStream>, arms: &mut Vec<TokenStream>) {
    let docs = docs(&response.description);
    let status = Literal::u16_unsuffixed(response.status);
    if response.content.is_empty() || response.may_be_empty {
        let name = format_ident!("Status{}", response.status);
        variants.push(quote! { #docs #name });
        arms.push(quote! { Self::#name => empty_response(#status) });
    }
    let bodies = response.content.iter().filter(|_| !response.has_envelope());
    for content in bodies {
        let suffix = match content.media_type.as_str() {
            JSON => "",
            "text/csv" => "Csv",
            _ => "Ndjson",
        };
        let name = format_ident!("Status{}{suffix}", response.status);
        match &content.schema {
            Some(schema) if !content.is_streamed => {
                let schema = ident(schema);
                variants.push(quote! { #docs #name(types::#schema) });
                arms.push(quote! { Self::#name(body) => json_response(#status, &body) });
            }
            _ => {
                variants.push(quote! { #docs #name(HttpResponse) });
                arms.push(quote! { Self::#name(response) => response });
            }
        }
    }
}
