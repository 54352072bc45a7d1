//! Identity: merging persons, and events of distinct ids without a person.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Project, any_of, count, did, find_person, metric, person, person_count, request, send,
};

fn identify(id: &str, other: &str) -> Value {
    json!({"event": "$identify", "distinct_id": id, "properties": {"$anon_distinct_id": other}})
}

fn alias(id: &str, other: &str) -> Value {
    json!({"event": "$create_alias", "distinct_id": id, "properties": {"alias": other}})
}

fn force(id: &str, other: &str) -> Value {
    json!({"event": "$merge_dangerously", "distinct_id": id, "properties": {"alias": other}})
}

fn set(id: &str, properties: Value) -> Value {
    json!({"event": "$set", "distinct_id": id, "properties": {"$set": properties}})
}

fn plain(event: &str, id: &str) -> Value {
    json!({"event": event, "distinct_id": id})
}

#[test]
fn id_without_an_owner_is_assigned_to_the_owner_of_the_other() {
    let project = Project::new();
    let identify = |id: &str, other: &str| json!({"event": "$identify", "distinct_id": id, "properties": {"$anon_distinct_id": other}});
    let alias = |id: &str, other: &str| json!({"event": "$create_alias", "distinct_id": id, "properties": {"alias": other}});
    project.capture(json!([{"event": "x", "distinct_id": "anon1"}]));
    // A known person gets the second id, and a new person gets both.
    project.capture(json!([
        identify("ann", "anon1"),
        identify("bob", "anon2"),
        alias("bob", "b3")
    ]));
    for (one, other) in [("ann", "anon1"), ("bob", "anon2"), ("bob", "b3")] {
        assert_eq!(project.person(one), project.person(other), "{one} {other}");
    }
    assert_ne!(project.person("ann"), project.person("bob"));
    let persons = project.get("persons/").json();
    assert_eq!(persons["results"].as_array().map(Vec::len), Some(2));
}

#[test]
fn merge_combines_events_properties_and_memberships() {
    let project = Project::new();
    project.capture(json!([
        {"event": "x", "distinct_id": "anon", "timestamp": "2026-01-01T00:00:00Z"},
        set("anon", json!({"plan": "free", "source": "letter"})),
        plain("only anon", "anon"),
        set("ann", json!({"plan": "pro"})),
        plain("only ann", "ann"),
    ]));
    let survivor = find_person(&project, "ann").expect("ann");
    let both = |event: &str| json!([did(event, 1)]);
    let listed = project.cohort(json!({"is_static": true, "_create_static_person_ids":
        [find_person(&project, "anon").expect("anon")["id"]]}));
    let actual = project.cohort(json!({"filters": any_of(both("only anon"))}));
    project.settle(actual);
    assert_eq!(person_count(&project), 2);

    project.capture(json!([identify("ann", "anon")]));

    assert_eq!(person_count(&project), 1);
    let one = find_person(&project, "anon").expect("one");
    assert_eq!(one, find_person(&project, "ann").expect("the same"));
    assert_eq!(one["id"], survivor["id"]);
    assert_eq!(one["distinct_ids"], json!(["ann", "anon"]));
    assert_eq!(
        one["properties"],
        json!({"plan": "pro", "source": "letter"})
    );
    assert_eq!(one["created_at"], "2026-01-01T00:00:00Z");
    // Static cohorts change at once, dynamic cohorts at the next calculation.
    let list = project.get(&format!("cohorts/{listed}/")).json();
    assert_eq!(
        (&list["count"], project.members(listed)),
        (&json!(1), vec!["ann".to_owned()])
    );
    for event in ["only anon", "only ann"] {
        assert_eq!(count(&project, both(event)), 1, "{event}");
    }
    project.post(&format!("cohorts/{actual}/recalculate/"), json!({}));
    project.patch(
        &format!("cohorts/{actual}/"),
        json!({"filters": any_of(both("only anon"))}),
    );
    assert_eq!(project.settle(actual)["count"], 1);
    assert_eq!(project.members(actual), ["ann"]);
    // Later events of both ids belong to the survivor.
    project.capture(json!([plain("late", "anon"), plain("late", "ann")]));
    let twice = json!([{"type": "behavioral", "key": "late", "value": "performed_event_multiple", "event_type": "events",
        "time_value": 1, "time_interval": "day", "operator": "exact", "operator_value": 2}]);
    assert_eq!(count(&project, twice), 1);
}

#[test]
fn merge_of_two_members_reduces_the_count() {
    let project = Project::new();
    project.capture(json!([plain("x", "a"), plain("x", "b"), plain("x", "c")]));
    let ids: Vec<Value> = ["a", "b", "c"]
        .map(|id| find_person(&project, id).expect("a person")["id"].clone())
        .to_vec();
    let list = project.cohort(json!({"is_static": true, "_create_static_person_ids": ids}));
    project.capture(json!([alias("a", "b")]));
    assert_eq!(project.get(&format!("cohorts/{list}/")).json()["count"], 2);
    assert_eq!(project.members(list), ["a", "c"]);
    let of = |id: &str| {
        project
            .get(&format!("persons/cohorts/?person_id={id}"))
            .json()
    };
    let survivor = ids[0].as_str().expect("an id");
    assert_eq!(of(survivor)["results"][0]["id"], list);
    let gone = project.get(&format!("persons/{}/", ids[1].as_str().expect("an id")));
    assert_eq!(gone.status, 404);
}

#[test]
fn identified_persons_are_merged_only_by_force() {
    let project = Project::new();
    project.capture(json!([identify("ann", "a1"), identify("bob", "b1")]));
    let before = metric(r#"cohorts_events_denied_total{reason="merge_of_identified"}"#);
    project.capture(json!([
        identify("ann", "bob"),
        alias("ann", "bob"),
        alias("ann", "b1")
    ]));
    assert_eq!(person_count(&project), 2);
    let after = metric(r#"cohorts_events_denied_total{reason="merge_of_identified"}"#);
    assert!(after >= before + 3, "{before} {after}");
    project.capture(json!([force("ann", "b1")]));
    assert_eq!(person_count(&project), 1);
    let one = find_person(&project, "bob").expect("one");
    assert_eq!(one["distinct_ids"], json!(["a1", "ann", "b1", "bob"]));
    assert_eq!(one["is_identified"], true);
}

#[test]
fn identify_without_a_second_id_does_not_prevent_a_merge() {
    let project = Project::new();
    let bare = |id: &str| json!({"event": "$identify", "distinct_id": id, "properties": {"$set": {"of": id}}});
    project.capture(json!([
        bare("a"),
        bare("b"),
        identify("b", "b"),
        alias("b", "null")
    ]));
    assert_eq!(
        find_person(&project, "b").expect("b")["is_identified"],
        false
    );
    project.capture(json!([alias("a", "b")]));
    assert_eq!(person_count(&project), 1);
    assert_eq!(
        find_person(&project, "b").expect("one")["properties"],
        json!({"of": "a"})
    );
}

#[test]
fn chained_merges_end_in_one_person() {
    let project = Project::new();
    project.capture((0..6).map(|id| plain("x", &format!("p{id}"))).collect());
    project.capture(json!([
        force("p1", "p0"),
        force("p2", "p1"),
        plain("y", "p0"),
        force("new", "p3")
    ]));
    project.capture(json!([
        force("p4", "p2"),
        force("p4", "new"),
        force("p0", "p5")
    ]));
    assert_eq!(person_count(&project), 1);
    let one = find_person(&project, "p5").expect("one");
    assert_eq!(one["distinct_ids"].as_array().map(Vec::len), Some(7));
    let times = |event: &str, times: u32| {
        json!([{"type": "behavioral", "key": event, "value": "performed_event_multiple", "event_type": "events",
            "time_value": 1, "time_interval": "day", "operator": "exact", "operator_value": times}])
    };
    assert_eq!(count(&project, times("x", 6)), 1);
    assert_eq!(count(&project, times("y", 1)), 1);
    // Repeated merges change nothing.
    project.capture(json!([force("p1", "p0"), alias("p3", "p5")]));
    assert_eq!(person_count(&project), 1);
}

#[test]
fn placeholder_ids_are_never_merged() {
    let project = Project::new();
    for id in [
        "null",
        "undefined",
        "00000000-0000-0000-0000-000000000000",
        "Guest",
        "[object Object]",
    ] {
        project.capture(
            json!([{"event": "$identify", "distinct_id": format!("of {id}"),
            "properties": {"$anon_distinct_id": id}}]),
        );
        let alone = project.get(&format!("persons/?distinct_id={id}")).json();
        assert_eq!(alone["results"], json!([]), "{id}");
    }
}

#[test]
fn personless_events_count_after_their_person_exists() {
    let project = Project::new();
    let personless = |event: &str, id: &str| {
        json!({"event": event, "distinct_id": id,
            "properties": {"$process_person_profile": false, "$set": {"ignored": true}}})
    };
    let by_option =
        json!({"event": "x", "distinct_id": "opt", "options": {"process_person_profile": false}});
    project.capture(json!([
        personless("x", "anon"),
        personless("x", "anon2"),
        by_option
    ]));
    assert_eq!(person_count(&project), 0);
    assert_eq!(count(&project, json!([did("x", 1)])), 0);
    // A personless event of a known person counts, and sets no properties.
    project.capture(json!([
        set("ann", json!({"plan": "pro"})),
        personless("y", "ann")
    ]));
    assert_eq!(count(&project, json!([did("y", 1)])), 1);
    // A new person has the earlier events of its distinct id.
    project.capture(json!([plain("z", "anon"), identify("ann", "anon2")]));
    assert_eq!(person_count(&project), 2);
    assert_eq!(count(&project, json!([did("x", 1)])), 2);
    assert_eq!(
        find_person(&project, "ann").expect("ann")["properties"],
        json!({"plan": "pro"})
    );
    // An upload finds a distinct id only if it has a person.
    let upload = project.upload(None, "opt\nanon\n", &[]).json();
    assert_eq!(
        (&upload["count"], &upload["upload"]["unknown"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn person_events_without_a_profile_are_rejected() {
    let project = Project::new();
    let events = [
        "$identify",
        "$create_alias",
        "$merge_dangerously",
        "$groupidentify",
    ];
    let item = |event: &&str| {
        json!({"event": event, "distinct_id": "a", "properties":
            {"$process_person_profile": false, "alias": "b", "$anon_distinct_id": "b"}})
    };
    let name = r#"cohorts_events_refused_total{reason="needs_person"}"#;
    let before = metric(name);
    let batch: Vec<Value> = events.iter().map(item).collect();
    let body = json!({"api_key": project.token, "batch": batch});
    let answer = send(&Method::POST, request(Method::POST, "/batch/").json(&body));
    answer.is_error(400, "invalid_payload", None);
    assert!(metric(name) >= before + 4);
    assert_eq!(person_count(&project), 0);
}

#[test]
fn static_copy_has_the_survivors_of_merged_members() {
    let project = Project::new();
    let pro = json!({"plan": "pro"});
    project.persons([("a", pro.clone()), ("c", pro), ("b", json!({}))]);
    let filters = any_of(json!([person("plan", "exact", "pro")]));
    let cohorts = [(); 2].map(|()| project.cohort(json!({"filters": filters})));
    project.settle(cohorts[0]);
    project.capture(json!([alias("b", "a")]));
    let copied = project
        .get(&format!(
            "cohorts/{}/duplicate_as_static_cohort/",
            cohorts[0]
        ))
        .json();
    let copy = copied["id"].as_i64().expect("an id");
    project.patch(
        &format!("cohorts/{}/", cohorts[1]),
        json!({"is_static": true}),
    );
    for list in [copy, cohorts[1]] {
        assert_eq!(project.members(list), ["a", "c"], "{copied}");
        assert_eq!(project.get(&format!("cohorts/{list}/")).json()["count"], 2);
    }
}

#[test]
fn merge_of_a_person_with_many_ids_into_one_with_few_keeps_the_survivor() {
    let project = Project::new();
    let ids = (0..150).map(|nth| alias("big", &format!("big{nth}")));
    project.capture(ids.collect());
    project.capture(json!([
        plain("only big", "big7"),
        set("big", json!({"plan": "free", "source": "letter"})),
        set("ann", json!({"plan": "pro"})),
        plain("only ann", "ann"),
    ]));
    let person = |id: &str| find_person(&project, id).expect("a person");
    let (survivor, merged) = (person("ann"), person("big"));
    let list =
        |id: &Value| project.cohort(json!({"is_static": true, "_create_static_person_ids": [id]}));
    let lists = [list(&survivor["id"]), list(&merged["id"])];
    let both = |event: &str| json!([did(event, 1)]);
    // The index is in memory before the merge.
    assert_eq!(count(&project, both("only big")), 1);

    project.capture(json!([force("ann", "big"), plain("late", "big3")]));

    assert_eq!(person_count(&project), 1);
    for id in ["ann", "big", "big149"] {
        assert_eq!(person(id)["id"], survivor["id"], "{id}");
    }
    let properties = json!({"plan": "pro", "source": "letter"});
    assert_eq!(person("ann")["properties"], properties);
    let gone = merged["id"].as_str().expect("an id");
    assert_eq!(project.get(&format!("persons/{gone}/")).status, 404);
    for list in lists {
        assert_eq!(project.get(&format!("cohorts/{list}/")).json()["count"], 1);
        let shown = project.get(&format!("cohorts/{list}/persons/")).json();
        assert_eq!(shown["results"][0]["id"], survivor["id"]);
    }
    project.capture(json!([plain("later", "ann"), alias("ann", "new")]));
    for event in ["only big", "only ann", "late", "later"] {
        assert_eq!(count(&project, both(event)), 1, "{event}");
    }
    assert_eq!(person("new")["id"], survivor["id"]);
    // A merge of the merged person again, in the other direction, and a deletion find everything.
    project.capture(json!([force("last", "big2"), plain("x", "new")]));
    assert_eq!(person_count(&project), 1);
    let last = person("ann")["id"].as_str().expect("an id").to_owned();
    let deletion = project.ask(Method::DELETE, &format!("persons/{last}/"), None);
    assert_eq!(deletion.status, 204, "{}", deletion.text);
    for event in ["only big", "only ann", "late", "later", "x"] {
        assert_eq!(count(&project, both(event)), 0, "{event}");
    }
    assert_eq!(person_count(&project), 0);
}
