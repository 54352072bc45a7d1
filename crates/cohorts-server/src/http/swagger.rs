//! The API contract as a document, and Swagger UI to read and try it. The files of the page are part of the program.
//! The page around Swagger UI and its settings are our own: `docs.html`, `docs.css` and `swagger-initializer.js`.
//!
//! The served document is the contract, with the scopes of each operation in its description. The document of a demo
//! names the objects of the demo.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock, OnceLock};

use actix_web::http::header::{CACHE_CONTROL, HOST};
use actix_web::http::uri::Authority;
use actix_web::{HttpRequest, HttpResponse, web};
use cohorts_api::{OPENAPI_YAML, OPERATIONS};
use cohorts_engine::Filter;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use super::endpoints::ServiceEndpoints;

const PAGE: &str = include_str!("docs.html");
/// What the line of the page with the link to the console contains.
const LINK_TO_CONSOLE: &str = "to-console";
const CONTRACT: &str = "/api/schema/";
const SERVICE: &str = "/api/schema/service/";
const FILTERS: &str = "/api/schema/filters/";
/// The parameter with the id of a cohort.
const COHORT: &str = "CohortId";
/// The ids of cohorts in the example of a body.
const COHORTS_OF_BODY: &str = "/requestBody/content/application~1json/example/cohort_ids";
/// The project token in the examples of the contract.
const EXAMPLE_TOKEN: &str = "phc_0123456789abcdef";

/// The contract with scopes. A test parses the document, so it is always valid.
static CONTRACT_WITH_SCOPES: LazyLock<Value> = LazyLock::new(|| {
    let document = serde_yaml_ng::from_str(OPENAPI_YAML);
    with_scopes(document.expect("the contract is YAML that JSON can express"))
});
static CONTRACT_JSON: LazyLock<String> = LazyLock::new(|| CONTRACT_WITH_SCOPES.to_string());
static FILTERS_JSON: LazyLock<String> = LazyLock::new(|| Filter::schema().to_string());
static SERVICE_JSON: LazyLock<String> = LazyLock::new(|| {
    let document = ServiceEndpoints::openapi().to_json();
    document.expect("a derived document is JSON")
});

/// What the page of a demo offers, so that each operation can be tried at once.
pub struct Offer {
    /// The ids that replace the examples of parameters, by their names in `components.parameters`.
    pub ids: Vec<(&'static str, i64)>,
    pub token: String,
    /// A key for browsers on this machine, if the service listens only there.
    pub key: Option<String>,
}

/// The page, and the offer of a demo. Clones share the offer.
#[derive(Clone, Default)]
pub struct Page {
    demo: Arc<OnceLock<DemoPage>>,
}

struct DemoPage {
    document: String,
    /// The credential of each security scheme, as a JSON object.
    credentials: String,
}

impl Page {
    /// Fills the offer in. Only the first offer counts.
    pub fn offer(&self, offer: &Offer) {
        self.demo.get_or_init(|| DemoPage {
            document: filled(&CONTRACT_WITH_SCOPES, offer),
            credentials: credentials(offer),
        });
    }

    /// Adds the page and the documents. The page has a link to the console if the service has one.
    pub fn configure(&self, config: &mut web::ServiceConfig, with_console: bool) {
        let redirect = || async {
            HttpResponse::PermanentRedirect()
                .insert_header(("Location", "/docs/"))
                .finish()
        };
        config
            .app_data(web::Data::new(self.clone()))
            .service(
                web::resource([CONTRACT, "/api/schema"])
                    .get(contract)
                    .head(contract),
            )
            .service(
                web::resource([SERVICE, "/api/schema/service"])
                    .get(service)
                    .head(service),
            )
            .service(
                web::resource([FILTERS, "/api/schema/filters"])
                    .get(filters)
                    .head(filters),
            )
            .service(web::resource("/docs").get(redirect).head(redirect))
            .service(own_page(with_console))
            .service(web::resource("/docs/page.css").get(style))
            .service(web::resource("/docs/swagger-initializer.js").get(initializer))
            .service(web::resource("/docs/credentials.json").get(offered_credentials))
            .service(SwaggerUi::new("/docs/{_:.*}"));
    }
}

/// The page, in place of that of Swagger UI.
fn own_page(with_console: bool) -> actix_web::Resource {
    let text = if with_console {
        PAGE.to_owned()
    } else {
        let lines = PAGE.lines().filter(|line| !line.contains(LINK_TO_CONSOLE));
        lines.collect::<Vec<_>>().join("\n")
    };
    let text = web::Bytes::from(text);
    let show = move || {
        let text = text.clone();
        async {
            HttpResponse::Ok()
                .content_type("text/html; charset=utf-8")
                .body(text)
        }
    };
    web::resource(["/docs/", "/docs/index.html"])
        .get(show.clone())
        .head(show)
}

/// Adds the scopes of each operation to its description, because Swagger UI does not show them.
fn with_scopes(mut document: Value) -> Value {
    for operation in OPERATIONS {
        let method = operation.method.to_lowercase();
        let entry = &mut document["paths"][operation.path][method];
        if let Some(description) = entry["description"].as_str().map(str::trim_end)
            && !operation.scopes.is_empty()
        {
            let scopes = operation.scopes.join("`, `");
            entry["description"] = format!("{description}\n\n**Scopes:** `{scopes}`").into();
        }
    }
    document
}

/// The document with the objects of a demo in its examples.
fn filled(document: &Value, offer: &Offer) -> String {
    let mut document = document.clone();
    for (parameter, id) in &offer.ids {
        document["components"]["parameters"][parameter]["example"] = (*id).into();
        if *parameter == COHORT {
            fill_bodies(&mut document, *id);
        }
    }
    document.to_string().replace(EXAMPLE_TOKEN, &offer.token)
}

/// Replaces the ids of cohorts in the examples of bodies.
fn fill_bodies(document: &mut Value, cohort: i64) {
    let paths = document["paths"].as_object_mut().into_iter();
    let operations = paths
        .flat_map(|paths| paths.values_mut())
        .filter_map(Value::as_object_mut)
        .flat_map(|path| path.values_mut());
    for operation in operations {
        if let Some(ids) = operation.pointer_mut(COHORTS_OF_BODY) {
            *ids = json!([cohort]);
        }
    }
}

/// The credentials for the security schemes of the contract. A token is not a secret.
fn credentials(offer: &Offer) -> String {
    let mut credentials = Map::new();
    credentials.insert("projectTokenInHeader".to_owned(), json!(offer.token));
    if let Some(key) = &offer.key {
        credentials.insert("personalApiKey".to_owned(), json!(key));
    }
    Value::Object(credentials).to_string()
}

#[derive(Deserialize)]
struct ContractParameters {
    format: Option<String>,
}

async fn contract(query: web::Query<ContractParameters>, page: web::Data<Page>) -> HttpResponse {
    match (query.format.as_deref(), page.demo.get()) {
        (Some("yaml"), _) => HttpResponse::Ok()
            .content_type("application/yaml")
            .body(OPENAPI_YAML),
        (_, Some(demo)) => json(demo.document.clone()),
        (_, None) => json(CONTRACT_JSON.as_str()),
    }
}

/// The JSON Schema of cohort filters, for editors. It does not express that dates must exist, and that depth, number of
/// criteria and length of texts are limited.
#[utoipa::path(
    get, path = "/api/schema/filters/", tag = "documents",
    responses((status = 200, description = "A JSON Schema (2020-12).", content_type = "application/json", body = serde_json::Value))
)]
pub async fn filters() -> HttpResponse {
    json(FILTERS_JSON.as_str())
}

async fn service() -> HttpResponse {
    json(SERVICE_JSON.as_str())
}

async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .body(include_str!("docs.css"))
}

async fn initializer() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript")
        .body(include_str!("swagger-initializer.js"))
}

/// The credentials are JSON and not part of a script, because any web page may run the scripts of another host.
async fn offered_credentials(request: HttpRequest, page: web::Data<Page>) -> HttpResponse {
    let demo = page.demo.get().filter(|_| is_from_this_machine(&request));
    let credentials = demo.map_or("{}", |demo| &demo.credentials).to_owned();
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("application/json")
        .body(credentials)
}

/// Whether a browser on this machine asks by a name of this machine, and no proxy. Only `Host` counts: scripts of web pages
/// may set the headers of proxies.
fn is_from_this_machine(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let is_forwarded = ["forwarded", "x-forwarded-host", "x-forwarded-for"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    !is_forwarded && host.is_some_and(names_this_machine)
}

/// Whether a host is a name of this machine only. Another name may be that of a proxy, or of a web page
/// with a name that was bound to this address.
fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn json(text: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_names_its_objects_in_place_of_the_examples() {
        let names = ["ActionId", "CohortId", "StaticCohortId", "UploadId"];
        let parameters = &CONTRACT_WITH_SCOPES["components"]["parameters"];
        for name in names {
            assert!(parameters[name]["example"].is_i64(), "{name}");
        }
        let offer = Offer {
            ids: names.map(|name| (name, 4321)).to_vec(),
            token: "phc_of_the_demo".to_owned(),
            key: None,
        };
        let filled = filled(&CONTRACT_WITH_SCOPES, &offer);
        assert!(CONTRACT_JSON.contains(EXAMPLE_TOKEN) && !filled.contains(EXAMPLE_TOKEN));
        let document: Value = serde_json::from_str(&filled).unwrap();
        for name in names {
            let parameter = &document["components"]["parameters"][name];
            assert_eq!(parameter["example"], 4321, "{name}");
        }
        let overlap = &document["paths"]["/api/projects/{project_id}/cohorts/overlap/"]["post"];
        assert_eq!(overlap.pointer(COHORTS_OF_BODY), Some(&json!([4321])));
    }

    #[test]
    fn only_names_of_this_machine_get_credentials() {
        for host in ["localhost:8000", "127.0.0.1:8000", "127.9.9.9", "[::1]:80"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in [
            "example.org",
            "localhost.example.org",
            "192.0.2.1:80",
            "",
            "[::]",
        ] {
            assert!(!names_this_machine(host), "{host}");
        }
    }

    #[test]
    fn headers_of_proxies_do_not_decide_who_asks() {
        let from = |headers: &[(&str, &str)]| {
            let mut request = actix_web::test::TestRequest::default();
            for header in headers {
                request = request.insert_header(*header);
            }
            is_from_this_machine(&request.to_http_request())
        };
        assert!(from(&[("host", "localhost:8000")]));
        assert!(!from(&[]));
        for name in ["forwarded", "x-forwarded-host", "x-forwarded-for"] {
            let value = if name == "forwarded" {
                "host=localhost"
            } else {
                "localhost"
            };
            assert!(!from(&[("host", "example.org"), (name, value)]), "{name}");
            assert!(!from(&[("host", "localhost"), (name, value)]), "{name}");
        }
    }
}
