//! Lists of the names of events and properties.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, request_to, rows, send, start};

/// A page of a list, after the catalogue has followed the log.
pub fn list(project: &Project, path: &str) -> Value {
    project
        .server
        .update_catalogue(project.id)
        .expect("a catalogue");
    let page = project.get(path);
    assert_eq!(page.status, 200, "{path}: {}", page.text);
    page.json()
}

pub fn names(page: &Value) -> Vec<String> {
    let name = |row: &Value| row["name"].as_str().expect("a name").to_owned();
    rows(page).iter().map(name).collect()
}

/// The names and the types of properties.
pub fn types(page: &Value) -> Vec<(String, Option<String>)> {
    let pair = |row: &Value| {
        let name = row["name"].as_str().expect("a name").to_owned();
        let type_ = row["property_type"].as_str().map(str::to_owned);
        assert_eq!(
            row["is_numerical"],
            json!(type_.as_deref() == Some("Numeric"))
        );
        (name, type_)
    };
    rows(page).iter().map(pair).collect()
}

fn delete(project: &Project, distinct_id: &str) {
    let path = format!("persons/{}/", project.person(distinct_id));
    assert_eq!(project.ask(Method::DELETE, &path, None).status, 204);
}

fn with_events() -> Project {
    let project = Project::new();
    project.capture(json!([
        {"event": "Paid invoice", "distinct_id": "a", "properties": {"amount": 5, "paid_at": "2026-03-01T10:00:00Z"}},
        {"event": "$pageview", "distinct_id": "a", "properties": {"$browser": "Firefox", "amount": 2.5, "is_new": true, "tags": ["x"]}},
        {"event": "paid", "distinct_id": "b", "properties": {"currency": "EUR", "is_new": "false", "$set": {"plan": "pro", "seats": 3}}},
    ]));
    project
}

#[test]
fn events_are_listed_by_name_and_searched_by_words() {
    let project = with_events();
    let page = list(&project, "event_definitions/");
    assert_eq!(names(&page), ["$pageview", "Paid invoice", "paid"]);
    assert_eq!(
        (&page["count"], &page["limit_reached"]),
        (&json!(3), &json!(false))
    );
    let again = list(&project, "event_definitions/?limit=2");
    assert_eq!(names(&again), ["$pageview", "Paid invoice"]);
    assert_eq!(again["results"][0]["id"], page["results"][0]["id"]);
    assert_eq!(names(&project.follow(&again["next"])), ["paid"]);
    for (search, expected) in [
        ("PAID", &["Paid invoice", "paid"][..]),
        ("invoice+paid", &["Paid invoice"]),
        ("%25", &[]),
        ("_", &[]),
        ("", &["$pageview", "Paid invoice", "paid"]),
    ] {
        let page = list(&project, &format!("event_definitions/?search={search}"));
        assert_eq!(names(&page), expected, "{search}");
    }
    let other = Project::new();
    assert_eq!(names(&list(&other, "event_definitions/")), [""; 0]);
}

#[test]
fn properties_have_the_types_of_their_values() {
    let project = with_events();
    let expected = [
        ("$browser", Some("String")),
        ("amount", Some("Numeric")),
        ("currency", Some("String")),
        ("is_new", Some("Boolean")),
        ("paid_at", Some("DateTime")),
        ("tags", None),
    ];
    let expected = expected.map(|(name, type_)| (name.to_owned(), type_.map(str::to_owned)));
    assert_eq!(types(&list(&project, "property_definitions/")), expected);
    let persons = list(&project, "property_definitions/?type=person");
    let pair = |name: &str, type_: &str| (name.to_owned(), Some(type_.to_owned()));
    assert_eq!(
        types(&persons),
        [pair("plan", "String"), pair("seats", "Numeric")]
    );
    assert_eq!(
        persons["results"][0]["is_seen_on_filtered_events"],
        Value::Null
    );
    let searched = list(&project, "property_definitions/?search=new&type=event");
    assert_eq!(names(&searched), ["is_new"]);
    // Another kind of value, and a change of the only value.
    project.capture(json!([{"event": "paid", "distinct_id": "b", "properties": {"amount": "much", "$set": {"seats": "many"}}}]));
    let amount = list(&project, "property_definitions/?search=amount");
    assert_eq!(types(&amount), [pair("amount", "String")]);
    let seats = list(&project, "property_definitions/?type=person&search=seats");
    assert_eq!(types(&seats), [pair("seats", "String")]);
    project.capture(json!([{"event": "x", "distinct_id": "b", "properties": {"$set": {"seats": 4}, "$unset": ["plan"]}}]));
    let persons = list(&project, "property_definitions/?type=person");
    assert_eq!(types(&persons), [pair("seats", "Numeric")]);
}

#[test]
fn properties_of_some_events_come_first() {
    let project = with_events();
    let path = "property_definitions/?event_names=%5B%22paid%22,%22unknown%22%5D";
    let page = list(&project, path);
    let seen = |row: &Value| {
        row["is_seen_on_filtered_events"]
            .as_bool()
            .expect("a boolean")
    };
    let first: Vec<bool> = rows(&page).iter().map(seen).collect();
    assert_eq!(first, [true, true, false, false, false, false]);
    assert_eq!(names(&page)[..3], ["currency", "is_new", "$browser"]);
    let page = list(&project, &format!("{path}&filter_by_event_names=true"));
    assert_eq!(names(&page), ["currency", "is_new"]);
    for invalid in ["paid", "%7B%7D", "%5B1%5D"] {
        let answer = project.get(&format!("property_definitions/?event_names={invalid}"));
        answer.is_error(400, "invalid_input", Some("event_names"));
    }
    let answer = project.get("property_definitions/?type=group");
    answer.is_error(400, "invalid_input", Some("type"));
}

#[test]
fn names_of_deleted_persons_disappear() {
    let project = with_events();
    project.capture(json!([
        {"event": "secret diagnosis", "distinct_id": "b", "properties": {"illness": "x", "$set": {"doctor": "y"}}},
        {"event": "paid", "distinct_id": "c", "properties": {"currency": 1, "$set": {"plan": "free"}}},
    ]));
    assert!(names(&list(&project, "event_definitions/")).contains(&"secret diagnosis".to_owned()));
    delete(&project, "b");
    assert_eq!(
        names(&list(&project, "event_definitions/")),
        ["$pageview", "Paid invoice", "paid"]
    );
    let properties = list(&project, "property_definitions/");
    assert!(!names(&properties).contains(&"illness".to_owned()));
    // The text of `currency` is gone, and so is the text of `is_new`.
    let currency = list(&project, "property_definitions/?search=currency");
    assert_eq!(
        types(&currency),
        [("currency".to_owned(), Some("Numeric".to_owned()))]
    );
    assert_eq!(
        names(&list(&project, "property_definitions/?type=person")),
        ["plan"]
    );
    delete(&project, "a");
    delete(&project, "c");
    for path in [
        "event_definitions/",
        "property_definitions/",
        "property_definitions/?type=person",
    ] {
        assert_eq!(names(&list(&project, path)), [""; 0], "{path}");
    }
}

#[test]
fn each_list_needs_its_scope() {
    let project = with_events();
    for (path, scope) in [
        ("event_definitions/", "event_definition:read"),
        ("property_definitions/", "property_definition:read"),
    ] {
        let reader = project.with_key(project.key_with(&[scope]));
        assert_eq!(reader.get(path).status, 200);
        let other = project.with_key(project.key_with(&["cohort:read", "person:read"]));
        other.get(path).is_error(403, "permission_denied", None);
    }
}

/// The background thread follows the log, also for a name that comes back after its deletion.
#[test]
fn a_running_service_lists_new_names_by_itself() {
    let server: &'static _ = Box::leak(Box::new(start(|config| config.calculate = true)));
    let project = Project::on(server);
    let listed = |name: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let path = project.path("event_definitions/");
            let call = request_to(server, Method::GET, &path).bearer_auth(&project.key);
            if names(&send(&Method::GET, call).json())
                .iter()
                .any(|listed| listed == name)
            {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is not listed");
            std::thread::yield_now();
        }
    };
    for name in ["first", "second"] {
        project.capture(json!([{"event": name, "distinct_id": "a"}]));
        listed(name);
    }
}
