//! Generated queries: the plan and a naive evaluator, which tests row by row, select the same
//! persons.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{hogql, now};
use crate::cases::{Event, Person, Project};
use crate::plan_query;

const HOUR: i64 = 3_600_000_000;

/// A condition over one row.
#[derive(Clone, Debug)]
enum TwinTest {
    Equals(TwinColumn, Value, bool),
    Above(TwinColumn, i64),
    Among(TwinColumn, Vec<Value>),
    IsNull(TwinColumn),
    StartsWith(TwinColumn, &'static str),
    Since(i64),
    Not(Box<TwinTest>),
    And(Vec<TwinTest>),
    Or(Vec<TwinTest>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TwinColumn {
    /// A property of the row.
    Property(&'static str),
    /// A property of the person of an event.
    PersonProperty(&'static str),
    Event,
}

#[derive(Clone, Debug)]
enum TwinQuery {
    Persons(TwinTest),
    /// Events, with a test of those of a person.
    Events(TwinTest, TwinGroup),
    SetOperation(&'static str, Box<TwinQuery>, Box<TwinQuery>),
}

/// A test of the events of a person. Bounds of sums and averages are hundredths.
#[derive(Clone, Debug)]
enum TwinGroup {
    Any,
    Count(usize),
    Sum(&'static str, &'static str, i128),
    Average(&'static str, &'static str, i128),
    Distinct(&'static str, usize),
}

impl TwinGroup {
    fn sql(&self) -> String {
        let decimal = |hundredths: &i128| {
            let sign = if *hundredths < 0 { "-" } else { "" };
            let digits = hundredths.abs();
            format!("{sign}{}.{:02}", digits / 100, digits % 100)
        };
        let having = match self {
            TwinGroup::Any => return String::new(),
            TwinGroup::Count(min) => format!("count() >= {min}"),
            TwinGroup::Sum(key, operator, bound) => {
                format!("sum(properties.{key}) {operator} {}", decimal(bound))
            }
            TwinGroup::Average(key, operator, bound) => {
                format!("avg(properties.{key}) {operator} {}", decimal(bound))
            }
            TwinGroup::Distinct(key, number) if number % 2 == 0 => {
                format!("uniq(properties.{key}) = {number}")
            }
            TwinGroup::Distinct(key, number) => {
                format!("count(DISTINCT properties.{key}) = {number}")
            }
        };
        format!(" GROUP BY person_id HAVING {having}")
    }

    fn holds(&self, events: &[&Event]) -> bool {
        let values = |key: &str| -> Vec<String> {
            let values = events.iter().map(|event| &event.properties[key]);
            let values = values.filter(|value| !value.is_null());
            values.map(plain).collect()
        };
        let hundredths = |key: &str| -> Vec<i128> {
            let values = values(key).into_iter();
            values.filter_map(|text| hundredths_of(&text)).collect()
        };
        let compare = |a: i128, operator: &str, b: i128| match operator {
            ">" => a > b,
            "<=" => a <= b,
            "=" => a == b,
            _ => a != b,
        };
        match self {
            TwinGroup::Any => !events.is_empty(),
            TwinGroup::Count(min) => events.len() >= *min,
            _ if events.is_empty() => false,
            TwinGroup::Sum(key, operator, bound) => match hundredths(key) {
                numbers if numbers.is_empty() => *operator == "!=",
                numbers => compare(numbers.iter().sum(), operator, *bound),
            },
            TwinGroup::Average(key, operator, bound) => match hundredths(key) {
                numbers if numbers.is_empty() => *operator == "!=",
                numbers => {
                    let bound = bound * numbers.len() as i128;
                    compare(numbers.iter().sum(), operator, bound)
                }
            },
            TwinGroup::Distinct(key, number) => BTreeSet::from_iter(values(key)).len() == *number,
        }
    }
}

/// The hundredths of a decimal with up to two digits after the point.
fn hundredths_of(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: i128 = format!("{whole}{fraction:0<2}").parse().ok()?;
    Some(digits)
}

fn group() -> impl Strategy<Value = TwinGroup> {
    let key = || select(vec!["p", "q"]);
    let operator = || select(vec![">", "<=", "=", "!="]);
    // Often the sum of a few of the values.
    let bound = || {
        let bounds = vec![
            10_i128, 20, 30, 100, 110, 700, 710, 800, 1_400, -240, 35, 470,
        ];
        select(bounds)
    };
    prop_oneof![
        2 => Just(TwinGroup::Any),
        2 => (1..4_usize).prop_map(TwinGroup::Count),
        2 => (key(), operator(), bound()).prop_map(|(key, operator, bound)| TwinGroup::Sum(key, operator, bound)),
        2 => (key(), operator(), bound()).prop_map(|(key, operator, bound)| TwinGroup::Average(key, operator, bound)),
        1 => (key(), 0..4_usize).prop_map(|(key, number)| TwinGroup::Distinct(key, number)),
    ]
}

/// A row of a person or of an event.
struct TwinRow<'a> {
    properties: &'a Value,
    person_properties: &'a Value,
    event: Option<&'a str>,
    time: i64,
}

impl TwinColumn {
    fn sql(self) -> String {
        match self {
            TwinColumn::Property(key) => format!("properties.{key}"),
            TwinColumn::PersonProperty(key) => format!("person.properties.{key}"),
            TwinColumn::Event => "event".to_owned(),
        }
    }

    fn of(self, row: &TwinRow) -> Value {
        match self {
            TwinColumn::Property(key) => row.properties[key].clone(),
            TwinColumn::PersonProperty(key) => row.person_properties[key].clone(),
            TwinColumn::Event => json!(row.event),
        }
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn literal(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), |text| format!("'{text}'"))
}

impl TwinTest {
    fn sql(&self, time: &str) -> String {
        let join = |tests: &[TwinTest], operator: &str| {
            let tests: Vec<String> = tests
                .iter()
                .map(|test| format!("({})", test.sql(time)))
                .collect();
            tests.join(operator)
        };
        match self {
            TwinTest::Equals(column, value, true) => {
                format!("{} = {}", column.sql(), literal(value))
            }
            TwinTest::Equals(column, value, false) => {
                format!("{} != {}", column.sql(), literal(value))
            }
            TwinTest::Above(column, bound) => format!("{} > {bound}", column.sql()),
            TwinTest::Among(column, values) => {
                let values: Vec<String> = values.iter().map(literal).collect();
                format!("{} IN ({})", column.sql(), values.join(", "))
            }
            TwinTest::IsNull(column) => format!("{} IS NULL", column.sql()),
            TwinTest::StartsWith(column, start) => format!("{} LIKE '{start}%'", column.sql()),
            TwinTest::Since(hours) => format!("{time} >= now() - INTERVAL {hours} HOUR"),
            TwinTest::Not(test) => format!("NOT ({})", test.sql(time)),
            TwinTest::And(tests) => join(tests, " AND "),
            TwinTest::Or(tests) => join(tests, " OR "),
        }
    }

    fn holds(&self, row: &TwinRow) -> bool {
        let text = |column: &TwinColumn| {
            Some(column.of(row))
                .filter(|value| !value.is_null())
                .map(|value| plain(&value))
        };
        match self {
            TwinTest::Equals(column, value, positive) => {
                (text(column) == Some(plain(value))) == *positive
            }
            TwinTest::Above(column, bound) => {
                let number = text(column).and_then(|text| text.parse::<f64>().ok());
                number.is_some_and(|number| number > *bound as f64)
            }
            TwinTest::Among(column, values) => {
                text(column).is_some_and(|text| values.iter().any(|value| plain(value) == text))
            }
            TwinTest::IsNull(column) => text(column).is_none(),
            TwinTest::StartsWith(column, start) => {
                text(column).is_some_and(|text| text.starts_with(start))
            }
            TwinTest::Since(hours) => row.time >= now().now - hours * HOUR,
            TwinTest::Not(test) => !test.holds(row),
            TwinTest::And(tests) => tests.iter().all(|test| test.holds(row)),
            TwinTest::Or(tests) => tests.iter().any(|test| test.holds(row)),
        }
    }
}

impl TwinQuery {
    fn sql(&self) -> String {
        match self {
            TwinQuery::Persons(test) => {
                format!("SELECT id FROM persons WHERE {}", test.sql("created_at"))
            }
            TwinQuery::Events(test, group) => format!(
                "SELECT person_id FROM events WHERE {}{}",
                test.sql("timestamp"),
                group.sql()
            ),
            TwinQuery::SetOperation(operator, left, right) => {
                format!("({}) {operator} ({})", left.sql(), right.sql())
            }
        }
    }

    fn members(&self, project: &Project) -> BTreeSet<u32> {
        let all = 0..project.persons.len() as u32;
        match self {
            TwinQuery::Persons(test) => {
                let row = |person: u32| {
                    let person = &project.persons[person as usize];
                    TwinRow {
                        properties: &person.properties,
                        person_properties: &person.properties,
                        event: None,
                        time: person.created_at,
                    }
                };
                all.filter(|person| test.holds(&row(*person))).collect()
            }
            TwinQuery::Events(test, group) => {
                let row = |event: &Event| {
                    test.holds(&TwinRow {
                        properties: &event.properties,
                        person_properties: &project.persons[event.person as usize].properties,
                        event: Some(&event.name),
                        time: event.time,
                    })
                };
                let chosen = |person: u32| -> Vec<&Event> {
                    let events = project.events.iter();
                    events
                        .filter(|event| event.person == person && row(event))
                        .collect()
                };
                all.filter(|person| group.holds(&chosen(*person))).collect()
            }
            TwinQuery::SetOperation(operator, left, right) => {
                let (left, right) = (left.members(project), right.members(project));
                match *operator {
                    "UNION" | "UNION ALL" => &left | &right,
                    "INTERSECT" => &left & &right,
                    _ => &left - &right,
                }
            }
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    select(vec![
        json!("a"),
        json!("ab"),
        json!("b"),
        json!(1),
        json!(7),
        json!("7"),
        json!(0.1),
        json!("0.20"),
        json!(-2.4),
        json!(true),
    ])
}

fn properties() -> impl Strategy<Value = Value> {
    vec((select(vec!["p", "q"]), value()), 0..3).prop_map(|members| members.into_iter().collect())
}

fn test(columns: Vec<TwinColumn>) -> impl Strategy<Value = TwinTest> {
    let texts: Vec<TwinColumn> = columns.clone();
    let numbers: Vec<TwinColumn> = columns
        .into_iter()
        .filter(|column| *column != TwinColumn::Event)
        .collect();
    let column = move || select(texts.clone());
    let names = || select(vec![json!("a"), json!("ab"), json!("b")]);
    let equals = (select(numbers.clone()), value(), any::<bool>());
    let leaf = prop_oneof![
        equals.prop_map(|(column, value, positive)| TwinTest::Equals(column, value, positive)),
        (column(), names(), any::<bool>())
            .prop_map(|(column, value, positive)| TwinTest::Equals(column, value, positive)),
        (select(numbers), 0..8_i64).prop_map(|(column, bound)| TwinTest::Above(column, bound)),
        (column(), vec(names(), 1..3)).prop_map(|(column, values)| TwinTest::Among(column, values)),
        column().prop_map(TwinTest::IsNull),
        (column(), select(vec!["a", "b", "7"]))
            .prop_map(|(column, start)| TwinTest::StartsWith(column, start)),
        (0..40_i64).prop_map(TwinTest::Since),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|test| TwinTest::Not(Box::new(test))),
            vec(inner.clone(), 1..3).prop_map(TwinTest::And),
            vec(inner, 1..3).prop_map(TwinTest::Or),
        ]
    })
}

fn query() -> impl Strategy<Value = TwinQuery> {
    let person_columns = vec![TwinColumn::Property("p"), TwinColumn::Property("q")];
    let event_columns = vec![
        TwinColumn::Property("p"),
        TwinColumn::Property("q"),
        TwinColumn::PersonProperty("p"),
        TwinColumn::Event,
    ];
    let select_query = prop_oneof![
        test(person_columns).prop_map(TwinQuery::Persons),
        (test(event_columns), group()).prop_map(|(test, group)| TwinQuery::Events(test, group)),
    ];
    select_query.prop_recursive(2, 4, 2, |inner| {
        let operators = select(vec!["UNION", "UNION ALL", "INTERSECT", "EXCEPT"]);
        (operators, inner.clone(), inner).prop_map(|(operator, left, right)| {
            TwinQuery::SetOperation(operator, Box::new(left), Box::new(right))
        })
    })
}

fn project() -> impl Strategy<Value = Project> {
    let time =
        (0..40_i64, -1..=1_i64).prop_map(|(hours, micros)| now().now - hours * HOUR + micros);
    let person = (properties(), time.clone()).prop_map(|(properties, created_at)| Person {
        properties,
        created_at,
        ..Person::default()
    });
    let event = (select(vec!["a", "ab"]), 0..4_u32, time, properties());
    let event = event.prop_map(|(name, person, time, properties)| Event {
        name: name.to_owned(),
        person,
        time,
        properties,
    });
    (vec(person, 4), vec(event, 0..20)).prop_map(|(persons, events)| Project {
        persons,
        events,
        ..Project::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_of_queries_agree_with_a_naive_evaluator((project, query) in (project(), query())) {
        let text = query.sql();
        let plan = plan_query(&hogql(&text), &now());
        let plan = plan.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let Ok(members) = plan.evaluate(&project);
        let members: BTreeSet<u32> = members.iter().collect();
        prop_assert_eq!(members, query.members(&project), "{}", text);
    }
}
