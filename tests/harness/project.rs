//! A project of its own for each test, on the shared server.

use cohorts_server::{KeyGrant, Server};
use reqwest::Method;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use super::answer::{Answer, first_ids, rows, send};
use super::criteria::{only, person};
use super::{request_to, server};

/// The user of the keys that tests create.
pub const EMAIL: &str = "ana@x.io";

/// A project, and a key with all scopes in it.
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
        Self::create(server(), time_zone)
    }

    /// A project on another server.
    pub fn on(server: &'static Server) -> Self {
        Self::create(server, "UTC")
    }

    fn create(server: &'static Server, time_zone: &str) -> Self {
        let admin = server.data().admin();
        let project = admin.create_project("Test", time_zone).expect("a project");
        Self {
            id: project.id,
            token: project.token,
            key: key(server, &[project.id], &["*"]),
            server,
        }
    }

    /// The same project through another key.
    pub fn with_key(&self, key: String) -> Self {
        Self {
            id: self.id,
            token: self.token.clone(),
            key,
            server: self.server,
        }
    }

    /// The same project through the key of another user.
    pub fn with_caller(&self, email: &str) -> Self {
        let grant = KeyGrant {
            projects: vec![self.id],
            scopes: vec!["*".to_owned()],
            label: "other user".to_owned(),
            email: email.to_owned(),
            first_name: String::new(),
            expires_in: None,
        };
        let admin = self.server.data().admin();
        self.with_key(admin.create_key(&grant).expect("a key").key)
    }

    /// A key of this project with these scopes.
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
        let request = request_to(self.server, method.clone(), &self.path(rest));
        let mut request = request.bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(&method, request)
    }

    /// The page that a link of this server leads to.
    pub fn follow(&self, link: &Value) -> Value {
        let link = link.as_str().expect("a link");
        let origin = self.server.url();
        let path = link.strip_prefix(&origin).expect("a link to this server");
        let page = send(
            &Method::GET,
            request_to(self.server, Method::GET, path).bearer_auth(&self.key),
        );
        assert_eq!(page.status, 200, "{}", page.text);
        page.json()
    }

    /// Uploads a CSV file with form fields: to a new static cohort, or to an existing one.
    pub fn upload(
        &self,
        cohort: Option<i64>,
        content: impl Into<Vec<u8>>,
        fields: &[(&'static str, &'static str)],
    ) -> Answer {
        let file = Part::bytes(content.into()).file_name("persons.csv");
        let form = Form::new().part("csv", file).text("is_static", "true");
        let form = fields
            .iter()
            .fold(form, |form, (name, text)| form.text(*name, *text));
        let (method, rest) = match cohort {
            Some(id) => (Method::PATCH, cohort_path(id)),
            None => (Method::POST, "cohorts/".to_owned()),
        };
        let request = request_to(self.server, method.clone(), &self.path(&rest));
        send(&method, request.bearer_auth(&self.key).multipart(form))
    }

    /// Creates a cohort and returns its id.
    pub fn cohort(&self, body: Value) -> i64 {
        super::id_of(&self.post("cohorts/", body))
    }

    /// Captures events, which must all be accepted.
    pub fn capture(&self, batch: Value) {
        let request = request_to(self.server, Method::POST, "/batch/");
        let request = request.json(&json!({"api_key": self.token, "batch": batch}));
        let answer = send(&Method::POST, request);
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Creates persons with properties, or changes their properties.
    pub fn persons<const N: usize>(&self, persons: [(&str, Value); N]) {
        let set = |(id, properties): (&str, Value)| json!({"event": "$set", "distinct_id": id, "properties": {"$set": properties}});
        self.capture(persons.into_iter().map(set).collect());
    }

    /// The `id` of the person with this distinct id.
    pub fn person(&self, distinct_id: &str) -> String {
        let filters = only(person("distinct_id", "exact", distinct_id));
        let preview = self.post("cohorts/preview/", json!({"filters": filters, "sample": 1}));
        let id = preview.json()["sample"][0]["id"].clone();
        id.as_str().expect("a person").to_owned()
    }

    /// Runs all pending calculations of the project and returns the cohort.
    pub fn settle(&self, cohort: i64) -> Value {
        self.server.calculate_now(self.id).expect("a calculation");
        self.get(&cohort_path(cohort)).json()
    }

    /// The first distinct id of each member of a cohort, sorted.
    pub fn members(&self, cohort: i64) -> Vec<String> {
        let answer = self.get(&format!("cohorts/{cohort}/persons/?limit=10000"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        first_ids(&answer.json()["results"])
    }
}

/// The path of a cohort below its project's.
pub fn cohort_path(cohort: i64) -> String {
    format!("cohorts/{cohort}/")
}

/// The names in a list of cohorts, in its order.
pub fn cohort_names(project: &Project, query: &str) -> Vec<String> {
    let page = project.get(&format!("cohorts/?{query}"));
    assert_eq!(page.status, 200, "{}", page.text);
    let name = |row: &Value| row["name"].as_str().unwrap_or_default().to_owned();
    rows(&page.json()).iter().map(name).collect()
}

/// Uploads a CSV file: to a new static cohort, or to an existing one.
pub fn upload(project: &Project, cohort: Option<i64>, content: impl Into<Vec<u8>>) -> Answer {
    let fields = [("name", "Uploaded"), ("filters", r#"{"properties": {}}"#)];
    let fields = if cohort.is_some() { &[][..] } else { &fields };
    project.upload(cohort, content, fields)
}

/// A key for these projects, or for all projects if the list is empty.
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
