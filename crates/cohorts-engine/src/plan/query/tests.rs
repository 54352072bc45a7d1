//! Queries: what is planned, and what is refused by name.

mod aggregates;
mod projection;
mod twin;

use std::sync::Arc;

use serde_json::{Value, json};

use super::plan_query;
use crate::cases::{Event, Person, Project, at, micros};
use crate::{Moment, Reference};

fn now() -> Moment {
    at("2025-06-18T15:30:00Z", "Europe/Berlin")
}

/// Ada (0) paid recently, Bob (1) viewed pages, Cy (2) has no events, Dora (3) paid in 2024.
fn project() -> Project {
    let person = |properties, created: &str| Person {
        properties,
        created_at: micros(created),
        ..Person::default()
    };
    let event = |person, name: &str, time: &str, properties| Event {
        name: name.to_owned(),
        person,
        time: micros(time),
        properties,
    };
    let paid = |person, time, amount: i64| event(person, "paid", time, json!({"amount": amount}));
    let viewed = |person, time| {
        event(
            person,
            "$pageview",
            time,
            json!({"$current_url": "https://x.io/shop?a=1"}),
        )
    };
    Project {
        persons: vec![
            person(
                json!({"plan": "pro", "age": 31, "$browser": "Firefox", "email": "ada@x.io"}),
                "2025-01-01T00:00:00Z",
            ),
            person(
                json!({"plan": "free", "age": "40", "email": "Bob@Y.io", "last seen": "2025-06-01"}),
                "2025-06-17T22:00:00Z",
            ),
            person(json!({"flag": true, "email": null}), "2025-06-17T21:59:59Z"),
            person(json!({"plan": "pro", "age": 8.5}), "2020-02-03T04:05:06Z"),
        ],
        events: vec![
            paid(0, "2025-06-17T12:00:00Z", 30),
            paid(0, "2025-06-18T12:00:00Z", 5),
            viewed(0, "2025-06-10T12:00:00Z"),
            viewed(1, "2025-06-17T22:00:00Z"),
            viewed(1, "2025-06-17T21:00:00Z"),
            viewed(1, "2025-06-16T21:00:00Z"),
            paid(3, "2024-01-01T00:00:00Z", 100),
        ],
        cohorts: [
            (
                7,
                Reference::Members(Arc::new([0, 2].into_iter().collect())),
            ),
            (8, Reference::Members(Arc::new([1].into_iter().collect()))),
        ]
        .into(),
        ..Project::default()
    }
}

fn hogql(text: &str) -> Value {
    json!({"kind": "HogQLQuery", "query": text})
}

#[track_caller]
fn members(query: &Value) -> Vec<u32> {
    let plan = plan_query(query, &now()).unwrap_or_else(|error| panic!("{query}: {error}"));
    let Ok(members) = plan.evaluate(&project());
    members.iter().collect()
}

#[track_caller]
fn refused(query: &Value) -> String {
    let error = plan_query(query, &now()).expect_err(&query.to_string());
    assert_eq!(
        (error.path.as_str(), error.code),
        ("query", "invalid_input")
    );
    error.detail
}

#[test]
fn persons_are_selected_by_properties() {
    for (condition, expected) in [
        ("properties.plan = 'pro'", vec![0, 3]),
        ("'pro' = properties.plan", vec![0, 3]),
        ("p.properties.plan != 'pro'", vec![1, 2]),
        ("NOT properties.plan = 'pro'", vec![1, 2]),
        (
            "properties['plan'] <> 'pro' AND properties.`plan` IS NOT NULL",
            vec![1],
        ),
        (
            "toString(properties.plan) IN ('pro', 'free')",
            vec![0, 1, 3],
        ),
        ("properties.plan NOT IN ('pro', 'x')", vec![1, 2]),
        ("properties.age > 30", vec![0, 1]),
        ("31 <= toFloat(properties.age)", vec![0, 1]),
        ("properties.age BETWEEN 8.5 AND 31", vec![0, 3]),
        ("properties.age NOT BETWEEN 8.5 AND 31", vec![1, 2]),
        ("properties.age = 40 OR properties.age = '31'", vec![0, 1]),
        ("properties.age > -1 and properties.age < 1e1", vec![3]),
        ("properties.$browser LIKE 'Fire%'", vec![0]),
        ("properties.email ILIKE '%@_.IO'", vec![0, 1]),
        ("properties.email LIKE '%@_.IO'", vec![]),
        ("properties.email NOT ILIKE 'bob%'", vec![0, 2, 3]),
        (r"properties.email LIKE 'ada\\_x.io'", vec![]),
        ("match(properties.email, '^[a-z]+@')", vec![0]),
        (
            "startsWith(properties.email, 'Bob') or endsWith(properties.email, 'x.io')",
            vec![0, 1],
        ),
        ("properties.flag = true", vec![2]),
        ("properties.email = NULL", vec![2, 3]),
        ("properties.email != NULL", vec![0, 1]),
        (
            "isNull(properties.email) AND isNotNull(properties.plan)",
            vec![3],
        ),
        (
            "toDateTime(properties.`last seen`) >= '2025-06-01'",
            vec![1],
        ),
        ("properties.`last seen` < now() - INTERVAL 17 DAY", vec![1]),
        ("properties.`last seen` < now() - INTERVAL 18 DAY", vec![]),
        (
            "properties.plan = 'pro' AND (properties.age > 30 OR properties.age < 3)",
            vec![0],
        ),
        (
            "NOT (properties.plan = 'pro' AND properties.age > 30)",
            vec![1, 2, 3],
        ),
        (
            "not(or(equals(properties.plan, 'pro'), less(properties.age, 41)))",
            vec![2],
        ),
        ("true", vec![0, 1, 2, 3]),
        ("false", vec![]),
        ("created_at >= '2025-06-18'", vec![1]),
        ("toDate(created_at) = yesterday()", vec![2]),
        ("toDate(created_at) <= '2025-01-01'", vec![0, 3]),
        (
            "created_at < toDateTime('2025-01-01T01:00:01+01:00')",
            vec![0, 3],
        ),
        ("created_at > now() - toIntervalMonth(6)", vec![0, 1, 2]),
    ] {
        let text = format!("SELECT id FROM persons AS p WHERE {condition}");
        assert_eq!(members(&hogql(&text)), expected, "{text}");
    }
}

#[test]
fn persons_are_selected_by_their_events() {
    for (rest, expected) in [
        ("", vec![0, 1, 3]),
        ("WHERE event = 'paid'", vec![0, 3]),
        ("WHERE event != 'paid'", vec![0, 1]),
        (
            "WHERE event IN ('paid', 'x') AND event IN ('y', 'x')",
            vec![],
        ),
        ("WHERE event LIKE '$page%'", vec![0, 1]),
        (
            "WHERE event = 'paid' AND properties.amount > 10",
            vec![0, 3],
        ),
        (
            "WHERE event = 'paid' AND properties.amount > 10 AND timestamp > now() - INTERVAL 1 YEAR",
            vec![0],
        ),
        ("WHERE timestamp >= today()", vec![0, 1]),
        (
            "WHERE timestamp >= today() AND event = '$pageview'",
            vec![1],
        ),
        ("WHERE toDate(timestamp) = toDate('2025-06-17')", vec![0, 1]),
        (
            "WHERE timestamp BETWEEN '2024-01-01T00:00:00Z' AND '2024-12-31'",
            vec![3],
        ),
        (
            "WHERE timestamp < '2025-01-01' OR properties.$current_url LIKE '%/shop%'",
            vec![0, 1, 3],
        ),
        ("WHERE NOT (timestamp < '2025-01-01')", vec![0, 1]),
        (
            "WHERE event = 'paid' AND person.properties.age < 10",
            vec![3],
        ),
        (
            "WHERE event = 'paid' AND person.created_at > '2024-01-01'",
            vec![0],
        ),
        (
            "WHERE event = 'paid' GROUP BY person_id HAVING count() >= 2",
            vec![0],
        ),
        ("GROUP BY person_id HAVING count(*) = 3", vec![0, 1]),
        ("GROUP BY person_id HAVING count() IN (1, 2)", vec![3]),
        ("GROUP BY person_id HAVING count() != 3", vec![3]),
        (
            "GROUP BY person_id HAVING min(timestamp) > now() - INTERVAL '2 days'",
            vec![1],
        ),
        (
            "GROUP BY person_id HAVING max(timestamp) < '2025-01-01' OR count() BETWEEN 3 AND 9",
            vec![0, 1, 3],
        ),
        ("GROUP BY person_id", vec![0, 1, 3]),
        ("WHERE event = 'paid' AND person_id IN COHORT 7", vec![0]),
        (
            "WHERE person_id NOT IN (SELECT person_id FROM cohort_people WHERE cohort_id = 7)",
            vec![1, 3],
        ),
    ] {
        let text = format!("SELECT DISTINCT e.person_id FROM events e {rest}");
        assert_eq!(members(&hogql(&text)), expected, "{text}");
    }
    let named = "SELECT person_id, count() AS times FROM events GROUP BY person_id HAVING times > 2 ORDER BY times DESC";
    assert_eq!(members(&hogql(named)), [0, 1]);
}

#[test]
fn literals_follow_the_escapes_of_clickhouse() {
    let mut project = project();
    for (person, text) in [r"50%", r"501", r"a\b", "it's", "x9"]
        .iter()
        .enumerate()
        .take(4)
    {
        project.persons[person].properties = json!({"text": text});
    }
    for (condition, expected) in [
        (r"properties.text LIKE '50\%'", vec![0]),
        (r"properties.text LIKE '50\\%'", vec![0]),
        (r"properties.text LIKE '50%'", vec![0, 1]),
        (r"properties.text = 'a\\b'", vec![2]),
        (r"properties.text LIKE 'a\\\\b'", vec![2]),
        (r"properties.text = 'it\'s'", vec![3]),
        (r"properties.text = 'it''s'", vec![3]),
        (r"match(properties.text, '^\d+$')", vec![1]),
        (r"match(properties.text, '^\\d+$')", vec![1]),
        (r"match(properties.text, '^\w+$')", vec![1]),
    ] {
        let query = hogql(&format!("SELECT id FROM persons WHERE {condition}"));
        let plan = plan_query(&query, &now()).unwrap_or_else(|error| panic!("{query}: {error}"));
        let Ok(members) = plan.evaluate(&project);
        assert_eq!(members.iter().collect::<Vec<_>>(), expected, "{condition}");
    }
    let sentence = refused(&hogql(r"SELECT person_id FROM events WHERE event = 'a\0'"));
    assert!(sentence.contains("the character NUL"), "{sentence}");
}

/// The moment is 17:30 on 2025-06-18 in Berlin.
#[test]
fn a_day_is_compared_as_its_first_instant() {
    for (condition, expected) in [
        ("toDate(created_at) <= now()", vec![0, 1, 2, 3]),
        ("toDate(created_at) < now()", vec![0, 1, 2, 3]),
        ("toDate(created_at) > now()", vec![]),
        ("toDate(created_at) = now()", vec![]),
        ("toDate(created_at) = today()", vec![1]),
        ("toDate(created_at) >= now() - INTERVAL 1 DAY", vec![1]),
        ("toDate(created_at) > now() - INTERVAL 1 DAY", vec![1]),
        ("toDate(created_at) >= today() - INTERVAL 1 DAY", vec![1, 2]),
        ("toDate(created_at) < '2025-06-17 12:00:00'", vec![0, 2, 3]),
        ("toDate(created_at) != now()", vec![0, 1, 2, 3]),
        (
            "created_at >= toDate('2025-03-18') - INTERVAL 1 QUARTER",
            vec![0, 1, 2],
        ),
        ("created_at >= DATE '2025-06-18'", vec![1]),
        ("toFloat(properties.age) = 40", vec![1]),
        ("toFloat(properties.age) != 40", vec![0, 2, 3]),
    ] {
        let text = format!("SELECT id FROM persons WHERE {condition}");
        assert_eq!(members(&hogql(&text)), expected, "{text}");
    }
}

#[test]
fn set_operations_and_memberships_are_evaluated() {
    for (text, expected) in [
        (
            "SELECT person_id FROM static_cohort_people WHERE cohort_id = 7",
            vec![0, 2],
        ),
        (
            "SELECT person_id FROM cohort_people WHERE cohort_id = '8'",
            vec![1],
        ),
        (
            "SELECT person_id FROM cohort_people WHERE cohort_id IN (7, 8)",
            vec![0, 1, 2],
        ),
        (
            "SELECT person_id FROM cohort_people WHERE cohort_id = 7 AND person_id IN (SELECT person_id FROM events)",
            vec![0],
        ),
        (
            "SELECT person_id FROM cohort_people WHERE cohort_id = 9",
            vec![],
        ),
        (
            "SELECT id FROM persons WHERE properties.age < 9 UNION ALL SELECT person_id FROM cohort_people WHERE cohort_id = 8",
            vec![1, 3],
        ),
        (
            "(SELECT id AS actor_id FROM persons) EXCEPT (SELECT person_id FROM events WHERE event = 'paid');",
            vec![1, 2],
        ),
        (
            "SELECT id FROM persons WHERE properties.plan = 'pro' INTERSECT SELECT person_id FROM events WHERE properties.amount = 100",
            vec![3],
        ),
        (
            // INTERSECT has a higher precedence.
            "SELECT id FROM persons WHERE properties.flag = true UNION SELECT id FROM persons \
             INTERSECT SELECT person_id FROM cohort_people WHERE cohort_id = 8",
            vec![1, 2],
        ),
        (
            "SELECT id FROM persons WHERE id IN COHORT 8 -- Bob",
            vec![1],
        ),
        (
            "SELECT * FROM persons WHERE id NOT IN (SELECT person_id FROM events WHERE event = 'paid')",
            vec![1, 2],
        ),
        (
            "SELECT event, distinct_id FROM events WHERE event = 'paid'",
            vec![0, 3],
        ),
    ] {
        assert_eq!(members(&hogql(text)), expected, "{text}");
    }
}

#[test]
fn unsupported_constructs_are_refused_by_name() {
    let in_cohort = |text: &str| format!("query: {text} is not supported in the query of a cohort");
    for (text, construct) in [
        ("WITH x AS (SELECT 1) SELECT id FROM persons", "WITH"),
        ("SELECT id FROM persons LIMIT 10", "LIMIT"),
        ("SELECT id FROM persons p JOIN events e ON 1 = 1", "JOIN"),
        ("SELECT id FROM persons, events", "JOIN"),
        (
            "SELECT id FROM (SELECT id FROM persons)",
            "a subquery in FROM",
        ),
        (
            "SELECT id FROM numbers(10)",
            "an argument or modifier of the table numbers",
        ),
        ("SELECT id FROM system.tables", "the table system.tables"),
        ("SELECT 1", "SELECT without FROM"),
        ("VALUES (1)", "VALUES"),
        (
            "SELECT id FROM persons INTERSECT ALL SELECT id FROM persons",
            "INTERSECT ALL",
        ),
        (
            "SELECT person_id FROM events GROUP BY event",
            "GROUP BY event, which is not the person,",
        ),
        (
            "SELECT id FROM persons GROUP BY id",
            "GROUP BY over persons",
        ),
        (
            "SELECT person_id FROM events HAVING count() > 1",
            "HAVING without GROUP BY",
        ),
        (
            "SELECT count() FROM events",
            "count() without GROUP BY the person",
        ),
        (
            "SELECT event AS person_id FROM events",
            "event in place of a person",
        ),
        ("SELECT 'x' AS id FROM persons", "'x' in place of a person"),
        (
            "SELECT id FROM persons WHERE id IN (SELECT 1 FROM events)",
            "a subquery that shows 1, which is not the person,",
        ),
        ("SELECT lower('x') FROM persons", "the function lower('x')"),
        (
            "SELECT id FROM persons WHERE properties.a.b = 1",
            "the path properties.a.b inside a property",
        ),
        (
            "SELECT id FROM persons WHERE lower(properties.a) = 'x'",
            "the function lower(properties.a)",
        ),
        (
            "SELECT id FROM persons WHERE properties.a || 'x' = 'y'",
            "the expression properties.a || 'x'",
        ),
        (
            "SELECT id FROM persons WHERE properties.a",
            "the condition properties.a",
        ),
        ("SELECT id FROM persons WHERE 1", "1 as a condition"),
        (
            "SELECT id FROM persons WHERE 1 = 1",
            "a comparison of two values",
        ),
        (
            "SELECT id FROM persons WHERE properties.a = properties.b",
            "a comparison of two columns",
        ),
        (
            "SELECT id FROM persons WHERE id = 'x'",
            "this comparison of the person",
        ),
        (
            "SELECT id FROM persons WHERE id IN ('x')",
            "this comparison of the person",
        ),
        (
            "SELECT id FROM persons WHERE properties.a > 'm'",
            "an order of texts, for the person property 'a'; compare with a number, or with a date by toDateTime('…'),",
        ),
        (
            "SELECT person_id FROM events WHERE event > 5",
            "this comparison of event",
        ),
        (
            "SELECT person_id FROM events WHERE distinct_id = 'a'",
            "this comparison of distinct_id",
        ),
        (
            "SELECT person_id FROM events WHERE count() > 1",
            "this test of count()",
        ),
        (
            "SELECT person_id FROM events GROUP BY person_id HAVING event = 'a'",
            "this test of event in HAVING",
        ),
        (
            "SELECT person_id FROM events GROUP BY person_id HAVING count(DISTINCT event) > 1",
            "the function count(DISTINCT event)",
        ),
        (
            "SELECT person_id FROM events WHERE event IN (SELECT person_id FROM events)",
            "a subquery for event, which is not the person,",
        ),
        (
            "SELECT person_id FROM events WHERE timestamp > 5",
            "a comparison of an instant with anything but a date",
        ),
        (
            "SELECT person_id FROM events WHERE timestamp > now() - 5",
            "the interval 5",
        ),
        (
            "SELECT person_id FROM events WHERE timestamp > now() * 2",
            "the expression now() * 2",
        ),
        (
            "SELECT person_id FROM cohort_people",
            "a membership without one test of the form cohort_id = 1 or cohort_id IN (1, 2)",
        ),
        (
            "SELECT person_id FROM cohort_people WHERE cohort_id != 1",
            "a membership without one test of the form cohort_id = 1 or cohort_id IN (1, 2)",
        ),
        (
            "SELECT person_id FROM cohort_people WHERE cohort_id = 1 AND cohort_id = 2",
            "a membership without one test of the form cohort_id = 1 or cohort_id IN (1, 2)",
        ),
        (
            "SELECT id FROM persons WHERE id IN COHORT 'x'",
            "IN COHORT without the id of a cohort",
        ),
        (
            "SELECT id FROM persons WHERE EXISTS (SELECT 1)",
            "the condition EXISTS (SELECT 1)",
        ),
        (
            "SELECT id FROM persons WHERE id IN (SELECT properties.invited_by FROM events)",
            "a subquery that shows properties.invited_by, which is not the person,",
        ),
        (
            "SELECT id FROM persons WHERE id IN (SELECT person_id, event FROM events)",
            "a subquery that shows more than the person",
        ),
        (
            "SELECT id FROM persons WHERE id IN (SELECT id FROM persons UNION ALL SELECT * FROM events)",
            "a subquery that shows more than the person",
        ),
        (
            "SELECT id FROM persons WHERE JSONExtractString(properties, 'plan') != ''",
            "the function JSONExtractString(properties, 'plan')",
        ),
        (
            "SELECT id FROM persons WHERE created_at > INT '2024-01-01'",
            "INT '2024-01-01'",
        ),
        (
            "SELECT id FROM persons WHERE created_at > now() - INTERVAL '-9223372036854775808' DAY",
            "the interval INTERVAL '-9223372036854775808' DAY",
        ),
        ("SELECT id FROM persons SAMPLE 0.1", "SAMPLE"),
    ] {
        assert_eq!(refused(&hogql(text)), in_cohort(construct), "{text}");
    }
}

#[test]
fn a_pattern_that_cannot_be_read_is_named() {
    let query = hogql("SELECT id FROM persons WHERE match(properties.a, '(')");
    let error = plan_query(&query, &now()).expect_err("an error");
    assert_eq!(error.code, "invalid_regex");
    assert_eq!(
        error.detail,
        "query: the regular expression '(' cannot be read: unclosed group"
    );
}

#[test]
fn invalid_queries_are_refused_with_the_cause() {
    for (text, sentence) in [
        (
            "SELECT id FROM people",
            "there is no table 'people'; expected one of persons, events, cohort_people, static_cohort_people",
        ),
        (
            "SELECT name FROM persons",
            "there is no column 'name' in persons; expected one of id, created_at, properties",
        ),
        (
            "SELECT cohort_id FROM cohort_people WHERE cohort_id = 1",
            "SELECT over cohort_people must name person_id",
        ),
        (
            "SELECT person_id FROM events WHERE timestamp > 'soon'",
            "'soon' is not a date",
        ),
    ] {
        assert_eq!(
            refused(&hogql(text)),
            format!("query: {sentence}"),
            "{text}"
        );
    }
    for text in [
        "",
        "DROP TABLE persons",
        "SELECT id FROM persons; SELECT 1",
        "SELECT id FROM persons WHERE {filters}",
        "SELECT 'x",
    ] {
        let sentence = refused(&hogql(text));
        assert!(
            sentence.starts_with("query: the SQL cannot be read: "),
            "{sentence}"
        );
    }
    assert_eq!(
        refused(&json!({"kind": "HogQLQuery"})),
        "query: a HogQLQuery must have its text in 'query'"
    );
    assert_eq!(
        refused(&json!({"kind": "TrendsQuery"})),
        "query: the kind must be one of ActorsQuery, HogQLQuery, got TrendsQuery"
    );
}

#[test]
fn queries_beyond_a_limit_are_refused() {
    let conditions = |count: usize| vec!["properties.a = 1"; count].join(" OR ");
    let select = |condition: &str| hogql(&format!("SELECT id FROM persons WHERE {condition}"));
    assert_eq!(members(&select(&conditions(240))), Vec::<u32>::new());
    let sentence = refused(&select(&conditions(300)));
    assert_eq!(
        sentence,
        "query: a query may have 500 keywords and operators at most"
    );
    let sentence = refused(&select(&format!("properties.a = '{}'", "x".repeat(65_536))));
    assert_eq!(sentence, "query: the text may have 65536 bytes at most");
    let nested = |levels: usize| format!("{}true{}", "(".repeat(levels), ")".repeat(levels));
    assert_eq!(members(&select(&nested(20))).len(), 4);
    for levels in [60, 10_000] {
        let sentence = refused(&select(&nested(levels)));
        assert!(
            sentence.contains("nests deeper than 50 levels"),
            "{sentence}"
        );
    }
    let days = vec!["'2025-01-01'"; 1_001].join(", ");
    let sentence = refused(&select(&format!("created_at IN ({days})")));
    assert_eq!(
        sentence,
        "query: a query may test 1000 things at most; a list for IN is one"
    );
    for chain in ["IS NULL", "+ 1", "|| 'a'"] {
        let sentence = refused(&select(&format!("properties.a {}", [chain; 200].join(" "))));
        assert!(
            sentence.ends_with("is not supported in the query of a cohort"),
            "{sentence}"
        );
    }
}

#[test]
fn all_filters_of_an_actors_query_must_be_satisfied() {
    let plan =
        |value: &str| json!({"type": "person", "key": "plan", "operator": "exact", "value": value});
    let cohort = |id: i64, operator: &str| json!({"type": "cohort", "key": "id", "value": id, "operator": operator, "cohort_name": "x"});
    let actors = |mut query: Value| {
        query["kind"] = json!("ActorsQuery");
        query
    };
    for (query, expected) in [
        (json!({"properties": [plan("pro")]}), vec![0, 3]),
        (
            json!({"properties": [plan("pro"), cohort(7, "in")], "select": ["actor"], "limit": 1}),
            vec![0],
        ),
        (json!({"properties": [cohort(7, "not_in")]}), vec![1, 3]),
        (
            json!({"properties": [plan("pro")], "fixedProperties": [cohort(7, "not_in")]}),
            vec![3],
        ),
        (
            json!({"properties": {"type": "OR", "values": [plan("free"), {"type": "AND", "values": [cohort(7, "in")]}]}}),
            vec![0, 1, 2],
        ),
        (
            json!({"properties": [{}], "fixedProperties": null, "source": null, "search": ""}),
            vec![0, 1, 2, 3],
        ),
    ] {
        assert_eq!(members(&actors(query.clone())), expected, "{query}");
    }
    for (query, sentence) in [
        (
            json!({"source": {"kind": "InsightActorsQuery"}}),
            "an ActorsQuery whose source is InsightActorsQuery is not supported in the query of a cohort",
        ),
        (
            json!({"search": "ada"}),
            "'search' in an ActorsQuery is not supported in the query of a cohort",
        ),
        (
            json!({"fixedProperties": [{"type": "behavioral", "key": "e", "value": "performed_event", "event_type": "events"}]}),
            "a filter of behaviour in 'fixedProperties' is not supported in the query of a cohort",
        ),
    ] {
        assert_eq!(refused(&actors(query)), format!("query: {sentence}"));
    }
    let sentence = refused(&actors(
        json!({"properties": [{"type": "event", "key": "a"}]}),
    ));
    assert!(
        sentence.starts_with("query.properties[0]: unknown filter type 'event'"),
        "{sentence}"
    );
    let sentence = refused(&actors(
        json!({"properties": [{"type": "person", "key": "a", "operator": "is", "value": 1}]}),
    ));
    assert_eq!(sentence, "query.properties[0]: unknown operator 'is'");
    assert_eq!(
        refused(&actors(json!({"properties": 5}))),
        "query: 'properties' must be a list of filters or a group of them"
    );
}
