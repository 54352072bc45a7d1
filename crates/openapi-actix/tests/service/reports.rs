//! The server of `responses.yaml`: security, variants per media type, headers, and statuses that are not documented.

use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpRequest, dev::ServiceResponse, web};

use crate::generated::responses::prelude::default::*;
use crate::generated::responses::{Api, Operation, Rejection, ResponseBody, configure};

struct Reports;

impl Api for Reports {
    type Caller = String;
    type Error = Rejection;

    fn reject(&self, rejection: Rejection) -> Rejection {
        rejection
    }

    async fn authorize(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
    ) -> Result<String, Rejection> {
        let mut keys = operation.security.iter().flat_map(|schemes| *schemes);
        let key = keys.find_map(|requirement| requirement.scheme.credentials(request));
        key.ok_or(Rejection::Unauthorized)
    }
}

impl DefaultApi for Reports {
    async fn get_report(
        &self,
        caller: String,
        request: GetReportRequest,
    ) -> Result<GetReportResponse, Rejection> {
        let headers = GetReportStatus200Headers {
            e_tag: format!("\"{caller}\""),
            x_left: Some(request.path.id),
            x_until: None,
        };
        let body = ResponseBody::new("a,b\n");
        Ok(GetReportResponse::Status200Csv(body, headers))
    }

    async fn delete_report(
        &self,
        _caller: String,
        _request: DeleteReportRequest,
    ) -> Result<DeleteReportResponse, Rejection> {
        Err(Rejection::NotAcceptable)
    }

    async fn put_report(&self, _request: PutReportRequest) -> Result<PutReportResponse, Rejection> {
        Ok(PutReportResponse::Status200(ResponseBody::new("[]")))
    }
}

async fn send(request: TestRequest) -> ServiceResponse {
    let app = App::new().app_data(web::Data::new(Reports));
    let app = init_service(app.configure(configure::<Reports>)).await;
    call_service(&app, request.to_request()).await
}

fn header(response: &ServiceResponse, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

#[actix_web::test]
async fn variant_has_its_media_type_and_headers() {
    let response = send(TestRequest::get().uri("/reports/7?api_key=k")).await;
    assert_eq!(response.status(), 200);
    let headers = ["content-type", "etag", "x-left", "x-until"].map(|name| header(&response, name));
    let expected = [Some("text/csv"), Some("\"k\""), Some("7"), None];
    assert_eq!(headers, expected.map(|value| value.map(str::to_owned)));
    assert_eq!(read_body(response).await, "a,b\n");
    let response = send(TestRequest::put().uri("/reports/7")).await;
    assert_eq!(
        header(&response, "content-type").as_deref(),
        Some("application/json")
    );
}

#[actix_web::test]
async fn key_is_checked_before_parameters() {
    let response = send(TestRequest::get().uri("/reports/x")).await;
    assert_eq!(response.status(), 401);
    let response = send(TestRequest::get().uri("/reports/x?api_key=k")).await;
    assert_eq!(response.status(), 404);
}

#[actix_web::test]
#[should_panic(expected = "deleteReport answered 406, which the document does not describe")]
async fn undocumented_status_is_not_sent() {
    send(
        TestRequest::delete()
            .uri("/reports/7")
            .insert_header(("Authorization", "Basic a")),
    )
    .await;
}
