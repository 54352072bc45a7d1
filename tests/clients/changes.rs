//! The streams over changes of the Rust client, against the server.

use std::pin::pin;
use std::time::Duration;

use cohorts_client::{Client, types};
use cohorts_server::Server;
use futures::{Stream, TryStreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{config, key, request_to, send, server};

/// A stream that has no change for this time has lost it.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs blocking work on another thread than the runtime of the test.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

/// A project on a server, with the persons `a` to `d` and static cohorts.
#[derive(Clone)]
struct FollowedProject {
    url: String,
    key: String,
    /// The path of the project.
    path: String,
    id: String,
}

impl FollowedProject {
    fn create(server: &Server) -> Self {
        let admin = server.data().admin();
        let project = admin.create_project("Followed", "UTC").expect("a project");
        let person = |id: &str| json!({"event": "x", "distinct_id": id});
        let batch = ["a", "b", "c", "d"].map(person);
        let events = json!({"api_key": project.token, "batch": batch});
        let call = request_to(server, Method::POST, "/batch/").json(&events);
        assert_eq!(send(&Method::POST, call).status, 200);
        Self {
            url: server.url(),
            key: key(server, &[project.id], &["*"]),
            path: format!("/api/projects/{}/", project.id),
            id: project.id.to_string(),
        }
    }

    fn client(&self) -> Client {
        Client::with_key(&self.url, &self.key).expect("a client")
    }

    /// Sends a request that succeeds, on the thread of the caller.
    fn ask(&self, method: Method, rest: &str, body: &Value) -> Value {
        let url = format!("{}{}{rest}", self.url, self.path);
        let call = reqwest::blocking::Client::new().request(method, url);
        let answer = call
            .bearer_auth(&self.key)
            .json(body)
            .send()
            .expect("a response");
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.json().expect("JSON")
    }

    fn person(&self, id: &str) -> Value {
        let page = self.ask(
            Method::GET,
            &format!("persons/?distinct_id={id}"),
            &Value::Null,
        );
        page["results"][0]["id"].clone()
    }

    fn cohort(&self) -> i64 {
        let cohort = self.ask(Method::POST, "cohorts/", &json!({"is_static": true}));
        cohort["id"].as_i64().expect("an id")
    }

    fn add(&self, cohort: i64, id: &str) {
        let path = format!("cohorts/{cohort}/add_persons_to_static_cohort/");
        self.ask(
            Method::PATCH,
            &path,
            &json!({"person_ids": [self.person(id)]}),
        );
    }

    fn remove(&self, cohort: i64, id: &str) {
        let path = format!("cohorts/{cohort}/remove_person_from_static_cohort/");
        self.ask(Method::PATCH, &path, &json!({"person_id": self.person(id)}));
    }
}

/// The next change: the cohort, the kind, and the person.
async fn next<E: std::fmt::Debug>(
    stream: &mut (impl Stream<Item = Result<types::CohortChange, E>> + Unpin),
) -> (i64, String, String) {
    let change = timeout(LIMIT, stream.try_next())
        .await
        .expect("a change in time");
    let change = change.expect("no error").expect("no end");
    let person = change.person.distinct_ids[0].clone();
    (change.cohort_id, change.change.to_string(), person)
}

fn change(cohort: i64, kind: &str, person: &str) -> (i64, String, String) {
    (cohort, kind.to_owned(), person.to_owned())
}

#[tokio::test]
async fn stream_has_the_members_and_then_each_change() {
    let (project, cohort) = blocking(|| {
        let project = FollowedProject::create(server());
        let cohort = project.cohort();
        project.add(cohort, "a");
        project.add(cohort, "b");
        (project, cohort)
    })
    .await;
    let client = project.client();
    let call = client.cohorts_changes().project_id(&project.id).id(cohort);
    let mut stream = pin!(call.from("start").limit(1).stream());
    let mut members = [next(&mut stream).await, next(&mut stream).await];
    members.sort();
    assert_eq!(members, ["a", "b"].map(|id| change(cohort, "entered", id)));
    let changing = project.clone();
    blocking(move || changing.add(cohort, "c")).await;
    assert_eq!(next(&mut stream).await, change(cohort, "entered", "c"));
    let changing = project.clone();
    blocking(move || changing.remove(cohort, "a")).await;
    assert_eq!(next(&mut stream).await, change(cohort, "left", "a"));
}

#[tokio::test]
async fn stream_of_a_project_has_the_named_cohorts() {
    let (project, cohorts) = blocking(|| {
        let project = FollowedProject::create(server());
        let cohorts = [project.cohort(), project.cohort(), project.cohort()];
        (project, cohorts)
    })
    .await;
    let client = project.client();
    let named = [cohorts[0], cohorts[2]].map(|id| id.to_string());
    let call = client.cohorts_all_changes().project_id(&project.id);
    let mut pages = pin!(call.cohort_id(named.to_vec()).pages());
    // The first page has the position of now.
    let first = pages.try_next().await.expect("a page").expect("a page");
    assert!(first.results.is_empty());
    let changing = project.clone();
    blocking(move || cohorts.map(|cohort| changing.add(cohort, "a"))).await;
    let call = client.cohorts_all_changes().project_id(&project.id);
    let call = call.cohort_id(named.to_vec()).cursor(first.cursor);
    let mut stream = pin!(call.stream());
    for cohort in [cohorts[0], cohorts[2]] {
        assert_eq!(next(&mut stream).await, change(cohort, "entered", "a"));
    }
}

#[tokio::test]
async fn stream_continues_after_the_service_restarts() {
    let mut config = config();
    let (server, project, cohort, config) = blocking(move || {
        let server = Server::start(&config).expect("a server");
        let address = server.url();
        let address = address.strip_prefix("http://").expect("an address");
        config.listen = address.parse().expect("an address");
        let project = FollowedProject::create(&server);
        let cohort = project.cohort();
        project.add(cohort, "a");
        (server, project, cohort, config)
    })
    .await;
    let client = project.client();
    let call = client.cohorts_changes().project_id(&project.id).id(cohort);
    let mut stream = pin!(call.from("start").stream());
    assert_eq!(next(&mut stream).await, change(cohort, "entered", "a"));
    // The service ends while the stream waits, and changes before the stream is back.
    let changing = project.clone();
    let restart = blocking(move || {
        server.stop().expect("a clean end");
        let server = Server::start(&config).expect("a server");
        changing.add(cohort, "b");
        changing.remove(cohort, "a");
        changing.add(cohort, "c");
        server
    });
    let changes = async {
        [
            next(&mut stream).await,
            next(&mut stream).await,
            next(&mut stream).await,
        ]
    };
    let (server, changes) = tokio::join!(restart, changes);
    let expected = [("entered", "b"), ("left", "a"), ("entered", "c")];
    assert_eq!(
        changes,
        expected.map(|(kind, person)| change(cohort, kind, person))
    );
    blocking(|| server.stop().expect("a clean end")).await;
}

#[tokio::test]
async fn changes_are_also_sent_as_events() {
    let (project, cohort) = blocking(|| {
        let project = FollowedProject::create(server());
        let cohort = project.cohort();
        project.add(cohort, "a");
        (project, cohort)
    })
    .await;
    let client = project.client();
    let one = client
        .cohorts_changes_sse()
        .project_id(&project.id)
        .id(cohort);
    let one = one.from("start").send().await.expect("a stream");
    let all = client.cohorts_all_changes_sse().project_id(&project.id);
    let all = all.cohort_id(vec![cohort.to_string()]).from("start");
    let all = all.send().await.expect("a stream");
    for stream in [one, all] {
        let mut stream = stream.into_inner_stream();
        let mut text = String::new();
        while !text.contains("data: ") {
            let piece = timeout(LIMIT, stream.try_next())
                .await
                .expect("a piece in time");
            text += std::str::from_utf8(&piece.expect("no error").expect("no end")).expect("text");
        }
        assert!(text.contains("event: entered\n"), "{text}");
    }
}

#[tokio::test]
async fn stream_with_a_wrong_key_ends() {
    let url = blocking(|| server().url()).await;
    let client = Client::with_key(&url, "phx_unknown").expect("a client");
    let call = client.cohorts_changes().project_id("1").id(1);
    let mut stream = pin!(call.stream());
    let error = stream.try_next().await.expect_err("a wrong key");
    assert_eq!(error.status().map(|status| status.as_u16()), Some(401));
    assert!(stream.try_next().await.expect("the end").is_none());
}
