//! Random histories: delta evaluation, full evaluation and the naive evaluator agree, and time alone
//! changes no member before the next change that the engine names.

use serde_json::{Value, json};

use super::world::{Follower, World, advance};
use super::{DAY, HOUR, SECOND, cohort, settings};
use crate::Filter;
use crate::cases::micros;
use crate::delta::{Definition, FullReason, Settings};

/// The number of histories. A debug build takes ten times as long for each.
const HISTORIES: u64 = if cfg!(debug_assertions) {
    1_500
} else {
    10_000
};
const STEPS: usize = 4;
/// The ordinals that persons may have; others have events without a person.
const ORDINALS: u64 = 9;

/// A generator of numbers (SplitMix64). A history depends on its seed only.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % bound
    }

    pub fn within(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as u64) as i64
    }

    pub fn is_one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub fn one_of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize].clone()
    }

    /// An instant near `now`, often next to the edge of a window.
    pub fn time(&mut self, now: i64) -> i64 {
        let distance = match self.below(6) {
            0 => self.within(-30, 100) * HOUR,
            1 => self.within(0, 30) * DAY,
            2 => self.within(-10, 10) * SECOND,
            3 => self.within(0, 12) * HOUR + self.within(0, 3) * 30 * 60 * SECOND,
            4 => self.within(1, 12) * 7 * DAY,
            _ => self.within(0, 2_000) * HOUR,
        };
        now - distance + self.within(-1, 1)
    }

    pub fn properties(&mut self, now: i64) -> Value {
        let mut properties = json!({});
        for key in ["p", "q"] {
            if self.is_one_in(2) {
                let values = [json!(1), json!("1"), json!(2), json!("Red"), json!(true)];
                properties[key] = self.one_of(&values);
            }
        }
        if self.is_one_in(2) {
            let time = jiff::Timestamp::from_microsecond(self.time(now)).unwrap();
            properties["d"] = json!(time.to_string());
        }
        properties
    }

    /// A condition on a property of a person or of an event.
    fn condition(&mut self) -> Value {
        if self.is_one_in(2) {
            let operator = self.one_of(&["is_date_before", "is_date_after"]);
            let date = self.one_of(&["-1d", "7d", "-10d", "-30d"]);
            return json!({"key": "d", "operator": operator, "value": date});
        }
        let operators = ["exact", "is_not", "in", "gt", "lte", "is_set", "is_not_set"];
        let (key, operator) = (self.one_of(&["p", "q"]), self.one_of(&operators));
        let value = self.one_of(&[json!(1), json!("1"), json!("Red"), json!([2, "Red"])]);
        json!({"key": key, "operator": operator, "value": value})
    }

    fn filters(&mut self) -> Value {
        let filters = (0..self.below(5).saturating_sub(2)).map(|_| {
            let mut filter = self.condition();
            filter["type"] = json!("event");
            filter
        });
        filters.collect()
    }

    /// A number of units, and the hours of a unit.
    fn window(&mut self) -> (i64, &'static str, i64) {
        let units = [("hour", 1), ("day", 24), ("week", 168), ("month", 720)];
        let (unit, hours) = self.one_of(&units);
        let most = if unit == "hour" { 30 } else { 5 };
        (self.within(1, most), unit, hours)
    }

    fn behavior(&mut self) -> Value {
        let kinds = [
            "performed_event",
            "performed_event_multiple",
            "performed_event_multiple",
            "performed_event_first_time",
            "performed_event_sequence",
            "performed_event_regularly",
            "stopped_performing_event",
            "restarted_performing_event",
        ];
        let targets = [
            (json!("e"), "events"),
            (json!("e"), "events"),
            (json!("f"), "events"),
            (json!(1), "actions"),
            (json!(2), "actions"),
        ];
        let kind = self.one_of(&kinds);
        let (key, event_type) = self.one_of(&targets);
        let (second, second_type) = self.one_of(&targets);
        let mut windows = [self.window(), self.window()];
        windows.sort_by_key(|(amount, _, hours)| -amount * hours);
        let [long, short] = windows;
        let unit = match (kind, long.1) {
            ("performed_event_regularly", "hour") => "day",
            (_, unit) => unit,
        };
        let min = self.within(1, 3);
        let mut leaf = json!({"type": "behavioral", "value": kind, "key": key,
            "event_type": event_type, "time_value": long.0, "time_interval": unit,
            "seq_event": second, "seq_event_type": second_type, "seq_time_value": short.0,
            "seq_time_interval": short.1, "operator": self.one_of(&["gte", "lte", "gt", "exact"]),
            "operator_value": self.within(1, 3), "min_periods": min,
            "total_periods": min + self.within(0, 3), "event_filters": self.filters()});
        let has_dates = kind.starts_with("performed_event") && kind != "performed_event_regularly";
        if has_dates && self.is_one_in(3) {
            let dates = ["-3d", "-12d", "-5h", "-2w", "-1m"];
            leaf["explicit_datetime"] = json!(self.one_of(&dates));
            if self.is_one_in(2) {
                leaf["explicit_datetime_to"] = json!(self.one_of(&dates));
            }
        }
        leaf
    }

    fn leaf(&mut self, cohorts: i64) -> Value {
        let mut leaf = match self.below(12) {
            0 | 1 => {
                let mut leaf = self.condition();
                leaf["type"] = json!("person");
                leaf
            }
            2 => {
                json!({"type": "person_metadata", "key": "created_at", "value": self.one_of(&["-1d", "-10d"]),
                "operator": self.one_of(&["is_date_before", "is_date_after"])})
            }
            3 => json!({"type": "person", "key": "distinct_id", "operator": "exact",
                "value": format!("id{}", self.below(ORDINALS))}),
            4 | 5 if cohorts > 0 => cohort(self.within(1, cohorts)),
            _ => self.behavior(),
        };
        leaf["negation"] = json!(self.is_one_in(3));
        leaf
    }

    fn tree(&mut self, depth: u32, cohorts: i64) -> Value {
        if depth == 0 || self.is_one_in(3) {
            return self.leaf(cohorts);
        }
        let values = (0..self.within(1, 3)).map(|_| self.tree(depth - 1, cohorts));
        let values: Vec<Value> = values.collect();
        json!({"type": self.one_of(&["AND", "OR"]), "values": values})
    }

    /// A filter that refers to cohorts up to `cohorts`.
    pub fn filter(&mut self, cohorts: i64) -> Value {
        let all = json!({"type": "person", "key": "none", "operator": "is_not_set"});
        let tree = self.tree(2, cohorts);
        json!({"properties": {"type": "AND", "values": [tree, all]}})
    }

    /// A query that refers to cohorts up to `cohorts`.
    fn query(&mut self, cohorts: i64) -> Value {
        let queries = [
            "SELECT person_id FROM events WHERE event = 'e' AND timestamp >= now() - INTERVAL {n} HOUR
             GROUP BY person_id HAVING count() >= {k}",
            "SELECT person_id FROM events WHERE timestamp > today() - INTERVAL {n} DAY",
            "SELECT person_id FROM events WHERE event = 'e' GROUP BY person_id
             HAVING max(timestamp) < now() - INTERVAL {n} HOUR",
            "SELECT person_id FROM events WHERE event != 'e' GROUP BY person_id
             HAVING min(timestamp) >= now() - INTERVAL {k} DAY",
            "SELECT id FROM persons WHERE created_at < now() - INTERVAL {k} DAY",
            "SELECT person_id FROM events WHERE toDate(timestamp) = toDate(now() - INTERVAL {n} HOUR)",
            "SELECT person_id FROM events WHERE event IN ('e', 'f')
             AND toDateTime(properties.d) > now() - INTERVAL {n} HOUR",
            "SELECT person_id FROM events WHERE event = 'f'
             AND toDateTime(person.properties.d) < now() - INTERVAL {k} DAY",
            "SELECT person_id FROM cohort_people WHERE cohort_id IN (1, {c})",
            "SELECT person_id FROM events WHERE event = 'e' AND person_id NOT IN COHORT {c}
             GROUP BY person_id HAVING uniq(properties.p) >= {k}",
            "SELECT person_id FROM events WHERE timestamp > now() - INTERVAL {n} HOUR
             GROUP BY person_id HAVING sum(properties.p) > {k}",
            "SELECT person_id FROM events WHERE event = 'f' AND timestamp >= today() - INTERVAL {k} DAY
             GROUP BY person_id HAVING avg(properties.q) <= 1.5 OR max(timestamp) < now() - INTERVAL {n} HOUR",
            "SELECT person_id FROM events WHERE timestamp < now() - INTERVAL {n} HOUR
             GROUP BY person_id HAVING count(DISTINCT properties.q) = {k} OR sum(properties.q) BETWEEN 1 AND {k}",
            "SELECT id FROM persons EXCEPT SELECT person_id FROM events
             WHERE timestamp BETWEEN now() - INTERVAL {n} HOUR AND now()",
        ];
        let text = self.one_of(&queries);
        let text = text.replace("{n}", &self.within(1, 60).to_string());
        let text = text.replace("{k}", &self.within(1, 3).to_string());
        let text = text.replace("{c}", &self.within(1, cohorts).to_string());
        json!({"kind": "HogQLQuery", "query": text})
    }

    pub fn action(&mut self) -> Value {
        match self.below(3) {
            0 => json!([{"event": "e", "properties": self.filters()}]),
            1 => json!([{"event": "f"}, {"properties": self.filters()}]),
            _ => json!([{"event": "f", "properties": self.filters()}]),
        }
    }

    fn person(&mut self, world: &World) -> Option<u32> {
        let persons: Vec<u32> = world.persons.keys().copied().collect();
        (!persons.is_empty()).then(|| self.one_of(&persons))
    }
}

/// What happened in a step.
#[derive(Default)]
struct Edits {
    /// Whether definitions, actions or settings changed.
    definitions: bool,
    retention: bool,
}

struct History {
    random: Random,
    world: World,
    settings: Settings,
    now: i64,
    /// Ordinals without a person that were never used.
    unused: Vec<u32>,
}

impl History {
    fn new(seed: u64) -> History {
        let mut random = Random(seed);
        let days = [
            "2025-03-09T16:00:00Z",
            "2025-03-30T00:59:59Z",
            "2025-05-31T05:30:00Z",
            "2025-11-02T05:30:00Z",
            "2024-02-29T18:00:00Z",
            "2025-06-18T15:30:00Z",
        ];
        let zones = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata"];
        let now = micros(random.one_of(&days)) + random.within(-90, 90) * 60 * SECOND;
        let mut history = History {
            settings: settings(random.one_of(&zones)),
            now: now + random.within(0, 999_999),
            random,
            world: World::default(),
            unused: (0..ORDINALS as u32).collect(),
        };
        for _ in 0..4 {
            history.create();
        }
        for _ in 0..history.random.within(4, 16) {
            history.event();
        }
        let world = &mut history.world;
        world.upload(1, [0, 2]);
        world.upload(2, [1]);
        for id in [1, 2] {
            world.actions.insert(id, history.random.action());
        }
        for id in [3, 4] {
            world.dynamic.insert(id, history.random.filter(id - 1));
        }
        world.dynamic.insert(5, history.random.query(4));
        world.dynamic.insert(6, history.random.filter(5));
        history
    }

    fn create(&mut self) {
        let Some(ordinal) = self.unused.pop() else {
            return;
        };
        let properties = self.random.properties(self.now);
        self.world.create(ordinal, properties);
        let created_at = self.random.time(self.now);
        self.world
            .change(ordinal, |person| person.created_at = created_at);
    }

    fn event(&mut self) {
        let ordinal = self.random.below(ORDINALS) as u32;
        let name = self.random.one_of(&["e", "e", "f"]);
        let time = self.random.time(self.now);
        let properties = self.random.properties(self.now);
        self.world.event(ordinal, name, time, properties);
    }

    /// Writes data.
    fn write(&mut self) {
        let person = self.random.person(&self.world);
        match (self.random.below(14), person) {
            (0, _) => self.create(),
            (1, Some(loser)) => {
                let survivor = self.random.person(&self.world);
                if let Some(survivor) = survivor.filter(|survivor| *survivor != loser) {
                    self.world.merge(survivor, loser);
                }
            }
            (2, Some(person)) if self.world.persons.len() > 2 => self.world.delete(person),
            (3, Some(person)) => {
                if let Some(anonymous) = self.unused.pop() {
                    self.world.alias(person, anonymous);
                }
            }
            (4 | 5, Some(person)) => {
                let properties = self.random.properties(self.now);
                self.world
                    .change(person, |person| person.properties = properties);
            }
            (6, Some(person)) => {
                let created_at = self.random.time(self.now);
                self.world
                    .change(person, |person| person.created_at = created_at);
            }
            (7, _) => {
                let list = self.random.within(1, 2);
                let members: Vec<u32> = (0..ORDINALS as u32)
                    .filter(|_| self.random.is_one_in(2))
                    .collect();
                self.world.upload(list, members);
            }
            _ => self.event(),
        }
    }

    /// Changes a definition or a setting.
    fn edit(&mut self) -> Edits {
        match self.random.below(6) {
            0 => drop(self.world.actions.insert(1, self.random.action())),
            1 => drop(self.world.dynamic.insert(3, self.random.filter(2))),
            2 => drop(self.world.dynamic.insert(4, self.random.filter(3))),
            // A filter becomes the definition, or a query.
            3 if self.random.is_one_in(2) => {
                drop(self.world.dynamic.insert(5, self.random.filter(4)));
            }
            3 => drop(self.world.dynamic.insert(5, self.random.query(4))),
            4 => {
                let zones = ["UTC", "America/New_York", "Europe/Berlin"];
                self.settings.time_zone = self.random.one_of(&zones).to_owned();
            }
            _ => {
                let oldest = self.now - self.random.within(20, 60) * DAY;
                self.world.delete_events_before(oldest);
                self.settings.deleted_before = Some(oldest);
                return Edits {
                    retention: true,
                    ..Edits::default()
                };
            }
        }
        Edits {
            definitions: true,
            ..Edits::default()
        }
    }

    /// Moves the clock, often exactly to the next change of a cohort.
    fn pass_time(&mut self, cohorts: &[Follower]) {
        let next = self.random.one_of(cohorts).next_change;
        self.now = match self.random.below(10) {
            0 => self.now,
            1 => self.now - HOUR,
            2 => self.now + self.random.within(1, 3),
            3 => self.now + self.random.within(1, 60) * SECOND,
            4 => self.now + self.random.within(1, 30) * HOUR,
            5 => self.now + self.random.within(1, 8) * DAY,
            _ if next < self.now + 40 * DAY => next.max(self.now) + self.random.within(-1, 0),
            _ => self.now + DAY,
        };
    }

    fn definition(&mut self) -> Definition {
        if self.random.is_one_in(5) {
            return Definition::Query(self.random.query(6));
        }
        let filter = self.random.filter(6);
        Definition::Filter(Filter::parse(&filter).unwrap())
    }

    fn check_naive(&self, cohort: &Follower) {
        if let Definition::Filter(filter) = &cohort.definition {
            let filter = serde_json::to_value(filter).unwrap();
            let now = cohort.state.position.now;
            let zone = &self.settings.time_zone;
            let members = self.world.naive_members(&filter, now, zone);
            assert_eq!(cohort.members, members, "naive: {filter}");
        }
    }

    /// Checks that time alone changes no member before the next change.
    fn check_next_change(&mut self, cohort: &Follower) {
        let now = cohort.state.position.now;
        let next = cohort.next_change.min(now + 3 * DAY);
        let mut instants = vec![next - 1];
        if next - now > 2 {
            instants.push(self.random.within(now + 1, next - 1));
        }
        for instant in instants {
            let at = self.settings.moment(instant).unwrap();
            let Ok(members) = cohort.definition.plan(&at).unwrap().evaluate(&self.world);
            let after = instant - now;
            let definition = &cohort.definition;
            assert_eq!(members, cohort.members, "after {after}: {definition:?}");
        }
    }
}

/// Counts of what the histories covered.
#[derive(Default)]
struct Coverage {
    passes: u32,
    with_changes: u32,
    by_time_alone: u32,
    full: u32,
}

fn run(seed: u64, coverage: &mut Coverage) {
    let mut history = History::new(seed);
    let mut cohorts: Vec<Follower> = (0..2)
        .map(|_| {
            let definition = history.definition();
            Follower::of(&history.world, definition, &history.settings, history.now)
        })
        .collect();
    for _ in 0..STEPS {
        history.pass_time(&cohorts);
        let writes = history.random.below(5).saturating_sub(2);
        (0..writes).for_each(|_| history.write());
        let edits = if history.random.is_one_in(6) {
            history.edit()
        } else {
            Edits::default()
        };
        let earlier: Vec<_> = cohorts
            .iter()
            .map(|cohort| cohort.members.clone())
            .collect();
        let uses_next_change = history.random.is_one_in(2);
        let mut followers: Vec<&mut Follower> = cohorts.iter_mut().collect();
        let (world, settings) = (&history.world, &history.settings);
        let outcomes = advance(
            world,
            &mut followers,
            settings,
            history.now,
            uses_next_change,
        );
        for ((cohort, outcome), earlier) in cohorts.iter().zip(&outcomes).zip(earlier) {
            coverage.passes += 1;
            match outcome {
                Ok(_) if cohort.members != earlier => {
                    coverage.with_changes += 1;
                    coverage.by_time_alone += u32::from(writes == 0);
                }
                Ok(_) => {}
                Err(FullReason::Retention) => assert!(edits.retention),
                // A comparison of days has no instants, except at midnight.
                Err(FullReason::Instants) => {}
                Err(reason) => assert!(edits.definitions, "{reason:?}"),
            }
            coverage.full += u32::from(outcome.is_err());
            history.check_naive(cohort);
        }
        for cohort in &cohorts {
            history.check_next_change(cohort);
        }
    }
}

/// Runs the histories with seeds that leave the same remainder, so that tests share the work.
fn run_share(share: u64) {
    let histories = std::env::var("COHORTS_HISTORIES").ok();
    let histories = histories.map_or(HISTORIES, |number| number.parse().unwrap());
    let mut coverage = Coverage::default();
    for seed in (0..histories).filter(|seed| seed % 2 == share) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut one = Coverage::default();
            run(seed, &mut one);
            one
        }));
        let one = result.unwrap_or_else(|_| panic!("history {seed}"));
        coverage.passes += one.passes;
        coverage.with_changes += one.with_changes;
        coverage.by_time_alone += one.by_time_alone;
        coverage.full += one.full;
    }
    let share = coverage.passes / 100;
    assert!(
        coverage.with_changes > 4 * share,
        "{}",
        coverage.with_changes
    );
    assert!(coverage.by_time_alone > share, "{}", coverage.by_time_alone);
    assert!(coverage.full > share, "{}", coverage.full);
    assert!(coverage.full < 30 * share, "{}", coverage.full);
}

#[test]
fn delta_full_and_naive_evaluation_agree_in_random_histories() {
    run_share(0);
}

#[test]
fn delta_full_and_naive_evaluation_agree_in_more_random_histories() {
    run_share(1);
}
