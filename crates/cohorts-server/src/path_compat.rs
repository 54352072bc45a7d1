//! Other forms of the paths, which PostHog's clients use: a format as a suffix, environments in place of projects, the
//! cohorts of the current project without the project, and slashes that occur twice. They are rewritten to the paths of
//! the contract before routing, so everything after it sees one form.

use std::borrow::Cow;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Uri;
use actix_web::http::uri::PathAndQuery;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};

const PROJECTS: &str = "/api/projects/";
const ENVIRONMENTS: &str = "/api/environments";
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
    let path = with_single_slashes(uri.path());
    let full = with_project(&path);
    let format = ["json", "csv", "ndjson"].into_iter().find_map(|format| {
        let full = full.strip_suffix('/').unwrap_or(&full);
        let stem = full.strip_suffix(format)?.strip_suffix('.')?;
        (full.starts_with(PROJECTS) && !stem.ends_with('/')).then_some((stem, format))
    });
    if format.is_none() && full == uri.path() {
        return None;
    }
    let (path, format) = format.map_or((&*full, None), |(stem, format)| (stem, Some(format)));
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

/// The path with one slash for each run of slashes.
fn with_single_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut single = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !single.ends_with('/') {
            single.push(letter);
        }
    }
    Cow::Owned(single)
}

/// The path below its project.
fn with_project(path: &str) -> Cow<'_, str> {
    let below = |prefix: &str| {
        let rest = path.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    };
    if let Some(rest) = below(LEGACY) {
        Cow::Owned(format!("{CURRENT}{rest}"))
    } else if let Some(rest) = below(ENVIRONMENTS) {
        Cow::Owned(format!("{}{rest}", PROJECTS.trim_end_matches('/')))
    } else {
        Cow::Borrowed(path)
    }
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

    #[test]
    fn environments_are_projects() {
        for (path, expected) in [
            ("/api/environments/1/persons/", "/api/projects/1/persons/"),
            ("/api/environments/@current", "/api/projects/@current"),
            ("/api/environments/?limit=1", "/api/projects/?limit=1"),
            (
                "/api/environments/1/persons.csv?search=//a",
                "/api/projects/1/persons?search=//a&format=csv",
            ),
        ] {
            assert_eq!(rewritten(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(rewritten("/api/environmentsx/1/"), None);
        assert_eq!(rewritten("/api/projects/1/api/environments/2/"), None);
    }

    #[test]
    fn several_slashes_are_one() {
        for (path, expected) in [
            ("//batch/", "/batch/"),
            ("///api//projects/1///cohorts//", "/api/projects/1/cohorts/"),
            ("//api//environments//1/", "/api/projects/1/"),
            (
                "//api/cohort//2?next=a//b",
                "/api/projects/@current/cohorts/2?next=a//b",
            ),
            ("/batch//", "/batch/"),
        ] {
            assert_eq!(rewritten(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(rewritten("/batch/?next=//a"), None);
        // An encoded slash is part of a name.
        assert_eq!(rewritten("/api/projects/1/a%2F%2Fb/"), None);
    }
}
