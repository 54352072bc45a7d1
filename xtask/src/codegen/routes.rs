//! Generates the actix routes: one handler per operation and one resource per path.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use super::contract::Contract;
use super::operations::Operation;
use super::server::{ident, trait_name, type_name};

pub fn generate(contract: &Contract) -> TokenStream {
    let handlers = contract
        .operations
        .iter()
        .enumerate()
        .map(|(index, operation)| handler(index, operation));
    let traits = contract
        .by_tag()
        .into_iter()
        .map(|(tag, _)| trait_name(tag));
    let mut paths = contract.by_path();
    paths.sort_by_cached_key(|(path, _)| precedence(path));
    let resources = paths
        .iter()
        .map(|(path, operations)| resource(path, operations));
    quote! {
        /// Adds the routes of all operations. The trailing slash of a path is optional.
        pub fn configure<A>(config: &mut web::ServiceConfig)
        where
            A: #(#traits)+*,
        {
            #(#resources)*
        }

        #(#handlers)*
    }
}

/// Whether the handler parses the fields of a body.
pub fn reads_body(operation: &Operation) -> bool {
    operation.body.as_ref().is_some_and(|body| !body.raw)
}

/// The sort key of a path: a literal segment comes before a parameter in the same position.
fn precedence(path: &str) -> Vec<(bool, String)> {
    let parts = path
        .split('/')
        .map(|part| (part.starts_with('{'), part.to_owned()));
    parts.collect()
}

fn resource(path: &str, operations: &[&Operation]) -> TokenStream {
    let bare = path.trim_end_matches('/');
    let mut methods = Vec::new();
    let mut routes = Vec::new();
    for operation in operations {
        let (method, handler) = (ident(&operation.method), ident(&operation.id));
        methods.push(operation.method.to_uppercase());
        routes.push(quote! { web::#method().to(#handler::<A>) });
        if operation.method == "get" {
            routes.push(quote! { web::head().to(#handler::<A>) });
        }
    }
    if methods.iter().any(|method| method == "GET") {
        methods.push("HEAD".to_owned());
    }
    methods.push("OPTIONS".to_owned());
    let allow = methods.join(", ");
    let guards = guards(path, operations);
    quote! {
        let paths = [#path, #bare];
        let routes = [#(#routes),*];
        config.service(resource::<A>(paths, #allow, #guards, routes));
    }
}

/// Generates pseudo-operations for `OPTIONS` and for methods that the path does not support.
///
/// They are not operations of the contract, but they need a key if an operation of the path needs one.
fn guards(path: &str, operations: &[&Operation]) -> TokenStream {
    let get = operations
        .iter()
        .find(|operation| operation.method == "get");
    let Some(scopes) = get
        .or(operations.first())
        .and_then(|operation| operation.scopes.clone())
    else {
        return quote! { None };
    };
    let read = scopes.iter().map(|scope| scope.replace(":write", ":read"));
    let tag = operations
        .first()
        .map_or("", |operation| operation.tag.as_str());
    let guard = |method: &str, scopes: Vec<String>| {
        quote! {
            &Operation { id: "", tag: #tag, method: #method, path: #path, scopes: &[#(#scopes),*] }
        }
    };
    let read = guard("OPTIONS", read.collect());
    let any = guard("", Vec::new());
    quote! { Some([#read, #any]) }
}

fn handler(index: usize, operation: &Operation) -> TokenStream {
    let (name, api) = (ident(&operation.id), trait_name(&operation.tag));
    let request_type = type_name(operation, "Request");
    let raw = operation.body.as_ref().is_some_and(|body| body.raw);
    let accepts = accepts(operation);
    let body = body(operation, raw);
    let receive = receive(operation);
    let authorize = operation.scopes.is_some().then(|| {
        let index = Literal::usize_unsuffixed(index);
        quote! {
            let caller = authorize(api, &request, &OPERATIONS[#index], &body).await?;
        }
    });
    let caller = operation.scopes.is_some().then(|| quote! { caller, });
    let argument = match (raw, reads_body(operation)) {
        (true, _) => Some(format_ident!("raw")),
        (false, true) => Some(format_ident!("body")),
        (false, false) => None,
    };
    let payload = if raw || reads_body(operation) || operation.scopes.is_some() {
        quote! { payload: web::Payload, }
    } else {
        quote! {}
    };
    quote! {
        async fn #name<A: #api>(
            api: web::Data<A>,
            request: HttpRequest,
            #payload
        ) -> Result<HttpResponse, A::Error> {
            let api = api.get_ref();
            let reject = |why| api.reject(why);
            #accepts
            #body
            #authorize
            #receive
            let request = #request_type::read(request, #argument).map_err(reject)?;
            Ok(api.#name(#caller request).await?.into_http())
        }
    }
}

/// Generates the check of the `Accept` header, for an operation with a documented 406.
fn accepts(operation: &Operation) -> Option<TokenStream> {
    operation.has_status(406).then(|| {
        let responses = operation
            .responses
            .iter()
            .filter(|response| !response.is_error());
        let media_types = responses
            .flat_map(|response| &response.content)
            .map(|content| &content.media_type);
        quote! { accepts(&request, &[#(#media_types),*]).map_err(reject)?; }
    })
}

/// Generates the call that receives a multipart body.
///
/// The body may be large, so the service receives it only after the caller is authorized.
fn receive(operation: &Operation) -> Option<TokenStream> {
    let uploads = &operation.body.as_ref()?.uploads;
    (!uploads.is_empty()).then(|| {
        quote! { let body = body.receive(&request, &[#(#uploads),*]).await.map_err(reject)?; }
    })
}

fn body(operation: &Operation, raw: bool) -> TokenStream {
    if raw {
        return quote! {
            let raw = RawBody::read(&request, payload).await.map_err(reject)?;
        };
    }
    match (reads_body(operation), operation.scopes.is_some()) {
        (true, _) => quote! {
            let body = Body::read(&request, payload).await.map_err(reject)?;
        },
        (false, true) => quote! {
            let body = Body::read_for_key(&request, payload).await;
        },
        (false, false) => quote! {},
    }
}
