//! The values of a person property.

use serde_json::{Value, json};

use crate::harness::Project;

fn values(project: &Project, query: &str) -> Vec<(String, i64)> {
    let answer = project.get(&format!("persons/values/?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    let answer = answer.json();
    let pair = |row: &Value| {
        let name = row["name"].as_str().expect("a text").to_owned();
        (name, row["count"].as_i64().expect("a number"))
    };
    answer
        .as_array()
        .expect("a list")
        .iter()
        .map(pair)
        .collect()
}

fn pair(name: &str, count: i64) -> (String, i64) {
    (name.to_owned(), count)
}

#[test]
fn most_frequent_values_are_first() {
    let project = Project::new();
    project.persons([
        ("a", json!({"plan": "pro", "seats": 7, "tags": ["x", "y"]})),
        ("b", json!({"plan": "Pro Plus", "seats": "7", "tags": true})),
        ("c", json!({"plan": "pro", "seats": 1.5, "tags": null})),
        ("d", json!({"plan": "free", "seats": "", "tags": {"z": 1}})),
        ("e", json!({})),
    ]);
    let plans = [pair("pro", 2), pair("Pro Plus", 1), pair("free", 1)];
    assert_eq!(values(&project, "key=plan"), plans);
    assert_eq!(values(&project, "key=plan&value=PRO"), plans[..2]);
    assert_eq!(values(&project, "key=plan&value="), plans);
    assert_eq!(
        values(&project, "key=seats"),
        [pair("7", 2), pair("1.5", 1)]
    );
    let tags = [
        pair(r#"["x","y"]"#, 1),
        pair("true", 1),
        pair(r#"{"z":1}"#, 1),
    ];
    assert_eq!(values(&project, "key=tags"), tags);
    for empty in [
        "",
        "key=",
        "key=unknown",
        "key=a%00b",
        "key=plan&value=%00",
        "key=plan&value=p_o",
        "key=plan&value=%25",
        "key=plan&value=ro",
    ] {
        assert_eq!(values(&project, empty), [], "{empty}");
    }
    assert_eq!(values(&Project::new(), "key=plan"), []);
}

#[test]
fn list_of_values_is_short() {
    let project = Project::new();
    let long = "x".repeat(4_097);
    let persons = (0..30).map(|number| json!({"event": "x", "distinct_id": format!("p{number}"), "properties": {"$set": {"number": format!("{number:02}"), "long": long}}}));
    project.capture(persons.collect());
    let numbers = values(&project, "key=number");
    assert_eq!(numbers.len(), 20);
    assert_eq!(
        (&numbers[0], &numbers[19]),
        (&pair("00", 1), &pair("19", 1))
    );
    assert_eq!(values(&project, "key=long"), []);
}

#[test]
fn a_property_with_very_many_values_is_answered_for_a_prefix() {
    let project = Project::new();
    for part in 0..11 {
        let persons = (0..1_000).map(|number| {
            let id = format!("{part:02}-{number:03}");
            json!({"event": "$set", "distinct_id": id, "properties": {"$set": {"code": id}}})
        });
        project.capture(persons.collect());
    }
    let answer = project.get("persons/values/?key=code");
    answer.is_error(400, "too_many_values", Some("value"));
    let found = values(&project, "key=code&value=10-99");
    assert_eq!((found.len(), &found[0]), (10, &pair("10-990", 1)));
}
