//! Streams over changes, against a listener with prepared responses.

mod stub;

use std::pin::pin;

use cohorts_client::{Error, is_cursor_expired, types};
use futures::{StreamExt, TryStreamExt};

use stub::{listen, response};

fn page(ids: &[&str], cursor: &str, has_more: bool) -> String {
    let row = |id: &&str| {
        format!(
            r#"{{"cohort_id":5,"change":"entered","at":"2026-03-01T12:00:00Z","version":1,"cause":"data",
            "person":{{"uuid":"0190a1b2-c3d4-7e8f-9012-a3b4c5d6e7f8","distinct_ids":["{id}"]}}}}"#
        )
    };
    let rows: Vec<_> = ids.iter().map(row).collect();
    let rows = rows.join(",");
    let body = format!(r#"{{"results":[{rows}],"cursor":"{cursor}","has_more":{has_more}}}"#);
    response("200 OK", &body)
}

fn failure(status: &str, code: &str) -> String {
    let body =
        format!(r#"{{"type":"server_error","code":"{code}","detail":"Later.","attr":null}}"#);
    response(&format!("{status}\r\nRetry-After: 0"), &body)
}

/// The queries of requests.
fn queries(requests: Vec<String>) -> Vec<String> {
    let query = |request: String| {
        let line = request.lines().next().unwrap_or_default();
        line.split(['?', ' ']).nth(2).unwrap_or_default().to_owned()
    };
    requests.into_iter().map(query).collect()
}

fn id(change: &types::CohortChange) -> &str {
    &change.person.distinct_ids[0]
}

#[tokio::test]
async fn stream_continues_after_failures_without_a_gap() {
    let responses = vec![
        page(&["a", "b"], "c1", true),
        page(&["c"], "c2", false),
        // A connection that breaks, a service that restarts, and a proxy without a service.
        String::new(),
        failure("503 Service Unavailable", "unavailable"),
        failure("429 Too Many Requests", "throttled"),
        response("502 Bad Gateway", "<html>"),
        page(&[], "c2", false),
        page(&["d"], "c3", false),
    ];
    let (client, requests) = listen(responses);
    let call = client.cohorts_changes().project_id("1").id(5);
    let stream = call.from("start").limit(2).stream().take(4);
    let changes: Vec<types::CohortChange> = stream.try_collect().await.expect("changes");
    let ids: Vec<&str> = changes.iter().map(id).collect();
    assert_eq!(ids, ["a", "b", "c", "d"]);
    let mut expected = vec![
        "from=start&limit=2&wait=0",
        "cursor=c1&from=start&limit=2&wait=25",
    ];
    expected.extend(["cursor=c2&from=start&limit=2&wait=25"; 6]);
    assert_eq!(queries(requests.join().expect("requests")), expected);
}

#[tokio::test]
async fn pages_have_each_new_cursor() {
    let responses = vec![
        page(&[], "c1", false),
        page(&[], "c1", false),
        page(&[], "c2", false),
        page(&["a"], "c3", false),
    ];
    let (client, requests) = listen(responses);
    let call = client.cohorts_all_changes().project_id("1");
    let pages: Vec<types::ChangePage> = call.pages().take(3).try_collect().await.expect("pages");
    let pages: Vec<(&str, usize)> = pages
        .iter()
        .map(|page| (page.cursor.as_str(), page.results.len()))
        .collect();
    assert_eq!(pages, [("c1", 0), ("c2", 0), ("c3", 1)]);
    let expected = [
        "wait=0",
        "cursor=c1&wait=25",
        "cursor=c1&wait=25",
        "cursor=c2&wait=25",
    ];
    assert_eq!(queries(requests.join().expect("requests")), expected);
}

#[tokio::test]
async fn an_expired_cursor_is_the_last_item() {
    let responses = vec![
        page(&["a"], "c1", false),
        failure("410 Gone", "cursor_expired"),
    ];
    let (client, requests) = listen(responses);
    let call = client.cohorts_changes().project_id("1").id(5);
    let mut stream = pin!(call.cursor("c0").stream());
    assert!(stream.next().await.expect("a change").is_ok());
    let error = stream.next().await.expect("an error").expect_err("expired");
    assert!(is_cursor_expired(&error));
    assert!(stream.next().await.is_none());
    let expected = ["cursor=c0&wait=0", "cursor=c1&wait=25"];
    assert_eq!(queries(requests.join().expect("requests")), expected);
}

#[tokio::test]
async fn an_error_that_no_repetition_mends_ends_the_stream() {
    for status in [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "400 Bad Request",
    ] {
        let responses = vec![page(&["a"], "c1", false), failure(status, "not_found")];
        let (client, requests) = listen(responses);
        let call = client.cohorts_changes().project_id("1").id(5);
        let items: Vec<_> = call.stream().collect().await;
        assert_eq!((items.len(), items[0].is_ok()), (2, true), "{status}");
        assert!(matches!(items[1], Err(Error::ErrorResponse(_))), "{status}");
        assert_eq!(requests.join().expect("requests").len(), 2);
    }
}

#[tokio::test]
async fn an_error_of_the_first_request_ends_the_stream() {
    let (client, requests) = listen(vec![failure("503 Service Unavailable", "unavailable")]);
    let call = client.cohorts_changes().project_id("1").id(5);
    let items: Vec<_> = call.stream().collect().await;
    assert!(matches!(items[..], [Err(Error::ErrorResponse(_))]));
    assert_eq!(requests.join().expect("requests").len(), 1);
    // No service is there any more.
    let call = client.cohorts_changes().project_id("1").id(5);
    let items: Vec<_> = call.stream().collect().await;
    assert!(matches!(items[..], [Err(Error::CommunicationError(_))]));
}
