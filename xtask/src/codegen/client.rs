//! The client: progenitor's, over a projection of the document, and what progenitor has no words for.
//!
//! The projection exists in memory only. It says the same to a caller as the document does,
//! in the part of OpenAPI that progenitor takes.

use anyhow::{Context, Result};
use proc_macro2::{Ident, TokenStream};
use progenitor::{GenerationSettings, Generator, InterfaceStyle};
use quote::{ToTokens, quote};
use syn::{File, Item, ItemMod, parse_quote};

use super::answers::{Content, ENVELOPE, JSON};
use super::contract::{Contract, object};
use super::operations::Operation;
use super::parameters::Kind;
use super::print::{case, docs, file};
use super::projection::{self, Projection};
use super::server::ident;

pub fn generate(contract: &Contract) -> Result<String> {
    let mut code: File =
        syn::parse2(progenitor(contract)?).context("progenitor's code is not Rust")?;
    // The crate's own documentation is written by hand.
    code.attrs.clear();
    let streams = contract
        .operations
        .iter()
        .filter_map(|one| stream(contract, one));
    add_to(
        &mut code,
        "builder",
        streams.map(|stream| parse_quote! { #stream }).collect(),
    );
    let downloads: Vec<_> = contract.operations.iter().flat_map(downloads).collect();
    let downloads = (!downloads.is_empty()).then(|| {
        quote! {
            /// Answers that are not JSON.
            impl Client { #(#downloads)* }
        }
    });
    let uploads: Vec<_> = contract.operations.iter().filter_map(upload).collect();
    let uploads = (!uploads.is_empty()).then(|| {
        quote! {
            /// Bodies that hold files.
            impl Client { #(#uploads)* }
        }
    });
    let code = code.into_token_stream();
    let lines = ["The operations of the contract as calls."];
    let tokens = quote! {
        #code
        #downloads
        #uploads
    };
    file(&lines, tokens)
}

fn progenitor(contract: &Contract) -> Result<TokenStream> {
    let Projection { document, nullable } = projection::project(contract);
    let document = serde_json::from_value(document).context("the projection is no OpenAPI")?;
    let mut settings = GenerationSettings::default();
    settings.with_interface(InterfaceStyle::Builder);
    settings.with_derive("PartialEq");
    for (name, rust) in nullable {
        settings.with_replacement(name, format!("crate::Nullable<{rust}>"), std::iter::empty());
    }
    let mut generator = Generator::new(&settings);
    generator
        .generate_tokens(&document)
        .context("progenitor cannot express the document")
}

fn add_to(code: &mut File, module: &str, more: Vec<Item>) {
    let mut modules = code.items.iter_mut().filter_map(|item| match item {
        Item::Mod(ItemMod {
            ident,
            content: Some((_, items)),
            ..
        }) if ident == module => Some(items),
        _ => None,
    });
    if let Some(items) = modules.next() {
        items.extend(more);
    }
}

/// A stream over the rows of all pages, for a list with `limit` and `offset`.
fn stream(contract: &Contract, operation: &Operation) -> Option<TokenStream> {
    let has = |name: &str| {
        let mut query = operation.parameters.iter().filter(|one| !one.in_path);
        query.any(|one| one.name == name && matches!(one.kind, Kind::Integer { .. }))
    };
    let answer = operation.answers.iter().find(|answer| !answer.is_error())?;
    let page = contract.schema(answer.json()?);
    let properties = object(&page["properties"]);
    let row = super::contract::reference(&properties.get("results")?["items"])?;
    if !has("limit") || !has("offset") || !properties.contains_key("next") {
        return None;
    }
    let (builder, row) = (ident(&case::pascal(&operation.id)), ident(row));
    let text = format!(
        "The rows of this page and of all that follow, fetched page by page.\n\n\
         Starts at `offset`; `limit` is the size of a page. Ends after the first error.\n\n\
         {}",
        operation.summary
    );
    let docs = docs(&text);
    Some(quote! {
        impl<'a> #builder<'a> {
            #docs
            pub fn stream(
                self,
            ) -> impl futures::Stream<Item = Result<types::#row, Error<types::Error>>> + 'a {
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
    })
}

/// One call per answer that is not JSON; the body is left to the caller, who can stream it.
fn downloads(operation: &Operation) -> impl Iterator<Item = TokenStream> {
    let answers = operation.answers.iter().filter(|answer| !answer.is_error());
    let content = answers.flat_map(|answer| &answer.content);
    content
        .filter(|content| content.media_type != JSON)
        .map(|content| download(operation, content))
}

fn download(operation: &Operation, content: &Content) -> TokenStream {
    let media_type = &content.media_type;
    let suffix = if media_type == "text/csv" {
        "csv"
    } else {
        "ndjson"
    };
    let name = ident(&format!("{}_{suffix}", operation.id));
    let envelope = ident(ENVELOPE);
    let method = ident(&operation.method);
    let (arguments, url) = url(operation);
    let text = format!(
        "{}, as {media_type}.\n\n`query` holds further parameters of `{}` by name.",
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

/// The call with a multipart body, which the caller makes up.
fn upload(operation: &Operation) -> Option<TokenStream> {
    let files = &operation.body.as_ref()?.uploads;
    let mut answers = operation.answers.iter().filter(|answer| !answer.is_error());
    let answer = ident(answers.next()?.json().filter(|_| !files.is_empty())?);
    let name = ident(&format!("{}_multipart", operation.id));
    let envelope = ident(ENVELOPE);
    let method = ident(&operation.method);
    let (arguments, url) = url(operation);
    let text = format!(
        "{}, by a form that may hold files: {}.\n\nIts other parts are the fields of `{}`, as texts.",
        operation.summary,
        files.join(", "),
        operation.id
    );
    let docs = docs(&text);
    Some(quote! {
        #docs
        pub async fn #name(
            &self,
            #(#arguments,)*
            form: reqwest::multipart::Form,
        ) -> Result<ResponseValue<types::#answer>, Error<types::#envelope>> {
            let url = #url;
            crate::upload::send(self.client.#method(url).multipart(form)).await
        }
    })
}

/// The arguments that fill the path, and the expression of the whole address.
fn url(operation: &Operation) -> (Vec<TokenStream>, TokenStream) {
    let in_path = || operation.parameters.iter().filter(|one| one.in_path);
    let arguments = in_path().map(|one| {
        let name = ident(&one.name);
        match one.kind {
            Kind::Integer { .. } => quote! { #name: i64 },
            _ => quote! { #name: &str },
        }
    });
    let mut template = format!("{{}}{}", operation.path);
    let mut values: Vec<TokenStream> = vec![quote! { self.baseurl }];
    for one in in_path() {
        let name: Ident = ident(&one.name);
        template = template.replace(&format!("{{{}}}", one.name), "{}");
        values.push(quote! { encode_path(&#name.to_string()) });
    }
    (
        arguments.collect(),
        quote! { format!(#template, #(#values),*) },
    )
}
