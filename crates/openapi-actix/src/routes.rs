//! Generates the actix routes: one handler per operation and one resource per path.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use crate::contract::Contract;
use crate::naming::{field, ident};
use crate::operations::Operation;
use crate::security::Security;
use crate::server::{requests_is_raw, trait_name, type_name};

pub fn generate(contract: &Contract) -> TokenStream {
    let handlers = contract
        .operations
        .iter()
        .enumerate()
        .map(|(index, operation)| handler(contract, index, operation));
    let traits = contract
        .by_tag()
        .into_iter()
        .map(|(tag, _)| trait_name(tag));
    let mut paths = contract.by_path();
    paths.sort_by_cached_key(|(path, _)| precedence(path));
    let resources = paths
        .iter()
        .map(|(path, operations)| resource(contract, path, operations));
    let slash = if contract.config.rules.trailing_slash {
        " The trailing slash of a path is optional."
    } else {
        ""
    };
    let text = format!(" Adds the routes of all operations.{slash}");
    quote! {
        #[doc = #text]
        pub fn configure<A>(config: &mut web::ServiceConfig)
        where
            A: #(#traits)+*,
        {
            #(#resources)*
        }

        #(#handlers)*
    }
}

/// The sort key of a path: a literal segment comes before a parameter in the same position.
fn precedence(path: &str) -> Vec<(bool, String)> {
    let parts = path
        .split('/')
        .map(|part| (part.starts_with('{'), part.to_owned()));
    parts.collect()
}

/// The path with the Rust names of its parameters.
fn pattern(path: &str) -> String {
    let parts = path.split('/').map(|part| {
        match part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            Some(name) => format!("{{{}}}", field(name)),
            None => part.to_owned(),
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

fn resource(contract: &Contract, path: &str, operations: &[&Operation]) -> TokenStream {
    let mut methods = Vec::new();
    let mut routes = Vec::new();
    let mut allows_head = false;
    for operation in operations {
        let (method, handler) = (ident(&operation.method), handler_name(operation));
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
    let pattern = pattern(path);
    let bare = pattern.trim_end_matches('/');
    let slashed = format!("{bare}/");
    let paths = match contract.config.rules.trailing_slash {
        true => quote! { [#slashed, #bare] },
        false => quote! { [#pattern] },
    };
    let reference = contract.config.is_bundled().then(|| quote! { & });
    let guards = match contract.config.is_bundled() {
        true => None,
        false => {
            let guards = guards(path, operations);
            Some(quote! { #guards, })
        }
    };
    quote! {
        let paths = #reference #paths;
        let routes = [#(#routes),*];
        config.service(resource::<A>(paths, #allow, #guards routes));
    }
}

fn handler_name(operation: &Operation) -> proc_macro2::Ident {
    format_ident!("route_{}", operation.rust)
}

/// Generates pseudo-operations for `OPTIONS` and for methods that the path does not support.
///
/// They are not operations of the contract, but they need a key if an operation of the path needs one.
fn guards(path: &str, operations: &[&Operation]) -> TokenStream {
    let get = operations
        .iter()
        .find(|operation| operation.method == "get");
    let security = get
        .or(operations.first())
        .and_then(|operation| operation.security.as_ref());
    let Some(scopes) = security.map(Security::scopes) else {
        return quote! { None };
    };
    let read = scopes.iter().map(|scope| scope.replace(":write", ":read"));
    let tag = operations
        .first()
        .map_or("", |operation| operation.tag.as_str());
    let guard = |method: &str, scopes: Vec<String>| {
        quote! {
            &Operation { id: "", tag: #tag, method: #method, path: #path, scopes: &[#(#scopes),*], parameter_scopes: &[], statuses: &[0] }
        }
    };
    let read = guard("OPTIONS", read.collect());
    let any = guard("", Vec::new());
    quote! { Some([#read, #any]) }
}

/// The parts of the handler of an operation.
struct Handler {
    accepts: Option<TokenStream>,
    admission: Option<TokenStream>,
    receive: Option<TokenStream>,
    read: TokenStream,
    call: TokenStream,
}

fn handler(contract: &Contract, index: usize, operation: &Operation) -> TokenStream {
    let (name, method, api) = (
        handler_name(operation),
        ident(&operation.rust),
        trait_name(&operation.tag),
    );
    let request_type = type_name(operation, "Request");
    let index = Literal::usize_unsuffixed(index);
    let name_of_key = contract.config.rules.idempotency_key.as_ref();
    let has_idempotency_key = operation.has_idempotency_key(name_of_key);
    let caller = operation.security.is_some().then(|| quote! { caller, });
    let parts = Handler {
        accepts: accepts(operation),
        admission: admission(operation, has_idempotency_key),
        receive: receive(contract, operation),
        read: match &operation.body {
            None => quote! { #request_type::read(request) },
            Some(body) if requests_is_raw(body) => quote! { #request_type::read(request, raw) },
            Some(_) => quote! { #request_type::read(request, body).await },
        },
        call: quote! { <A as #api>::#method(api, #caller request).await?.into_http() },
    };
    let payload = (parts.admission.is_some()).then(|| quote! { payload: web::Payload, });
    let steps = match has_idempotency_key {
        true => once(operation, parts),
        false => steps(parts),
    };
    quote! {
        async fn #name<A: #api>(
            api: web::Data<A>,
            request: HttpRequest,
            #payload
        ) -> HttpResponse {
            let operation = &OPERATIONS[#index];
            #steps
        }
    }
}

/// Generates the steps of a request.
fn steps(parts: Handler) -> TokenStream {
    let Handler {
        accepts,
        admission,
        receive,
        read,
        call,
    } = parts;
    quote! {
        let api = api.get_ref();
        let respond = async || -> Result<HttpResponse, A::Error> {
            let reject = |why| <A as Api>::reject(api, why);
            #accepts
            #admission
            #receive
            let request = #read.map_err(reject)?;
            Ok(#call)
        };
        documented(api, operation, respond().await)
    }
}

/// Generates the steps of a request that a client can name. All after the check of the key happen once.
fn once(operation: &Operation, parts: Handler) -> TokenStream {
    let Handler {
        accepts,
        admission,
        receive,
        read,
        call,
    } = parts;
    let accepts = accepts.map(|accepts| {
        quote! {
            let reject = |why| <A as Api>::reject(api.get_ref(), why);
            #accepts
        }
    });
    let body = match &operation.body {
        Some(_) => quote! { body },
        None => quote! { _ },
    };
    quote! {
        let respond = async || -> Result<HttpResponse, A::Error> {
            #accepts
            #admission
            let (shared, head) = (api.clone(), request.clone());
            let run = async move |caller, #body: PendingBody| -> Result<HttpResponse, A::Error> {
                let (api, request) = (shared.get_ref(), head);
                let reject = |why| <A as Api>::reject(api, why);
                #receive
                let request = #read.map_err(reject)?;
                Ok(#call)
            };
            once(api.get_ref(), &request, operation, caller, body, run).await
        };
        documented(api.get_ref(), operation, respond().await)
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
fn admission(operation: &Operation, has_idempotency_key: bool) -> Option<TokenStream> {
    let body = match &operation.body {
        None if !has_idempotency_key => quote! { _ },
        _ => quote! { body },
    };
    let api = match has_idempotency_key {
        true => quote! { api.get_ref() },
        false => quote! { api },
    };
    match (&operation.security, &operation.body) {
        (Some(_), _) => Some(quote! {
            let (caller, #body) = authorize(#api, &request, payload, operation).await?;
        }),
        (None, Some(_)) => Some(quote! {
            let body = admit(api, &request, payload, operation).await?;
        }),
        (None, None) => None,
    }
}

/// Generates the call that receives the body.
fn receive(contract: &Contract, operation: &Operation) -> Option<TokenStream> {
    let body = operation.body.as_ref()?;
    let uploads = body.uploads();
    Some(if requests_is_raw(body) {
        quote! { let raw = body.raw(&request).await.map_err(reject)?; }
    } else if uploads.is_empty() {
        quote! { let body = body.receive(&request).await.map_err(reject)?; }
    } else {
        let caller = match operation.security {
            Some(_) if !contract.config.is_bundled() => quote! { &caller, },
            _ => quote! {},
        };
        quote! {
            let files = &[#(#uploads),*];
            let body = body.receive_with_files(api, &request, operation, #caller files).await?;
        }
    })
}
