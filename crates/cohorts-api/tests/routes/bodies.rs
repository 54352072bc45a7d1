//! When bodies are received: after the key is accepted, within memory, and files only if they are admitted.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::{Method, header};
use actix_web::test::TestRequest;
use actix_web::web::Bytes;
use cohorts_api::{BodyMemory, MemoryBudget};
use futures::stream;

use super::{COHORTS, Reply, send, send_to, with_key};
use crate::echo::Echo;

const ONE: &str = "/api/projects/1/cohorts/7/";

/// A body of `chunks`, and the number of chunks that were received.
fn counted(chunks: &[&str]) -> (Payload, Rc<Cell<usize>>) {
    let received = Rc::new(Cell::new(0));
    let counter = Rc::clone(&received);
    let chunks: Vec<Bytes> = chunks
        .iter()
        .map(|text| text.as_bytes().to_vec().into())
        .collect();
    let chunks = chunks.into_iter().map(move |chunk| {
        counter.set(counter.get() + 1);
        Ok::<_, PayloadError>(chunk)
    });
    let payload = Box::pin(stream::iter(chunks));
    (Payload::Stream { payload }, received)
}

/// The reply, and the number of chunks that the service received.
async fn send_chunks(echo: Echo, request: TestRequest, chunks: &[&str]) -> (Reply, usize) {
    let (payload, received) = counted(chunks);
    let reply = send_to(echo, request, Some(payload)).await;
    (reply, received.get())
}

fn without_key(media_type: &str) -> TestRequest {
    TestRequest::post()
        .uri(COHORTS)
        .insert_header((header::CONTENT_TYPE, media_type))
}

#[actix_web::test]
async fn body_is_not_received_with_a_wrong_key_in_the_header() {
    for (method, path) in [
        (Method::POST, COHORTS),
        (Method::PATCH, ONE),
        (Method::GET, COHORTS),
        (Method::OPTIONS, COHORTS),
        (Method::PUT, COHORTS),
    ] {
        let request = TestRequest::with_uri(path)
            .method(method.clone())
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .insert_header((header::AUTHORIZATION, "Bearer phx_bad"));
        let (reply, received) = send_chunks(Echo::default(), request, &["{", "}"]).await;
        assert_eq!((reply.status, received), (401, 0), "{method} {path}");
    }
}

#[actix_web::test]
async fn only_the_start_of_a_body_is_searched_for_a_key() {
    let filler = format!(r#""name": "{}", "#, "a".repeat(60));
    let key = r#""personal_api_key": "phx_good", "#;
    let late = ["{", &filler, &filler, key, r#""x": 1}"#];
    let (reply, received) =
        send_chunks(Echo::default(), without_key("application/json"), &late).await;
    assert_eq!(
        (reply.status, reply.body.as_str(), received),
        (401, "Request(NoKey { searched: 100 })", 3)
    );
    // The size of the chunks does not matter.
    let joined = late.concat();
    let request = without_key("application/json").set_payload(joined);
    assert_eq!(send(request).await.body, "Request(NoKey { searched: 100 })");
    let early = ["{", key, &filler, &filler, r#""x": 1}"#];
    let (reply, _) = send_chunks(Echo::default(), without_key("application/json"), &early).await;
    assert!(
        reply.body.starts_with("cohorts_create by Body"),
        "{}",
        reply.body
    );
    // A valid key in the query admits the rest of the body.
    let request =
        without_key("application/json").uri("/api/projects/1/cohorts/?personal_api_key=phx_good");
    let late = ["{", &filler, &filler, r#""x": 1}"#];
    let (reply, _) = send_chunks(Echo::default(), request, &late).await;
    assert!(
        reply.body.starts_with("cohorts_create by Query"),
        "{}",
        reply.body
    );
}

#[actix_web::test]
async fn key_of_the_body_precedes_that_of_the_query() {
    let body = r#"{"personal_api_key": "phx_good"}"#;
    let with_query = |key: &str| {
        let uri = format!("{COHORTS}?personal_api_key={key}");
        without_key("application/json").uri(&uri).set_payload(body)
    };
    for key in ["phx_good", "phx_bad"] {
        let reply = send(with_query(key)).await;
        assert!(
            reply.body.starts_with("cohorts_create by Body"),
            "{}",
            reply.body
        );
    }
    let wrong = with_query("phx_good").set_payload(r#"{"personal_api_key": "phx_bad"}"#);
    assert_eq!(send(wrong).await.status, 401);
}

/// curl sends `-d '{…}'` as a form.
#[actix_web::test]
async fn json_in_a_form_is_read_as_json() {
    let body = r#" {"personal_api_key": "phx_good", "name": "A&B=%41+C"}"#;
    for path in [COHORTS, "/api/projects/1/cohorts/preview/"] {
        let request = without_key("application/x-www-form-urlencoded").uri(path);
        let json = without_key("application/json").uri(path);
        let expected = send(json.set_payload(body)).await;
        let reply = send(request.set_payload(body)).await;
        let start = |reply: &Reply| reply.body.split("http: ").next().map(str::to_owned);
        assert_eq!(
            (reply.status, start(&reply)),
            (expected.status, start(&expected))
        );
        assert!(!reply.body.contains("NotAuth"), "{}", reply.body);
    }
}

#[actix_web::test]
async fn json_in_a_form_is_not_received_with_a_wrong_key_in_the_header() {
    let request = without_key("application/x-www-form-urlencoded")
        .insert_header((header::AUTHORIZATION, "Bearer phx_bad"));
    let (reply, received) = send_chunks(Echo::default(), request, &["{", "}"]).await;
    assert_eq!((reply.status, received), (401, 0));
}

fn part(name: &str, text: &str) -> String {
    let file = if name == "csv" {
        "; filename=\"f\""
    } else {
        ""
    };
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{text}\r\n")
}

const MULTIPART: &str = "multipart/form-data; boundary=b";

fn multipart(path: &str) -> TestRequest {
    with_key(Method::PATCH, path).insert_header((header::CONTENT_TYPE, MULTIPART))
}

/// A service with a limit that has room for a few parts.
fn for_parts() -> Echo {
    Echo {
        fields: 2_000,
        ..Echo::default()
    }
}

#[actix_web::test]
async fn file_is_received_only_if_it_is_admitted() {
    let (name, file) = (part("name", "A"), part("csv", ""));
    let mut chunks = vec![name.as_str(), file.strip_suffix("\r\n").unwrap_or(&file)];
    chunks.extend(["d"; 90]);
    chunks.push("\r\n--b--\r\n");
    let request = multipart("/api/projects/1/cohorts/404/");
    let long = [&chunks[..2], &["d"; 1_000]].concat();
    let (reply, received) = send_chunks(for_parts(), request, &long).await;
    let call = r#"no cohorts_partial_update [("name", "A")] None"#;
    assert_eq!(reply.body, call);
    // The parser reads ahead a little.
    assert!(received < 200, "{received}");
    let echo = for_parts();
    let files = echo.files.clone();
    let (reply, _) = send_chunks(echo, multipart(ONE), &chunks).await;
    assert!(reply.body.contains(r#"name: Value("A")"#), "{}", reply.body);
    assert!(
        reply.body.contains(r#"UploadedFile { name: "csv""#),
        "{}",
        reply.body
    );
    assert_eq!(files.load(Ordering::Relaxed), 0, "the permit is returned");
    // A permit is for a number of bytes.
    chunks.extend(["d"; 20]);
    chunks.swap(92, 112);
    let (reply, _) = send_chunks(for_parts(), multipart(ONE), &chunks).await;
    assert_eq!(reply.body, "Request(TooLarge { limit: 100 })");
}

#[actix_web::test]
async fn parts_without_content_are_counted() {
    let reply = |parts: Vec<String>, fields| async move {
        let chunks: Vec<&str> = parts.iter().map(String::as_str).collect();
        let echo = Echo {
            fields,
            ..Echo::default()
        };
        send_chunks(echo, multipart(ONE), &chunks).await.0
    };
    // Each counts with its name, its headers and a constant.
    let names: Vec<String> = (0..10).map(|_| part(&"n".repeat(900), "")).collect();
    let reply_to_names = reply(names.clone(), 20_000).await;
    assert_eq!(reply_to_names.body, "Request(TooLarge { limit: 20000 })");
    let empty = vec![part("n", ""); 10];
    let reply_to_empty = reply(empty, 5_000).await;
    assert_eq!(reply_to_empty.body, "Request(TooLarge { limit: 5000 })");
    let many = reply(vec![part("n", ""); 1_001], 4 << 20).await;
    assert!(many.body.contains("more than 1000 parts"), "{}", many.body);
    let long = reply(vec![part(&"n".repeat(1_001), "")], 4 << 20).await;
    assert!(long.body.contains("more than 1000 bytes"), "{}", long.body);
}

#[actix_web::test]
async fn key_of_a_multipart_body_is_before_the_file() {
    let (key, file) = (part("personal_api_key", "phx_good"), part("csv", "d1"));
    let chunks = [key.as_str(), &file, "--b--\r\n"];
    let (reply, _) = send_chunks(for_parts(), without_key(MULTIPART), &chunks).await;
    assert!(
        reply.body.starts_with("cohorts_create by Body"),
        "{}",
        reply.body
    );
    assert!(reply.body.contains("csv"), "{}", reply.body);
    let chunks = [file.as_str(), &key, "--b--\r\n"];
    let (reply, _) = send_chunks(Echo::default(), without_key(MULTIPART), &chunks).await;
    assert_eq!(reply.status, 401, "{}", reply.body);
}

#[actix_web::test]
async fn declared_length_over_the_limit_is_rejected_before_the_body() {
    let request = with_key(Method::POST, COHORTS)
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .insert_header((header::CONTENT_LENGTH, "201"));
    let (reply, received) = send_chunks(Echo::default(), request, &["{}"]).await;
    assert_eq!((reply.status, received), (413, 0));
    let request = multipart(ONE).insert_header((header::CONTENT_LENGTH, "401"));
    let (reply, received) = send_chunks(Echo::default(), request, &[&part("csv", "d1")]).await;
    assert_eq!((reply.status, received), (413, 0));
}

#[actix_web::test]
async fn body_without_memory_is_rejected_and_its_memory_is_returned() {
    let budget = MemoryBudget::new(8 << 10);
    let echo = |budget: &MemoryBudget| Echo {
        memory: BodyMemory {
            small: Some(budget.clone()),
            ..BodyMemory::default()
        },
        ..Echo::default()
    };
    let request = || {
        with_key(Method::POST, COHORTS).insert_header((header::CONTENT_TYPE, "application/json"))
    };
    let (reply, _) = send_chunks(echo(&budget), request(), &["{", "}"]).await;
    assert_eq!((reply.status, budget.used()), (201, 0));
    let taken = budget.reserve(5 << 10);
    let (reply, received) = send_chunks(echo(&budget), request(), &["{", "}"]).await;
    assert_eq!((reply.body.as_str(), received), ("Request(Overloaded)", 0));
    drop(taken);
    assert_eq!(budget.used(), 0);
}

#[actix_web::test]
async fn token_in_the_query_is_checked_before_the_body() {
    let request = TestRequest::post().uri("/batch/?token=bad");
    let (reply, received) = send_chunks(Echo::default(), request, &["x"]).await;
    assert_eq!((reply.status, received), (401, 0));
    let request = TestRequest::post().uri("/batch/?token=good");
    let (reply, received) = send_chunks(Echo::default(), request, &["x"]).await;
    assert_eq!((reply.status, received), (200, 1));
}
