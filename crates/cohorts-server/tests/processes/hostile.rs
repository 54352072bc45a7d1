//! Clients that mean no good take nothing from those who do.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{At, Service, ask, event, sent, until, well};

/// What a connection that says this first is told, and whether it was closed, within a time.
fn told(url: &str, says: &[u8], within: Duration) -> (String, bool) {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let _ = stream.write_all(says);
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let (mut heard, begun) = (Vec::new(), Instant::now());
    let mut bytes = [0; 4_096];
    while begun.elapsed() < within {
        match stream.read(&mut bytes) {
            Ok(0) => return (String::from_utf8_lossy(&heard).into_owned(), true),
            Ok(length) => heard.extend(&bytes[..length]),
            Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // A header a little at a time.
                if stream.write_all(b"X-Drip: 1\r\n").is_err() {
                    return (String::from_utf8_lossy(&heard).into_owned(), true);
                }
            }
            Err(_) => return (String::from_utf8_lossy(&heard).into_owned(), true),
        }
    }
    (String::from_utf8_lossy(&heard).into_owned(), false)
}

#[test]
fn ten_hostile_clients_do_no_harm() {
    let directory = TempDir::new().unwrap();
    let at = At::Directory(directory.path().to_owned());
    let of = at.project();
    let service = Service::start(&at, &[]);
    let url = service.url.as_str();
    let patterns: Vec<String> = (0..900).map(|nth| format!("(x+x+)+{nth}y")).collect();
    let mut text = event("p", 1);
    text["properties"]["$set"] = json!({"text": "x".repeat(100_000)});
    assert!(sent(url, &of, &json!([text])));
    let path = format!("/api/projects/{}/cohorts/", of.project);
    let post = |body: Vec<u8>| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            of.key,
            body.len()
        );
        let (heard, _) = told(
            url,
            &[head.as_bytes(), &body].concat(),
            Duration::from_secs(20),
        );
        heard.split(' ').nth(1).unwrap_or("none").to_owned()
    };
    let post = &post;
    thread::scope(|scope| {
        // Headers that never end are given up.
        for _ in 0..4 {
            scope.spawn(|| {
                let (_, closed) = told(
                    url,
                    b"GET / HTTP/1.1\r\nHost: a\r\n",
                    Duration::from_secs(40),
                );
                assert!(closed, "headers may take for ever");
            });
        }
        // Too large, too deep, no text, no Unicode: each is refused as what it is.
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
        // Endless patterns end.
        scope.spawn(|| {
            let leaf =
                json!({"type": "person", "key": "text", "operator": "regex", "value": patterns});
            let body = json!({"filters": {"properties": {"type": "AND", "values": [leaf]}}});
            let path = format!("/api/projects/{}/cohorts/preview/", of.project);
            let answer = ask(url, &of, Method::POST, &path, Some(&body));
            assert!(answer.is_none_or(|(status, _)| matches!(status, 200 | 400 | 503)));
        });
        // Meanwhile everybody else is served.
        scope.spawn(|| {
            for nth in 0..50 {
                let begun = Instant::now();
                let made = well(url, &of, Method::GET, "cohorts/", None);
                assert!(made["results"].is_array());
                assert!(sent(url, &of, &json!([event("q", 100 + nth)])));
                assert!(
                    begun.elapsed() < Duration::from_secs(10),
                    "nobody else is served"
                );
            }
        });
    });
    let live =
        |_: ()| ask(url, &of, Method::GET, "/_livez", None) == Some((200, Value::from("ok\n")));
    until("it lives", || live(()));
    assert!(service.stop());
}
