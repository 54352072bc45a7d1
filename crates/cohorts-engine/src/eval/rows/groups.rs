//! The chosen events of each person, and the tests of HAVING over them.
//!
//! A value is kept as a code: events of all names and blocks share one list of texts for each
//! property. Sums are exact decimals, so they do not depend on the order of the events.

use std::collections::{BTreeSet, HashMap};

use bigdecimal::{BigDecimal, Zero};
use roaring::RoaringBitmap;

use crate::block::{EventBlock, RowValues};
use crate::condition::Condition;
use crate::interrupt::{Interrupt, Meter};
use crate::plan::GroupTest;
use crate::value::{self, Number};

/// The code of an event without a value.
const MISSING: u32 = 0;

/// The work of reading and adding a value, in the units of a meter.
const VALUE_WORK: u64 = 10;

/// The chosen events of all persons.
pub(super) struct Groups<'a> {
    having: &'a Condition<GroupTest>,
    rows: Vec<GroupRow>,
    columns: Vec<GroupColumn<'a>>,
}

/// A chosen event.
#[derive(Clone, Copy)]
struct GroupRow {
    person: u32,
    /// The place of the values in the columns. Memory is exceeded long before this number is.
    place: u32,
    time: i64,
}

/// The values of one property that HAVING reads.
struct GroupColumn<'a> {
    property: &'a str,
    /// The code of each event.
    codes: Vec<u32>,
    codes_by_text: HashMap<String, u32>,
    /// The number of each code; `None` for a value that is no number.
    numbers: Vec<Option<BigDecimal>>,
    /// The memory of the texts and numbers, in bytes, approximately.
    bytes: usize,
}

/// Adds events of one block.
pub(super) struct ChosenRows<'a, 'b> {
    rows: &'b mut Vec<GroupRow>,
    columns: Vec<BlockColumn<'a, 'b>>,
}

struct BlockColumn<'a, 'b> {
    column: &'b mut GroupColumn<'a>,
    values: Option<RowValues<'b>>,
    /// The codes of the values of the block, as far as they are known.
    codes: Vec<Option<u32>>,
}

impl<'a> Groups<'a> {
    pub fn new(having: &'a Condition<GroupTest>) -> Groups<'a> {
        let tests = having.tests().into_iter();
        let properties: BTreeSet<&str> = tests.filter_map(GroupTest::property).collect();
        Groups {
            having,
            rows: Vec::new(),
            columns: properties.into_iter().map(GroupColumn::new).collect(),
        }
    }

    pub fn of_block<'b>(&'b mut self, block: &'b EventBlock) -> ChosenRows<'a, 'b> {
        let columns = self.columns.iter_mut().map(|column| {
            let values = block.values(column.property);
            let codes = vec![None; values.as_ref().map_or(0, RowValues::len)];
            BlockColumn {
                column,
                values,
                codes,
            }
        });
        ChosenRows {
            rows: &mut self.rows,
            columns: columns.collect(),
        }
    }

    /// The memory of the events, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let columns = self.columns.iter();
        let columns = columns.map(|column| size_of_val(&column.codes[..]) + column.bytes);
        size_of_val(&self.rows[..]) + columns.sum::<usize>()
    }

    /// The persons with events that together meet HAVING.
    pub fn persons<I: Interrupt>(mut self, meter: &Meter<I>) -> Result<RoaringBitmap, I::Error> {
        self.rows.sort_unstable_by_key(|row| row.person);
        let tests = self.having.tests();
        let work = |test: &&GroupTest| test.property().map_or(1, |_| VALUE_WORK);
        let work = 1 + tests.iter().map(work).sum::<u64>();
        let mut persons = RoaringBitmap::new();
        for group in self.rows.chunk_by(|a, b| a.person == b.person) {
            meter.spend(group.len() as u64 * work)?;
            if self.having.holds(&|test| self.admits(test, group)) {
                persons.insert(group[0].person);
            }
        }
        Ok(persons)
    }

    fn admits(&self, test: &GroupTest, group: &[GroupRow]) -> bool {
        let times = group.iter().map(|row| row.time);
        let order = match test {
            GroupTest::Count(_, bound) => Some((group.len() as i64).cmp(bound)),
            GroupTest::First(_, bound) => times.min().map(|first| first.cmp(bound)),
            GroupTest::Last(_, bound) => times.max().map(|last| last.cmp(bound)),
            GroupTest::Sum(property, _, bound) => {
                let sum = self.sum(property, group);
                sum.map(|(sum, _)| sum.cmp(bound))
            }
            // A comparison of the sums needs no division, which would round.
            GroupTest::Average(property, _, bound) => {
                let sum = self.sum(property, group);
                sum.map(|(sum, count)| sum.cmp(&(bound * BigDecimal::from(count))))
            }
            GroupTest::Distinct(property, _, bound) => {
                Some(self.distinct(property, group).cmp(bound))
            }
        };
        order.is_some_and(|order| test.comparison().holds(order))
    }

    /// The codes of the values of a group.
    fn codes(&self, property: &str, group: &[GroupRow]) -> impl Iterator<Item = u32> {
        let column = self.column(property);
        let codes = group.iter().map(move |row| {
            let code = column.and_then(|column| column.codes.get(row.place as usize));
            code.copied().unwrap_or(MISSING)
        });
        codes.filter(|code| *code != MISSING)
    }

    fn column(&self, property: &str) -> Option<&GroupColumn<'a>> {
        self.columns
            .iter()
            .find(|column| column.property == property)
    }

    /// The sum of the numbers, and how many there are; `None` if there are none.
    fn sum(&self, property: &str, group: &[GroupRow]) -> Option<(BigDecimal, u64)> {
        let column = self.column(property)?;
        let numbers = self.codes(property, group);
        let numbers = numbers.filter_map(|code| column.numbers[code as usize].as_ref());
        let (mut sum, mut count) = (BigDecimal::zero(), 0);
        for number in numbers {
            sum += number;
            count += 1;
        }
        (count > 0).then_some((sum, count))
    }

    fn distinct(&self, property: &str, group: &[GroupRow]) -> i64 {
        let mut codes = Vec::from_iter(self.codes(property, group));
        codes.sort_unstable();
        codes.dedup();
        codes.len() as i64
    }
}

impl ChosenRows<'_, '_> {
    pub fn push(&mut self, row: usize, person: u32, time: i64) {
        self.rows.push(GroupRow {
            person,
            place: self.rows.len() as u32,
            time,
        });
        for column in &mut self.columns {
            column.push(row);
        }
    }
}

impl BlockColumn<'_, '_> {
    fn push(&mut self, row: usize) {
        let values = self.values.as_ref();
        let value = values.and_then(|values| Some((values.index(row)?, values)));
        let code = value.map(|(index, values)| {
            let code = &mut self.codes[index];
            *code.get_or_insert_with(|| self.column.code(values.value(index)))
        });
        self.column.codes.push(code.unwrap_or(MISSING));
    }
}

impl<'a> GroupColumn<'a> {
    fn new(property: &'a str) -> GroupColumn<'a> {
        GroupColumn {
            property,
            codes: Vec::new(),
            codes_by_text: HashMap::new(),
            numbers: vec![None],
            bytes: 0,
        }
    }

    /// The code of a value. Values with equal texts are equal, as for the operator `exact`.
    fn code(&mut self, value: value::Stored) -> u32 {
        let text = value::text(value);
        if let Some(code) = self.codes_by_text.get(text.as_ref()) {
            return *code;
        }
        let code = self.numbers.len() as u32;
        let number = Number::of(value).map(Number::to_decimal);
        let number_bytes = number
            .as_ref()
            .map_or(0, |number| number.digits() as usize / 2);
        self.bytes += 2 * size_of::<(String, BigDecimal)>() + text.len() + number_bytes;
        self.codes_by_text.insert(text.into_owned(), code);
        self.numbers.push(number);
        code
    }
}
