//! Which events of a source a target means, person by person and in the order of time.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use crate::block::{Answers, EventBlock, bitmap};
use crate::plan::{Target, What};
use crate::predicate::Predicate;
use crate::source::{ActionStep, EventQuery, Meter, Source};
use crate::window::{Moment, Range};

/// A target with its action looked up: an event belongs to it that meets any of the steps.
pub(super) struct Selector {
    steps: Vec<Step>,
}

#[derive(Clone)]
struct Step {
    event: Option<String>,
    /// All must hold.
    tests: Vec<(String, Predicate)>,
}

/// An event that belongs to some of the selectors it was looked up for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub person: u32,
    pub time: i64,
    marks: u8,
}

impl Hit {
    /// Whether the event belongs to the selector of that index.
    pub fn is(&self, selector: usize) -> bool {
        self.marks & (1 << selector) != 0
    }
}

impl Selector {
    /// Looks the target up; an unknown action has no events. With `filters` left out, only the
    /// name or the action counts.
    pub fn resolve<S: Source>(
        source: &S,
        target: &Target,
        filters: bool,
        at: &Moment,
    ) -> Result<Selector, S::Error> {
        let mut steps = match &target.what {
            What::Event(name) => vec![Step {
                event: Some(name.clone()),
                tests: Vec::new(),
            }],
            What::Action(id) => {
                let action = source.action(*id)?.unwrap_or_default();
                action
                    .steps
                    .iter()
                    .filter_map(|step| compile(step, at))
                    .collect()
            }
        };
        if filters {
            for step in &mut steps {
                step.tests.extend(target.filters.iter().cloned());
            }
        }
        Ok(Selector { steps })
    }
}

/// A step with a test that cannot be calculated matches no event.
fn compile(step: &ActionStep, at: &Moment) -> Option<Step> {
    let mut tests = Vec::new();
    if let Some(url) = &step.url {
        let predicate = Predicate::address(url, step.url_matching.as_deref());
        tests.push(("$current_url".to_owned(), predicate));
    }
    for property in &step.properties {
        let operator = property.operator.as_deref();
        let predicate = Predicate::compile("", operator, property.value.as_ref(), at).ok()?;
        tests.push((property.key.clone(), predicate));
    }
    Some(Step {
        event: step.event.clone(),
        tests,
    })
}

/// All hits in a range, sorted by person and time.
pub(super) fn hits<S: Source>(
    source: &S,
    selectors: &[Selector],
    range: Range,
) -> Result<Vec<Hit>, S::Error> {
    let mut found = Vec::new();
    let blocks = scan(source, selectors, range, |hit| found.push(hit))?;
    if blocks > 1 {
        found.sort_by_key(|hit| (hit.person, hit.time));
    }
    Ok(found)
}

/// Everybody with a hit in a range.
pub(super) fn persons<S: Source>(
    source: &S,
    selector: Selector,
    range: Range,
) -> Result<RoaringBitmap, S::Error> {
    let mut found = RoaringBitmap::new();
    let mut last = None;
    scan(source, &[selector], range, |hit| {
        if last != Some(hit.person) {
            found.insert(hit.person);
            last = Some(hit.person);
        }
    })?;
    Ok(found)
}

/// Those of the persons for whom a test of their hits, in the order of time, holds.
pub(super) fn persons_where(hits: &[Hit], test: impl Fn(&[Hit]) -> bool) -> RoaringBitmap {
    let persons = hits.chunk_by(|a, b| a.person == b.person);
    bitmap(persons.filter(|own| test(own)).map(|own| own[0].person))
}

/// Visits each event once, however many steps it meets, and tells how many blocks were read.
/// Within a block hits come sorted by person and time.
fn scan<S: Source>(
    source: &S,
    selectors: &[Selector],
    range: Range,
    mut visit: impl FnMut(Hit),
) -> Result<usize, S::Error> {
    if range.from.is_some_and(|from| from > range.to) {
        return Ok(0);
    }
    let meter = Meter::new(source);
    let names = names(selectors);
    for name in &names {
        let query = EventQuery {
            event: name.clone(),
            from: range.from,
            to: range.to,
            properties: properties(selectors, name.as_deref()),
        };
        let block = source.events(&query)?;
        let marker = Marker::new(&block, selectors, name.as_deref(), &meter)?;
        for row in 0..block.rows() {
            let (person, time) = block.row(row);
            meter.spend(1)?;
            if !range.contains(time) {
                continue;
            }
            let marks = marker.marks(row);
            meter.spend(marker.tests)?;
            if marks != 0 {
                visit(Hit {
                    person,
                    time,
                    marks,
                });
            }
        }
    }
    Ok(names.len())
}

/// The names to read events of; when a step takes any event, all events are read once.
fn names(selectors: &[Selector]) -> BTreeSet<Option<String>> {
    let steps = selectors.iter().flat_map(|selector| &selector.steps);
    let names: BTreeSet<_> = steps.map(|step| step.event.clone()).collect();
    match names.contains(&None) {
        true => BTreeSet::from([None]),
        false => names,
    }
}

fn properties(selectors: &[Selector], name: Option<&str>) -> Vec<String> {
    let steps = selectors.iter().flat_map(|selector| &selector.steps);
    let steps = steps.filter(|step| concerns(step, name));
    let keys: BTreeSet<&String> = steps
        .flat_map(|step| &step.tests)
        .map(|(key, _)| key)
        .collect();
    keys.into_iter().cloned().collect()
}

fn concerns(step: &Step, name: Option<&str>) -> bool {
    name.is_none() || step.event.as_deref() == name
}

/// The tests of all selectors, answered for one block: per selector the steps, per step what
/// must hold.
struct Marker<'a> {
    selectors: Vec<Vec<Vec<Answers<'a>>>>,
    /// How many tests there are in all.
    tests: u64,
}

impl<'a> Marker<'a> {
    fn new<S: Source>(
        block: &'a EventBlock,
        selectors: &[Selector],
        name: Option<&str>,
        meter: &Meter<S>,
    ) -> Result<Marker<'a>, S::Error> {
        let mut marker = Marker {
            selectors: Vec::new(),
            tests: 0,
        };
        for selector in selectors {
            let mut steps = Vec::new();
            for step in selector.steps.iter().filter(|step| concerns(step, name)) {
                let mut tests: Vec<Answers> = Vec::new();
                if let (None, Some(event)) = (name, &step.event) {
                    tests.push(block.named(|name| name.as_str() == Some(event)));
                }
                for (key, test) in &step.tests {
                    tests.push(block.answers(key, test, meter)?);
                }
                marker.tests += 1 + tests.len() as u64;
                steps.push(tests);
            }
            marker.selectors.push(steps);
        }
        Ok(marker)
    }

    fn marks(&self, row: usize) -> u8 {
        let mut marks = 0;
        for (index, steps) in self.selectors.iter().enumerate() {
            let meets = |tests: &Vec<Answers>| tests.iter().all(|test| test.at(row));
            if steps.iter().any(meets) {
                marks |= 1 << index;
            }
        }
        marks
    }
}
