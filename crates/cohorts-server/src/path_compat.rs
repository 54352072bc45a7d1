//! Other ways to write the contract's paths, which PostHog's clients use: a format as a suffix, and the cohorts
//! of the current project without naming it. They are turned into the contract's own before a route is looked for.

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

/// The address that is meant, if it is another one.
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
    let text = match query.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", query.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(text: &str) -> Option<String> {
        resolved(&text.parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn a_suffix_stands_for_a_format() {
        let meant_by = |suffix: &str| meant(&format!("/api/projects/1/cohorts/2/persons{suffix}"));
        assert_eq!(
            meant_by(".csv").as_deref(),
            Some("/api/projects/1/cohorts/2/persons?format=csv")
        );
        assert_eq!(
            meant_by(".json?limit=2").as_deref(),
            Some("/api/projects/1/cohorts/2/persons?limit=2&format=json")
        );
        assert_eq!(
            meant_by(".csv/").as_deref(),
            Some("/api/projects/1/cohorts/2/persons?format=csv")
        );
        for other in ["", "/", ".xml", "/.csv", "csv"] {
            assert_eq!(meant_by(other), None, "{other}");
        }
        assert_eq!(meant("/docs/a.json"), None);
    }

    #[test]
    fn the_legacy_path_stands_for_the_current_project() {
        assert_eq!(
            meant("/api/cohort").as_deref(),
            Some("/api/projects/@current/cohorts")
        );
        assert_eq!(
            meant("/api/cohort/12/persons?a=b").as_deref(),
            Some("/api/projects/@current/cohorts/12/persons?a=b")
        );
        assert_eq!(
            meant("/api/cohort/12/persons.csv").as_deref(),
            Some("/api/projects/@current/cohorts/12/persons?format=csv")
        );
        assert_eq!(meant("/api/cohorts"), None);
    }
}
