//! Other forms of the paths, which PostHog's clients use: a format as a suffix, in the query or in `Accept`, environments
//! in place of projects, the cohorts of the current project without the project, and slashes that occur twice. They are
//! rewritten to the paths of the contract before routing, so everything after it sees one form.

use std::borrow::Cow;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::uri::PathAndQuery;
use actix_web::http::{Uri, header};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};
use form_urlencoded::parse;

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
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    if let Some(uri) = resolved(request.uri(), accept.unwrap_or_default()) {
        let original = OriginalUri(request.uri().clone());
        request.extensions_mut().insert(original);
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
    next.call(request).await
}

/// The address in the form of the contract; `None` if it has this form.
fn resolved(uri: &Uri, accept: &str) -> Option<Uri> {
    let path = with_single_slashes(uri.path());
    let full = with_project(&path);
    let (stem, suffix) = without_suffix(&full);
    let query = uri.query().unwrap_or_default();
    let file = if is_person_list(stem) {
        Some(chosen_format(&PERSON_FILES, suffix, query, accept))
    } else if is_feed(stem) {
        Some(chosen_format(&STREAMS, suffix, query, accept))
    } else {
        None
    };
    let path = match file.flatten() {
        Some(format) => Cow::Owned(format!("{}.{format}", stem.trim_end_matches('/'))),
        None => Cow::Borrowed(stem),
    };
    let format = suffix.map(|format| format!("format={format}"));
    let format = format.filter(|_| file.flatten().is_none());
    if format.is_none() && path == uri.path() {
        return None;
    }
    let query = [
        Some(query).filter(|query| !query.is_empty()),
        format.as_deref(),
    ];
    let query: Vec<&str> = query.into_iter().flatten().collect();
    let text = if query.is_empty() {
        path.into_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

/// The path without the format at its end, and the format.
fn without_suffix(path: &str) -> (&str, Option<&'static str>) {
    let found = ["json", "csv", "ndjson", "sse"]
        .into_iter()
        .find_map(|format| {
            let bare = path.strip_suffix('/').unwrap_or(path);
            let stem = bare.strip_suffix(format)?.strip_suffix('.')?;
            (path.starts_with(PROJECTS) && !stem.ends_with('/')).then_some((stem, Some(format)))
        });
    found.unwrap_or((path, None))
}

/// Whether the path is a list of persons, which is also offered as files.
fn is_person_list(path: &str) -> bool {
    let below = path.strip_prefix(PROJECTS).unwrap_or_default();
    let parts: Vec<&str> = below.trim_end_matches('/').split('/').collect();
    matches!(parts[..], [_, "persons"] | [_, "cohorts", _, "persons"])
}

/// Whether the path is a feed of changes, which is also offered as a stream.
fn is_feed(path: &str) -> bool {
    let below = path.strip_prefix(PROJECTS).unwrap_or_default();
    let parts: Vec<&str> = below.trim_end_matches('/').split('/').collect();
    matches!(
        parts[..],
        [_, "cohorts", "changes"] | [_, "cohorts", _, "changes"]
    )
}

/// A format other than JSON, with its media types.
type Format = (&'static str, &'static [&'static str]);

/// The formats of lists of persons.
const PERSON_FILES: [Format; 2] = [
    ("csv", &["text/csv", "text/*"]),
    ("ndjson", &["application/x-ndjson"]),
];
/// The formats of feeds of changes.
const STREAMS: [Format; 1] = [("sse", &["text/event-stream", "text/*"])];

/// The format that the request chooses; `None` for JSON and for unknown formats. The suffix of the path precedes the last
/// `format` of the query, and that the first known type in `Accept`.
fn chosen_format(
    formats: &[Format],
    suffix: Option<&str>,
    query: &str,
    accept: &str,
) -> Option<&'static str> {
    let parameter = parse(query.as_bytes())
        .filter(|(name, _)| name == "format")
        .last();
    let parameter = parameter
        .map(|(_, format)| format)
        .filter(|format| !format.is_empty());
    match suffix.or(parameter.as_deref()) {
        Some(name) => formats
            .iter()
            .map(|(format, _)| *format)
            .find(|format| *format == name),
        None => {
            let mut ranges = accept.split(',');
            ranges
                .find_map(|range| accepted_format(formats, range))
                .flatten()
        }
    }
}

/// The format that a media range includes. `Some(None)` is JSON.
fn accepted_format(formats: &[Format], range: &str) -> Option<Option<&'static str>> {
    let range = range.split(';').next().unwrap_or_default().trim();
    let range = range.to_ascii_lowercase();
    let format = formats.iter().find(|(_, types)| types.contains(&&*range));
    match (&*range, format) {
        (_, Some((format, _))) => Some(Some(format)),
        ("application/json" | "application/*" | "*/*", None) => Some(None),
        _ => None,
    }
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
        resolved(&text.parse().unwrap(), "").map(|uri| uri.to_string())
    }

    #[test]
    fn a_suffix_becomes_a_format() {
        for (path, expected) in [
            (
                "/api/projects/1/cohorts.csv",
                "/api/projects/1/cohorts?format=csv",
            ),
            (
                "/api/projects/1/cohorts/2.ndjson/?a=b",
                "/api/projects/1/cohorts/2?a=b&format=ndjson",
            ),
            (
                "/api/projects/1/persons/3.csv",
                "/api/projects/1/persons/3?format=csv",
            ),
        ] {
            assert_eq!(rewritten(path).as_deref(), Some(expected), "{path}");
        }
        let with_suffix =
            |suffix: &str| rewritten(&format!("/api/projects/1/cohorts/2/persons{suffix}"));
        assert_eq!(
            with_suffix(".json?limit=2").as_deref(),
            Some("/api/projects/1/cohorts/2/persons?limit=2&format=json")
        );
        for other in ["", "/", ".csv", ".ndjson?limit=2", ".xml", "/.csv", "csv"] {
            assert_eq!(with_suffix(other), None, "{other}");
        }
        assert_eq!(rewritten("/docs/a.json"), None);
    }

    #[test]
    fn format_of_persons_becomes_the_path_of_the_file() {
        let persons = "/api/projects/1/cohorts/2/persons";
        for (rest, accept, end) in [
            ("?format=csv", "", Some(".csv?format=csv")),
            (
                "/?a=b&format=%6edjson",
                "application/json",
                Some(".ndjson?a=b&format=%6edjson"),
            ),
            (".csv/", "", Some(".csv")),
            (
                ".ndjson/?format=csv",
                "text/csv",
                Some(".ndjson?format=csv"),
            ),
            (".csv?format=json", "", None),
            ("?format=csv&format=json", "text/csv", None),
            ("/?format=xml", "text/csv", None),
            ("/?format=", "text/csv", Some(".csv?format=")),
            ("/", "Text/CSV;q=0.5, application/json", Some(".csv")),
            ("/", "image/png, application/x-ndjson", Some(".ndjson")),
            ("/", "*/*, text/csv", None),
            ("/", "image/png", None),
        ] {
            for path in [persons, "/api/projects/@current/persons"] {
                let address = format!("{path}{rest}").parse().unwrap();
                let uri = resolved(&address, accept).map(|uri| uri.to_string());
                let expected = end.map(|end| format!("{path}{end}"));
                assert_eq!(uri, expected, "{rest} {accept}");
            }
        }
        for other in [
            "/api/projects/1/cohorts/",
            "/api/projects/1/persons/values/",
            "/persons",
        ] {
            assert_eq!(
                resolved(&other.parse().unwrap(), "text/csv"),
                None,
                "{other}"
            );
        }
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
            Some("/api/projects/@current/cohorts/12/persons.csv")
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
                "/api/projects/1/persons.csv?search=//a",
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
