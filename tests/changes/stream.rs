//! Feeds as streams of server-sent events.

use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use cohorts_server::KeyGrant;
use reqwest::Method;
use reqwest::blocking::{Client, Response};
use reqwest::header::{HeaderName, RETRY_AFTER};
use serde_json::Value;

use super::{add, cursor, feed_of, page, read_all, remove, static_cohort, with_persons};
use crate::harness::{EMAIL, Project, key, request_to, start};

/// A stream that is being read.
struct Stream(BufReader<Response>);

/// The fields of an event or a comment.
#[derive(Clone, Debug, Default, PartialEq)]
struct Event {
    id: Option<String>,
    event: Option<String>,
    data: Option<String>,
}

impl Event {
    fn row(&self) -> Value {
        let data = self.data.as_deref().expect("data");
        serde_json::from_str(data).expect("JSON")
    }
}

/// Asks for a stream, without the check of the contract, which reads the beginning.
fn ask(project: &Project, path: &str, header: Option<(HeaderName, &str)>) -> Response {
    let client = Client::builder().timeout(Duration::from_secs(120)).build();
    let url = format!("{}{}", project.server.url(), project.path(path));
    let mut call = client
        .expect("a client")
        .request(Method::GET, url)
        .bearer_auth(&project.key);
    if let Some((name, value)) = header {
        call = call.header(name, value);
    }
    call.send().expect("a response")
}

impl Stream {
    fn open(project: &Project, path: &str) -> Self {
        Self::new(ask(project, path, None))
    }

    fn new(response: Response) -> Self {
        assert_eq!(response.status().as_u16(), 200);
        Self(BufReader::new(response))
    }

    /// The next event or comment; `None` at the end of the stream.
    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if self
                .0
                .read_line(&mut line)
                .expect("a stream that is not cut")
                == 0
            {
                return None;
            }
            match line.trim_end().split_once(':') {
                None => return Some(event),
                Some(("", _)) => {}
                Some(("id", text)) => event.id = Some(text.trim().to_owned()),
                Some(("event", text)) => event.event = Some(text.trim().to_owned()),
                Some(("data", text)) => event.data = Some(text.trim().to_owned()),
                Some(_) => panic!("{line}"),
            }
        }
    }

    /// The next event, after comments.
    fn event(&mut self) -> Event {
        loop {
            let event = self.next().expect("an event");
            if event.data.is_some() {
                return event;
            }
        }
    }
}

fn stream_of(cohort: i64) -> String {
    format!("cohorts/{cohort}/changes.sse")
}

fn last_event_id(id: &str) -> Option<(HeaderName, &str)> {
    Some((HeaderName::from_static("last-event-id"), id))
}

#[test]
fn a_stream_has_the_rows_of_the_feed_and_then_each_change() {
    let project = with_persons(4);
    let cohort = static_cohort(&project);
    add(&project, cohort, &["d0", "d1"]);
    let (rows, end) = read_all(&project, &feed_of(cohort), "from=start", 10);
    let mut stream = Stream::open(&project, &format!("{}?from=start", stream_of(cohort)));
    assert_eq!(stream.next(), Some(Event::default()), "a comment");
    for row in rows {
        let event = stream.event();
        assert_eq!(event.event.as_deref(), row["change"].as_str());
        assert_eq!(event.row(), row);
    }
    add(&project, cohort, &["d2"]);
    let entered = stream.event();
    remove(&project, cohort, "d0");
    let left = stream.event();
    let (rows, _) = read_all(&project, &feed_of(cohort), &end, 10);
    assert_eq!([entered.row(), left.row()], rows[..]);
    assert_eq!(left.event.as_deref(), Some("left"));
}

#[test]
fn a_stream_of_a_project_has_the_changes_of_its_cohorts() {
    let project = with_persons(2);
    let cohorts = [static_cohort(&project), static_cohort(&project)];
    let mut all = Stream::open(&project, "cohorts/changes.sse");
    let named = format!("cohorts/changes.sse?cohort_id={}", cohorts[1]);
    let mut named = Stream::open(&project, &named);
    for stream in [&mut all, &mut named] {
        assert!(stream.next().is_some_and(|comment| comment.id.is_some()));
    }
    for cohort in cohorts {
        add(&project, cohort, &["d0"]);
    }
    for cohort in cohorts {
        assert_eq!(all.event().row()["cohort_id"], cohort);
    }
    assert_eq!(named.event().row()["cohort_id"], cohorts[1]);
}

#[test]
fn a_client_resumes_after_the_last_event() {
    let project = with_persons(5);
    let cohort = static_cohort(&project);
    // Each key has few streams.
    let scopes = ["cohort:read", "person:read"];
    let resume = |path: &str, id: &str| {
        let reader = project.with_key(project.key_with(&scopes));
        ask(&reader, path, last_event_id(id))
    };
    let path = stream_of(cohort);
    let mut stream = Stream::open(&project, &path);
    let comment = stream.next().expect("a comment");
    add(&project, cohort, &["d0", "d1", "d2"]);
    add(&project, cohort, &["d3"]);
    let events = [0, 1, 2, 3].map(|_| stream.event());
    drop(stream);
    // The header precedes the parameters.
    let path = format!("{path}?from=start");
    let start = comment.id.expect("an id");
    let mut resumed = Stream::new(resume(&path, &start));
    let again = [0, 1, 2, 3].map(|_| resumed.event().row());
    assert_eq!(again, events.clone().map(|event| event.row()));
    for (at, event) in events.iter().enumerate() {
        let id = event.id.as_deref().expect("an id");
        let mut resumed = Stream::new(resume(&path, id));
        for expected in &events[at + 1..] {
            assert_eq!(resumed.event().row(), expected.row());
        }
        // Pages accept the same cursors.
        let (rows, _) = read_all(&project, &feed_of(cohort), &format!("cursor={id}"), 2);
        assert_eq!(rows.len(), 3 - at);
    }
    // So do streams with the cursors of pages, in the members too.
    let first = page(&project, &feed_of(cohort), "from=start&limit=1");
    let mut resumed = Stream::open(
        &project,
        &format!("{}?{}", stream_of(cohort), cursor(&first)),
    );
    let second = resumed.event();
    assert_eq!(second.row()["cause"], "snapshot");
    let id = second.id.expect("an id");
    let mut third = Stream::new(resume(&stream_of(cohort), &id));
    assert_eq!(third.event().row(), resumed.event().row());
    let refused = resume(&stream_of(cohort), "x");
    assert_eq!(refused.status().as_u16(), 400);
}

#[test]
fn a_key_and_a_project_have_a_limited_number_of_streams() {
    let project = with_persons(1);
    let keys: Vec<Project> = (0..5)
        .map(|_| project.with_key(project.key_with(&["cohort:read", "person:read"])))
        .collect();
    let path = "cohorts/changes.sse";
    let mut open = Vec::new();
    for key in &keys[..4] {
        for _ in 0..5 {
            open.push(Stream::open(key, path));
        }
        let refused = ask(key, path, None);
        assert_eq!(refused.status().as_u16(), 429);
        assert!(refused.headers().contains_key(RETRY_AFTER));
        let text = refused.text().expect("a text");
        assert!(text.contains("Too many streams of this key"), "{text}");
    }
    let refused = ask(&keys[4], path, None);
    assert_eq!(refused.status().as_u16(), 429);
    let text = refused.text().expect("a text");
    assert!(text.contains("Too many streams of this project"), "{text}");
    // Other projects have their own, and a stream that was closed makes room.
    drop(Stream::open(&Project::new(), path));
    open.pop();
    open_soon(&keys[4], path);
}

/// Opens a stream as soon as closed ones have made room.
fn open_soon(project: &Project, path: &str) -> Response {
    let mut answers = (0..200).map(|_| ask(project, path, None));
    let opened = answers.find(|answer| answer.status().as_u16() == 200);
    opened.expect("room for a stream")
}

/// Nothing changes, so the service sends nothing that would fail.
#[test]
fn a_closed_stream_makes_room_at_once() {
    let project = with_persons(0);
    let key = project.with_key(project.key_with(&["cohort:read", "person:read"]));
    for _ in 0..4 {
        let streams = (0..5).map(|_| open_soon(&key, "cohorts/changes.sse"));
        drop(streams.collect::<Vec<_>>());
    }
}

#[test]
fn a_stream_accepts_no_key_in_the_query() {
    let project = with_persons(1);
    let path = format!("cohorts/changes.sse?personal_api_key={}", project.key);
    for key in [project.key.clone(), String::new()] {
        let answer = project.with_key(key).get(&path);
        answer.is_error(401, "authentication_failed", None);
        assert!(answer.detail().contains("Authorization: Bearer"));
    }
}

#[test]
fn a_stream_ends_when_its_key_is_revoked() {
    let project = with_persons(1);
    let admin = project.server.data().admin();
    let grant = KeyGrant {
        projects: vec![project.id],
        scopes: vec!["*".to_owned()],
        label: "revoked".to_owned(),
        email: EMAIL.to_owned(),
        first_name: "Ana".to_owned(),
        expires_in: None,
    };
    let created = admin.create_key(&grant).expect("a key");
    let revoked = project.with_key(created.key);
    let mut stream = Stream::open(&revoked, "cohorts/changes.sse");
    let mut other = Stream::open(&project, "cohorts/changes.sse");
    assert!(stream.next().is_some() && other.next().is_some());
    admin.revoke_key(&created.id).expect("a revoked key");
    while let Some(event) = stream.next() {
        assert_eq!(event.data, None);
    }
    let cohort = static_cohort(&project);
    add(&project, cohort, &["d0"]);
    assert_eq!(other.event().row()["change"], "entered");
}

#[test]
fn streams_end_when_the_service_stops() {
    let server = start(|_| {});
    let project = server.data().admin().create_project("P", "UTC");
    let project = project.expect("a project").id;
    let key = key(&server, &[project], &["*"]);
    let ask = |rest: &str| {
        let path = format!("/api/projects/{project}/cohorts/{rest}");
        let call = request_to(&server, Method::GET, &path).bearer_auth(&key);
        call.timeout(Duration::from_secs(120)).send()
    };
    let mut stream = Stream::new(ask("changes.sse").expect("a stream"));
    assert!(stream.next().is_some());
    let reading = thread::spawn(move || stream.next());
    server.stop().expect("a stopped service");
    assert_eq!(
        reading.join().expect("a reader"),
        None,
        "the stream ends, and is not cut"
    );
}
