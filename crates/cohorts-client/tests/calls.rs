//! Tests of the generated calls, against a listener with prepared responses.

mod stub;

use std::thread::JoinHandle;

use cohorts_client::{Client, Error, Nullable, types};
use futures::TryStreamExt;

use stub::{listen, response};

fn page(names: &[&str], next: Option<&str>) -> String {
    let row = |name: &&str| {
        format!(
            r#"{{"type":"person","id":"0190a1b2-c3d4-7e8f-9012-a3b4c5d6e7f8",
            "uuid":"0190a1b2-c3d4-7e8f-9012-a3b4c5d6e7f8","name":"{name}","distinct_ids":[],
            "properties":{{}},"created_at":"2026-03-01T12:00:00Z","last_seen_at":null,
            "is_identified":null,"matched_recordings":[],"value_at_data_point":null}}"#
        )
    };
    let rows: Vec<_> = names.iter().map(row).collect();
    let next = next.map_or("null".to_owned(), |next| format!("\"{next}\""));
    let rows = rows.join(",");
    let body = format!(r#"{{"results":[{rows}],"next":{next},"previous":null}}"#);
    response("200 OK", &body)
}

#[tokio::test]
async fn stream_follows_the_pages_until_next_is_null() {
    let responses = vec![
        page(&["a", "b"], Some("http://host/?offset=7")),
        page(&["c", "d"], Some("http://host/?offset=9")),
        page(&[], None),
    ];
    let (client, requests) = listen(responses);
    let call = client
        .cohorts_persons_retrieve()
        .project_id("@current")
        .id(3);
    let persons: Vec<types::Person> = call
        .limit(2)
        .offset(5)
        .stream()
        .try_collect()
        .await
        .expect("three pages");
    let names: Vec<_> = persons.into_iter().map(|person| person.name).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    let requests = requests.join().expect("three requests");
    for (request, offset) in requests.iter().zip([5, 7, 9]) {
        let line =
            format!("get /api/projects/@current/cohorts/3/persons/?limit=2&offset={offset} ");
        assert!(request.starts_with(&line), "{request}");
        assert!(
            request.contains("authorization: bearer phx_0123"),
            "{request}"
        );
    }
}

/// The names of all persons of a stream, and the queries of the requests.
async fn streamed(client: Client, requests: JoinHandle<Vec<String>>) -> (Vec<String>, Vec<String>) {
    let call = client.persons_list().project_id("1").limit(2).stream();
    let persons: Vec<types::Person> = call.try_collect().await.expect("all pages");
    let names = persons.into_iter().map(|person| person.name);
    let requests = requests.join().expect("all requests").into_iter();
    let query = |request: String| {
        let line = request.lines().next().unwrap_or_default();
        let query = line.split(['?', ' ']).nth(2).unwrap_or_default();
        query.to_owned()
    };
    (names.collect(), requests.map(query).collect())
}

#[tokio::test]
async fn stream_follows_the_cursors_of_links() {
    let responses = vec![
        page(
            &["a", "b"],
            Some("http://host/?limit=2&cursor=x%2B1&offset=0"),
        ),
        page(&[], Some("?cursor=y")),
        page(&["c"], None),
    ];
    let (client, requests) = listen(responses);
    let (names, queries) = streamed(client, requests).await;
    assert_eq!(names, ["a", "b", "c"]);
    let expected = [
        "cursor=&limit=2",
        "cursor=x%2b1&limit=2",
        "cursor=y&limit=2",
    ];
    assert_eq!(queries, expected);
}

/// PostHog has no cursors.
#[tokio::test]
async fn stream_follows_the_offsets_of_links_without_cursors() {
    let responses = vec![
        page(&["a", "b"], Some("http://host/?limit=2&offset=2")),
        page(&["c"], None),
    ];
    let (client, requests) = listen(responses);
    let (names, queries) = streamed(client, requests).await;
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(queries, ["cursor=&limit=2", "limit=2&offset=2"]);
}

#[tokio::test]
async fn stream_ends_at_a_page_that_leads_to_itself() {
    let responses = vec![
        page(&["a"], Some("http://host/?cursor=x")),
        page(&["b"], Some("http://host/?cursor=x")),
    ];
    let (client, requests) = listen(responses);
    let (names, _) = streamed(client, requests).await;
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn stream_ends_after_an_error() {
    let body = r#"{"type":"invalid_request","code":"not_found","detail":"Not found.","attr":null}"#;
    let (client, requests) = listen(vec![response("404 Not Found", body)]);
    let call = client
        .cohorts_persons_retrieve()
        .project_id("1")
        .id(3)
        .stream();
    let error = call
        .try_collect::<Vec<_>>()
        .await
        .expect_err("no such cohort");
    let Error::ErrorResponse(error) = error else {
        panic!("{error}");
    };
    assert_eq!(
        (error.status().as_u16(), error.code.as_str()),
        (404, "not_found")
    );
    requests.join().expect("one request");
}

#[tokio::test]
async fn partial_update_sends_null_and_omits_absent_fields() {
    let (client, requests) = listen(vec![response("500 Oops", "")]);
    let change = types::PatchedCohort::builder()
        .name(Nullable::Null)
        .description("a".to_owned());
    let call = client.cohorts_partial_update().project_id("1").id(3);
    call.body(change)
        .send()
        .await
        .expect_err("the listener answers 500");
    let requests = requests.join().expect("one request");
    assert!(
        requests[0].ends_with(r#"{"description":"a","name":null}"#),
        "{}",
        requests[0]
    );
}

#[tokio::test]
async fn error_without_a_body_has_its_status() {
    let (client, requests) = listen(vec![response("405 Method Not Allowed", "")]);
    let call = client.cohorts_destroy().project_id("1").id(3);
    let error = call.send().await.expect_err("deleting is not allowed");
    assert!(matches!(error, Error::UnexpectedResponse(_)), "{error:?}");
    assert_eq!(error.status().map(|status| status.as_u16()), Some(405));
    requests.join().expect("one request");
}

#[test]
fn key_that_a_header_cannot_contain_is_an_error() {
    let error = Client::with_key("http://localhost", "a\nb").err();
    let text = error.map(|error| error.to_string());
    assert_eq!(
        text.as_deref(),
        Some("the key contains a character that a header cannot contain")
    );
}

#[test]
fn unknown_criterion_is_preserved() {
    let text = r#"{"properties":{"type":"OR","values":[{"type":"moon","phase":1}]}}"#;
    let filters: types::CohortFilters = serde_json::from_str(text).expect("a filter");
    assert_eq!(serde_json::to_string(&filters).expect("JSON"), text);
}

/// The values of a later version of the service.
#[tokio::test]
async fn unknown_values_of_enums_are_read_and_sent_back() {
    let text = include_str!("posthog/cohorts_list.json").replace("\"realtime\"", "\"geo\"");
    let (client, _) = listen(vec![response("200 OK", &text)]);
    let page = client.cohorts_list().project_id("2").send().await;
    let page = page.expect("a readable page").into_inner();
    let kind = page.results[0].cohort_type.clone().expect("a type");
    let shown = match &kind {
        types::CohortType::Static => "static".to_owned(),
        other => other.to_string(),
    };
    assert_eq!(shown, "geo");
    assert_eq!(kind, types::CohortType::from("geo"));
    assert_eq!(kind, types::CohortType::Other("geo".to_owned()));
    assert_eq!(serde_json::to_value(&kind).expect("JSON"), "geo");
    assert_eq!("static".parse(), Ok(types::CohortType::Static));
}

/// A list of values that requests contain is open only if the contract says so.
#[test]
fn enums_of_requests_are_closed() {
    let body = serde_json::from_str::<types::CohortCreate>(r#"{"cohort_type":"geo"}"#);
    body.expect_err("an unknown type");
}
