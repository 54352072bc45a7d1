//! Generates the client: the output of progenitor, and the calls that progenitor cannot express.
//!
//! progenitor reads a projection of the document (see [`projection`]). The additions are streams over pages,
//! downloads that are not JSON, and uploads.

use proc_macro2::{Ident, TokenStream};
use progenitor::{GenerationSettings, Generator, InterfaceStyle};
use quote::{ToTokens, quote};
use syn::{File, Item, ItemMod, parse_quote};

use crate::contract::Contract;
use crate::model::TypeKind;
use crate::naming::{ident, pascal};
use crate::operations::Operation;
use crate::print::{client_file, docs};
use crate::reader::{object, reference};
use crate::responses::{JSON, ResponseContent};
use projection::Projection;

mod builders;
mod documentation;
mod open;
mod projection;

pub fn generate(contract: &Contract) -> Result<String, String> {
    let mut code: File = syn::parse2(progenitor(contract)?)
        .map_err(|error| format!("progenitor generated invalid Rust: {error}"))?;
    // The documentation of the crate is written by hand.
    code.attrs.clear();
    let streams = contract
        .operations
        .iter()
        .filter_map(|operation| stream(contract, operation));
    if let Some(calls) = module(&mut code.items, "builder") {
        calls.extend(streams.map(|stream| -> Item {
            parse_quote! { #stream }
        }));
    }
    open::replace_marked(&mut code);
    builders::keep_for_requests(&mut code, contract);
    documentation::complete(&mut code, contract);
    let downloads: Vec<_> = contract
        .operations
        .iter()
        .flat_map(|operation| downloads(contract, operation))
        .collect();
    let downloads = (!downloads.is_empty()).then(|| {
        quote! {
            /// Calls with a response that is not JSON.
            impl Client { #(#downloads)* }
        }
    });
    let uploads: Vec<_> = contract
        .operations
        .iter()
        .filter_map(|operation| upload(contract, operation))
        .collect();
    let uploads = (!uploads.is_empty()).then(|| {
        quote! {
            /// Calls with a multipart body.
            impl Client { #(#uploads)* }
        }
    });
    let code = code.into_token_stream();
    let lines = ["The operations of the contract, as calls."];
    let tokens = quote! {
        #code
        #downloads
        #uploads
    };
    Ok(client_file(contract, &lines, tokens))
}

fn progenitor(contract: &Contract) -> Result<TokenStream, String> {
    let Projection { document, nullable } = projection::project(contract);
    let failed = |error: &dyn std::fmt::Display| format!("the client cannot be generated: {error}");
    let document = serde_json::from_value(document).map_err(|error| failed(&error))?;
    let mut settings = GenerationSettings::default();
    settings.with_interface(InterfaceStyle::Builder);
    settings.with_derive("PartialEq");
    for (name, rust) in nullable {
        settings.with_replacement(name, format!("crate::Nullable<{rust}>"), std::iter::empty());
    }
    for (name, rust) in &contract.config.client_types {
        if schema(contract, name).is_null() {
            let missing =
                format!("the document has no schema `{name}`, which has a type of its own");
            return Err(failed(&missing));
        }
        settings.with_replacement(pascal(name), rust, std::iter::empty());
    }
    let mut generator = Generator::new(&settings);
    let code = generator.generate_tokens(&document);
    code.map_err(|error| failed(&error))
}

/// The type of every error.
fn envelope(contract: &Contract) -> Ident {
    ident(contract.config.rules.envelope.as_deref().unwrap_or("Error"))
}

fn schema<'a>(contract: &'a Contract, name: &str) -> &'a serde_json::Value {
    &contract.document.root["components"]["schemas"][name]
}

/// The items of the module `name` among `items`.
fn module<'a>(items: &'a mut [Item], name: &str) -> Option<&'a mut Vec<Item>> {
    items.iter_mut().find_map(|item| match item {
        Item::Mod(ItemMod {
            ident,
            content: Some((_, items)),
            ..
        }) if ident == name => Some(items),
        _ => None,
    })
}

/// The items of the module with the types.
fn types_module(code: &mut File) -> Option<&mut Vec<Item>> {
    module(&mut code.items, "types")
}

/// Generates a stream over the rows of all pages, for a list with `limit` and `offset`. The stream follows the cursors of
/// a list that has them.
fn stream(contract: &Contract, operation: &Operation) -> Option<TokenStream> {
    let has = |name: &str, is_kind: fn(&TypeKind) -> bool| {
        operation.parameters.iter().any(|parameter| {
            !parameter.in_path() && parameter.name == name && is_kind(&parameter.r#type.kind)
        })
    };
    let is_integer = |kind: &TypeKind| matches!(kind, TypeKind::Integer { .. });
    let response = operation
        .responses
        .iter()
        .find(|response| !response.is_error())?;
    let page = schema(contract, response.json_schema()?);
    let properties = object(&page["properties"]);
    let row = reference(&properties.get("results")?["items"])?;
    let is_list = has("limit", is_integer) && has("offset", is_integer);
    if !is_list || !properties.contains_key("next") {
        return None;
    }
    let envelope = envelope(contract);
    let (builder, row) = (ident(&pascal(&operation.id)), ident(row));
    let (start, rows) = if has("cursor", |kind| matches!(kind, TypeKind::Text { .. })) {
        (CURSOR_START, rows_by_link())
    } else {
        (OFFSET_START, rows_by_offset())
    };
    let text = format!(
        "Returns a stream over the rows of all pages. {start}\n\n\
         `limit` is the size of a page. The stream ends after the first error.\n\n\
         {}.",
        operation.summary
    );
    let docs = docs(&text);
    Some(quote! {
        impl<'a> #builder<'a> {
            #docs
            pub fn stream(
                self,
            ) -> impl futures::Stream<Item = Result<types::#row, Error<types::#envelope>>> + 'a {
                #rows
            }
        }
    })
}

const OFFSET_START: &str = "It starts at `offset`.";
const CURSOR_START: &str = "It follows the cursors of the pages, so it neither skips nor repeats rows while others are \
    added or deleted. With `offset` and without `cursor`, it starts at `offset` and pages by offset.";

fn rows_by_offset() -> TokenStream {
    quote! {
        let start = self.offset.clone().ok().flatten().unwrap_or(0);
        crate::paging::rows(start, move |offset| {
            let page = self.clone().offset(offset).send();
            async move {
                let page = page.await?.into_inner();
                Ok((page.results, page.next.is_some()))
            }
        })
    }
}

fn rows_by_link() -> TokenStream {
    quote! {
        use crate::paging::PageStart;
        let cursor = self.cursor.clone().ok().flatten();
        let start = PageStart::new(cursor, self.offset.clone().ok().flatten());
        crate::paging::linked_rows(start, move |start| {
            let call = self.clone();
            let page = match start {
                PageStart::Cursor(cursor) => call.cursor(cursor).send(),
                PageStart::Offset(offset) => call.offset(offset).send(),
            };
            async move {
                let page = page.await?.into_inner();
                Ok((page.results, page.next))
            }
        })
    }
}

/// Generates one call per response that is not JSON, for an operation that also has one in JSON. The call returns the
/// response, so the caller can stream the body. An operation without JSON needs none, because its builder returns bytes.
fn downloads(contract: &Contract, operation: &Operation) -> impl Iterator<Item = TokenStream> {
    let responses = operation
        .responses
        .iter()
        .filter(|response| !response.is_error() && response.json().is_some());
    let content = responses.flat_map(|response| &response.content);
    content
        .filter(|content| content.media_type != JSON)
        .map(|content| download(contract, operation, content))
}

fn download(contract: &Contract, operation: &Operation, content: &ResponseContent) -> TokenStream {
    let media_type = &content.media_type;
    let name = ident(&format!(
        "{}_{}",
        operation.id,
        content.suffix.to_ascii_lowercase()
    ));
    let envelope = envelope(contract);
    let method = ident(&operation.method);
    let (arguments, url) = url(operation);
    let text = format!(
        "{}, as {media_type}.\n\n`query` contains the query parameters of `{}`. \
         The caller reads the body of the response.\n\n\
         # Errors\n\nFails if the request cannot be sent or if the status is not a success.",
        operation.summary, operation.id
    );
    let docs = docs(&text);
    quote! {
        #docs
        pub async fn #name(
            &self,
            #(#arguments,)*
            query: &[(&str, &str)],
        ) -> Result<reqwest::Response, Error<types::#envelope>> {
            let url = #url;
            let request = self.client.#method(url).query(query);
            crate::download::send(request, #media_type).await
        }
    }
}

/// Generates the call with a multipart body, which the caller builds.
fn upload(contract: &Contract, operation: &Operation) -> Option<TokenStream> {
    let files = operation.body.as_ref()?.uploads();
    let mut responses = operation
        .responses
        .iter()
        .filter(|response| !response.is_error());
    let response = ident(
        responses
            .next()?
            .json_schema()
            .filter(|_| !files.is_empty())?,
    );
    let name = ident(&format!("{}_multipart", operation.id));
    let envelope = envelope(contract);
    let method = ident(&operation.method);
    let (arguments, url) = url(operation);
    let text = format!(
        "{}, with a multipart body.\n\n`form` can contain the file `{}`. \
         The other parts are the fields of `{}`, as text.\n\n\
         # Errors\n\nFails if the request cannot be sent, if the status is not a success, or if the response cannot be parsed.",
        operation.summary,
        files.join("` and `"),
        operation.id
    );
    let docs = docs(&text);
    Some(quote! {
        #docs
        pub async fn #name(
            &self,
            #(#arguments,)*
            form: reqwest::multipart::Form,
        ) -> Result<ResponseValue<types::#response>, Error<types::#envelope>> {
            let url = #url;
            crate::upload::send(self.client.#method(url).multipart(form)).await
        }
    })
}

/// Generates the arguments for the path parameters, and the expression for the URL.
fn url(operation: &Operation) -> (Vec<TokenStream>, TokenStream) {
    let in_path = || {
        operation
            .parameters
            .iter()
            .filter(|parameter| parameter.in_path())
    };
    let arguments = in_path().map(|parameter| {
        let name = ident(&parameter.name);
        match parameter.r#type.kind {
            TypeKind::Integer { .. } => quote! { #name: i64 },
            _ => quote! { #name: &str },
        }
    });
    let mut template = format!("{{}}{}", operation.path);
    let mut values: Vec<TokenStream> = vec![quote! { self.baseurl }];
    for parameter in in_path() {
        let name: Ident = ident(&parameter.name);
        template = template.replace(&format!("{{{}}}", parameter.name), "{}");
        values.push(quote! { encode_path(&#name.to_string()) });
    }
    (
        arguments.collect(),
        quote! { format!(#template, #(#values),*) },
    )
}
