//! Bodies of clients that send much, slowly, or without a key take little memory and disk, and delay no other client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Access, PATIENCE, ask, event, sent, until, well};
use crate::memory::{Attacked, MARGIN};

/// A connection with the beginning of a request.
fn begin(url: &str, head: &[String], length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let head = head.join("\r\n");
    let text =
        format!("{head}\r\nHost: a\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// The status of the response; `None` if the connection was closed before it arrived.
fn status(mut stream: TcpStream) -> Option<u16> {
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    let text = String::from_utf8_lossy(&response).into_owned();
    text.split(' ').nth(1)?.parse().ok()
}

/// Sends a whole body. The service may answer before its end.
fn exchange(url: &str, head: &[String], body: &[u8]) -> Option<u16> {
    let mut stream = begin(url, head, body.len());
    let _ = stream.write_all(body);
    status(stream)
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}")
}

const JSON: &str = "Content-Type: application/json";
const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=b";

#[test]
fn unfinished_bodies_do_not_stop_the_captures_of_others() {
    let attacked = Attacked::start();
    let url = attacked.service.url.as_str();
    let head = ["POST /batch/ HTTP/1.1".to_owned(), JSON.to_owned()];
    // Together, they take almost all of the memory for requests.
    let bytes = vec![b' '; 2_680_000];
    attacked.withstands(MARGIN, || {
        let send = |length: usize| {
            let mut stream = begin(url, &head, 20 << 20);
            let _ = stream.write_all(&bytes[..length]);
            stream
        };
        let large: Vec<TcpStream> = thread::scope(|scope| {
            let sends: Vec<_> = (0..98).map(|_| scope.spawn(|| send(bytes.len()))).collect();
            sends.into_iter().map(|send| send.join().unwrap()).collect()
        });
        // Smaller ones take what the large ones have left.
        let lengths = [60_000, 4_000, 0].into_iter();
        let mut small: Vec<TcpStream> =
            lengths.flat_map(|length| [length; 100]).map(send).collect();
        for nth in 0..20 {
            small.extend([60_000; 10].map(send));
            let large = json!({"text": "x".repeat(40_000)});
            let mut event = event("small", 1_000 + nth);
            event["properties"]["$set"] = large;
            assert!(
                sent(url, &attacked.access, &json!([event])),
                "capture {nth}"
            );
        }
        drop((large, small));
    });
}

/// The text of a filter of the largest size, with as many values as possible.
fn many_values(key: Option<&str>) -> Vec<u8> {
    let lists = "[0],".repeat((4 << 18) - 100);
    let text = format!(r#"{{"filters": [{lists}[0]]"#);
    match key {
        Some(key) => format!(r#"{text}, "personal_api_key": "{key}"}}"#).into(),
        None => format!("{text}}}").into(),
    }
}

#[test]
fn bodies_without_an_accepted_key_are_not_received() {
    let attacked = Attacked::start();
    let (url, access) = (attacked.service.url.as_str(), &attacked.access);
    let path = format!("/api/projects/{}/cohorts/", access.project);
    let post = [format!("POST {path} HTTP/1.1"), JSON.to_owned()];
    let wrong = [post.to_vec(), vec![bearer("phx_wrong")]].concat();
    let (without, late) = (many_values(None), many_values(Some(&access.key)));
    attacked.withstands(MARGIN, || {
        thread::scope(|scope| {
            for nth in 0..200 {
                let (head, body) = match nth % 3 {
                    0 => (&post[..], &without),
                    1 => (&post[..], &late),
                    _ => (&wrong[..], &without),
                };
                scope.spawn(move || {
                    let status = exchange(url, head, body);
                    // Wrong keys are limited, too.
                    assert!(matches!(status, Some(401 | 429 | 503) | None), "{status:?}");
                });
            }
        });
    });
    // Without other load, the client reads why, though it has not sent the whole body.
    for (head, body) in [
        (&post[..], &without),
        (&post[..], &late),
        (&wrong[..], &without),
    ] {
        let mut stream = begin(url, head, body.len());
        let start = &body[..body.len().min(100_000)];
        let _ = stream.write_all(start);
        assert!(matches!(status(stream), Some(401 | 429)));
    }
}

#[test]
fn bodies_with_very_many_values_take_little_memory() {
    let attacked = Attacked::start();
    let (url, access) = (attacked.service.url.as_str(), &attacked.access);
    let path = format!("/api/projects/{}/cohorts/", access.project);
    let post = [
        format!("POST {path} HTTP/1.1"),
        JSON.to_owned(),
        bearer(&access.key),
    ];
    let many = many_values(None);
    let numbers = format!(r#"{{"filters": [{}0]}}"#, "0,".repeat(1 << 20)).into_bytes();
    let names = format!(r#"{{{}"name": 1}}"#, r#""":0,"#.repeat(700_000)).into_bytes();
    attacked.withstands(MARGIN, || {
        thread::scope(|scope| {
            for body in [&many, &numbers, &names] {
                for _ in 0..4 {
                    let post = &post;
                    scope.spawn(move || {
                        let status = exchange(url, post, body);
                        assert!(matches!(status, Some(201 | 400 | 503) | None), "{status:?}");
                    });
                }
            }
        });
    });
    let cohorts = well(url, access, Method::GET, "cohorts/", None);
    assert!(cohorts["results"].is_array());
}

#[test]
fn actions_with_very_many_steps_take_little_memory() {
    let attacked = Attacked::start();
    let (url, access) = (attacked.service.url.as_str(), &attacked.access);
    let path = format!("/api/projects/{}/actions/", access.project);
    let post = [
        format!("POST {path} HTTP/1.1"),
        JSON.to_owned(),
        bearer(&access.key),
    ];
    let steps = "{},".repeat((4 << 20) / 3 - 100);
    let body = format!(r#"{{"name": "A", "steps": [{steps}{{}}]}}"#).into_bytes();
    attacked.withstands(MARGIN / 4, || {
        thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let status = exchange(url, &post, &body);
                    assert!(matches!(status, Some(400 | 503) | None), "{status:?}");
                });
            }
        });
    });
}

#[test]
fn parts_without_content_are_refused_before_they_take_memory() {
    let attacked = Attacked::start();
    let (url, access) = (attacked.service.url.as_str(), &attacked.access);
    let path = format!("/api/projects/{}/cohorts/", access.project);
    let post = [
        format!("POST {path} HTTP/1.1"),
        MULTIPART.to_owned(),
        bearer(&access.key),
    ];
    let part =
        |name: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n\r\n");
    attacked.withstands(MARGIN, || {
        for name in ["n".repeat(60_000), "n".repeat(999), "n".to_owned()] {
            let part = part(&name);
            let body = [
                part.repeat((400 << 20) / part.len()),
                "--b--\r\n".to_owned(),
            ]
            .concat();
            let status = exchange(url, &post, body.as_bytes());
            assert!(matches!(status, Some(400 | 413) | None), "{status:?}");
        }
    });
}

/// The number of deleted files that the service has open, which are the files of running uploads.
fn files_of_uploads(pid: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets
        .filter(|target| target.to_string_lossy().ends_with("(deleted)"))
        .count()
}

const FILE: &str = "--b\r\nContent-Disposition: form-data; name=\"csv\"; filename=\"f\"\r\n\r\n";

/// An upload that does not end.
fn endless(url: &str, access: &Access, cohort: &Value, length: usize) -> TcpStream {
    let path = format!("/api/projects/{}/cohorts/{cohort}/", access.project);
    let head = [
        format!("PATCH {path} HTTP/1.1"),
        MULTIPART.to_owned(),
        bearer(&access.key),
    ];
    let mut stream = begin(url, &head, length);
    let _ = stream.write_all(FILE.as_bytes());
    let _ = stream.write_all("d1\n".repeat(100_000).as_bytes());
    stream
}

#[test]
fn uploads_are_admitted_before_they_are_received() {
    let attacked = Attacked::start();
    let (url, access) = (attacked.service.url.as_str(), &attacked.access);
    let body = json!({"name": "S", "is_static": true});
    let cohort = &well(url, access, Method::POST, "cohorts/", Some(&body))["id"];
    let pid = attacked.service.pid();
    let uploads: Vec<TcpStream> = (0..12)
        .map(|_| endless(url, access, cohort, 20 << 20))
        .collect();
    until("uploads have begun", || files_of_uploads(pid) > 0);
    // Other operations of the project are answered, and no more files appear.
    for nth in 0..20 {
        assert!(sent(url, access, &json!([event("d1", 2_000 + nth)])));
        assert!(files_of_uploads(pid) <= 2, "{}", files_of_uploads(pid));
    }
    drop(uploads);
    until("the files are deleted", || files_of_uploads(pid) == 0);
    let path = format!("/api/projects/{}/cohorts/{cohort}/", access.project);
    let found = ask(url, access, Method::GET, &path, None);
    assert_eq!(found.map(|(status, _)| status), Some(200));
    // A file that no cohort takes is refused at its start: the client never sends the rest.
    let dynamic = &well(
        url,
        access,
        Method::POST,
        "cohorts/",
        Some(&json!({"name": "D"})),
    )["id"];
    assert_eq!(
        status(endless(url, access, &json!(999_999), 20 << 20)),
        Some(404)
    );
    assert_eq!(status(endless(url, access, dynamic, 1 << 30)), Some(400));
    assert_eq!(status(endless(url, access, cohort, 5 << 30)), Some(413));
}
