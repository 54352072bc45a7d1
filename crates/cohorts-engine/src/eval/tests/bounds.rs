//! Limits on the time and the memory of an evaluation.

use std::cell::Cell;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::{event, now, persons, tree};
use crate::cases::Project;
use crate::{
    Action, EventBlock, EventQuery, Filter, Interrupt, LeafCache, PropertyBlock, Reference, Source,
    TimesBlock, plan,
};

/// A project with limits.
struct Limited {
    project: Project,
    /// The interrupts that are left before the evaluation ends.
    interrupts: Cell<u32>,
    /// The number of event queries so far.
    queries: Cell<u32>,
    /// The memory for the events of several names, in bytes.
    memory_limit: Cell<usize>,
}

impl Limited {
    fn new(project: Project, interrupts: u32) -> Limited {
        Limited {
            project,
            interrupts: Cell::new(interrupts),
            queries: Cell::new(0),
            memory_limit: Cell::new(usize::MAX),
        }
    }
}

impl Interrupt for Limited {
    type Error = &'static str;

    fn interrupt(&self) -> Result<(), Self::Error> {
        let left = self.interrupts.get().checked_sub(1).ok_or("timed out")?;
        self.interrupts.set(left);
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
        self.queries.set(self.queries.get() + 1);
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
        let fits = bytes <= self.memory_limit.get();
        fits.then_some(()).ok_or("out of memory")
    }
}

/// Checks that an evaluation ends after this number of interrupts.
#[track_caller]
fn check_interrupted(project: &Project, leaf: Value, interrupts: u32) {
    let filter = Filter::parse(&tree("AND", json!([leaf]))).unwrap();
    let plan = plan(&filter, &now()).unwrap();
    let evaluate = |interrupts| plan.evaluate(&Limited::new(project.clone(), interrupts));
    assert_eq!(evaluate(interrupts), Err("timed out"));
    assert!(evaluate(1_000_000).is_ok());
}

#[test]
fn events_of_several_names_are_limited_in_memory() {
    let mut project = persons(&vec![json!({}); 50]);
    let events = (0..400).map(|nth| {
        let name = if nth % 2 == 0 { "a" } else { "b" };
        event(nth % 50, name, "2025-06-17T12:00:00Z", json!({}))
    });
    project.events = events.collect();
    let any = Action::parse(&json!([{}])).unwrap();
    project.actions.insert(1, any);
    let counted = |key: Value, kind: &str| {
        let leaf = json!({"type": "behavioral", "key": key, "value": "performed_event_multiple", "event_type": kind,
            "time_value": 30, "time_interval": "day", "operator": "gte", "operator_value": 4});
        let filter = Filter::parse(&tree("AND", json!([leaf]))).unwrap();
        plan(&filter, &now()).unwrap()
    };
    let limited = Limited::new(project, u32::MAX);
    let query = EventQuery {
        event: "a".to_owned(),
        from: None,
        to: i64::MAX,
        properties: Vec::new(),
        persons_only: false,
    };
    let blocks = limited.events(&query).unwrap();
    let bytes: usize = blocks.iter().map(|block| block.bytes()).sum();
    for (limit, expected) in [(bytes * 2 + 99, Ok(50)), (bytes + 99, Err("out of memory"))] {
        limited.memory_limit.set(limit);
        let members = counted(json!(1), "actions").evaluate(&limited);
        assert_eq!(members.map(|members| members.len()), expected, "{limit}");
    }
    // A single name has no limit here.
    limited.memory_limit.set(0);
    assert_eq!(
        counted(json!("a"), "events")
            .evaluate(&limited)
            .unwrap()
            .len(),
        25
    );
}

/// Which persons have each of the properties `p0` to `p{count - 1}`: all of 4,000 but every seventh.
fn sparse_properties(count: usize) -> Project {
    let properties: Vec<Value> = (0..4_000)
        .map(|person| {
            let keys = (0..count).filter(|key| (person + key) % 7 != 0);
            keys.map(|key| (format!("p{key}"), json!(1))).collect()
        })
        .collect();
    persons(&properties)
}

#[test]
fn results_of_leaves_are_kept_only_if_they_are_used_again_and_are_limited_in_memory() {
    let limited = Limited::new(sparse_properties(100), u32::MAX);
    let leaf =
        |key: usize| json!({"type": "person", "key": format!("p{key}"), "operator": "is_set"});
    let leaves: Vec<Value> = (0..100).map(leaf).collect();
    let evaluate = |values: Value, limit: usize| {
        limited.memory_limit.set(limit);
        let filter = Filter::parse(&tree("AND", values)).unwrap();
        let plan = plan(&filter, &now()).unwrap();
        let explained = plan.explain(&limited).map(|result| result.members.len());
        assert_eq!(
            plan.evaluate(&limited).map(|members| members.len()),
            explained
        );
        explained
    };
    let group = json!({"type": "OR", "values": leaves});
    assert_eq!(evaluate(json!([group]), 0), Ok(4_000));
    // Each leaf is used in both groups, so the results of the first use are kept: about 500 bytes of each.
    assert_eq!(evaluate(json!([group, group]), 1 << 20), Ok(4_000));
    assert_eq!(
        evaluate(json!([group, group]), 10_000),
        Err("out of memory")
    );
}

#[test]
fn results_of_referenced_cohorts_are_limited_in_memory() {
    let mut project = sparse_properties(100);
    for key in 0..100 {
        let leaf = json!({"type": "person", "key": format!("p{key}"), "operator": "is_set"});
        let filter = Filter::parse(&tree("OR", json!([leaf]))).unwrap();
        project.cohorts.insert(key, Reference::Filter(filter));
    }
    let limited = Limited::new(project, u32::MAX);
    let leaves = (0..100).map(|id| json!({"type": "cohort", "key": "id", "value": id}));
    let filter = Filter::parse(&tree("OR", leaves.collect())).unwrap();
    let plan = plan(&filter, &now()).unwrap();
    for (limit, expected) in [(1 << 20, Ok(4_000)), (10_000, Err("out of memory"))] {
        limited.memory_limit.set(limit);
        let members = plan.evaluate(&limited).map(|members| members.len());
        assert_eq!(members, expected);
    }
}

#[test]
fn rows_of_a_query_are_limited_in_memory() {
    let mut project = persons(&[json!({})]);
    project.events = vec![event(0, "e", "2025-06-17T12:00:00Z", json!({})); 1_000];
    let limited = Limited::new(project, u32::MAX);
    let query = json!({"kind": "HogQLQuery", "query": "select distinct person_id from events where event = 'e'"});
    let plan = crate::plan_query(&query, &now()).unwrap();
    for (limit, expected) in [(1 << 20, Ok(1)), (10_000, Err("out of memory"))] {
        limited.memory_limit.set(limit);
        let members = plan.evaluate(&limited).map(|members| members.len());
        assert_eq!(members, expected);
    }
}

fn patterns(count: usize) -> Vec<String> {
    (0..count).map(|nth| format!("x{nth}.*y$")).collect()
}

#[test]
fn an_interrupted_evaluation_ends_early() {
    let values: Vec<Value> = (0..500)
        .map(|nth| json!({"p": format!("x{nth}")}))
        .collect();
    let mut project = persons(&values);
    let leaf = json!({"type": "person", "key": "p", "operator": "regex", "value": patterns(1_000)});
    check_interrupted(&project, leaf, 2);

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
    check_interrupted(&project, leaf, 2);
}

#[test]
fn a_leaf_of_several_plans_is_evaluated_once() {
    let mut project = persons(&[json!({"p": 1}), json!({"p": 1}), json!({"p": 2})]);
    project.events = vec![
        event(0, "e", "2025-06-17T12:00:00Z", json!({})),
        event(2, "e", "2025-06-17T12:00:00Z", json!({})),
    ];
    let performed = |negation: bool| {
        json!({"type": "behavioral", "key": "e", "value": "performed_event", "event_type": "events",
            "time_value": 7, "time_interval": "day", "negation": negation})
    };
    let has_property = json!({"type": "person", "key": "p", "operator": "exact", "value": 1});
    let filter = |leaves: Value| Filter::parse(&tree("AND", leaves)).unwrap();
    // The third plan reaches the leaf only through another cohort.
    let nested = filter(json!([performed(false)]));
    project.cohorts.insert(7, Reference::Filter(nested));
    let filters = [
        json!([performed(false)]),
        json!([has_property, performed(true)]),
        json!([{"type": "cohort", "key": "id", "value": 7}]),
    ];
    let plans = filters.map(|leaves| plan(&filter(leaves), &now()).unwrap());
    let source = Limited::new(project, 1_000);
    let cache = LeafCache::new(&plans);
    let members = plans
        .each_ref()
        .map(|plan| plan.evaluate_with(&source, &cache).unwrap());
    assert_eq!(
        members.map(Vec::from_iter),
        [vec![0, 2], vec![1], vec![0, 2]]
    );
    assert_eq!(source.queries.get(), 1);
    for plan in &plans {
        plan.evaluate(&source).unwrap();
    }
    assert_eq!(source.queries.get(), 4);
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
    let over_budget = |path: &str| {
        Err(format!(
            "{path}: the regular expressions of this filter are too many or too large"
        ))
    };
    assert_eq!(planned(json!([leaf("a", json!(patterns(1_024)))])), Ok(()));
    assert_eq!(
        planned(json!([leaf("a", json!(patterns(1_025)))])),
        over_budget("properties.values[0]")
    );
    let first = leaf("a", json!(patterns(600)));
    let second = leaf("b", json!(patterns(600)));
    assert_eq!(
        planned(json!([first, second])),
        over_budget("properties.values[1]")
    );
    // A large pattern costs more.
    let large = |count: usize| leaf("a", json!(vec![r"\pL{20}"; count]));
    assert_eq!(planned(json!([large(32)])), Ok(()));
    assert_eq!(
        planned(json!([large(33)])),
        over_budget("properties.values[0]")
    );
    let filters: Vec<Value> = patterns(1_025)
        .iter()
        .map(|pattern| json!({"type": "event", "key": "p", "operator": "not_regex", "value": pattern}))
        .collect();
    let leaf = json!({"type": "behavioral", "key": "e", "value": "performed_event",
        "event_type": "events", "time_value": 7, "time_interval": "day", "event_filters": filters});
    assert_eq!(planned(json!([leaf])), over_budget("properties.values[0]"));
    let steps = json!([{"url": "a", "url_matching": "regex", "properties": [{"key": "a", "operator": "regex", "value": patterns(1_024)}]}]);
    assert_eq!(
        Action::parse(&steps)
            .map(drop)
            .map_err(|error| error.detail),
        over_budget("steps[0]")
    );
}
