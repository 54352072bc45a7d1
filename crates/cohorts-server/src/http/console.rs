//! The console, a web page for users who do not write requests. The crate `cohorts-console` has its files and headers.
//!
//! Only GET and HEAD of the console's own paths give the page; all other unknown paths and methods stay JSON errors.

use actix_web::guard::{GuardContext, fn_guard};
use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, HeaderMap,
    IF_NONE_MATCH, REFERRER_POLICY, VARY,
};
use actix_web::{HttpRequest, HttpResponse, web};
use cohorts_console::{File, find};

/// Adds the page. It must come after all other paths.
pub fn configure(config: &mut web::ServiceConfig) {
    let page = web::resource("/{console:.*}").guard(fn_guard(is_of_the_console));
    config.service(page.to(respond));
}

fn is_of_the_console(context: &GuardContext<'_>) -> bool {
    let head = context.head();
    matches!(head.method, Method::GET | Method::HEAD) && find(head.uri.path()).is_some()
}

async fn respond(request: HttpRequest) -> HttpResponse {
    match find(request.path()) {
        Some(file) => response(&file, request.headers()),
        None => HttpResponse::NotFound().finish(),
    }
}

fn response(file: &File, headers: &HeaderMap) -> HttpResponse {
    let names = |name, text: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.split(',').any(|part| is_named(part, text)))
    };
    let is_known = file.etag.is_some_and(|etag| names(IF_NONE_MATCH, etag));
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((CACHE_CONTROL, file.cache_control))
        .insert_header((
            CONTENT_SECURITY_POLICY,
            cohorts_console::CONTENT_SECURITY_POLICY,
        ))
        .insert_header((REFERRER_POLICY, cohorts_console::REFERRER_POLICY))
        .insert_header((VARY, "Accept-Encoding"));
    if let Some(etag) = file.etag {
        response.insert_header((ETAG, etag));
    }
    if is_known {
        return response.finish();
    }
    response.content_type(file.content_type);
    if names(ACCEPT_ENCODING, "gzip") {
        response.insert_header((CONTENT_ENCODING, "gzip"));
        return response.body(file.gzipped);
    }
    response.body(file.content)
}

/// Whether an element of a list header, with optional parameters, has the name. An element of quality 0 is refused.
fn is_named(element: &str, name: &str) -> bool {
    let mut parts = element.split(';').map(str::trim);
    let has_name = parts.next() == Some(name);
    let is_refused = parts.any(|part| {
        let quality = part.strip_prefix("q=").map(str::parse::<f32>);
        matches!(quality, Some(Ok(quality)) if quality == 0.0)
    });
    has_name && !is_refused
}
