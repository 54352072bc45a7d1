//! Delta evaluation against full evaluation, per kind of criterion.
//!
//! The project has a million persons and three million events of 60 days; a hundred persons are
//! touched. Run it with `cargo bench -p cohorts-engine`. The variable `COHORTS_BENCH_PERSONS` sets
//! another number of persons. Times are medians, in microseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use cohorts_engine::delta::{
    ChangeSource, Definition, Definitions, LogSpan, Pass, Position, Settings, VersionSpan,
};
use cohorts_engine::{
    Action, EventBlock, EventBlockBuilder, EventQuery, Filter, Interrupt, LeafCache, Plan,
    PropertyBlock, PropertyBlockBuilder, Reference, Source, TimesBlock,
};
use roaring::RoaringBitmap;
use serde_json::{Value, json};

/// 2025-06-18T15:30:00Z.
const NOW: i64 = 1_750_260_600_000_000;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const DAYS: i64 = 60;
const TOUCHED: u32 = 100;
const ROUNDS: usize = 9;

/// A project in memory.
struct Project {
    persons: Arc<RoaringBitmap>,
    created_at: Arc<TimesBlock>,
    properties: BTreeMap<&'static str, Arc<PropertyBlock>>,
    /// The events `paid`, by day, with the column `amount`.
    days: Vec<Arc<EventBlock>>,
    touched: RoaringBitmap,
}

/// A number that depends on `seed` only (SplitMix64).
fn random(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

impl Project {
    fn new(count: u32) -> Project {
        let property = |value: &dyn Fn(u64) -> Value| {
            let mut block = PropertyBlockBuilder::new();
            for person in 0..count {
                block.push(person, &value(random(person.into())));
            }
            Arc::new(block.finish())
        };
        let plans = ["pro", "free", "team"];
        let created = |person: u32| NOW - (random(person.into()) % 700) as i64 * DAY;
        Project {
            persons: Arc::new((0..count).collect()),
            created_at: Arc::new(TimesBlock::new((0..count).map(|nth| (nth, created(nth))))),
            properties: BTreeMap::from([
                ("plan", property(&|seed| json!(plans[seed as usize % 3]))),
                (
                    "email",
                    property(&|seed| json!(format!("u{seed}@example.com"))),
                ),
                (
                    "renewal",
                    property(&|seed| json!((NOW / SECOND) - (seed % 9_000_000) as i64)),
                ),
            ]),
            days: (0..DAYS).map(|day| events_of_day(day, count)).collect(),
            touched: (0..TOUCHED)
                .map(|nth| random(u64::from(nth) << 40) as u32 % count)
                .collect(),
        }
    }
}

/// Events of a twentieth of the persons.
fn events_of_day(day: i64, count: u32) -> Arc<EventBlock> {
    let mut block = EventBlockBuilder::new(&["amount".to_owned()]);
    let start = NOW - NOW % DAY - day * DAY;
    for nth in 0..u64::from(count) / 20 {
        let seed = random(nth << 8 | day as u64);
        let time = start + (seed >> 20) as i64 % (DAY / 1_000) * 1_000;
        let amount = json!({"amount": seed % 50});
        block.push(seed as u32 % count, time.min(NOW), &amount);
    }
    Arc::new(block.finish())
}

impl Interrupt for Project {
    type Error = Infallible;
}

impl Source for Project {
    fn persons(&self) -> Result<Arc<RoaringBitmap>, Infallible> {
        Ok(Arc::clone(&self.persons))
    }

    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Infallible> {
        Ok(self.properties.get(key).cloned().unwrap_or_default())
    }

    fn created_at(&self) -> Result<Arc<TimesBlock>, Infallible> {
        Ok(Arc::clone(&self.created_at))
    }

    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Infallible> {
        Ok(Arc::default())
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Infallible> {
        let is_read = |block: &&Arc<EventBlock>| {
            let span = block.span();
            query.from.is_none_or(|from| from <= span.last) && span.first <= query.to
        };
        let days = self.days.iter().filter(|_| query.event == "paid");
        Ok(days.filter(is_read).cloned().collect())
    }

    fn event_names(&self) -> Result<Vec<String>, Infallible> {
        Ok(vec!["paid".to_owned()])
    }

    fn cohort(&self, _id: i64) -> Result<Option<Reference>, Infallible> {
        let members = (*self.persons).iter().filter(|person| person % 2 == 0);
        Ok(Some(Reference::Members(Arc::new(members.collect()))))
    }

    fn action(&self, _id: i64) -> Result<Option<Action>, Infallible> {
        Ok(None)
    }
}

impl ChangeSource for Project {
    fn performers(
        &self,
        _span: LogSpan,
        _names: Option<&BTreeSet<String>>,
    ) -> Result<BTreeMap<String, RoaringBitmap>, Infallible> {
        Ok(BTreeMap::from([("paid".to_owned(), self.touched.clone())]))
    }

    fn changed_identities(&self, _span: LogSpan) -> Result<RoaringBitmap, Infallible> {
        Ok(RoaringBitmap::new())
    }

    fn changed_distinct_ids(&self, _span: LogSpan) -> Result<RoaringBitmap, Infallible> {
        Ok(RoaringBitmap::new())
    }

    fn changed_persons(&self, _span: LogSpan) -> Result<RoaringBitmap, Infallible> {
        Ok(self.touched.clone())
    }

    fn members_version(&self, _id: i64) -> Result<i64, Infallible> {
        Ok(1)
    }

    fn changed_members(
        &self,
        _id: i64,
        _versions: VersionSpan,
    ) -> Result<Option<RoaringBitmap>, Infallible> {
        Ok(Some(RoaringBitmap::new()))
    }
}

fn kinds() -> Vec<(&'static str, Definition)> {
    let filter = |leaf: Value| {
        let filter = json!({"properties": {"type": "AND", "values": [leaf]}});
        Definition::Filter(Filter::parse(&filter).expect("a filter"))
    };
    let person = |key: &str, operator: &str, value: Value| {
        filter(json!({"type": "person", "key": key, "operator": operator, "value": value}))
    };
    let behavior = |kind: &str, more: Value| {
        let mut leaf = json!({"type": "behavioral", "value": kind, "key": "paid",
            "event_type": "events", "time_value": 30, "time_interval": "day", "operator": "gte",
            "operator_value": 2, "seq_event": "paid", "seq_event_type": "events",
            "seq_time_value": 7, "seq_time_interval": "day"});
        for (key, value) in more.as_object().into_iter().flatten() {
            leaf[key] = value.clone();
        }
        filter(leaf)
    };
    let amount = json!([{"type": "event", "key": "amount", "operator": "gt", "value": 40}]);
    let weeks = json!({"time_value": 1, "time_interval": "week", "min_periods": 2,
        "total_periods": 4, "operator_value": 1});
    let text = "SELECT person_id FROM events WHERE event = 'paid' AND properties.amount > 40
        AND timestamp > now() - INTERVAL 30 DAY GROUP BY person_id HAVING count() > 1";
    vec![
        (
            "property, few values",
            person("plan", "exact", json!("pro")),
        ),
        (
            "property, pattern",
            person("email", "regex", json!("^u1.*7@")),
        ),
        (
            "property, relative date",
            person("renewal", "is_date_before", json!("-30d")),
        ),
        ("performed", behavior("performed_event", json!({}))),
        (
            "performed, filtered",
            behavior("performed_event", json!({"event_filters": amount})),
        ),
        ("counted", behavior("performed_event_multiple", json!({}))),
        (
            "first time",
            behavior("performed_event_first_time", json!({})),
        ),
        ("sequence", behavior("performed_event_sequence", json!({}))),
        ("regularly", behavior("performed_event_regularly", weeks)),
        ("stopped", behavior("stopped_performing_event", json!({}))),
        (
            "restarted",
            behavior("restarted_performing_event", json!({})),
        ),
        (
            "query of events",
            Definition::Query(json!({"kind": "HogQLQuery", "query": text})),
        ),
    ]
}

/// The median time of a call, in microseconds. The first call is not measured.
fn median(mut call: impl FnMut()) -> f64 {
    call();
    let time = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..ROUNDS).map(time).collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn evaluate(plan: &Plan, project: &Project) -> RoaringBitmap {
    let Ok(members) = plan.evaluate(project);
    members
}

/// Full evaluation, delta evaluation, the pass that finds the touched persons, and the next change.
fn measure(project: &Project, definition: Definition) -> [f64; 4] {
    let settings = Settings {
        time_zone: "UTC".to_owned(),
        ..Settings::default()
    };
    let later = NOW + 2 * SECOND;
    let at = settings.moment(later).expect("a time zone");
    let Ok(definitions) = Definitions::read(definition, project, &at);
    let plan = definitions.plan(&at).expect("a plan");
    let members = evaluate(&plan, project);
    let from = Position { now: NOW, seq: 1 };
    let state = definitions.state(from, &settings);
    let advance = || {
        let cache = LeafCache::within([&plan], project.touched.clone());
        let Ok(advance) = plan.advance(&members, &project.touched, project, &cache);
        assert!(advance.is_empty());
    };
    let pass = || {
        let mut pass = Pass::new(project, from, from.advanced(later, 2), &settings);
        let needs = pass.add(&definitions, Some(&state), None);
        let Ok(changes) = pass.find();
        assert!(changes.touched(&needs).is_ok());
    };
    [
        median(|| drop(black_box(evaluate(&plan, project)))),
        median(advance),
        median(pass),
        median(|| {
            black_box(definitions.next_change(project, &at).ok());
        }),
    ]
}

fn main() {
    let count = std::env::var("COHORTS_BENCH_PERSONS").ok();
    let count = count
        .and_then(|count| count.parse().ok())
        .unwrap_or(1_000_000);
    let project = Project::new(count);
    let mut output = std::io::stdout();
    let mut line = |line: String| writeln!(output, "{line}").expect("an output");
    line(format!(
        "{count} persons, {} touched",
        project.touched.len()
    ));
    line("| kind | full | delta | pass | next change |".to_owned());
    line("| --- | ---: | ---: | ---: | ---: |".to_owned());
    for (kind, definition) in kinds() {
        let times = measure(&project, definition).map(|time| format!("{time:.1}"));
        line(format!("| {kind} | {} |", times.join(" | ")));
    }
}
