//! The events of a name in memory: blocks by UTC day, to which later events are added.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cohorts_engine::{EventBlock, EventBlockBuilder};
use parking_lot::Mutex;

use super::forgotten::Forgotten;
use super::reader::Happened;
use super::sealed::Sealed;
use super::views::Shelf;

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

/// What was written is written again so much later at the soonest.
pub const SEAL_EVERY: Duration = Duration::from_secs(60);

/// Blocks that would have more events together are not merged because of new ones; so many fewer in tests that these
/// see days of several blocks.
const LARGE: usize = if cfg!(test) { 1 << 10 } else { 1 << 17 };

/// Logs by the name of their events and the columns that they have.
pub(super) type Logs = Shelf<(String, Vec<String>), Log>;

/// The events of one name.
pub(super) struct Log {
    /// The first day that was read; there may be earlier ones.
    pub from: i64,
    pub days: BTreeMap<i64, Day>,
    /// Since which batch all events were looked at, and whether one of them was on an earlier day.
    pub watched: (i64, bool),
    /// What of it is kept beside the rows; the same for a log and those that follow it.
    pub kept: Arc<Mutex<Kept>>,
    /// The people of several days, by the first of them and their number; made when they are asked for.
    together: Mutex<BTreeMap<(i64, i64), Arc<EventBlock>>>,
}

/// So many days are taken together where they are inside a range, beginning with one whose number can be divided by it.
const TOGETHER: [i64; 2] = [16, 4];

/// The events of a UTC day, each in one of the blocks.
///
/// A block is at least twice as large as the one after it, unless both together would be large: so there are few, and
/// an event that is added is copied a few times, however many are there.
#[derive(Clone, Default)]
pub(super) struct Day {
    blocks: Vec<Arc<EventBlock>>,
    /// Another one after each event that is added, but not after a merge, which whoever reads what is kept follows.
    mark: Arc<()>,
}

impl From<Vec<EventBlock>> for Day {
    fn from(blocks: Vec<EventBlock>) -> Day {
        Day {
            blocks: blocks.into_iter().map(Arc::new).collect(),
            mark: Arc::default(),
        }
    }
}

impl Day {
    pub fn blocks(&self) -> &[Arc<EventBlock>] {
        &self.blocks
    }

    /// The same in fewer blocks: the last ones are one, as many as are not large together.
    pub fn compact(&self) -> Vec<Arc<EventBlock>> {
        let mut blocks = self.blocks.clone();
        let (mut first, mut rows) = (blocks.len(), 0);
        while first > 0 && rows + blocks[first - 1].rows() <= LARGE {
            first -= 1;
            rows += blocks[first].rows();
        }
        if blocks.len() - first > 1 {
            let last = EventBlock::merged(&blocks[first..]);
            blocks.truncate(first);
            blocks.push(Arc::new(last));
        }
        blocks
    }

    fn add(&mut self, block: EventBlock) {
        let mut last = Arc::new(block);
        let alike = |before: &Arc<EventBlock>, last: &EventBlock| {
            let (before, rows) = (before.rows(), last.rows());
            before < 2 * rows && before + rows <= LARGE
        };
        while let Some(before) = self.blocks.pop_if(|before| alike(before, &last)) {
            last = Arc::new(EventBlock::merged(&[before, last]));
        }
        self.blocks.push(last);
        self.mark = Arc::default();
    }

    /// Whether it has the same events.
    fn is(&self, other: &Day) -> bool {
        Arc::ptr_eq(&self.mark, &other.mark)
    }
}

/// What of a log is kept beside the rows.
#[derive(Default)]
pub(super) struct Kept {
    pub sealed: Option<Sealed>,
    /// When it was last written.
    pub written: Option<Instant>,
    /// Whether what is kept cannot be read.
    pub is_damaged: bool,
    pub days: BTreeMap<i64, Day>,
}

impl Kept {
    /// Whether it need not be written now.
    pub fn is_current(&self, head: i64, from: i64) -> bool {
        let holds = |sealed: Sealed| sealed.head >= head && sealed.from <= from;
        let reaches = |sealed: Sealed| sealed.from <= from;
        let fresh = |written: Instant| written.elapsed() < SEAL_EVERY;
        self.sealed.is_some_and(holds)
            || (self.sealed.is_some_and(reaches) && self.written.is_some_and(fresh))
    }

    /// The days that are not kept as they are.
    pub fn changed<'a>(&self, log: &'a Log) -> Vec<(i64, &'a Day)> {
        let same = |number: &i64, day: &Day| self.days.get(number).is_some_and(|kept| kept.is(day));
        let changed = log.days.iter().filter(|(number, day)| !same(number, day));
        changed.map(|(number, day)| (*number, day)).collect()
    }
}

impl Log {
    /// All events of days from one on, as of a batch.
    pub fn new(from: i64, days: BTreeMap<i64, Day>, head: i64) -> Log {
        Log {
            from,
            days,
            watched: (head, false),
            kept: Arc::default(),
            together: Mutex::default(),
        }
    }

    /// The same log, to be changed.
    pub fn copy(&self) -> Log {
        Log {
            from: self.from,
            days: self.days.clone(),
            watched: self.watched,
            kept: Arc::clone(&self.kept),
            together: Mutex::new(self.together.lock().clone()),
        }
    }

    /// The blocks of some days.
    pub fn between(&self, first: i64, last: i64) -> Vec<Arc<EventBlock>> {
        if first > last {
            return Vec::new();
        }
        let days = self.days.range(first..=last);
        days.flat_map(|(_, day)| day.blocks()).cloned().collect()
    }

    /// The same, with several days but for the first and the last in one block, which has only their people; and whether
    /// there is now more of these blocks.
    pub fn people_between(&self, first: i64, last: i64) -> (Vec<Arc<EventBlock>>, bool) {
        let former = self.together.lock().len();
        let mut blocks = self.between(first, first.min(last));
        let mut next = first.saturating_add(1);
        while next < last
            && let Some((day, own)) = self.days.range(next..last).next()
        {
            let many = TOGETHER.map(|count| (day.div_euclid(count) * count, count));
            let inside = |(start, count): &(i64, i64)| next <= *start && start + count <= last;
            match many.into_iter().find(inside) {
                Some((start, count)) => {
                    blocks.push(self.together(start, count));
                    next = start + count;
                }
                None => {
                    blocks.extend_from_slice(own.blocks());
                    next = day + 1;
                }
            }
        }
        blocks.extend(self.between(last.max(first.saturating_add(1)), last));
        (blocks, self.together.lock().len() > former)
    }

    /// The people of several days, by those of fewer of them where there are such.
    fn together(&self, start: i64, count: i64) -> Arc<EventBlock> {
        if let Some(known) = self.together.lock().get(&(start, count)) {
            return Arc::clone(known);
        }
        let fewer = TOGETHER.into_iter().find(|fewer| *fewer < count);
        let parts = match fewer {
            None => self.between(start, start + count - 1),
            Some(fewer) => (start..start + count)
                .step_by(fewer as usize)
                .map(|start| self.together(start, fewer))
                .collect(),
        };
        let block = Arc::new(EventBlock::persons_of(&parts));
        let mut together = self.together.lock();
        together.insert((start, count), Arc::clone(&block));
        block
    }

    /// Forgets what was made of a day that has changed.
    fn forget_together(&mut self, day: i64) {
        for count in TOGETHER {
            let start = day.div_euclid(count) * count;
            self.together.get_mut().remove(&(start, count));
        }
    }

    pub fn blocks(&self) -> impl Iterator<Item = &Arc<EventBlock>> {
        self.days.values().flat_map(Day::blocks)
    }

    pub fn bytes(&self) -> usize {
        let together = self.together.lock();
        let blocks = self.blocks().chain(together.values());
        blocks.map(|block| block.bytes()).sum()
    }

    /// Events of people who are others by now, under their numbers.
    pub fn follow(&mut self, later: &Forgotten, forgotten: &Forgotten) {
        if later.gone.is_empty() {
            return;
        }
        let mut changed = Vec::new();
        for (number, day) in &mut self.days {
            for block in &mut day.blocks {
                if !block.persons().is_disjoint(&later.gone) {
                    *block = Arc::new(block.resolved(|number| forgotten.owner(number)));
                    changed.push(*number);
                }
            }
        }
        changed
            .into_iter()
            .for_each(|day| self.forget_together(day));
    }

    /// Adds later events, whose properties stand under these headings, to the columns that the log has.
    pub fn add(
        &mut self,
        events: &[&Happened],
        headings: &[String],
        columns: &[String],
        forgotten: &Forgotten,
    ) {
        let place = |column| headings.iter().position(|heading| heading == column);
        let own: Vec<Option<usize>> = columns.iter().map(place).collect();
        let mut new: BTreeMap<i64, EventBlockBuilder> = BTreeMap::new();
        for event in events {
            let day = day_of(event.time);
            self.watched.1 |= day < self.from;
            let Some(person) = forgotten.owner(event.number).filter(|_| day >= self.from) else {
                continue;
            };
            let block = new
                .entry(day)
                .or_insert_with(|| EventBlockBuilder::new(columns));
            let properties = own.iter().map(|nth| event.properties[(*nth)?].as_deref());
            block.push_raw(person, event.time, properties);
        }
        for (day, new) in new {
            self.days.entry(day).or_default().add(new.finish());
            self.forget_together(day);
        }
    }
}

/// The UTC day of an instant in microseconds.
pub fn day_of(time: i64) -> i64 {
    time.div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(events: usize, time: i64) -> EventBlock {
        let mut block = EventBlockBuilder::new(&[]);
        (0..events).for_each(|nth| block.push_raw(nth as u32, time, []));
        block.finish()
    }

    fn rows(day: &Day) -> Vec<usize> {
        day.blocks().iter().map(|block| block.rows()).collect()
    }

    #[test]
    fn what_is_added_to_a_day_is_merged_with_what_is_no_larger() {
        let mut day = Day::default();
        for nth in 0..300 {
            day.add(block(3, nth));
        }
        let rows = rows(&day);
        assert_eq!(rows.iter().sum::<usize>(), 900);
        assert!(
            rows.windows(2).all(|pair| pair[0] >= 2 * pair[1]),
            "{rows:?}"
        );
        let compact = day.compact();
        assert_eq!((compact.len(), compact[0].rows()), (1, 900));
        let span = compact[0].span();
        assert_eq!((span.first, span.last), (0, 299));
    }

    #[test]
    fn people_of_any_days_are_found_whatever_stands_together() {
        let event = |day: i64, person: u32| Happened {
            number: person,
            name: "x".to_owned(),
            time: day * DAY + 5,
            properties: Vec::new(),
        };
        let nobody = Forgotten::default();
        let mut log = Log::new(i64::MIN, BTreeMap::new(), 0);
        let add = |log: &mut Log, day: i64, person: u32| {
            log.add(&[&event(day, person)], &[], &[], &nobody);
        };
        // Some days are empty, and one lies far away.
        let days = (-40..70).filter(|day| day % 7 != 3).chain([100_000]);
        days.clone()
            .for_each(|day| add(&mut log, day, (day + 50) as u32));
        let check = |log: &Log| {
            for (first, last) in
                (-42..72).flat_map(|first| (first - 1..72).map(move |last| (first, last)))
            {
                let people = log
                    .people_between(first, last)
                    .0
                    .iter()
                    .fold(roaring::RoaringBitmap::new(), |all, block| {
                        all | block.persons()
                    });
                let wanted = log.between(first, last);
                let wanted = EventBlock::persons_of(&wanted);
                assert_eq!(&people, wanted.persons(), "{first} {last}");
            }
        };
        check(&log);
        assert!(!log.copy().people_between(-40, 70).1 && log.people_between(99_990, 100_100).1);
        let all = || log.people_between(i64::MIN, i64::MAX);
        assert_eq!((all().0.len(), all().1), (9, false));
        // The edges are there as they are.
        let (blocks, _) = log.people_between(-37, 65);
        assert_eq!((blocks[0].rows(), blocks[blocks.len() - 1].rows()), (1, 1));

        let mut next = log.copy();
        add(&mut next, 17, 7_000);
        assert!(
            next.people_between(-40, 70)
                .0
                .iter()
                .any(|block| block.persons().contains(7_000))
        );
        check(&next);
        let mut forgotten = Forgotten::default();
        forgotten.gone.insert(57);
        next.follow(&forgotten, &forgotten);
        assert!(
            !next
                .people_between(-40, 70)
                .0
                .iter()
                .any(|block| block.persons().contains(57))
        );
        check(&next);
        check(&log);
    }

    #[test]
    fn large_blocks_stay_as_they_are() {
        let mut day = Day::from(vec![block(LARGE - 10, 1)]);
        let first = Arc::clone(&day.blocks()[0]);
        day.add(block(LARGE / 2 + 1, 2));
        day.add(block(LARGE / 2, 3));
        assert_eq!(rows(&day), [LARGE - 10, LARGE / 2 + 1, LARGE / 2]);
        assert!(Arc::ptr_eq(&first, &day.blocks()[0]));
        let compact: Vec<usize> = day.compact().iter().map(|block| block.rows()).collect();
        assert_eq!(compact, rows(&day));
        day.add(block(7, 4));
        day.add(block(1, 5));
        assert_eq!(rows(&day).len(), 5);
        let compact: Vec<usize> = day.compact().iter().map(|block| block.rows()).collect();
        assert_eq!(compact, [LARGE - 10, LARGE / 2 + 1, LARGE / 2 + 8]);
        let former = day.clone();
        assert!(day.is(&former));
        day.add(block(1, 4));
        assert!(!day.is(&former) && !Day::default().is(&Day::default()));
    }
}
