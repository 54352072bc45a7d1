//! Webhooks: their fields, and the messages that receivers get.

mod delivery;
mod failures;
mod fields;
mod receiver;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use cohorts_server::{RetryPolicy, Server};
use serde_json::{Value, json};

use crate::harness::{Project, id_of, start};
pub use receiver::{Received, Receiver};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that sends messages to this machine, and repeats failed ones soon.
static SENDING: LazyLock<Server> = LazyLock::new(|| sending(Duration::from_secs(3_600)));

/// A server that pauses a webhook which fails for longer than `give_up_after`.
fn sending(give_up_after: Duration) -> Server {
    start(|config| {
        config.webhooks.send = true;
        config.webhooks.allow = vec!["127.0.0.0/8".parse().expect("a network")];
        config.webhooks.retry = RetryPolicy {
            first: Duration::from_millis(20),
            longest: Duration::from_millis(100),
            give_up_after,
        };
    })
}

/// A project with a static cohort.
pub struct World {
    pub project: Project,
    pub cohort: i64,
}

impl World {
    pub fn new() -> Self {
        Self::on(&SENDING)
    }

    fn on(server: &'static Server) -> Self {
        let project = Project::on(server);
        let cohort = project.cohort(json!({"name": "static", "is_static": true}));
        Self { project, cohort }
    }

    /// Adds new persons to the cohort, in one change.
    pub fn add<const N: usize>(&self, ids: [&str; N]) {
        self.project.persons(ids.map(|id| (id, json!({}))));
        let ids = ids.map(|id| self.project.person(id)).to_vec();
        let path = format!("cohorts/{}/add_persons_to_static_cohort/", self.cohort);
        let added = self.project.patch(&path, json!({"person_ids": ids}));
        assert_eq!(added.status, 200, "{}", added.text);
    }

    /// Creates a webhook of the cohort.
    pub fn webhook(&self, receiver: &Receiver) -> Webhook<'_> {
        self.webhook_to(&receiver.url())
    }

    fn webhook_to(&self, url: &str) -> Webhook<'_> {
        let body = json!({"url": url, "cohort_ids": [self.cohort]});
        let answer = self.project.post("webhooks/", body);
        let secret = answer.json()["secret"]
            .as_str()
            .expect("a secret")
            .to_owned();
        Webhook {
            project: &self.project,
            id: id_of(&answer),
            secret,
        }
    }
}

/// A webhook and its secret.
pub struct Webhook<'a> {
    project: &'a Project,
    id: i64,
    pub secret: String,
}

impl Webhook<'_> {
    fn path(&self, rest: &str) -> String {
        format!("webhooks/{}/{rest}", self.id)
    }

    /// Replaces the secret, and returns the new one.
    pub fn rotate(&self) -> String {
        let answer = self.project.post(&self.path("rotate_secret/"), json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text);
        let secret = answer.json()["secret"].clone();
        secret.as_str().expect("a secret").to_owned()
    }

    fn state(&self) -> Value {
        let answer = self.project.get(&self.path(""));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    fn change(&self, body: Value) -> Value {
        let answer = self.project.patch(&self.path(""), body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// The state of the webhook when it fulfils a condition.
    fn when(&self, is_reached: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let state = self.state();
            if is_reached(&state) {
                return state;
            }
            assert!(start.elapsed() < PATIENCE, "{state}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All deliveries when there are `count`, the oldest first.
    fn deliveries(&self, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let page = self.project.get(&self.path("deliveries/")).json();
            let mut rows = page["results"].as_array().expect("rows").clone();
            if rows.len() >= count {
                rows.reverse();
                return rows;
            }
            assert!(start.elapsed() < PATIENCE, "{page}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The first distinct ids of the persons of a message, each with `+` or `-`.
fn changes(message: &Received) -> Vec<String> {
    let rows = message.body["data"]["results"].as_array().expect("rows");
    let change = |row: &Value| {
        let sign = if row["change"] == "entered" { '+' } else { '-' };
        let id = row["person"]["distinct_ids"][0].as_str().expect("an id");
        format!("{sign}{id}")
    };
    rows.iter().map(change).collect()
}
