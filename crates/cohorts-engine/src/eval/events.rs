//! Which events of a source a target means: who has any in a range of time, how many, and which.
//!
//! Where a name alone decides, whole blocks are taken by the bitmaps of their people; only at the edges of a range, and
//! where properties matter, single events are looked at.

use std::collections::BTreeSet;
use std::ops;
use std::sync::Arc;

use rayon::prelude::*;
use roaring::{MultiOps, RoaringBitmap};

use crate::block::{Answers, EventBlock, bitmap_of, chosen};
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

/// Some of the rows of a block, or of the numbers of people.
type Rows = ops::Range<usize>;

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

/// Looks events of a source up.
pub(super) struct Events<'a, S> {
    source: &'a S,
    meter: Meter<'a, S>,
}

impl<'a, S: Source> Events<'a, S> {
    pub fn new(source: &'a S) -> Events<'a, S> {
        Events {
            source,
            meter: Meter::new(source),
        }
    }

    /// Everybody with an event in a range.
    pub fn any(&self, selector: &Selector, range: Range) -> Result<RoaringBitmap, S::Error> {
        let blocks = self.blocks(&[selector], range, true)?;
        let parts = self.parts(&[selector], range, &blocks)?;
        let (whole, parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(Part::is_whole);
        let found = self.each(&parts, |part| {
            let mut people = Vec::new();
            part.hits(
                0..part.block.rows(),
                |_| true,
                |hit| people.push(hit.person),
            );
            bitmap_of(&people)
        })?;
        let mut sets: Vec<&RoaringBitmap> = whole.iter().map(|part| part.block.people()).collect();
        sets.extend(&found);
        Ok(sets.union())
    }

    /// Those whose number of events in a range is admitted; it is never none.
    pub fn counted(
        &self,
        selector: &Selector,
        range: Range,
        admits: impl Fn(u32) -> bool + Sync,
    ) -> Result<RoaringBitmap, S::Error> {
        let blocks = self.blocks(&[selector], range, false)?;
        let parts = self.parts(&[selector], range, &blocks)?;
        // Nearly all numbers are small, and asked about once for all.
        let small: Vec<bool> = (0..256).map(|count| count > 0 && admits(count)).collect();
        let admits = |count: u32| match small.get(count as usize) {
            Some(admitted) => *admitted,
            None => admits(count),
        };
        self.by_people(&parts, |people| {
            let mut counts = vec![0_u32; people.len()];
            for part in &parts {
                part.hits(
                    part.rows_of(&people),
                    |_| true,
                    |hit| {
                        let count = &mut counts[hit.person as usize - people.start];
                        *count = count.saturating_add(1);
                    },
                );
            }
            let counts = counts.into_iter().zip(people);
            bitmap_of(&chosen(
                counts.map(|(count, person)| (person as u32, admits(count))),
            ))
        })
    }

    /// Those of some people for whom a test of their events in a range holds, which come in the order of time.
    pub fn persons_where(
        &self,
        selectors: &[&Selector],
        range: Range,
        among: &RoaringBitmap,
        test: impl Fn(&[Hit]) -> bool + Sync,
    ) -> Result<RoaringBitmap, S::Error> {
        if among.is_empty() {
            return Ok(RoaringBitmap::new());
        }
        let among = Members::new(among);
        let blocks = self.blocks(selectors, range, false)?;
        let parts = self.parts(selectors, range, &blocks)?;
        self.by_people(&parts, |people| {
            let mut found = Vec::new();
            for part in &parts {
                let wanted = |person| among.contains(person);
                part.hits(part.rows_of(&people), wanted, |hit| found.push(hit));
            }
            let mut found = by_person(found, people.start);
            let own = found.chunk_by_mut(|a, b| a.person == b.person);
            let own = own.filter_map(|own| {
                if !own.is_sorted_by_key(|hit| hit.time) {
                    own.sort_unstable_by_key(|hit| hit.time);
                }
                test(own).then_some(own[0].person)
            });
            bitmap_of(&own.collect::<Vec<_>>())
        })
    }

    /// Goes through the events of some people after others, on all processors where that is worth it.
    fn by_people(
        &self,
        parts: &[Part],
        work: impl Fn(Rows) -> RoaringBitmap + Sync,
    ) -> Result<RoaringBitmap, S::Error> {
        let last = parts
            .iter()
            .filter_map(|part| part.block.people().max())
            .max();
        let end = last.map_or(0, |last| last as usize + 1);
        let all: u64 = parts.iter().map(Part::work).sum();
        let threads = rayon::current_num_threads();
        // So many that it is asked often enough whether to go on.
        let count = match all < LITTLE_WORK {
            true => 1,
            false => threads.max((all / MOST_WORK) as usize),
        };
        let width = end.div_ceil(count).max(1);
        let ranges: Vec<_> = (0..end)
            .step_by(width)
            .map(|start| start..end.min(start + width))
            .collect();
        let mut found = Vec::new();
        for some in ranges.chunks(threads) {
            self.meter.spend(all / ranges.len() as u64)?;
            match some {
                [one] => found.push(work(one.clone())),
                some => found.par_extend(some.par_iter().map(|people| work(people.clone()))),
            }
        }
        Ok(found.iter().union())
    }

    /// The blocks that may hold events of a selector in a range, with the names of their events; or only the people of
    /// those where every event is one.
    fn blocks(
        &self,
        selectors: &[&Selector],
        range: Range,
        people: bool,
    ) -> Result<Vec<(String, Arc<EventBlock>)>, S::Error> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        if range.from.is_some_and(|from| from > range.to) {
            return Ok(found);
        }
        let names = self.names(selectors)?;
        let is_one = names.len() == 1;
        for event in names {
            let all = |selector: &&Selector| selector.takes_all(&event);
            let query = EventQuery {
                people: people && selectors.iter().all(all),
                properties: properties(selectors, &event),
                from: range.from,
                to: range.to,
                event,
            };
            let blocks = self.source.events(&query)?.into_iter();
            let reached = blocks.filter(|block| {
                let (first, last) = block.span();
                last >= range.from.unwrap_or(i64::MIN) && range.to >= first
            });
            let before = found.len();
            found.extend(reached.map(|block| (query.event.clone(), block)));
            if !is_one {
                let new = found[before..].iter().map(|(_, block)| block.bytes());
                bytes += new.sum::<usize>();
                self.source.holds(bytes)?;
            }
        }
        Ok(found)
    }

    /// Blocks with the answers to what the selectors ask of their events.
    fn parts<'b>(
        &self,
        selectors: &[&Selector],
        range: Range,
        blocks: &'b [(String, Arc<EventBlock>)],
    ) -> Result<Vec<Part<'b>>, S::Error> {
        let part = |(event, block): &'b (String, Arc<EventBlock>)| {
            self.meter.spend(100)?;
            let marks = selectors
                .iter()
                .map(|selector| selector.marks(block, event, &self.meter));
            Ok(Part {
                block,
                marks: marks.collect::<Result<_, _>>()?,
                range,
            })
        };
        blocks.iter().map(part).collect()
    }

    /// Does something with each part, on all processors where that is worth it.
    fn each<T: Send>(
        &self,
        parts: &[Part],
        work: impl Fn(&Part) -> T + Sync,
    ) -> Result<Vec<T>, S::Error> {
        let mut done = Vec::with_capacity(parts.len());
        let threads = rayon::current_num_threads();
        let mut rest = parts;
        while !rest.is_empty() {
            // Much at once, as threads cost time to wake, and not all, as it is asked in between whether to go on.
            let (mut count, mut all) = (0, 0);
            while count < rest.len() && (count < threads || all < MOST_WORK) {
                all += rest[count].work();
                count += 1;
            }
            self.meter.spend(all / threads as u64)?;
            let some;
            (some, rest) = rest.split_at(count);
            match all < LITTLE_WORK {
                true => done.extend(some.iter().map(&work)),
                false => done.par_extend(some.par_iter().map(&work)),
            }
        }
        Ok(done)
    }

    /// The names to read events of.
    fn names(&self, selectors: &[&Selector]) -> Result<BTreeSet<String>, S::Error> {
        let steps = selectors.iter().flat_map(|selector| &selector.steps);
        let names: Option<BTreeSet<String>> = steps.map(|step| step.event.clone()).collect();
        match names {
            Some(names) => Ok(names),
            None => Ok(self.source.event_names()?.into_iter().collect()),
        }
    }
}

/// Less is not worth a second thread, in units of `Meter`.
const LITTLE_WORK: u64 = 20_000;
/// And so much is done by one thread before it is asked whether to go on.
const MOST_WORK: u64 = 1_000_000;

/// A block of which some events may be hits.
struct Part<'a> {
    block: &'a Arc<EventBlock>,
    /// By selector.
    marks: Vec<Marks<'a>>,
    range: Range,
}

/// Which events of a block belong to a selector.
enum Marks<'a> {
    All,
    /// Those that meet all tests of any of the steps.
    Where(Vec<Vec<Answers<'a>>>),
}

/// Rows are looked at by so many at a time, column after column; by few in tests, so that these see where one part ends.
const ROWS: usize = if cfg!(test) { 4 } else { 1_024 };

impl Marks<'_> {
    /// Adds a bit to the marks of the rows that belong.
    fn add(&self, bit: u8, rows: &Rows, marks: &mut [u8; ROWS]) {
        let marks = &mut marks[..rows.len()];
        let Marks::Where(steps) = self else {
            return marks.iter_mut().for_each(|mark| *mark |= bit);
        };
        for tests in steps {
            let mut holds = [true; ROWS];
            let holds = &mut holds[..rows.len()];
            for test in tests {
                test.keep(rows.clone(), holds);
            }
            for (mark, holds) in marks.iter_mut().zip(holds) {
                *mark |= bit * u8::from(*holds);
            }
        }
    }

    fn work(&self) -> u64 {
        match self {
            Marks::All => 0,
            Marks::Where(steps) => steps.iter().map(|tests| 1 + tests.len() as u64).sum(),
        }
    }
}

impl Part<'_> {
    /// Whether everything in the block is a hit.
    fn is_whole(&self) -> bool {
        self.is_inside() && matches!(self.marks.as_slice(), [Marks::All])
    }

    fn is_inside(&self) -> bool {
        let (first, last) = self.block.span();
        self.range.contains(first) && self.range.contains(last)
    }

    /// How much work it is to visit the hits, in units of `Meter`.
    fn work(&self) -> u64 {
        let row = 1 + self.marks.iter().map(Marks::work).sum::<u64>();
        row * self.block.rows() as u64 / 4
    }

    /// The rows of some people.
    fn rows_of(&self, people: &Rows) -> Rows {
        let before = |end: usize| self.block.rows_before(end);
        before(people.start)..before(people.end)
    }

    /// Visits the hits of some rows that are somebody's who is wanted, sorted by person and time.
    fn hits(&self, rows: Rows, wanted: impl Fn(u32) -> bool, mut visit: impl FnMut(Hit)) {
        let inside = self.is_inside();
        for start in rows.clone().step_by(ROWS) {
            let some = start..rows.end.min(start + ROWS);
            let mut marks = [0; ROWS];
            for (index, selector) in self.marks.iter().enumerate() {
                selector.add(1 << index, &some, &mut marks);
            }
            // First which, and without a branch, since nobody could guess it.
            let (mut kept, mut count) = ([0_u16; ROWS], 0);
            let persons = &self.block.persons()[some];
            for (nth, (person, marks)) in persons.iter().zip(&marks).enumerate() {
                kept[count] = nth as u16;
                count += usize::from((*marks != 0) & wanted(*person));
            }
            for nth in &kept[..count] {
                let nth = usize::from(*nth);
                let ((person, time), marks) = (self.block.row(start + nth), marks[nth]);
                if inside || self.range.contains(time) {
                    visit(Hit {
                        person,
                        time,
                        marks,
                    });
                }
            }
        }
    }
}

impl Selector {
    /// Whether every event of a name belongs to it.
    fn takes_all(&self, event: &str) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| concerns(step, event) && step.tests.is_empty())
    }

    fn marks<'a, S: Source>(
        &self,
        block: &'a EventBlock,
        event: &str,
        meter: &Meter<S>,
    ) -> Result<Marks<'a>, S::Error> {
        if self.takes_all(event) {
            return Ok(Marks::All);
        }
        let mut steps = Vec::new();
        for step in self.steps.iter().filter(|step| concerns(step, event)) {
            let tests = step
                .tests
                .iter()
                .map(|(key, test)| block.answers(key, test, meter));
            steps.push(tests.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Marks::Where(steps))
    }
}

fn properties(selectors: &[&Selector], event: &str) -> Vec<String> {
    let steps = selectors.iter().flat_map(|selector| &selector.steps);
    let steps = steps.filter(|step| concerns(step, event));
    let keys: BTreeSet<&String> = steps
        .flat_map(|step| &step.tests)
        .map(|(key, _)| key)
        .collect();
    keys.into_iter().cloned().collect()
}

fn concerns(step: &Step, event: &str) -> bool {
    step.event.as_deref().is_none_or(|name| name == event)
}

/// Of so many people one has a hit at least where these are sorted by counting.
const SPARSE: usize = 16;

/// Hits by their people, whose numbers are not below the first.
fn by_person(mut hits: Vec<Hit>, first: usize) -> Vec<Hit> {
    let of = |hit: &Hit| hit.person as usize - first;
    let people = hits.iter().map(of).max().map_or(0, |last| last + 1);
    if hits.len() < people / SPARSE {
        hits.sort_unstable_by_key(|hit| hit.person);
        return hits;
    }
    let mut places = vec![0_u32; people];
    hits.iter().for_each(|hit| places[of(hit)] += 1);
    let mut next = 0;
    for place in &mut places {
        next += std::mem::replace(place, next);
    }
    let nobody = Hit {
        person: 0,
        time: 0,
        marks: 0,
    };
    let mut sorted = vec![nobody; hits.len()];
    for hit in &hits {
        let place = &mut places[of(hit)];
        sorted[*place as usize] = *hit;
        *place += 1;
    }
    sorted
}

/// A set of people that is asked about very often: a bit for each number.
struct Members(Vec<u64>);

impl Members {
    fn new(people: &RoaringBitmap) -> Members {
        let mut bits = vec![0; people.max().map_or(0, |last| last as usize / 64 + 1)];
        for person in people {
            bits[person as usize / 64] |= 1 << (person % 64);
        }
        Members(bits)
    }

    fn contains(&self, person: u32) -> bool {
        let bits = self.0.get(person as usize / 64).copied().unwrap_or(0);
        bits & (1 << (person % 64)) != 0
    }
}
