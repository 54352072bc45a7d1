//! Each example of the contract: it fits its schema, and the service accepts it in a request.
//!
//! A walk that knows the structure of the document visits the examples; a walk that does not know it counts them.

use std::collections::{BTreeMap, HashSet};

use reqwest::blocking::RequestBuilder;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::contract::spec::{self, DOCUMENT, Operation};
use crate::harness::{Project, id_of, request, send};
use crate::service::console;
use crate::uploads;

/// The person that the examples of the contract name.
const PERSON: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

/// The token of the examples.
const TOKEN: &str = "phc_0123456789abcdef";

/// An example with its place and its schema.
struct Example {
    place: String,
    schema: &'static Value,
    value: &'static Value,
}

impl Example {
    /// Whether it belongs to a body or a parameter, and not only to a schema.
    fn is_of_request(&self) -> bool {
        let mut names = self.place.split('.');
        names.any(|name| name == "parameters" || name == "requestBody")
    }
}

/// The members of an object that have no schemas or examples of their own, or names that are free.
const OPAQUE: [&str; 4] = ["default", "enum", "const", "security"];

/// The examples below a part of the document.
fn examples(part: &'static Value, place: &str) -> Vec<Example> {
    let mut found = own_examples(part, place);
    for (key, value) in spec::members(part) {
        if OPAQUE.contains(&key) || key == "example" || key == "examples" {
            continue;
        }
        let place = format!("{place}.{key}");
        // The keys of these objects are names.
        match key {
            "properties" | "headers" | "schemas" | "parameters" if value.is_object() => {
                for (name, value) in spec::members(value) {
                    found.extend(examples(value, &format!("{place}.{name}")));
                }
            }
            _ => found.extend(examples(value, &place)),
        }
    }
    for (at, value) in part.as_array().into_iter().flatten().enumerate() {
        found.extend(examples(value, &format!("{place}.{at}")));
    }
    found
}

/// The examples of one schema, parameter, header or media type.
fn own_examples(part: &'static Value, place: &str) -> Vec<Example> {
    let schema = part.get("schema").unwrap_or(part);
    let one = part.get("example").map(|value| (place.to_owned(), value));
    let named = spec::members(&part["examples"]).map(|(name, example)| {
        let example = spec::resolve(example);
        (format!("{place}.{name}"), &example["value"])
    });
    let listed = part["examples"].as_array().into_iter().flatten();
    let listed = listed.map(|value| (place.to_owned(), value));
    let all = one.into_iter().chain(named).chain(listed);
    all.map(|(place, value)| Example {
        place,
        schema,
        value,
    })
    .collect()
}

/// The number of all examples below a value.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                ("example", _) => 1,
                ("examples", Value::Object(examples)) => examples.len(),
                ("examples", Value::Array(examples)) => examples.len(),
                _ => count(value),
            })
            .sum(),
        _ => 0,
    }
}

#[test]
fn examples_fit_their_schemas() {
    let examples = examples(&DOCUMENT, "");
    assert_eq!(
        examples.len(),
        count(&DOCUMENT),
        "an example was not visited"
    );
    assert!(examples.len() >= 70, "only {} examples", examples.len());
    for example in examples {
        let errors = spec::differences_of(example.schema, example.value);
        assert!(
            errors.is_empty(),
            "{}: {}",
            example.place,
            errors.join("; ")
        );
    }
}

/// Swagger UI shows the example of the response, or of its schema.
#[test]
fn every_successful_response_has_an_example() {
    for operation in spec::operations() {
        for response in operation.successes() {
            for (media_type, media) in spec::members(&response["content"]) {
                let schema = spec::resolve(&media["schema"]);
                let has_example = [media, schema]
                    .into_iter()
                    .any(|one| one.get("example").is_some() || one.get("examples").is_some());
                assert!(has_example, "{}: {media_type}", operation.id);
            }
        }
    }
}

/// Replaces what only this document has: the id of a person, and a token.
fn localized(value: &Value, project: &Project, person: &str) -> Value {
    match value {
        Value::String(text) => {
            let text = text.replace(TOKEN, &project.token);
            text.replace(PERSON, person).into()
        }
        Value::Array(list) => list
            .iter()
            .map(|value| localized(value, project, person))
            .collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), localized(value, project, person)))
            .collect(),
        other => other.clone(),
    }
}

/// A project with the objects that the examples name.
struct World {
    project: Project,
    person: String,
    cohort: i64,
    static_cohort: i64,
    upload: i64,
    action: i64,
    webhook: i64,
}

impl World {
    fn create() -> Self {
        let project = Project::new();
        let properties = json!({"email": "ana@example.org", "plan": "pro"});
        project.persons([("ana", properties)]);
        let (static_cohort, answer) = uploads::create(&project, "ana\n", &[]);
        let steps = json!({"name": "action", "steps": [{"event": "x"}]});
        Self {
            person: project.person("ana"),
            cohort: project.cohort(json!({"name": "dynamic"})),
            static_cohort,
            upload: answer["upload"]["id"].as_i64().expect("an upload"),
            action: id_of(&project.post("actions/", steps)),
            webhook: id_of(&project.post("webhooks/", json!({"url": "https://unknown.invalid/"}))),
            project,
        }
    }

    /// The argument for a parameter: an object of this project, or the example.
    fn argument(&self, operation: &Operation, parameter: &Value) -> Option<String> {
        let is_in_path = parameter["in"] == "path";
        let id = match parameter["name"].as_str()? {
            "id" if is_in_path && operation.id.starts_with("actions_") => self.action,
            "id" if is_in_path && operation.id.starts_with("webhooks_") => self.webhook,
            "id" if is_in_path && operation.tag() == "members" => self.static_cohort,
            "id" if is_in_path => self.cohort,
            "upload_id" => self.upload,
            "cohort" => self.cohort,
            "uuid" => return Some(self.person.clone()),
            _ => {
                let example = parameter.get("example")?;
                return Some(match localized(example, &self.project, &self.person) {
                    Value::String(text) => text,
                    other => other.to_string(),
                });
            }
        };
        Some(id.to_string())
    }

    /// A request to an operation without a body, with an argument for each parameter that has an example.
    fn request(&self, operation: &Operation) -> RequestBuilder {
        let mut path = operation.path.to_owned();
        let mut query = Vec::new();
        for parameter in operation.parameters() {
            let name = parameter["name"].as_str().expect("a name");
            let Some(argument) = self.argument(operation, parameter) else {
                assert_ne!(parameter["required"], true, "{}: {name}", operation.id);
                continue;
            };
            match parameter["in"].as_str() {
                Some("path") => path = path.replace(&format!("{{{name}}}"), &argument),
                Some("query") => query.push((name, argument)),
                // The tag of an example is not that of the object.
                Some("header") => {}
                other => panic!("{}: a parameter in {other:?}", operation.id),
            }
        }
        let key = match operation.scopes() {
            Some(_) => &self.project.key,
            None => &self.project.token,
        };
        let call = request(operation.method(), &path).query(&query);
        call.bearer_auth(key)
    }
}

/// Adds a body in a media type.
fn with_body(call: RequestBuilder, media_type: &str, body: &Value) -> RequestBuilder {
    let fields = || {
        spec::members(body).map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (name.to_owned(), text)
        })
    };
    match media_type {
        "application/json" => call.json(body),
        "application/x-www-form-urlencoded" => call.form(&fields().collect::<BTreeMap<_, _>>()),
        "multipart/form-data" => {
            let form = fields().fold(Form::new(), |form, (name, text)| match name.as_str() {
                "csv" => form.part(name, Part::text(text).file_name("persons.csv")),
                _ => form.text(name, text),
            });
            call.multipart(form)
        }
        _ => call
            .header("content-type", media_type)
            .body(body.as_str().expect("a text").to_owned()),
    }
}

#[test]
fn examples_of_requests_are_accepted() {
    let mut sent: HashSet<*const Value> = HashSet::new();
    for operation in spec::operations() {
        // DELETE of a cohort is never possible.
        if operation.successes().is_empty() {
            continue;
        }
        let parameters = operation.parameters().into_iter();
        let of_parameters = parameters.filter_map(|parameter| parameter.get("example"));
        sent.extend(of_parameters.map(std::ptr::from_ref));
        let bodies = operation.request_examples();
        if bodies.is_empty() {
            let world = World::create();
            let answer = send(&operation.method(), world.request(&operation));
            assert!(answer.status < 300, "{}: {}", operation.id, answer.text);
        }
        for (media_type, body) in bodies {
            sent.insert(body);
            let world = World::create();
            let mut body = localized(body, &world.project, &world.person);
            if let Some(cohorts) = body.get_mut("cohort_ids") {
                *cohorts = json!([world.cohort]);
            }
            if let Some(code) = body.get_mut("code") {
                *code = json!(console::code(world.project.server, world.project.id));
            }
            let call = with_body(world.request(&operation), media_type, &body);
            let answer = send(&operation.method(), call);
            let place = format!("{} with {media_type}", operation.id);
            assert!(answer.status < 300, "{place}: {}", answer.text);
            if operation.id == "cohorts_create" {
                // An invalid filter is stored, and its calculation fails.
                let cohort = world.project.settle(id_of(&answer));
                assert_eq!(cohort["errors_calculating"], 0, "{place}: {cohort}");
            }
        }
    }
    let of_requests = examples(&DOCUMENT, "");
    let of_requests = of_requests.iter().filter(|one| one.is_of_request());
    for example in of_requests {
        let is_sent = sent.contains(&std::ptr::from_ref(example.value));
        assert!(is_sent, "{} was not sent", example.place);
    }
}
