//! How an operation's answer becomes a response, and how a path answers what is no operation.

use actix_web::dev::HttpServiceFactory;
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpRequest, HttpResponse, Route, web};
use serde::Serialize;

use super::{Api, Body, Operation, Rejection, authorize};

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
///
/// Where keys are wanted, they are looked at before a method is refused, and `OPTIONS` needs what `GET` needs.
pub(crate) fn resource<A: Api>(
    paths: [&'static str; 2],
    allow: &'static str,
    guards: Option<[&'static Operation; 2]>,
    routes: impl IntoIterator<Item = Route>,
) -> impl HttpServiceFactory {
    let known = move |api: web::Data<A>, request: HttpRequest, payload: web::Payload| async move {
        if let Some([read, _]) = guards {
            let body = Body::read_for_key(&request, payload).await;
            authorize(api.get_ref(), &request, read, &body).await?;
        }
        Ok::<_, A::Error>(HttpResponse::Ok().finish())
    };
    let unknown = move |api: web::Data<A>, request: HttpRequest, payload: web::Payload| async move {
        if let Some([_, any]) = guards {
            let body = Body::read_for_key(&request, payload).await;
            authorize(api.get_ref(), &request, any, &body).await?;
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
        .route(web::method(Method::OPTIONS).to(known))
        .default_service(web::to(unknown))
        .wrap(DefaultHeaders::new().add((header::ALLOW, allow)))
}
