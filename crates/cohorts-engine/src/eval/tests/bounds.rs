//! What a filter may cost.

use std::cell::Cell;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::{event, now, people, tree};
use crate::cases::Project;
use crate::{
    Action, EventBlock, EventQuery, Filter, Interrupt, LeafCache, PropertyBlock, Reference, Source,
    TimesBlock, plan,
};

/// A project that is looked at until a number of interrupts is reached.
struct Limited {
    project: Project,
    left: Cell<u32>,
    /// How often it was asked for events.
    asked: Cell<u32>,
    /// How many bytes of several names may be held.
    room: Cell<usize>,
}

impl Limited {
    fn new(project: Project, left: u32) -> Limited {
        Limited {
            project,
            left: Cell::new(left),
            asked: Cell::new(0),
            room: Cell::new(usize::MAX),
        }
    }
}

impl Interrupt for Limited {
    type Error = &'static str;

    fn interrupt(&self) -> Result<(), Self::Error> {
        let left = self.left.get().checked_sub(1).ok_or("time is up")?;
        self.left.set(left);
        Ok(())
    }
}

impl Source for Limited {
    fn persons(&self) -> Result<Arc<RoaringBitmap>, Self::Error> {
        let Ok(persons) = self.project.persons();
        Ok(persons)
    }

    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Self::Error> {
        let Ok(block) = self.project.person_property(key);
        Ok(block)
    }

    fn created_at(&self) -> Result<Arc<TimesBlock>, Self::Error> {
        let Ok(block) = self.project.created_at();
        Ok(block)
    }

    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Self::Error> {
        let Ok(block) = self.project.distinct_ids();
        Ok(block)
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Self::Error> {
        self.asked.set(self.asked.get() + 1);
        let Ok(blocks) = self.project.events(query);
        Ok(blocks)
    }

    fn event_names(&self) -> Result<Vec<String>, Self::Error> {
        let Ok(names) = self.project.event_names();
        Ok(names)
    }

    fn cohort(&self, id: i64) -> Result<Option<Reference>, Self::Error> {
        let Ok(reference) = self.project.cohort(id);
        Ok(reference)
    }

    fn action(&self, id: i64) -> Result<Option<Action>, Self::Error> {
        let Ok(action) = self.project.action(id);
        Ok(action)
    }

    fn check_memory(&self, bytes: usize) -> Result<(), Self::Error> {
        let fits = bytes <= self.room.get();
        fits.then_some(()).ok_or("no room")
    }
}

#[track_caller]
fn ends(project: &Project, leaf: Value, interrupts: u32) {
    let filter = Filter::parse(&tree("AND", json!([leaf]))).unwrap();
    let plan = plan(&filter, &now()).unwrap();
    let evaluate = |left: u32| plan.evaluate(&Limited::new(project.clone(), left));
    assert_eq!(evaluate(interrupts), Err("time is up"));
    assert!(evaluate(1_000_000).is_ok());
}

#[test]
fn events_of_several_names_are_held_together_only_where_there_is_room() {
    let mut project = people(&vec![json!({}); 50]);
    let events = (0..400).map(|nth| {
        let name = if nth % 2 == 0 { "a" } else { "b" };
        event(nth % 50, name, "2025-06-17T12:00:00Z", json!({}))
    });
    project.events = events.collect();
    let any = Action::parse(&json!([{}])).unwrap();
    project.actions.insert(1, any);
    let often = |key: Value, kind: &str| {
        let leaf = json!({"type": "behavioral", "key": key, "value": "performed_event_multiple", "event_type": kind,
            "time_value": 30, "time_interval": "day", "operator": "gte", "operator_value": 4});
        let filter = Filter::parse(&tree("AND", json!([leaf]))).unwrap();
        plan(&filter, &now()).unwrap()
    };
    let limited = Limited::new(project, u32::MAX);
    let name = EventQuery {
        event: "a".to_owned(),
        from: None,
        to: i64::MAX,
        properties: Vec::new(),
        persons_only: false,
    };
    let blocks = limited.events(&name).unwrap();
    let one: usize = blocks.iter().map(|block| block.bytes()).sum();
    for (room, answer) in [(one * 2 + 99, Ok(50)), (one + 99, Err("no room"))] {
        limited.room.set(room);
        let all = often(json!(1), "actions").evaluate(&limited);
        assert_eq!(all.map(|people| people.len()), answer, "{room}");
    }
    limited.room.set(0);
    assert_eq!(
        often(json!("a"), "events")
            .evaluate(&limited)
            .unwrap()
            .len(),
        25
    );
}

fn patterns(count: usize) -> Vec<String> {
    (0..count).map(|nth| format!("x{nth}.*y$")).collect()
}

#[test]
fn an_evaluation_ends_where_its_source_says_so() {
    let values: Vec<Value> = (0..500)
        .map(|nth| json!({"p": format!("x{nth}")}))
        .collect();
    let mut project = people(&values);
    let leaf = json!({"type": "person", "key": "p", "operator": "regex", "value": patterns(1_000)});
    ends(&project, leaf, 2);

    project.events = (0..2_000)
        .map(|nth| {
            event(
                nth % 500,
                "e",
                "2025-06-17T12:00:00Z",
                json!({"p": nth.to_string()}),
            )
        })
        .collect();
    let tests: Vec<Value> = (0..500)
        .map(|nth| json!({"type": "event", "key": "p", "operator": "is_not", "value": format!("a{nth}")}))
        .collect();
    let leaf = json!({"type": "behavioral", "key": "e", "value": "performed_event",
        "event_type": "events", "time_value": 7, "time_interval": "day", "event_filters": tests});
    ends(&project, leaf, 2);
}

#[test]
fn a_leaf_that_recurs_in_several_plans_is_found_once() {
    let mut project = people(&[json!({"p": 1}), json!({"p": 1}), json!({"p": 2})]);
    project.events = vec![
        event(0, "e", "2025-06-17T12:00:00Z", json!({})),
        event(2, "e", "2025-06-17T12:00:00Z", json!({})),
    ];
    let did = |negation: bool| {
        json!({"type": "behavioral", "key": "e", "value": "performed_event", "event_type": "events",
            "time_value": 7, "time_interval": "day", "negation": negation})
    };
    let is = json!({"type": "person", "key": "p", "operator": "exact", "value": 1});
    let filter = |leaves: Value| Filter::parse(&tree("AND", leaves)).unwrap();
    // The third is reached by another cohort alone.
    let nested = filter(json!([did(false)]));
    project.cohorts.insert(7, Reference::Filter(nested));
    let filters = [
        json!([did(false)]),
        json!([is, did(true)]),
        json!([{"type": "cohort", "key": "id", "value": 7}]),
    ];
    let plans = filters.map(|leaves| plan(&filter(leaves), &now()).unwrap());
    let source = Limited::new(project, 1_000);
    let shared = LeafCache::new(&plans);
    let found = plans
        .each_ref()
        .map(|plan| plan.evaluate_with(&source, &shared).unwrap());
    assert_eq!(found.map(Vec::from_iter), [vec![0, 2], vec![1], vec![0, 2]]);
    assert_eq!(source.asked.get(), 1);
    for plan in &plans {
        plan.evaluate(&source).unwrap();
    }
    assert_eq!(source.asked.get(), 4);
}

#[test]
fn patterns_of_one_filter_share_a_budget() {
    let planned = |leaves: Value| {
        let filter = Filter::parse(&tree("OR", leaves)).unwrap();
        plan(&filter, &now())
            .map(drop)
            .map_err(|error| error.detail)
    };
    let leaf = |key: &str, patterns: Value| json!({"type": "person", "key": key, "operator": "regex", "value": patterns});
    let spent = |place: &str| {
        Err(format!(
            "{place}: the regular expressions of this filter are too many or too large"
        ))
    };
    assert_eq!(planned(json!([leaf("a", json!(patterns(1_024)))])), Ok(()));
    assert_eq!(
        planned(json!([leaf("a", json!(patterns(1_025)))])),
        spent("properties.values[0]")
    );
    let (some, others) = (
        leaf("a", json!(patterns(600))),
        leaf("b", json!(patterns(600))),
    );
    assert_eq!(
        planned(json!([some, others])),
        spent("properties.values[1]")
    );
    // One that cannot be compiled costs what was spent on trying.
    let large = |count: usize| leaf("a", json!(vec![r"\w{100}"; count]));
    assert_eq!(planned(json!([large(32)])), Ok(()));
    assert_eq!(planned(json!([large(33)])), spent("properties.values[0]"));
    let filters: Vec<Value> = patterns(1_025)
        .iter()
        .map(|pattern| json!({"type": "event", "key": "p", "operator": "not_regex", "value": pattern}))
        .collect();
    let leaf = json!({"type": "behavioral", "key": "e", "value": "performed_event",
        "event_type": "events", "time_value": 7, "time_interval": "day", "event_filters": filters});
    assert_eq!(planned(json!([leaf])), spent("properties.values[0]"));
    let steps = json!([{"url": "a", "url_matching": "regex", "properties": [{"key": "a", "operator": "regex", "value": patterns(1_024)}]}]);
    assert_eq!(
        Action::parse(&steps)
            .map(drop)
            .map_err(|error| error.detail),
        spent("steps[0]")
    );
}
