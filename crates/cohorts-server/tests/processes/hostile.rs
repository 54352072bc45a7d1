//! Hostile clients do not block others.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Location, Service, ask, event, sent, until, well};

/// Sends bytes and then header lines in a trickle. Returns the response, and whether the connection was closed in time.
fn exchange(url: &str, says: &[u8], within: Duration) -> (String, bool) {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let _ = stream.write_all(says);
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let (mut response, start) = (Vec::new(), Instant::now());
    let mut bytes = [0; 4_096];
    while start.elapsed() < within {
        match stream.read(&mut bytes) {
            Ok(0) => return (String::from_utf8_lossy(&response).into_owned(), true),
            Ok(length) => response.extend(&bytes[..length]),
            Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // One more header line keeps the request unfinished.
                if stream.write_all(b"X-Drip: 1\r\n").is_err() {
                    return (String::from_utf8_lossy(&response).into_owned(), true);
                }
            }
            Err(_) => return (String::from_utf8_lossy(&response).into_owned(), true),
        }
    }
    (String::from_utf8_lossy(&response).into_owned(), false)
}

#[test]
fn hostile_clients_do_not_block_others() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let access = at.project();
    let service = Service::start(&at, &[]);
    let url = service.url.as_str();
    let patterns: Vec<String> = (0..900).map(|nth| format!("(x+x+)+{nth}y")).collect();
    let mut text = event("p", 1);
    text["properties"]["$set"] = json!({"text": "x".repeat(100_000)});
    assert!(sent(url, &access, &json!([text])));
    let path = format!("/api/projects/{}/cohorts/", access.project);
    let post = |body: Vec<u8>| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            access.key,
            body.len()
        );
        let (response, _) = exchange(
            url,
            &[head.as_bytes(), &body].concat(),
            Duration::from_secs(20),
        );
        response.split(' ').nth(1).unwrap_or("none").to_owned()
    };
    let post = &post;
    thread::scope(|scope| {
        // The service closes connections whose headers never end.
        for _ in 0..4 {
            scope.spawn(|| {
                let (_, closed) = exchange(
                    url,
                    b"GET / HTTP/1.1\r\nHost: a\r\n",
                    Duration::from_secs(40),
                );
                assert!(closed, "headers may take for ever");
            });
        }
        // A body that is too large, too deep, not UTF-8 or not Unicode has its own error.
        scope.spawn(move || {
            assert!(matches!(
                post(vec![b' '; 64 << 20]).as_str(),
                "413" | "none"
            ))
        });
        let deep = ["[".repeat(200_000), "]".repeat(200_000)].concat();
        let deep = format!("{{\"filters\": {deep}}}");
        scope.spawn(move || assert_eq!(post(deep.into_bytes()), "400"));
        scope.spawn(move || assert_eq!(post(b"{\"name\": \"a\xff\xfe\"}".to_vec()), "400"));
        scope.spawn(move || assert_eq!(post(b"{\"name\": \"a\\ud800b\"}".to_vec()), "400"));
        scope.spawn(move || {
            assert!(matches!(
                post(b"{\"name\": \"a\\u0000b\"}".to_vec()).as_str(),
                "400" | "201"
            ))
        });
        // Expensive patterns are answered within the time limit.
        scope.spawn(|| {
            let leaf =
                json!({"type": "person", "key": "text", "operator": "regex", "value": patterns});
            let body = json!({"filters": {"properties": {"type": "AND", "values": [leaf]}}});
            let path = format!("/api/projects/{}/cohorts/preview/", access.project);
            let answer = ask(url, &access, Method::POST, &path, Some(&body));
            assert!(answer.is_none_or(|(status, _)| matches!(status, 200 | 400 | 503)));
        });
        // Meanwhile other clients are served.
        scope.spawn(|| {
            for nth in 0..50 {
                let start = Instant::now();
                let creation = well(url, &access, Method::GET, "cohorts/", None);
                assert!(creation["results"].is_array());
                assert!(sent(url, &access, &json!([event("q", 100 + nth)])));
                assert!(
                    start.elapsed() < Duration::from_secs(10),
                    "nobody else is served"
                );
            }
        });
    });
    let live =
        |_: ()| ask(url, &access, Method::GET, "/_livez", None) == Some((200, Value::from("ok\n")));
    until("it lives", || live(()));
    assert!(service.stop());
}
