//! `cohorts project delete` and `cohorts purge`.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Service, error_of, json_of, output_of, run};

/// A project with its token, and a key for it.
struct Access {
    id: String,
    token: String,
    key: String,
}

impl Access {
    fn new(data: &std::path::Path, name: &str) -> Self {
        let project = json_of(data, &["project", "create", "--name", name, "--json"]);
        let id = project["id"].to_string();
        let create = ["key", "create", "--project", &id, "--all-scopes", "--json"];
        let key = json_of(data, &create)["key"].as_str().unwrap().to_owned();
        Self {
            token: project["token"].as_str().unwrap().to_owned(),
            id,
            key,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/projects/{}/{rest}", self.id)
    }

    fn cohort(&self, service: &Service, body: &Value) -> i64 {
        let created = service.post(&self.path("cohorts/"), &self.key, body);
        created["id"].as_i64().unwrap()
    }

    /// Marks a cohort as deleted, or restores it, and returns the status.
    fn set_deleted(&self, service: &Service, cohort: i64, deleted: bool) -> u16 {
        let client = reqwest::blocking::Client::new();
        let url = format!(
            "{}{}",
            service.url,
            self.path(&format!("cohorts/{cohort}/"))
        );
        let patch = client.patch(url).bearer_auth(&self.key);
        let answer = patch.json(&json!({"deleted": deleted})).send();
        answer.unwrap().status().as_u16()
    }

    fn cohort_status(&self, service: &Service, cohort: i64) -> u16 {
        let client = reqwest::blocking::Client::new();
        let url = format!(
            "{}{}",
            service.url,
            self.path(&format!("cohorts/{cohort}/activity/"))
        );
        let answer = client.get(url).bearer_auth(&self.key).send();
        answer.unwrap().status().as_u16()
    }
}

#[test]
fn project_is_deleted_only_if_confirmed() {
    let directory = TempDir::new().unwrap();
    let data = directory.path();
    let [first, second] = ["Shop", "Other"].map(|name| Access::new(data, name));
    let service = Service::start(data);
    for access in [&first, &second] {
        let event = json!({"event": "x", "distinct_id": "a"});
        service.post(
            "/batch/",
            "",
            &json!({"api_key": access.token, "batch": [event]}),
        );
        access.cohort(&service, &json!({"name": "A", "is_static": true}));
    }
    let refusal = error_of(data, &["project", "delete", &first.id]);
    assert!(
        refusal.contains("this deletes project 1 (Shop)") && refusal.contains("--yes"),
        "{refusal}"
    );
    assert_eq!(service.count(&first.key, "x"), 1);
    let text = output_of(data, &["project", "delete", &first.id, "--yes"]);
    assert!(
        text.starts_with("Project 1 is deleted, with 1 event, 1 person, 1 distinct id"),
        "{text}"
    );
    let again = error_of(data, &["project", "delete", &first.id, "--yes"]);
    assert_eq!(again, "error: there is no project 1");
    // The key of the project is revoked, and the other project is unchanged.
    let keys = output_of(data, &["key", "list"]);
    assert_eq!(keys.matches("revoked").count(), 1, "{keys}");
    assert_eq!(service.count(&second.key, "x"), 1);
    let usage = run(data, &["project", "delete"]);
    assert_eq!(usage.status.code(), Some(2));
    service.end("-TERM");
}

#[test]
fn cohorts_are_purged_unless_they_are_live_recent_or_in_use() {
    let directory = TempDir::new().unwrap();
    let data = directory.path();
    let access = Access::new(data, "Shop");
    let service = Service::start(data);
    let event = json!({"event": "x", "distinct_id": "a"});
    service.post(
        "/batch/",
        "",
        &json!({"api_key": access.token, "batch": [event]}),
    );
    let persons = service.get(&access.path("persons/"), &access.key);
    let person = &persons["results"][0]["uuid"];
    let members = json!({"name": "A", "is_static": true, "_create_static_person_ids": [person]});
    let [live, unused, used, queried] = [0; 4].map(|_| access.cohort(&service, &members));
    for cohort in [unused, used, queried] {
        assert_eq!(access.set_deleted(&service, cohort, true), 200);
    }
    let leaf = json!({"type": "cohort", "key": "id", "value": used});
    let filters = json!({"properties": {"type": "OR", "values": [leaf]}});
    let user = access.cohort(&service, &json!({"name": "U", "filters": filters}));
    let text = format!("SELECT person_id FROM cohort_people WHERE cohort_id = {queried}");
    let query = json!({"kind": "HogQLQuery", "query": text});
    let by_query = access.cohort(&service, &json!({"name": "V", "query": query}));

    let none = "Purged 0 cohorts with 0 member chunks, 0 changes, 0 sizes, 0 calculations, 0 uploads and 0 activity entries\n";
    assert_eq!(output_of(data, &["purge"]), none);
    let kept = [(used, user), (queried, by_query)].map(|(kept, other)| {
        format!("project 1: cohort {kept} (A) is kept, because cohort {other} refers to it\n")
    });
    let kept = kept.concat();
    let counts = "1 cohort with 1 member chunk, 1 change, 1 size, 0 calculations, 0 uploads and 2 activity entries\n";
    let dry = ["purge", "--older-than", "0d", "--dry-run"];
    let expected = format!("project 1: cohort {unused} (A)\n{kept}This would purge {counts}");
    assert_eq!(output_of(data, &dry), expected);
    assert_eq!(access.cohort_status(&service, unused), 200);

    let purge = ["purge", "--older-than", "0", "--project", "1"];
    assert_eq!(output_of(data, &purge), format!("{kept}Purged {counts}"));
    assert_eq!(access.cohort_status(&service, unused), 404);
    assert_eq!(access.set_deleted(&service, unused, false), 404);
    for cohort in [live, used, user, queried, by_query] {
        assert_eq!(access.cohort_status(&service, cohort), 200);
    }
    assert_eq!(output_of(data, &purge), format!("{kept}{none}"));
    // A kept cohort can be restored with its members.
    assert_eq!(access.set_deleted(&service, used, false), 200);
    let page = service.get(
        &access.path(&format!("cohorts/{used}/persons/")),
        &access.key,
    );
    assert_eq!(page["results"].as_array().unwrap().len(), 1, "{page}");
    let unknown = error_of(data, &["purge", "--project", "7"]);
    assert_eq!(unknown, "error: there is no project 7");
    let usage = run(data, &["purge", "--older-than", "soon"]);
    assert_eq!(usage.status.code(), Some(2));
    service.end("-TERM");
}
