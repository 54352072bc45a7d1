//! Formats of a feed, and which of them a request chooses.

use super::{feed_of, get_with, static_cohort, with_persons};

#[test]
fn a_stream_is_chosen_by_path_parameter_or_header() {
    let project = with_persons(1);
    let cohort = static_cohort(&project);
    let bearer = format!("Bearer {}", project.key);
    let key = ("authorization", bearer.as_str());
    let stream = "text/event-stream";
    for (path, accept, expected) in [
        (feed_of(cohort), "*/*", "application/json"),
        (feed_of(cohort), "application/json", "application/json"),
        (feed_of(cohort), stream, stream),
        (format!("{}?format=sse", feed_of(cohort)), "*/*", stream),
        (
            format!("{}?format=json", feed_of(cohort)),
            stream,
            "application/json",
        ),
        (
            format!("cohorts/{cohort}/changes.sse"),
            "application/json",
            stream,
        ),
        ("cohorts/changes/".to_owned(), stream, stream),
        ("cohorts/changes.sse".to_owned(), "*/*", stream),
    ] {
        let answer = get_with(&project, &path, &[key, ("accept", accept)]);
        assert_eq!(answer.status, 200, "{path} {accept}: {}", answer.text);
        let content_type = answer.header("content-type").unwrap_or_default();
        assert!(
            content_type.starts_with(expected),
            "{path} {accept}: {content_type}"
        );
    }
    let path = format!("{}?format=csv", feed_of(cohort));
    let answer = get_with(&project, &path, &[key]);
    answer.is_error(404, "not_found", None);
}
