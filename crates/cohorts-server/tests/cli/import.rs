//! `cohorts import`: exports of other products, persons of the service, and lines that cannot be read.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Service, json_of, output_of, run};

/// A project in an empty directory, and a directory for files.
struct Project {
    directory: TempDir,
}

impl Project {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let project = Self { directory };
        output_of(&project.data(), &["project", "create", "--name", "N"]);
        project
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn lines(&self, name: &str, lines: &[Value]) -> String {
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        self.file(name, &lines.join("\n"))
    }

    /// The exit status, the output and the errors of an import.
    fn import(&self, files: &[&str]) -> (Option<i32>, String, String) {
        let arguments = [&["import", "--project", "1"], files].concat();
        let output = run(&self.data(), &arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn imported(&self, files: &[&str]) -> String {
        let (code, output, errors) = self.import(files);
        assert_eq!(code, Some(0), "{output}{errors}");
        output
    }

    fn start(&self) -> RunningProject {
        let service = Service::start(&self.data());
        let key = json_of(&self.data(), &["key", "create", "--all-scopes", "--json"]);
        let key = key["key"].as_str().unwrap().to_owned();
        RunningProject { service, key }
    }
}

struct RunningProject {
    service: Service,
    key: String,
}

impl RunningProject {
    fn get(&self, path: &str) -> String {
        let client = reqwest::blocking::Client::new();
        let url = format!("{}/api/projects/@current/{path}", self.service.url);
        let response = client.get(url).bearer_auth(&self.key).send().unwrap();
        response.text().unwrap()
    }

    /// The persons with a distinct id.
    fn persons(&self, id: &str) -> Vec<Value> {
        let page = self.get(&format!("persons/?distinct_id={id}"));
        let page: Value = serde_json::from_str(&page).unwrap();
        page["results"].as_array().unwrap().clone()
    }

    fn person(&self, id: &str) -> Value {
        let persons = self.persons(id);
        assert_eq!(persons.len(), 1, "{id}: {persons:?}");
        persons[0].clone()
    }
}

const PERSON: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4e05";

#[test]
fn exports_of_each_vendor_are_recognized_and_keep_ids_times_and_properties() {
    let project = Project::new();
    let mixpanel = project.lines(
        "mp.ndjson",
        &[
            json!({"event": "Signed up", "properties": {"time": 1_577_836_800, "distinct_id": "mp1", "$insert_id": "i1"}}),
            json!({"event": "Paid", "properties": {"time": 1_577_836_801_000_i64, "distinct_id": "mp1", "$insert_id": "i2"}}),
            json!({"$distinct_id": "mp1", "$properties": {"$last_seen": "2020-02-01T00:00:00", "$email": "mp@x.io"}}),
        ],
    );
    let amplitude = project.lines(
        "amplitude.json",
        &[
            json!({"event_type": "open", "event_time": "2020-01-02 00:00:00.000000", "user_id": null, "device_id": "d1",
                "uuid": "b7c8e7f1-1b2a-11ea-9f4c-0a1b2c3d4e5f", "event_properties": {}, "user_properties": {}}),
            json!({"event_type": "pay", "event_time": "2020-01-03 00:00:00.000000", "user_id": "am1", "device_id": "d1",
                "uuid": "b7c8e7f2-1b2a-11ea-9f4c-0a1b2c3d4e5f", "user_properties": {"plan": "pro"}}),
        ],
    );
    let segment = project.lines(
        "segment.json",
        &[
            json!({"type": "track", "event": "open", "anonymousId": "s-anon", "messageId": "m1", "timestamp": "2020-01-04T00:00:00Z"}),
            json!({"type": "identify", "userId": "s1", "anonymousId": "s-anon", "messageId": "m2", "traits": {"plan": "free"},
                "timestamp": "2020-01-05T00:00:00Z"}),
        ],
    );
    let posthog = project.lines(
        "posthog.ndjson",
        &[
            json!({"distinct_id": "bq", "person_id": PERSON, "properties": r#"{"plan": "pro"}"#, "created_at": 1_577_836_800}),
            json!({"distinct_id": "gone", "person_id": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4e04",
                "properties": {"email": "gone@x.io"}, "created_at": "2020-01-01T00:00:00Z", "is_deleted": true}),
        ],
    );
    let files = [&*mixpanel, &amplitude, &segment, &posthog];
    let (code, output, errors) = project.import(&files);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(
        output,
        "6 events imported, 0 duplicates\n2 distinct ids of persons imported\n1 deleted person skipped\n"
    );
    for part in [
        "mp.ndjson: format: Mixpanel events (2 lines), Mixpanel profiles (1 line)",
        "amplitude.json: format: Amplitude events (2 lines)",
        "segment.json: format: Segment calls (2 lines)",
        "posthog.ndjson: format: PostHog persons (2 lines)",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert!(
        project
            .imported(&files)
            .starts_with("0 events imported, 6 duplicates\n")
    );
    let running = project.start();
    for (ids, created_at, name, value) in [
        (&["mp1"][..], "2020-01-01T00:00:00Z", "email", "mp@x.io"),
        (&["am1", "d1"], "2020-01-02T00:00:00Z", "plan", "pro"),
        (&["s-anon", "s1"], "2020-01-04T00:00:00Z", "plan", "free"),
        (&["bq"], "2020-01-01T00:00:00Z", "plan", "pro"),
    ] {
        let person = running.person(ids[0]);
        assert_eq!(person["distinct_ids"], json!(ids));
        assert_eq!(person["created_at"], created_at, "{person}");
        assert_eq!(person["properties"][name], value, "{person}");
    }
    assert_eq!(running.person("bq")["uuid"], PERSON);
    assert_eq!(running.persons("gone"), [Value::Null; 0]);
}

#[test]
fn persons_exported_by_the_service_are_the_same_after_an_import() {
    let project = Project::new();
    let time = "2020-01-01T00:00:00Z";
    let events = project.lines(
        "events.ndjson",
        &[
            json!({"event": "x", "distinct_id": "a", "timestamp": time, "properties": {"$set": {"n": 1, "t": "é"}}}),
            json!({"event": "$identify", "distinct_id": "b", "timestamp": time, "properties": {"$anon_distinct_id": "a"}}),
            json!({"event": "$create_alias", "distinct_id": "b", "timestamp": time, "properties": {"alias": "c"}}),
            json!({"event": "x", "distinct_id": "z", "timestamp": "2021-01-01T00:00:00Z"}),
        ],
    );
    project.imported(&[&events]);
    let export = |project: &Project| project.start().get("persons/?format=ndjson");
    let exported = export(&project);
    assert_eq!(exported.lines().count(), 2, "{exported}");
    let copy = Project::new();
    let file = copy.file("persons.ndjson", &exported);
    for _ in 0..2 {
        let (code, output, errors) = copy.import(&[&file]);
        assert_eq!(code, Some(0), "{errors}");
        assert_eq!(
            output,
            "0 events imported, 0 duplicates\n4 distinct ids of persons imported\n"
        );
        assert!(
            errors.contains("format: Cohorts persons (2 lines)"),
            "{errors}"
        );
        assert_eq!(export(&copy), exported);
    }
    // A person with a uuid that exists gets the ids of another file.
    let person: Value = serde_json::from_str(exported.lines().last().unwrap()).unwrap();
    let other = copy.lines(
        "more.ndjson",
        &[json!({"distinct_id": "d", "person_id": person["uuid"], "created_at": time})],
    );
    copy.imported(&[&other]);
    let running = copy.start();
    assert_eq!(
        running.person("d")["distinct_ids"],
        json!(["a", "b", "c", "d"])
    );
}

#[test]
fn lines_without_a_time_or_a_format_are_named_and_the_rest_is_imported() {
    let project = Project::new();
    let file = project.file(
        "mixed.ndjson",
        "{\"event\":\"x\",\"distinct_id\":\"p1\",\"timestamp\":1577836800}\n\
         {\"event\":\"x\",\"distinct_id\":\"p2\"}\n\
         {\"event\":\"x\",\"distinct_id\":\"p3\",\"timestamp\":\"soon\"}\n\
         {\"event\":\"x\",\"properties\":{\"time\":1577836800,\"distinct_id\":\"p4\"}}\n\
         distinct_id,email\n\
         {\"email\":\"p6@x.io\"}\n",
    );
    let (code, output, errors) = project.import(&[&file]);
    assert_eq!(code, Some(1));
    assert_eq!(output, "2 events imported, 0 duplicates\n");
    for part in [
        "mixed.ndjson, line 2: `timestamp` is missing",
        "mixed.ndjson, line 3: the time `soon` is in no known format",
        "mixed.ndjson, line 5: it is not a JSON object",
        "mixed.ndjson, line 6: `event` is missing, and it is in no other known format",
        "mixed.ndjson: format: capture items (1 line), Mixpanel events (1 line)",
        "error: 4 lines could not be read and were left out",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    let zip = project.file("export.zip", "PK\u{3}\u{4}");
    let (code, _, errors) = project.import(&[&zip]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("export.zip: it is a zip archive"),
        "{errors}"
    );
    let running = project.start();
    assert_eq!(running.person("p1")["created_at"], "2020-01-01T00:00:00Z");
    assert_eq!(running.persons("p2"), [Value::Null; 0]);
}
