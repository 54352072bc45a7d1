//! Other forms of the paths, which PostHog's clients use: a format as a suffix, and the cohorts of the current project
//! without the project. They are rewritten to the paths of the contract before routing.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Uri;
use actix_web::http::uri::PathAndQuery;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};

const PROJECTS: &str = "/api/projects/";
const LEGACY: &str = "/api/cohort";
const CURRENT: &str = "/api/projects/@current/cohorts";

/// The address of the request before it was rewritten.
pub struct OriginalUri(pub Uri);

/// Rewrites the address of a request.
pub async fn resolve(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if let Some(uri) = resolved(request.uri()) {
        let original = OriginalUri(request.uri().clone());
        request.extensions_mut().insert(original);
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
    next.call(request).await
}

/// The address in the form of the contract; `None` if it has this form.
fn resolved(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let legacy = path
        .strip_prefix(LEGACY)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let full = legacy.map(|rest| format!("{CURRENT}{rest}"));
    let full = full.as_deref().unwrap_or(path);
    let format = ["json", "csv", "ndjson"].into_iter().find_map(|format| {
        let full = full.strip_suffix('/').unwrap_or(full);
        let stem = full.strip_suffix(format)?.strip_suffix('.')?;
        (full.starts_with(PROJECTS) && !stem.ends_with('/')).then_some((stem, format))
    });
    if legacy.is_none() && format.is_none() {
        return None;
    }
    let (path, format) = format.map_or((full, None), |(stem, format)| (stem, Some(format)));
    let format = format.map(|format| format!("format={format}"));
    let query: Vec<&str> = uri.query().into_iter().chain(format.as_deref()).collect();
    let text = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> Option<String> {
        resolved(&text.parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn a_suffix_becomes_a_format() {
        let with_suffix =
            |suffix: &str| rewritten(&format!("/api/projects/1/cohorts/2/persons{suffix}"));
        assert_eq!(
            with_suffix(".csv").as_deref(),
            Some("/api/projects/1/cohorts/2/persons?format=csv")
        );
        assert_eq!(
            with_suffix(".json?limit=2").as_deref(),
            Some("/api/projects/1/cohorts/2/persons?limit=2&format=json")
        );
        assert_eq!(
            with_suffix(".csv/").as_deref(),
            Some("/api/projects/1/cohorts/2/persons?format=csv")
        );
        for other in ["", "/", ".xml", "/.csv", "csv"] {
            assert_eq!(with_suffix(other), None, "{other}");
        }
        assert_eq!(rewritten("/docs/a.json"), None);
    }

    #[test]
    fn the_legacy_path_becomes_the_current_project() {
        assert_eq!(
            rewritten("/api/cohort").as_deref(),
            Some("/api/projects/@current/cohorts")
        );
        assert_eq!(
            rewritten("/api/cohort/12/persons?a=b").as_deref(),
            Some("/api/projects/@current/cohorts/12/persons?a=b")
        );
        assert_eq!(
            rewritten("/api/cohort/12/persons.csv").as_deref(),
            Some("/api/projects/@current/cohorts/12/persons?format=csv")
        );
        assert_eq!(rewritten("/api/cohorts"), None);
    }
}
