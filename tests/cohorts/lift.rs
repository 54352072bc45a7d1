//! What is more or less common among the members of a cohort than among other persons.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Project, cohort_path, first_ids, only, person};

fn compare(project: &Project, cohort: i64, body: Value) -> Answer {
    project.post(&format!("cohorts/{cohort}/compare/"), body)
}

fn compared(project: &Project, cohort: i64, body: Value) -> Value {
    let answer = compare(project, cohort, body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn list(project: &Project, ids: &[&str]) -> i64 {
    let ids: Vec<String> = ids.iter().map(|id| project.person(id)).collect();
    project.cohort(json!({"is_static": true, "_create_static_person_ids": ids}))
}

/// The persons `a` to `d`: two on the plan `pro`, and one of these has paid.
fn with_plans() -> (Project, i64) {
    let project = Project::new();
    project.persons([
        ("a", json!({"plan": "pro", "team": 1})),
        ("b", json!({"plan": "pro"})),
        ("c", json!({"plan": "free", "team": 1})),
        ("d", json!({})),
    ]);
    project.capture(json!([
        {"event": "paid", "distinct_id": "a"},
        {"event": "paid", "distinct_id": "a"},
        {"event": "left", "distinct_id": "c"},
        {"event": "left", "distinct_id": "d"},
    ]));
    let pros = project.cohort(json!({"filters": only(person("plan", "exact", "pro"))}));
    project.settle(pros);
    (project, pros)
}

#[test]
fn values_and_events_are_counted_inside_and_outside() {
    let (project, pros) = with_plans();
    let expected = json!({
        "inside": 2, "outside": 2,
        "properties": [
            {"key": "plan", "inside": 2, "outside": 1, "lift": 2.0, "values_count": 2, "values": [
                {"value": "pro", "inside": 2, "outside": 0, "lift": null},
                {"value": "free", "inside": 0, "outside": 1, "lift": 0.0},
            ]},
            {"key": "none", "inside": 0, "outside": 0, "lift": null, "values_count": 0, "values": []},
            {"key": "team", "inside": 1, "outside": 1, "lift": 1.0, "values_count": 1, "values": []},
        ],
        "events": [
            {"event": "left", "inside": 0, "outside": 2, "lift": 0.0},
            {"event": "paid", "inside": 1, "outside": 0, "lift": null},
        ],
        "event_names": 3,
    });
    let keys = ["team", "plan", "none", "plan"];
    assert_eq!(compared(&project, pros, json!({"keys": keys})), expected);
    let list = list(&project, &["a", "d"]);
    let with_list = compared(&project, pros, json!({"with": list, "keys": []}));
    let sizes = [&with_list["inside"], &with_list["outside"]];
    assert_eq!(
        (sizes, &with_list["properties"]),
        ([&json!(2), &json!(1)], &json!([]))
    );
    assert_eq!(
        with_list["events"][0],
        json!({"event": "left", "inside": 0, "outside": 1, "lift": 0.0})
    );
}

#[test]
fn without_keys_the_most_frequent_properties_are_compared() {
    let (project, pros) = with_plans();
    for body in [json!({}), json!({"keys": null, "with": null})] {
        let compared = compared(&project, pros, body);
        let keys = compared["properties"].as_array().expect("properties");
        let keys: Vec<&Value> = keys.iter().map(|property| &property["key"]).collect();
        assert_eq!(keys, ["plan", "team"]);
    }
    let many: Value = (0..60)
        .map(|nth| (format!("p{nth:02}"), json!(nth)))
        .collect();
    project.persons([("a", many)]);
    let compared = compared(&project, pros, json!({}));
    let properties = compared["properties"].as_array().expect("properties");
    assert_eq!(properties.len(), 50);
    assert!(properties.iter().any(|property| property["key"] == "team"));
}

#[test]
fn a_property_has_at_most_twenty_values() {
    let project = Project::new();
    let person = |nth: i64| json!({"event": "$set", "distinct_id": format!("p{nth}"), "properties": {"$set": {"city": format!("c{nth:02}")}}});
    project.capture((0..25).map(person).collect());
    let list = list(&project, &["p0"]);
    let compared = compared(&project, list, json!({"keys": ["city"]}));
    let city = &compared["properties"][0];
    assert_eq!(city["values_count"], 25);
    let values = city["values"].as_array().expect("values");
    assert_eq!(values.len(), 20);
    assert_eq!([&values[0]["value"], &values[1]["value"]], ["c00", "c01"]);
}

#[test]
fn a_comparison_has_at_most_a_hundred_events() {
    let project = Project::new();
    let event = |nth: i64| json!({"event": format!("e{nth:03}"), "distinct_id": "a"});
    project.capture((0..105).map(event).collect());
    project.persons([("b", json!({}))]);
    let compared = compared(&project, list(&project, &["a"]), json!({}));
    // The event of the properties of the other person is one more.
    assert!(compared["event_names"].as_i64() >= Some(105), "{compared}");
    assert_eq!(compared["events"].as_array().expect("events").len(), 100);
}

#[test]
fn properties_that_only_members_have_are_compared() {
    let project = Project::new();
    project.persons([
        ("a", json!({"rare": "x"})),
        ("b", json!({"city": 1})),
        ("c", json!({"city": 2})),
    ]);
    let compared = compared(&project, list(&project, &["a"]), json!({}));
    assert_eq!(compared["properties"][0]["key"], "rare", "{compared}");
}

#[test]
fn nothing_is_more_common_than_among_no_persons() {
    let (project, pros) = with_plans();
    let none = project.cohort(json!({"is_static": true}));
    for (cohort, with, sizes) in [
        (pros, Some(pros), [2, 0]),
        (none, None, [0, 4]),
        (pros, Some(none), [2, 0]),
    ] {
        let compared = compared(&project, cohort, json!({"with": with, "keys": ["plan"]}));
        assert_eq!(
            json!([compared["inside"], compared["outside"]]),
            json!(sizes)
        );
        assert_eq!(compared["events"], json!([]));
        assert_eq!(compared["properties"][0]["values"], json!([]));
    }
}

#[test]
fn limits_and_unknown_cohorts_are_refused() {
    let (project, pros) = with_plans();
    let refused = |body: Value, attr: &str| {
        let answer = compare(&project, pros, body);
        answer.is_error(400, "invalid_input", Some(attr)).detail()
    };
    let keys = |count: usize| (0..count).map(|nth| format!("p{nth}")).collect::<Vec<_>>();
    assert_eq!(
        refused(json!({"keys": keys(51)}), "keys"),
        "At most 50 keys are allowed, and these are 51."
    );
    let long = refused(json!({"keys": ["a", "x".repeat(1_001)]}), "keys");
    assert_eq!(
        long,
        "keys[1] has 1001 bytes; the name of a property may have 1000 at most."
    );
    let unknown = "The project has no cohort with the ID 999999999.";
    assert_eq!(refused(json!({"with": 999_999_999}), "with"), unknown);
    assert_eq!(
        compare(&project, pros, json!({"keys": keys(50)})).status,
        200
    );
    let answer = compare(&project, 999_999_999, json!({}));
    answer.is_error(404, "not_found", None);
    let gone = project.cohort(json!({"is_static": true}));
    project.patch(&cohort_path(gone), json!({"deleted": true}));
    compare(&project, gone, json!({})).is_error(404, "not_found", None);
    let body = json!({"with": gone});
    compare(&project, pros, body).is_error(400, "invalid_input", Some("with"));
}

const IDS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const KEYS: [&str; 3] = ["p", "q", "r"];

/// An event of a person, or a change of the person.
#[derive(Clone, Debug)]
enum Step {
    Did(&'static str, &'static str),
    Set(&'static str, &'static str, Value),
    Merge(&'static str, &'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || select(IDS.to_vec());
    let values = vec![
        json!("x"),
        json!("y"),
        json!(""),
        json!(7),
        json!("7"),
        json!(null),
        json!(false),
        json!([1, "x"]),
        json!({"k": 1}),
    ];
    let set = (id(), select(KEYS.to_vec()), select(values));
    prop_oneof![
        6 => (id(), select(vec!["open", "paid", "left", "read"])).prop_map(|(id, name)| Step::Did(id, name)),
        8 => set.prop_map(|(id, key, value)| Step::Set(id, key, value)),
        1 => (id(), id()).prop_map(|(into, from)| Step::Merge(into, from)),
    ]
}

impl Step {
    fn item(&self) -> (&'static str, &'static str, Value) {
        match self {
            Self::Did(id, name) => (name, id, json!({})),
            Self::Set(id, key, value) => {
                let mut set = json!({});
                set[*key] = value.clone();
                ("$set", id, json!({"$set": set}))
            }
            Self::Merge(into, from) => ("$merge_dangerously", into, json!({"alias": from})),
        }
    }
}

/// Captures the steps, and returns the names of the events of each distinct id.
fn capture(project: &Project, steps: &[Step]) -> BTreeMap<String, BTreeSet<String>> {
    let mut events: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut batch = Vec::new();
    for (name, id, properties) in steps.iter().map(Step::item) {
        let names = events.entry(id.to_owned()).or_default();
        names.insert(name.to_owned());
        batch.push(json!({"event": name, "distinct_id": id, "properties": properties}));
    }
    project.capture(batch.into());
    events
}

/// Exported persons, by uuid.
fn exported(project: &Project, path: &str) -> BTreeMap<String, Value> {
    let page = project.get(&format!("{path}?limit=10000")).json();
    let persons = page["results"].as_array().expect("persons").iter();
    let by_uuid = persons.map(|person| (person["uuid"].to_string(), person.clone()));
    by_uuid.collect()
}

/// The persons of two groups.
struct Groups {
    inside: Vec<Value>,
    outside: Vec<Value>,
}

impl Groups {
    /// The persons of both groups with a property of their own.
    fn count(&self, has: impl Fn(&Value) -> bool) -> [u64; 2] {
        [&self.inside, &self.outside]
            .map(|group| group.iter().filter(|person| has(person)).count() as u64)
    }

    fn sizes(&self) -> [u64; 2] {
        self.count(|_| true)
    }

    /// The difference of the shares times both sizes, and whether the share inside is larger.
    fn difference(&self, counts: [u64; 2]) -> (u64, bool) {
        let sizes = self.sizes();
        let (inside, outside) = (counts[0] * sizes[1], counts[1] * sizes[0]);
        (inside.abs_diff(outside), inside > outside)
    }

    fn lift(&self, counts: [u64; 2]) -> Value {
        let sizes = self.sizes();
        let (inside, outside) = (counts[0] * sizes[1], counts[1] * sizes[0]);
        if outside == 0 {
            return Value::Null;
        }
        json!(inside as f64 / outside as f64)
    }

    fn entry(&self, field: &str, name: &str, counts: [u64; 2]) -> Value {
        let mut entry =
            json!({"inside": counts[0], "outside": counts[1], "lift": self.lift(counts)});
        entry[field] = json!(name);
        entry
    }

    /// The names that differ, in the order of responses.
    fn differing(&self, field: &str, counted: &BTreeMap<String, [u64; 2]>) -> Vec<Value> {
        let mut names: Vec<&String> = counted.keys().collect();
        names.retain(|name| self.difference(counted[*name]).0 > 0);
        names.sort_by_key(|name| (Reverse(self.difference(counted[*name])), (*name).clone()));
        names
            .iter()
            .map(|name| self.entry(field, name, counted[*name]))
            .collect()
    }

    fn property(&self, key: &str) -> Value {
        let all = || self.inside.iter().chain(&self.outside);
        let texts: BTreeSet<String> = all()
            .filter_map(|person| text(&person["properties"][key]))
            .collect();
        let texts = texts.into_iter().filter(|text| !text.is_empty());
        let count = |wanted: &String| {
            self.count(|person| text(&person["properties"][key]).as_ref() == Some(wanted))
        };
        let counted: BTreeMap<String, [u64; 2]> =
            texts.map(|text| (text.clone(), count(&text))).collect();
        let with_value = self.count(|person| !person["properties"][key].is_null());
        let mut property = self.entry("key", key, with_value);
        property["values_count"] = json!(counted.len());
        property["values"] = self.differing("value", &counted).into();
        property
    }
}

/// The text of a value, if there is one.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The comparison from exported persons and members, and the captured events.
fn expected(
    project: &Project,
    cohort: i64,
    with: Option<i64>,
    events: &BTreeMap<String, BTreeSet<String>>,
) -> Value {
    let persons = exported(project, "persons/");
    let members = |id: i64| exported(project, &format!("cohorts/{id}/persons/"));
    let inside = members(cohort);
    let others = with.map_or_else(|| persons.clone(), members);
    let outside = others
        .iter()
        .filter(|(uuid, _)| !inside.contains_key(*uuid));
    let groups = Groups {
        outside: outside.map(|(uuid, _)| persons[uuid].clone()).collect(),
        inside: inside.keys().map(|uuid| persons[uuid].clone()).collect(),
    };
    let has_event = |person: &Value, name: &str| {
        let mut ids = first_ids(&json!([person]));
        let all = person["distinct_ids"].as_array().expect("ids").iter();
        ids.extend(all.filter_map(Value::as_str).map(str::to_owned));
        ids.iter()
            .any(|id| events.get(id).is_some_and(|names| names.contains(name)))
    };
    let names: BTreeSet<&String> = events.values().flatten().collect();
    let counted = names
        .into_iter()
        .map(|name| (name.clone(), groups.count(|person| has_event(person, name))));
    let counted: BTreeMap<String, [u64; 2]> =
        counted.filter(|(_, counts)| *counts != [0, 0]).collect();
    let mut properties = KEYS.map(|key| groups.property(key));
    let counts = |entry: &Value| {
        [&entry["inside"], &entry["outside"]].map(|count| count.as_u64().expect("a count"))
    };
    let largest = |property: &Value| {
        let values = property["values"].as_array().expect("values").iter();
        values
            .chain([property])
            .map(|entry| groups.difference(counts(entry)))
            .max()
    };
    properties.sort_by_key(|property| (Reverse(largest(property)), property["key"].to_string()));
    let sizes = groups.sizes();
    let expected = json!({
        "inside": sizes[0], "outside": sizes[1],
        "properties": properties,
        "events": groups.differing("event", &counted),
        "event_names": counted.len(),
    });
    // A number that is read from text may differ from the written one in its last bit.
    serde_json::from_str(&expected.to_string()).expect("JSON")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn numbers_equal_those_of_exported_persons(
        first in vec(step(), 10..60),
        later in vec(step(), 0..20),
        listed in vec(select(IDS.to_vec()), 0..6),
        deleted in select(IDS.to_vec()),
    ) {
        let project = Project::new();
        let mut events = capture(&project, &first);
        let known: Vec<&str> = listed.into_iter().filter(|id| events.contains_key(*id)).collect();
        let list = list(&project, &known);
        let dynamic = project.cohort(json!({"filters": only(person("p", "exact", "x"))}));
        project.settle(dynamic);
        let assert_equal = |events: &BTreeMap<String, BTreeSet<String>>| {
            for (cohort, with) in [(list, None), (dynamic, None), (list, Some(dynamic)), (dynamic, Some(list))] {
                let body = json!({"with": with, "keys": KEYS});
                let expected = expected(&project, cohort, with, events);
                assert_eq!(compared(&project, cohort, body), expected);
            }
        };
        assert_equal(&events);
        // The members of the dynamic cohort stay as they are until its next calculation.
        for (id, names) in capture(&project, &later) {
            events.entry(id).or_default().extend(names);
        }
        assert_equal(&events);
        if events.contains_key(deleted) {
            let path = format!("persons/{}/", project.person(deleted));
            prop_assert_eq!(project.ask(Method::DELETE, &path, None).status, 204);
        }
        assert_equal(&events);
        project.settle(dynamic);
        assert_equal(&events);
    }
}
