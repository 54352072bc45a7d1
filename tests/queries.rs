//! Static cohorts that a query fills, and dynamic cohorts by query.

mod dynamic;

use serde_json::{Value, json};

use crate::harness::{Project, any_of, assert_detail, assert_invalid, did, only, person};

fn hogql(text: &str) -> Value {
    json!({"kind": "HogQLQuery", "query": text})
}

/// A static cohort that this query has filled.
fn fill(project: &Project, query: Value) -> i64 {
    let creation = project.post("cohorts/", json!({"is_static": true, "query": query}));
    assert_eq!(creation.status, 201, "{}", creation.text);
    let cohort = creation.json();
    assert_eq!(cohort["is_calculating"], true, "{cohort}");
    let id = cohort["id"].as_i64().expect("an id");
    let settled = project.settle(id);
    assert_eq!(settled["errors_calculating"], 0, "{settled}");
    assert_eq!(settled["is_calculating"], false, "{settled}");
    assert_eq!(settled["query"], query, "{settled}");
    id
}

/// Ada has paid twice and Bob once, Cy has only seen, and Dan has no events.
fn shop() -> Project {
    let project = Project::new();
    project.persons([
        ("ada", json!({"plan": "pro", "$browser": "Firefox"})),
        ("bob", json!({"plan": "free"})),
        ("cy", json!({"plan": "free"})),
        ("dan", json!({"plan": "pro"})),
    ]);
    let event = |name: &str, id: &str, amount: i64| json!({"event": name, "distinct_id": id, "properties": {"amount": amount}});
    project.capture(json!([
        event("paid", "ada", 5),
        event("paid", "ada", 50),
        event("paid", "bob", 50),
        event("seen", "cy", 1)
    ]));
    project
}

/// A project with one person on the plan `pro` and one on `free`.
fn with_two_plans() -> Project {
    let project = Project::new();
    project.persons([
        ("d1", json!({"plan": "pro", "email": "e@x.io"})),
        ("d2", json!({"plan": "free"})),
    ]);
    project
}

fn paying() -> Value {
    only(person("plan", "exact", "pro"))
}

/// A query for the persons on the plan `pro`.
fn paying_query() -> Value {
    json!({"kind": "ActorsQuery", "select": ["id"], "properties": [
        {"type": "person", "key": "plan", "operator": "exact", "value": "pro"},
    ]})
}

/// Queries over the persons of `shop`, with the members that each selects.
fn shop_queries() -> Vec<(Value, Vec<&'static str>)> {
    let texts = [
        (
            "SELECT id FROM persons WHERE properties.plan = 'pro'",
            vec!["ada", "dan"],
        ),
        (
            "SELECT person_id FROM events WHERE event = 'paid' AND properties.amount >= 50",
            vec!["ada", "bob"],
        ),
        (
            "SELECT person_id FROM events WHERE event = 'paid' AND timestamp > now() - INTERVAL 1 DAY \
             GROUP BY person_id HAVING count() >= 2",
            vec!["ada"],
        ),
        (
            "SELECT id FROM persons WHERE properties.$browser LIKE 'Fire%' UNION ALL \
             SELECT person_id FROM events WHERE event = 'seen'",
            vec!["ada", "cy"],
        ),
        (
            "SELECT id FROM persons EXCEPT SELECT person_id FROM events WHERE event IN ('paid', 'seen')",
            vec!["dan"],
        ),
        ("select 1 from persons", vec!["ada", "bob", "cy", "dan"]),
        (
            "select 1 from persons where properties.plan = 'pro'",
            vec!["ada", "dan"],
        ),
        (
            "select 1 from events where event = 'paid'",
            vec!["ada", "bob"],
        ),
        (
            "SELECT person_id, sum(properties.amount) AS spent FROM events WHERE event = 'paid' \
             AND timestamp > now() - INTERVAL 1 MONTH GROUP BY person_id HAVING spent > 50",
            vec!["ada"],
        ),
        (
            "SELECT person_id FROM events WHERE event IN ('paid', 'seen') GROUP BY person_id \
             HAVING avg(properties.amount) = 27.5 OR avg(properties.amount) < 2",
            vec!["ada", "cy"],
        ),
        (
            "SELECT person_id FROM events GROUP BY person_id HAVING uniq(properties.amount) = 1",
            vec!["bob", "cy"],
        ),
        (
            "SELECT person_id FROM events GROUP BY person_id HAVING count(DISTINCT properties.amount) > 1",
            vec!["ada"],
        ),
    ];
    let texts = texts.map(|(text, members)| (hogql(text), members));
    let pros = json!({"kind": "ActorsQuery", "properties": [person("plan", "exact", "pro")]});
    texts
        .into_iter()
        .chain([(pros, vec!["ada", "dan"])])
        .collect()
}

#[test]
fn query_over_persons_or_events_fills_a_static_cohort() {
    let project = shop();
    for (query, expected) in shop_queries() {
        let cohort = fill(&project, query.clone());
        assert_eq!(project.members(cohort), expected, "{query}");
        let shown = project.get(&format!("cohorts/{cohort}/")).json();
        assert_eq!(shown["count"], expected.len(), "{query}");
    }
}

/// `$set` is an event too, so only a person from a file has none.
#[test]
fn constants_over_events_fill_a_cohort_with_all_persons_who_have_an_event() {
    let project = shop();
    let file = "distinct_id\nfin\n";
    let upload = project.upload(None, file, &[("create_people", "true")]);
    assert_eq!(upload.status, 201, "{}", upload.text);
    let all = fill(&project, hogql("select 1 from persons"));
    assert_eq!(project.members(all), ["ada", "bob", "cy", "dan", "fin"]);
    let active = fill(&project, hogql("select 1 from events"));
    assert_eq!(project.members(active), ["ada", "bob", "cy", "dan"]);
}

/// Conformance case 36.
#[test]
fn actors_query_fills_a_static_cohort() {
    let project = with_two_plans();
    let cohort = project.post(
        "cohorts/",
        json!({"is_static": true, "query": paying_query()}),
    );
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    let id = cohort.json()["id"].as_i64().expect("an id");
    assert_eq!(project.settle(id)["count"], 1);
}

#[test]
fn actors_query_combines_properties_and_cohorts() {
    let project = shop();
    let listed = fill(
        &project,
        hogql("SELECT person_id FROM events WHERE event = 'seen'"),
    );
    let pros = json!({"kind": "ActorsQuery", "properties": [person("plan", "exact", "pro")]});
    let pros = fill(&project, pros);
    assert_eq!(project.members(pros), ["ada", "dan"]);
    let others = json!({"kind": "ActorsQuery", "fixedProperties": [
        {"type": "cohort", "key": "id", "value": pros, "operator": "not_in"},
        {"type": "cohort", "key": "id", "value": listed, "operator": "in"}
    ]});
    assert_eq!(project.members(fill(&project, others)), ["cy"]);
}

/// PostHog's own pages copy a cohort with such queries.
#[test]
fn query_copies_the_members_of_a_cohort() {
    let project = shop();
    let dynamic = project.cohort(json!({"filters": any_of(json!([did("paid", 7)]))}));
    let copy = hogql(&format!(
        "SELECT person_id FROM cohort_people WHERE cohort_id = {dynamic}"
    ));
    let copy = fill(&project, copy);
    assert_eq!(project.members(copy), ["ada", "bob"]);
    let again = hogql(&format!(
        "SELECT person_id FROM static_cohort_people WHERE cohort_id = {copy}"
    ));
    assert_eq!(project.members(fill(&project, again)), ["ada", "bob"]);
    let none = hogql(&format!(
        "SELECT person_id FROM events WHERE event != '$set' AND person_id NOT IN COHORT {copy}"
    ));
    assert_eq!(project.members(fill(&project, none)), ["cy"]);
}

#[test]
fn query_in_an_update_adds_members() {
    let project = shop();
    let cohort = fill(
        &project,
        hogql("SELECT person_id FROM events WHERE event = 'seen'"),
    );
    let pros = hogql("SELECT id FROM persons WHERE properties.plan = 'pro'");
    let path = format!("cohorts/{cohort}/");
    let changed = project.patch(&path, json!({"query": pros})).json();
    assert_eq!(changed["is_calculating"], true);
    let settled = project.settle(cohort);
    assert_eq!((&settled["query"], &settled["count"]), (&pros, &json!(3)));
    assert_eq!(project.members(cohort), ["ada", "cy", "dan"]);
    // Neither another change nor the removal of the query removes members.
    project.capture(json!([{"event": "seen", "distinct_id": "bob"}]));
    project.patch(&path, json!({"name": "Some", "query": null}));
    assert_eq!(project.settle(cohort)["count"], 3);
    assert_eq!(project.get(&path).json()["query"], Value::Null);
}

#[test]
fn query_and_pending_criteria_are_both_applied_once() {
    let project = shop();
    let pros = any_of(json!([person("plan", "exact", "pro")]));
    let cohort = project.cohort(json!({"is_static": true, "filters": pros}));
    let path = format!("cohorts/{cohort}/");
    let seen = hogql("SELECT person_id FROM events WHERE event = 'seen'");
    assert_eq!(project.patch(&path, json!({"query": seen})).status, 200);
    project.settle(cohort);
    assert_eq!(project.members(cohort), ["ada", "cy", "dan"]);
    // Criteria and query were each applied once.
    project.persons([("eve", json!({"plan": "pro"}))]);
    project.patch(&path, json!({"name": "Some"}));
    assert_eq!(project.settle(cohort)["count"], 3);
}

#[test]
fn withdrawn_query_is_not_calculated() {
    let project = shop();
    let pros = any_of(json!([person("plan", "exact", "pro")]));
    let cohort = project.cohort(json!({"is_static": true, "filters": pros}));
    let path = format!("cohorts/{cohort}/");
    project.settle(cohort);
    project.persons([("eve", json!({"plan": "pro"}))]);
    project.patch(&path, json!({"query": hogql("SELECT id FROM persons")}));
    let back = project.patch(&path, json!({"query": null})).json();
    assert_eq!(back["is_calculating"], false);
    assert_eq!(project.settle(cohort)["count"], 2);
}

#[test]
fn query_of_a_deleted_cohort_is_applied_after_restore() {
    let project = shop();
    let cohort = project.cohort(json!({"is_static": true}));
    let path = format!("cohorts/{cohort}/");
    project.patch(&path, json!({"query": hogql("SELECT id FROM persons")}));
    let deleted = project.patch(&path, json!({"deleted": true})).json();
    assert_eq!(deleted["is_calculating"], false);
    let restored = project.patch(&path, json!({"deleted": false})).json();
    assert_eq!(restored["is_calculating"], true);
    assert_eq!(project.settle(cohort)["count"], 4);
}

#[test]
fn query_on_an_uncalculable_cohort_fails_with_its_error() {
    let project = shop();
    let broken = any_of(json!([person("plan", "between", json!([5, 1]))]));
    let broken = project.cohort(json!({"filters": broken}));
    for text in [
        format!(
            "SELECT id FROM persons EXCEPT SELECT person_id FROM cohort_people WHERE cohort_id = {broken}"
        ),
        format!("SELECT person_id FROM events WHERE person_id NOT IN COHORT {broken}"),
    ] {
        let cohort = project.cohort(json!({"is_static": true, "query": hogql(&text)}));
        let failed = project.settle(cohort);
        assert_eq!(
            (&failed["errors_calculating"], &failed["count"]),
            (&json!(1), &Value::Null)
        );
        let message = failed["last_error_message"].as_str().expect("a message");
        assert!(
            message.contains(&format!("query → cohort {broken} → properties.values[0]: ")),
            "{message}"
        );
        assert_eq!(failed["last_error_code"], "validation_error");
    }
}

#[test]
fn query_resolves_merged_and_deleted_persons() {
    let project = shop();
    project.capture(json!([
        {"event": "$identify", "distinct_id": "ada", "properties": {"$anon_distinct_id": "cy"}}
    ]));
    let bob = project.person("bob");
    let deleted = project.ask(reqwest::Method::DELETE, &format!("persons/{bob}/"), None);
    assert!(deleted.status < 300, "{}", deleted.text);
    let all = fill(
        &project,
        hogql("SELECT person_id FROM events WHERE event IN ('paid', 'seen')"),
    );
    assert_eq!(project.settle(all)["count"], 1);
    let counted = "SELECT person_id FROM events WHERE event != '$identify' AND event != '$set' \
         GROUP BY person_id HAVING count() = 3";
    let counted = fill(&project, hogql(counted));
    assert_eq!(
        project.settle(counted)["count"],
        1,
        "events of both are hers"
    );
}

#[test]
fn listed_persons_take_precedence_over_a_query() {
    let project = shop();
    let body = json!({"is_static": true, "query": hogql("SELECT id FROM persons"),
        "_create_static_person_ids": [project.person("bob")]});
    let cohort = project.post("cohorts/", body).json();
    assert_eq!(
        (&cohort["count"], &cohort["is_calculating"]),
        (&json!(1), &json!(false))
    );
}

/// Conformance case 38.
#[test]
fn query_with_criteria_is_rejected() {
    let project = with_two_plans();
    let body = json!({"is_static": true, "query": paying_query(), "filters": paying()});
    let answer = project.post("cohorts/", body);
    let detail = "Cannot set both query and filters at the same time.";
    assert_detail(&answer, None, detail);
}

/// Conformance case 39.
#[test]
fn unsupported_query_kind_is_named() {
    let project = with_two_plans();
    let body = json!({"is_static": true, "query": {"kind": "TrendsQuery"}});
    let answer = project.post("cohorts/", body);
    assert_invalid(&answer, Some("query"), "Got: TrendsQuery");
}

#[test]
fn invalid_queries_are_rejected_and_not_stored() {
    let project = shop();
    let elsewhere = Project::new().cohort(json!({"is_static": true}));
    let copy = |id: i64| {
        hogql(&format!(
            "SELECT person_id FROM cohort_people WHERE cohort_id = {id}"
        ))
    };
    let unknown = format!("query: there is no cohort {elsewhere} in this project");
    let before = project.get("cohorts/").json()["count"].clone();
    for (query, detail) in [
        (json!("SELECT 1"), "Query must be a dictionary.".to_owned()),
        (
            json!({"kind": "TrendsQuery"}),
            "Query must be an ActorsQuery or HogQLQuery. Got: TrendsQuery".to_owned(),
        ),
        (json!({}), "Query must be an ActorsQuery or HogQLQuery. Got: None".to_owned()),
        (
            hogql("SELECT id FROM persons LIMIT 5"),
            "query: LIMIT is not supported in the query of a cohort".to_owned(),
        ),
        (
            json!({"kind": "ActorsQuery", "source": {"kind": "FunnelsActorsQuery"}}),
            "query: an ActorsQuery whose source is FunnelsActorsQuery is not supported in the query of a cohort"
                .to_owned(),
        ),
        (copy(elsewhere), unknown.clone()),
    ] {
        let cohort = project.post("cohorts/", json!({"is_static": true, "query": query}));
        cohort.is_error(400, "invalid_input", Some("query"));
        assert_eq!(cohort.detail(), detail);
    }
    let query = hogql("SELECT id FROM persons");
    let filters = any_of(json!([did("paid", 7)]));
    for is_static in [true, false] {
        let body = json!({"is_static": is_static, "query": query, "filters": filters});
        let cohort = project.post("cohorts/", body);
        cohort.is_error(400, "invalid_input", None);
        assert_eq!(
            cohort.detail(),
            "Cannot set both query and filters at the same time."
        );
    }
    assert_eq!(project.get("cohorts/").json()["count"], before);
    let list = project.cohort(json!({"is_static": true}));
    let changed = project.patch(
        &format!("cohorts/{list}/"),
        json!({"query": copy(elsewhere)}),
    );
    changed.is_error(400, "invalid_input", Some("query"));
    assert_eq!(changed.detail(), unknown);
    assert_eq!(project.settle(list)["query"], Value::Null);
}
