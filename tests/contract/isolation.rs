//! Each operation that names an object, with the objects of another project: as if unknown, and unchanged.

use reqwest::Method;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::contract::spec::{self, Operation, UNKNOWN_PERSON};
use crate::harness::{Answer, Project, id_of, request, send};
use crate::uploads;

/// An id that no cohort, action or upload has.
const UNKNOWN: i64 = 999_999_999;

/// The objects that paths can name.
pub struct Objects {
    cohorts: Vec<i64>,
    action: i64,
    webhook: i64,
    upload: i64,
    person: String,
}

impl Objects {
    fn unknown() -> Self {
        Self {
            cohorts: vec![UNKNOWN],
            action: UNKNOWN,
            webhook: UNKNOWN,
            upload: UNKNOWN,
            person: UNKNOWN_PERSON.to_owned(),
        }
    }

    /// A dynamic cohort, a static one with an upload, an action and a person.
    pub fn create(project: &Project) -> Self {
        project.persons([("d1", json!({"plan": "pro"}))]);
        let dynamic = project.cohort(json!({"name": "dynamic"}));
        let (uploaded, cohort) = uploads::create(project, "d1\n", &[]);
        let steps = json!({"name": "action", "steps": [{"event": "x"}]});
        Self {
            cohorts: vec![uploaded, dynamic],
            action: id_of(&project.post("actions/", steps)),
            webhook: id_of(&project.post("webhooks/", json!({"url": "https://unknown.invalid/"}))),
            upload: cohort["upload"]["id"].as_i64().expect("an upload"),
            person: project.person("d1"),
        }
    }

    /// The paths of an operation that name these objects, below `project`.
    pub fn paths(&self, operation: &Operation, project: &Project) -> Vec<String> {
        let path = operation
            .path
            .replace("{project_id}", &project.id.to_string())
            .replace("{uuid}", &self.person)
            .replace("{token}", &project.token)
            .replace("{upload_id}", &self.upload.to_string());
        if operation.id == "persons_cohorts_retrieve" {
            return vec![format!("{path}?person_id={}", self.person)];
        }
        if !path.contains("{id}") {
            return vec![path];
        }
        if operation.id.starts_with("actions_") {
            return vec![path.replace("{id}", &self.action.to_string())];
        }
        if operation.id.starts_with("webhooks_") {
            return vec![path.replace("{id}", &self.webhook.to_string())];
        }
        let path_of = |cohort: &i64| path.replace("{id}", &cohort.to_string());
        let with_person = |path: String| match operation.id {
            "cohorts_explain_retrieve" => format!("{path}?person_id={}", self.person),
            _ => path,
        };
        self.cohorts.iter().map(path_of).map(with_person).collect()
    }

    /// The fields of all bodies. Each operation reads its own.
    fn body(&self) -> Value {
        json!({
            "name": "changed",
            "deleted": true,
            "person_ids": [self.person],
            "person_id": self.person,
            "key": "plan",
            "value": "changed",
            "$unset": "plan",
            "from": "2026-03-02T08:00:00Z",
            "description": "changed",
        })
    }

    /// What the owner sees of the objects.
    fn state(&self, project: &Project) -> Vec<String> {
        let mut paths = vec![
            format!("actions/{}/", self.action),
            format!("persons/{}/", self.person),
            format!("webhooks/{}/", self.webhook),
            format!("webhooks/{}/deliveries/", self.webhook),
            "webhooks/activity/".to_owned(),
            "cohorts/".to_owned(),
            "cohorts/activity/".to_owned(),
        ];
        for cohort in &self.cohorts {
            let parts = ["", "persons/", "calculation_history/", "uploads/", "sizes/"];
            paths.extend(parts.map(|part| format!("cohorts/{cohort}/{part}")));
        }
        let answers = paths.iter().map(|path| project.get(path));
        answers
            .map(|answer| {
                assert_eq!(answer.status, 200, "{}", answer.text);
                answer.text
            })
            .collect()
    }
}

/// The operations with an object in the path. DELETE of a cohort is never allowed, so it names no object.
fn operations_on_objects() -> Vec<Operation> {
    let names_object = |operation: &Operation| {
        let objects = ["{id}", "{upload_id}", "{uuid}"];
        objects.iter().any(|name| operation.path.contains(name))
            && operation.id != "cohorts_destroy"
    };
    let operations: Vec<Operation> = spec::operations()
        .into_iter()
        .filter(names_object)
        .collect();
    assert!(operations.len() >= 15, "{} operations", operations.len());
    operations
}

fn ask(operation: &Operation, project: &Project, path: &str, objects: &Objects) -> Answer {
    let method = operation.method();
    let mut call = request(method.clone(), path).bearer_auth(&project.key);
    if matches!(operation.method, "post" | "patch" | "put") {
        let body = match operation.id {
            // `key` is so near to `keys` that it is refused before the cohort is looked up.
            "cohorts_compare" => json!({"keys": ["plan"]}),
            _ => objects.body(),
        };
        call = call.json(&body);
    }
    send(&method, call)
}

#[test]
fn objects_of_another_project_are_unknown() {
    let (project, other) = (Project::new(), Project::new());
    let (unknown, theirs) = (Objects::unknown(), Objects::create(&other));
    let before = theirs.state(&other);
    for operation in operations_on_objects() {
        let [path] = &unknown.paths(&operation, &project)[..] else {
            panic!("{} has several paths", operation.id);
        };
        let expected = ask(&operation, &project, path, &unknown);
        assert_eq!(expected.status, 404, "{path}: {}", expected.text);
        for path in theirs.paths(&operation, &project) {
            let answer = ask(&operation, &project, &path, &theirs);
            let actual = (answer.status, answer.text);
            assert_eq!(actual, (404, expected.text.clone()), "{}", operation.id);
        }
    }
    assert_eq!(theirs.state(&other), before);
}

#[test]
fn uploads_of_other_cohorts_are_unknown() {
    let (project, other) = (Project::new(), Project::new());
    let (ours, theirs) = (Objects::create(&project), Objects::create(&other));
    let (second, _) = uploads::create(&project, "d1\n", &[]);
    let path = |cohort: i64, upload: i64| format!("cohorts/{cohort}/uploads/{upload}/");
    assert_eq!(project.get(&path(ours.cohorts[0], ours.upload)).status, 200);
    for path in [
        path(ours.cohorts[0], theirs.upload),
        path(second, ours.upload),
    ] {
        project.get(&path).is_error(404, "not_found", None);
    }
}

#[test]
fn files_for_cohorts_of_another_project_change_nothing() {
    let (project, other) = (Project::new(), Project::new());
    let theirs = Objects::create(&other);
    let before = theirs.state(&other);
    for method in [Method::PUT, Method::PATCH] {
        let file = Part::bytes(&b"distinct_id\nnew\n"[..]).file_name("persons.csv");
        let form = Form::new().part("csv", file).text("create_people", "true");
        let path = project.path(&format!("cohorts/{}/", theirs.cohorts[0]));
        let call = request(method.clone(), &path).bearer_auth(&project.key);
        send(&method, call.multipart(form)).is_error(404, "not_found", None);
    }
    assert_eq!(theirs.state(&other), before);
    let persons = project.get("persons/").json();
    assert_eq!(persons["results"], json!([]));
}

#[test]
fn persons_of_another_project_are_unknown_in_bodies_and_queries() {
    let (project, other) = (Project::new(), Project::new());
    let (ours, theirs) = (Objects::create(&project), Objects::create(&other));
    let before = ours.state(&project);
    let path = |rest: &str| format!("cohorts/{}/{rest}_static_cohort/", ours.cohorts[0]);
    let added = project.patch(
        &path("add_persons_to"),
        json!({"person_ids": [theirs.person]}),
    );
    assert_eq!(added.status, 400, "{}", added.text);
    let removed = project.patch(
        &path("remove_person_from"),
        json!({"person_id": theirs.person}),
    );
    assert_eq!(removed.status, 404, "{}", removed.text);
    assert_eq!(ours.state(&project), before);
    let ids = json!({"person_ids": [theirs.person]});
    let memberships = project.post("cohorts/memberships/", ids).json();
    let unknown = json!({"distinct_id": null, "person_id": null, "cohort_ids": []});
    assert_eq!(memberships, json!({"results": [unknown]}));
    for path in ["cohorts/memberships/", "cohorts/overlap/"] {
        let body = json!({"distinct_ids": ["d1"], "cohort_ids": theirs.cohorts});
        let refused = project.post(path, body);
        refused.is_error(400, "invalid_input", Some("cohort_ids"));
    }
    for (cohort, with, attr) in [
        (ours.cohorts[0], theirs.cohorts[0], Some("with")),
        (theirs.cohorts[0], ours.cohorts[0], None),
    ] {
        let path = format!("cohorts/{cohort}/compare/");
        let refused = project.post(&path, json!({"with": with}));
        let (status, code) = if attr.is_some() {
            (400, "invalid_input")
        } else {
            (404, "not_found")
        };
        refused.is_error(status, code, attr);
    }
    let preview = json!({"query": {"kind": "HogQLQuery",
        "query": format!("select person_id from cohort_people where cohort_id = {}", theirs.cohorts[0])}});
    let refused = project.post("cohorts/preview/", preview);
    refused.is_error(400, "invalid_input", Some("query"));
    for path in ["persons/cohorts/", "events/"] {
        let query = format!("{path}?person_id={}", theirs.person);
        assert_eq!(project.get(&query).status, 404);
    }
}
