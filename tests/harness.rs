//! One Postgres and one server for all tests, and a project of its own for each.
//!
//! The server calculates only when a test says `settle`. Every answer is checked against the contract.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cohorts_server::postgres::{self, Options};
use cohorts_server::{Config, Database, KeyGrant, Server};
use reqwest::Method;
use reqwest::blocking::multipart::{Form, Part};
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::spec;

/// Whom the keys of tests act for.
pub const EMAIL: &str = "ana@x.io";

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let data_dir = scratch_dir("shared");
    start(&data_dir, false)
});
static CLIENT: LazyLock<Client> = LazyLock::new(Client::new);

/// A server on a private Postgres of its own.
pub fn start(data_dir: &Path, calculate: bool) -> Server {
    start_with(data_dir, calculate, |_| {})
}

/// The same, with other settings.
pub fn start_with(data_dir: &Path, calculate: bool, change: impl FnOnce(&mut Config)) -> Server {
    let mut options = Options {
        data_dir: data_dir.to_owned(),
        durable: false,
        pg_bin: std::env::var_os("COHORTS_PG_BIN").map(PathBuf::from),
    };
    let into = std::env::temp_dir().join("cohorts-tests-programs");
    postgres::ensure_programs(&mut options, &into).expect("PostgreSQL's programs");
    let mut config = Config::new(([127, 0, 0, 1], 0).into(), Database::Private(options));
    config.calculate = calculate;
    config.handle_signals = false;
    change(&mut config);
    Server::start(&config).expect("a server")
}

/// An empty directory of this process. Those of processes that have ended are removed: a static is never dropped,
/// so nobody else does.
pub fn scratch_dir(name: &str) -> PathBuf {
    const PREFIX: &str = "cohorts-tests-of-";
    let all = std::env::temp_dir();
    for entry in fs::read_dir(&all).expect("a temporary directory").flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let own = all
        .join(format!("{PREFIX}{}", std::process::id()))
        .join(name);
    fs::create_dir_all(&own).expect("a temporary directory");
    own
}

pub fn server() -> &'static Server {
    &SERVER
}

/// A project, and a key that may do everything in it.
pub struct Project {
    pub id: i64,
    pub token: String,
    pub key: String,
    pub server: &'static Server,
}

impl Project {
    pub fn new() -> Self {
        Self::in_zone("UTC")
    }

    pub fn in_zone(time_zone: &str) -> Self {
        let server = server();
        let made = server
            .data()
            .admin()
            .create_project("Test", time_zone)
            .expect("a project");
        Self {
            id: made.id,
            token: made.token,
            key: key(server, &[made.id], &["*"]),
            server,
        }
    }

    /// A key for this project with these scopes.
    pub fn key_with(&self, scopes: &[&str]) -> String {
        key(self.server, &[self.id], scopes)
    }

    /// A path below the project's, such as `cohorts/`.
    pub fn path(&self, rest: &str) -> String {
        format!("/api/projects/{}/{rest}", self.id)
    }

    pub fn get(&self, rest: &str) -> Answer {
        self.ask(Method::GET, rest, None)
    }

    pub fn post(&self, rest: &str, body: Value) -> Answer {
        self.ask(Method::POST, rest, Some(body))
    }

    pub fn patch(&self, rest: &str, body: Value) -> Answer {
        self.ask(Method::PATCH, rest, Some(body))
    }

    pub fn ask(&self, method: Method, rest: &str, body: Option<Value>) -> Answer {
        let mut request = request(method.clone(), &self.path(rest)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(&method, request)
    }

    /// Uploads a file of people with these fields: to a new static cohort, or to one that exists.
    pub fn upload(
        &self,
        cohort: Option<i64>,
        content: impl Into<Vec<u8>>,
        fields: &[(&'static str, &'static str)],
    ) -> Answer {
        let file = Part::bytes(content.into()).file_name("people.csv");
        let form = Form::new().part("csv", file).text("is_static", "true");
        let form = fields
            .iter()
            .fold(form, |form, (name, text)| form.text(*name, *text));
        let (method, rest) = match cohort {
            Some(id) => (Method::PATCH, format!("cohorts/{id}/")),
            None => (Method::POST, "cohorts/".to_owned()),
        };
        let asked = request(method.clone(), &self.path(&rest)).bearer_auth(&self.key);
        send(&method, asked.multipart(form))
    }

    /// Makes a cohort and gives its number.
    pub fn cohort(&self, body: Value) -> i64 {
        let made = self.post("cohorts/", body);
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()["id"].as_i64().expect("an id")
    }

    /// Sends events, which must all be taken.
    pub fn capture(&self, batch: Value) {
        let request =
            request(Method::POST, "/batch/").json(&json!({"api_key": self.token, "batch": batch}));
        let answer = send(&Method::POST, request);
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Makes people with properties.
    pub fn people<const N: usize>(&self, people: [(&str, Value); N]) {
        let set = |(id, properties): (&str, Value)| json!({"event": "$set", "distinct_id": id, "properties": {"$set": properties}});
        self.capture(people.into_iter().map(set).collect());
    }

    /// The `id` of the person with that distinct id.
    pub fn person(&self, distinct_id: &str) -> String {
        let filters = any_of(json!([person("distinct_id", "exact", distinct_id)]));
        let preview = self.post("cohorts/preview/", json!({"filters": filters, "sample": 1}));
        let id = preview.json()["sample"][0]["id"].clone();
        id.as_str().expect("a person").to_owned()
    }

    /// The `id` of somebody in the project.
    pub fn someone(&self) -> String {
        self.person("d1")
    }

    /// Calculates what waits, and shows the cohort.
    pub fn settle(&self, cohort: i64) -> Value {
        self.server.calculate_now(self.id).expect("a calculation");
        self.get(&format!("cohorts/{cohort}/")).json()
    }

    /// The first distinct ids of a cohort's members, in order.
    pub fn members(&self, cohort: i64) -> Vec<String> {
        let answer = self.get(&format!("cohorts/{cohort}/persons/?limit=10000"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        first_ids(&answer.json()["results"])
    }
}

/// The first distinct ids of people, in order.
pub fn first_ids(people: &Value) -> Vec<String> {
    let people = people.as_array().expect("a list of people");
    let first = |person: &Value| {
        person["distinct_ids"][0]
            .as_str()
            .expect("a distinct id")
            .to_owned()
    };
    let mut ids: Vec<String> = people.iter().map(first).collect();
    ids.sort_unstable();
    ids
}

/// A key for these projects, or for all if none is named.
pub fn key(server: &Server, projects: &[i64], scopes: &[&str]) -> String {
    let grant = KeyGrant {
        projects: projects.to_vec(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        label: "test".to_owned(),
        email: EMAIL.to_owned(),
        first_name: "Ana".to_owned(),
        expires_in: None,
    };
    server.data().admin().create_key(&grant).expect("a key").key
}

/// A request to the shared server.
pub fn request(method: Method, path: &str) -> RequestBuilder {
    CLIENT.request(method, format!("{}{path}", server().url()))
}

/// A request to another server than the shared one.
pub fn request_to(server: &Server, method: Method, path: &str) -> RequestBuilder {
    CLIENT.request(method, format!("{}{path}", server.url()))
}

/// Sends a request and checks its answer against the contract.
pub fn send(method: &Method, request: RequestBuilder) -> Answer {
    let response = request.send().expect("an answer");
    let path = response.url().path().to_owned();
    let answer = Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().expect("a text"),
    };
    spec::check(method, &path, &answer);
    answer
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(HeaderValue::to_str)?.ok()
    }

    /// That it is this error, with all of the envelope.
    pub fn is_error(&self, status: u16, code: &str, attr: Option<&str>) -> &Self {
        let body = self.json();
        let found = (self.status, body["code"].as_str(), body["attr"].as_str());
        assert_eq!(found, (status, Some(code), attr), "{}", self.text);
        self
    }

    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().expect("a detail").to_owned()
    }
}

/// A criterion on a person's property.
pub fn person(key: &str, operator: &str, value: impl Into<Value>) -> Value {
    json!({"type": "person", "key": key, "operator": operator, "value": value.into()})
}

/// A criterion on an event in the last days.
pub fn did(event: &str, days: u32) -> Value {
    json!({"type": "behavioral", "key": event, "value": "performed_event", "event_type": "events",
        "time_value": days, "time_interval": "day"})
}

/// Criteria, any of which suffices.
pub fn any_of(leaves: Value) -> Value {
    json!({"properties": {"type": "OR", "values": leaves}})
}
