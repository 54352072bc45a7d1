//! Builds responses, and the actix resource of a path.

use actix_web::dev::HttpServiceFactory;
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpRequest, HttpResponse, Route, web};
use serde::Serialize;

use super::{Api, Operation, Rejection, authorize};

pub(crate) fn json_response(status: u16, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status_code(status)).json(body)
}

pub(crate) fn empty_response(status: u16) -> HttpResponse {
    HttpResponse::new(status_code(status))
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("codegen accepts only statuses from 200 to 599")
}

/// A path, with and without its trailing slash. Every response has the header `Allow`.
///
/// `guards` are the pseudo-operations for `OPTIONS` and for a method that the path does not have.
/// They are `None` if the path needs no key.
pub(crate) fn resource<A: Api>(
    paths: [&'static str; 2],
    allow: &'static str,
    guards: Option<[&'static Operation; 2]>,
    routes: impl IntoIterator<Item = Route>,
) -> impl HttpServiceFactory {
    let options = move |api: web::Data<A>, request: HttpRequest, payload: web::Payload| async move {
        if let Some([guard, _]) = guards {
            authorize(api.get_ref(), &request, payload, guard).await?;
        }
        Ok::<_, A::Error>(HttpResponse::Ok().finish())
    };
    let not_allowed = move |api: web::Data<A>, request: HttpRequest, payload: web::Payload| async move {
        if let Some([_, guard]) = guards {
            authorize(api.get_ref(), &request, payload, guard).await?;
        }
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
        .route(web::method(Method::OPTIONS).to(options))
        .default_service(web::to(not_allowed))
        .wrap(DefaultHeaders::new().add((header::ALLOW, allow)))
}
