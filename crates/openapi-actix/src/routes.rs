//! Generates the actix routes: one handler per operation and one resource per path.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

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
    let mut allows_head = false;
    for operation in operations {
        let (method, handler) = (ident(&operation.method), ident(&operation.id));
        methods.push(operation.method.to_uppercase());
        routes.push(quote! { web::#method().to(#handler::<A>) });
        // HEAD changes nothing, so a GET that writes has none.
        if operation.method == "get" && !operation.writes {
            routes.push(quote! { web::head().to(#handler::<A>) });
            allows_head = true;
        }
    }
    if allows_head {
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
    let admission = admission(index, operation);
    let receive = receive(index, operation);
    let caller = operation.scopes.is_some().then(|| quote! { caller, });
    let read = match (raw, reads_body(operation)) {
        (true, _) => quote! { #request_type::read(request, raw) },
        (false, true) => quote! { #request_type::read(request, body).await },
        (false, false) => quote! { #request_type::read(request) },
    };
    let payload = admission
        .is_some()
        .then(|| quote! { payload: web::Payload, });
    quote! {
        async fn #name<A: #api>(
            api: web::Data<A>,
            request: HttpRequest,
            #payload
        ) -> Result<HttpResponse, A::Error> {
            let api = api.get_ref();
            let reject = |why| api.reject(why);
            #accepts
            #admission
            #receive
            let request = #read.map_err(reject)?;
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

/// Generates the check of the key, or of the token. Its result is the only access to the body.
///
/// `None` for an operation with neither key nor body.
fn admission(index: usize, operation: &Operation) -> Option<TokenStream> {
    let index = Literal::usize_unsuffixed(index);
    let body = match &operation.body {
        Some(_) => quote! { body },
        None => quote! { _ },
    };
    match (&operation.scopes, &operation.body) {
        (Some(_), _) => Some(quote! {
            let (caller, #body) = authorize(api, &request, payload, &OPERATIONS[#index]).await?;
        }),
        (None, Some(_)) => Some(quote! {
            let body = admit(api, &request, payload, &OPERATIONS[#index]).await?;
        }),
        (None, None) => None,
    }
}

/// Generates the call that receives the body.
fn receive(index: usize, operation: &Operation) -> Option<TokenStream> {
    let body = operation.body.as_ref()?;
    let uploads = &body.uploads;
    Some(if body.raw {
        quote! { let raw = body.raw(&request).await.map_err(reject)?; }
    } else if uploads.is_empty() {
        quote! { let body = body.receive(&request).await.map_err(reject)?; }
    } else {
        let index = Literal::usize_unsuffixed(index);
        quote! {
            let files = &[#(#uploads),*];
            let body = body.receive_with_files(api, &request, &OPERATIONS[#index], &caller, files).await?;
        }
    })
}
