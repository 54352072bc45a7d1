//! How an operation's answer becomes a response, and how a path answers what is no operation.

use actix_web::dev::HttpServiceFactory;
use actix_web::http::{StatusCode, header};
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpRequest, HttpResponse, Route, web};
use serde::Serialize;

use super::{Api, Rejection};

pub(crate) fn json_answer(status: u16, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(code(status)).json(body)
}

pub(crate) fn empty_answer(status: u16) -> HttpResponse {
    HttpResponse::new(code(status))
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("codegen lets no other status pass")
}

/// One path in both its forms. Every answer says which methods there are.
pub(crate) fn resource<A: Api>(
    paths: [&'static str; 2],
    allow: &'static str,
    routes: impl IntoIterator<Item = Route>,
) -> impl HttpServiceFactory {
    let known = web::method(actix_web::http::Method::OPTIONS).to(HttpResponse::Ok);
    let unknown = move |api: web::Data<A>, request: HttpRequest| async move {
        Err::<HttpResponse, _>(api.reject(Rejection::MethodNotAllowed {
            method: request.method().to_string(),
            allow,
        }))
    };
    let resource = routes
        .into_iter()
        .fold(web::resource(paths), |resource, route| {
            resource.route(route)
        });
    resource
        .route(known)
        .default_service(web::to(unknown))
        .wrap(DefaultHeaders::new().add((header::ALLOW, allow)))
}
