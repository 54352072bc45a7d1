//! An evaluator without blocks or bitmaps: one person at a time, straight from the tree.
//! It shares only the types of the filter with what it is compared with.

use jiff::civil::Date;
use jiff::{Span, Timestamp, ZonedDateTime};
use serde_json::Value;

use crate::Moment;
use crate::cases::{Event, Project};
use crate::filter::{BehavioralLeaf, EventFilter, Filter, Group, Join, Leaf, Node};

pub(super) fn members(project: &Project, filter: &Filter, at: &Moment) -> Vec<u32> {
    let mut members = Vec::new();
    for person in 0..project.persons.len() as u32 {
        let naive = Naive {
            project,
            person,
            now: zoned(at.now, at),
        };
        if naive.group(&filter.root) {
            members.push(person);
        }
    }
    members
}

fn zoned(micros: i64, at: &Moment) -> ZonedDateTime {
    let instant = Timestamp::from_microsecond(micros).unwrap();
    instant.to_zoned_datetime(at.time_zone.clone())
}

struct Naive<'a> {
    project: &'a Project,
    person: u32,
    now: ZonedDateTime,
}

impl Naive<'_> {
    fn group(&self, group: &Group) -> bool {
        let mut values = group.values.iter().map(|node| match node {
            Node::Group(group) => self.group(group),
            Node::Leaf(leaf) => self.leaf(leaf) != leaf.negated(),
        });
        match group.join {
            Join::And => values.all(|holds| holds),
            Join::Or => values.any(|holds| holds),
        }
    }

    fn leaf(&self, leaf: &Leaf) -> bool {
        let person = &self.project.persons[self.person as usize];
        match leaf {
            Leaf::Person(leaf) => holds(
                leaf.operator.as_deref().unwrap(),
                leaf.value.as_ref(),
                person.properties.get(&leaf.key),
            ),
            Leaf::Behavioral(leaf) => self.behavioral(leaf),
            other => panic!("{other:?} is not generated"),
        }
    }

    fn events(&self, name: &str, filters: &[EventFilter]) -> Vec<&Event> {
        let own = |event: &&Event| event.person == self.person && event.name == name;
        let passes = |event: &&Event| {
            filters.iter().all(|filter| {
                holds(
                    filter.operator.as_deref().unwrap(),
                    filter.value.as_ref(),
                    event.properties.get(&filter.key),
                )
            })
        };
        self.project
            .events
            .iter()
            .filter(own)
            .filter(passes)
            .collect()
    }

    fn back(&self, amount: Option<i64>, unit: &Option<String>) -> ZonedDateTime {
        let amount = amount.unwrap();
        let span = match unit.as_deref().unwrap() {
            "day" => Span::new().days(amount),
            "week" => Span::new().weeks(amount),
            "month" => Span::new().months(amount),
            "year" => Span::new().years(amount),
            other => panic!("{other} is not generated"),
        };
        self.now.checked_sub(span).unwrap()
    }

    fn today_end(&self) -> i64 {
        let end = self.now.end_of_day().unwrap();
        end.timestamp().as_microsecond()
    }

    fn behavioral(&self, leaf: &BehavioralLeaf) -> bool {
        let filters = leaf.event_filters.as_deref().unwrap_or_default();
        let own = self.events(&leaf.key.text(), filters);
        let start = |back: ZonedDateTime| back.start_of_day().unwrap().timestamp().as_microsecond();
        let from = start(self.back(leaf.time_value, &leaf.time_interval));
        let inner = || self.back(leaf.seq_time_value, &leaf.seq_time_interval);
        let today = self.today_end();
        let in_window = |event: &&&Event| from <= event.time && event.time <= today;
        match leaf.value.as_str() {
            "performed_event" => own.iter().any(|event| in_window(&event)),
            "performed_event_multiple" => {
                let exact = self.back(leaf.time_value, &leaf.time_interval);
                let exact = exact.timestamp().as_microsecond();
                let end = self.now.timestamp().as_microsecond() + 5_000_000;
                let counted = own
                    .iter()
                    .filter(|event| exact < event.time && event.time < end);
                admits(leaf, counted.count() as i64)
            }
            "performed_event_first_time" => {
                let named = self.events(&leaf.key.text(), &[]);
                let until = named.iter().filter(|event| event.time <= today);
                let first = until.map(|event| event.time).min();
                first.is_some_and(|first| {
                    first >= from && own.iter().any(|event| event.time == first)
                })
            }
            "performed_event_sequence" => self.sequence(leaf, &own, from, today),
            "performed_event_regularly" => self.regularly(leaf, &own),
            "stopped_performing_event" => {
                let inner = start(inner());
                let recent = |event: &&Event| inner <= event.time && event.time <= today;
                own.iter().any(|event| in_window(&event)) && !own.iter().any(recent)
            }
            "restarted_performing_event" => {
                let inner = inner();
                let pause_end = inner.end_of_day().unwrap().timestamp().as_microsecond();
                let recent = start(inner);
                let first = own.iter().map(|event| event.time).min();
                own.iter()
                    .any(|event| recent <= event.time && event.time <= today)
                    && first.is_some_and(|first| first < recent)
                    && !own
                        .iter()
                        .any(|event| from <= event.time && event.time <= pause_end)
            }
            other => panic!("{other} is not generated"),
        }
    }

    fn sequence(&self, leaf: &BehavioralLeaf, own: &[&Event], from: i64, to: i64) -> bool {
        let days = match leaf.seq_time_interval.as_deref().unwrap() {
            "day" => 1,
            "week" => 7,
            "month" => 30,
            _ => 365,
        };
        let within = leaf.seq_time_value.unwrap() * days * 86_400_000_000;
        let seconds = self.events(&leaf.seq_event.as_ref().unwrap().text(), &[]);
        let inside = |event: &Event| from <= event.time && event.time <= to;
        own.iter().any(|a| {
            seconds.iter().any(|b| {
                let way = b.time - a.time;
                !std::ptr::eq(*a, *b) && inside(a) && inside(b) && (0..=within).contains(&way)
            })
        })
    }

    fn regularly(&self, leaf: &BehavioralLeaf, own: &[&Event]) -> bool {
        let amount = leaf.time_value.unwrap();
        let yesterday = self.now.date().yesterday().unwrap();
        let end = |k: i64| {
            let span = match leaf.time_interval.as_deref().unwrap() {
                "day" => Span::new().days(k * amount),
                "week" => Span::new().days(k * amount * 7),
                "month" => Span::new().months(k * amount),
                _ => Span::new().months(k * amount * 12),
            };
            yesterday.checked_sub(span).unwrap()
        };
        let date = |event: &Event| -> Date {
            let instant = Timestamp::from_microsecond(event.time).unwrap();
            instant
                .to_zoned_datetime(self.now.time_zone().clone())
                .date()
        };
        let qualifies = |k: i64| {
            let inside = |event: &&&Event| end(k + 1) < date(event) && date(event) <= end(k);
            admits(leaf, own.iter().filter(inside).count() as i64)
        };
        let periods = 0..leaf.total_periods.unwrap();
        periods.filter(|k| qualifies(*k)).count() as i64 >= leaf.min_periods.unwrap()
    }
}

fn admits(leaf: &BehavioralLeaf, count: i64) -> bool {
    let bound = leaf.operator_value.unwrap();
    count > 0
        && match leaf.operator.as_deref() {
            Some("gte") => count >= bound,
            Some("lte") => count <= bound,
            Some("gt") => count > bound,
            Some("lt") => count < bound,
            _ => count == bound,
        }
}

/// The operators that are generated, over numbers, booleans, text without digits, and null.
fn holds(operator: &str, value: Option<&Value>, stored: Option<&Value>) -> bool {
    let stored = stored.filter(|stored| !stored.is_null());
    let values: Vec<&Value> = match value {
        Some(Value::Array(list)) => list.iter().collect(),
        value => value.into_iter().collect(),
    };
    if values.is_empty() && !operator.ends_with("set") {
        return true;
    }
    let any = |test: fn(&Value, &Value) -> bool| {
        stored.is_some_and(|stored| values.iter().any(|value| test(stored, value)))
    };
    match operator {
        "is_set" => stored.is_some(),
        "is_not_set" => stored.is_none(),
        "exact" | "in" => any(equal),
        "is_not" | "not_in" => !any(equal),
        "icontains" => any(contains),
        "not_icontains" => !any(contains),
        "gt" => any(|stored, value| pair(stored, value).is_some_and(|(a, b)| a > b)),
        "lte" => any(|stored, value| pair(stored, value).is_some_and(|(a, b)| a <= b)),
        other => panic!("{other} is not generated"),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn equal(stored: &Value, value: &Value) -> bool {
    plain(stored) == plain(value)
}

fn contains(stored: &Value, value: &Value) -> bool {
    plain(stored)
        .to_lowercase()
        .contains(&plain(value).to_lowercase())
}

fn pair(stored: &Value, value: &Value) -> Option<(f64, f64)> {
    let number = |value: &Value| match value {
        Value::Bool(_) => None,
        value => plain(value).parse().ok(),
    };
    Some((number(stored)?, number(value)?))
}
