//! Predicates over many texts that stand one after another: one search through all of them finds the few that are worth
//! a look.

use aho_corasick::{AhoCorasick, Input};
use memchr::memmem::Finder;
use regex_syntax::hir::literal::{Extractor, Literal};

use super::folded::LONGEST;
use super::{Predicate, Rule, ValueTest};

/// Fewer letters are found too often, and more alternatives too slowly.
const SHORTEST: usize = 3;
const MOST: usize = 64;

/// Texts in one piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    bytes: &'a str,
    /// Where each ends, counted from a start that lies `before` the piece.
    ends: &'a [usize],
    before: usize,
}

impl<'a> Texts<'a> {
    /// Some of the texts that end at these places of one piece.
    pub fn new(bytes: &'a str, ends: &'a [usize], some: std::ops::Range<usize>) -> Texts<'a> {
        let before = some.start.checked_sub(1).map_or(0, |last| ends[last]);
        let end = some.end.checked_sub(1).map_or(0, |last| ends[last]);
        Texts {
            bytes: &bytes[before..end],
            ends: &ends[some],
            before,
        }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many letters they have together.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn end(&self, nth: usize) -> usize {
        self.ends[nth] - self.before
    }

    fn at(&self, nth: usize) -> &'a str {
        let start = nth.checked_sub(1).map_or(0, |before| self.end(before));
        &self.bytes[start..self.end(nth)]
    }

    /// Marks those in which something is found by `next`, which looks from a place on for where it starts and ends.
    fn mark(
        &self,
        marks: &mut [bool],
        mut next: impl FnMut(usize) -> Option<(usize, usize)>,
        holds: impl Fn(&str) -> bool,
    ) {
        let (mut from, mut nth) = (0, 0);
        while let Some((start, end)) = next(from) {
            // One after another, since it is seldom far.
            while self.end(nth) <= start {
                nth += 1;
            }
            // What reaches into the text after is in neither.
            if end > self.end(nth) {
                from = start + 1;
                continue;
            }
            if !marks[nth] && holds(self.at(nth)) {
                marks[nth] = true;
            }
            from = self.end(nth);
        }
    }

    /// Marks those that hold a part, which is in lower case, in any case; all of them and the part are ASCII.
    fn mark_folded(&self, marks: &mut [bool], part: &str) {
        if part.is_empty() {
            return marks.fill(true);
        }
        // So few texts are looked at together that this copy stays at hand.
        let lower = self.bytes.to_ascii_lowercase();
        let finder = Finder::new(part);
        let next = |from: usize| {
            let start = from + finder.find(&lower.as_bytes()[from..])?;
            Some((start, start + part.len()))
        };
        self.mark(marks, next, |_| true);
    }

    fn mark_prefixes(
        &self,
        marks: &mut [bool],
        prefixes: &Prefixes,
        holds: impl Fn(&str) -> bool,
    ) {
        let next = |from: usize| match prefixes {
            Prefixes::One(finder) => {
                let start = from + finder.find(&self.bytes.as_bytes()[from..])?;
                Some((start, start + finder.needle().len()))
            }
            Prefixes::Several(literals) => {
                let found = literals.find(Input::new(self.bytes).span(from..self.bytes.len()))?;
                Some((found.start(), found.end()))
            }
        };
        self.mark(marks, next, holds);
    }
}

/// What every match of a pattern begins with.
#[derive(Clone, Debug)]
pub(super) enum Prefixes {
    One(Box<Finder<'static>>),
    Several(AhoCorasick),
}

/// What every match of a pattern begins with, if that is worth looking for.
pub(super) fn literal_prefixes(pattern: &str) -> Option<Prefixes> {
    let hir = regex_syntax::parse(pattern).ok()?;
    let found = Extractor::new().extract(&hir);
    // What is common to all is found faster, and hardly more often where they are hardly longer.
    let common = found.longest_common_prefix()?;
    let near = |literals: &[Literal]| literals.iter().all(|one| one.len() <= common.len() + 1);
    if common.len() >= SHORTEST && found.literals().is_some_and(near) {
        let finder = Finder::new(common).into_owned();
        return Some(Prefixes::One(Box::new(finder)));
    }
    let literals = found.literals()?;
    let worth = literals.len() <= MOST && literals.iter().all(|literal| literal.len() >= SHORTEST);
    let literals = literals.iter().map(|literal| literal.as_bytes());
    let literals = worth.then(|| AhoCorasick::new(literals).ok())?;
    literals.map(Prefixes::Several)
}

impl Predicate {
    /// Whether it holds, text by text, where nothing is marked yet.
    pub fn mark_texts(&self, texts: Texts, marks: &mut [bool]) {
        let (tests, negated) = match &self.rule {
            Rule::Constant(answer) => return marks.fill(*answer),
            Rule::Any(tests) => (tests, false),
            Rule::NoneOf(tests) => (tests, true),
        };
        let is_ascii = texts.bytes.is_ascii();
        let is_plain = |part: &str| is_ascii && part.is_ascii() && part.len() <= LONGEST;
        for test in tests {
            match test {
                ValueTest::Contains(part) if is_plain(part) => texts.mark_folded(marks, part),
                ValueTest::Matches(pattern, Some(prefixes)) => {
                    texts.mark_prefixes(marks, prefixes, |text| pattern.is_match(text));
                }
                test => {
                    for (nth, mark) in marks.iter_mut().enumerate() {
                        *mark = *mark || test.holds(texts.at(nth).into(), &self.time_zone);
                    }
                }
            }
        }
        if negated {
            marks.iter_mut().for_each(|mark| *mark = !*mark);
        }
    }

    /// How much work it is to look at texts.
    pub fn work_of_texts(&self, texts: Texts) -> u64 {
        let tests = self.work_of_instant();
        let (count, size) = (texts.len() as u64, texts.size() as u64);
        tests * (count + size / 64) + u64::from(self.pattern_cost) * size
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde_json::{Value, json};

    use super::*;
    use crate::cases::at;

    /// Letters of which few make much of what is looked for, and some that are no ASCII.
    fn texts() -> impl Strategy<Value = Vec<String>> {
        prop_oneof![vec("[abAB]{0,6}", 0..20), vec("[abABäİ]{0,6}", 0..20)]
    }

    fn asked() -> impl Strategy<Value = (&'static str, Value)> {
        let part = prop_oneof!["[abAB]{0,3}", "[abä]{1,3}"].prop_map(|part| json!(part));
        let list = vec("[abAB]{1,3}", 0..3).prop_map(|list| json!(list));
        let patterns = [
            "[ab]{3}",
            "[ab]{3}[ab]?$",
            "^?[ab]{3}",
            "(aab|bab)+a?",
            "[ab]{1,3}B",
            "^[ab]{3}$",
            "abA+|abAB?",
            "aab[ab]",
        ];
        let pattern = select(patterns.to_vec()).prop_map(|pattern| json!(pattern));
        prop_oneof![
            (Just("icontains"), part.clone()),
            (Just("not_icontains"), part),
            (Just("icontains"), list),
            (Just("regex"), pattern.clone()),
            (Just("not_regex"), pattern),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn texts_in_one_piece_are_looked_at_as_each_by_itself((operator, value) in asked(), texts in texts(), from in 0..20_usize) {
            let moment = at("2025-06-18T15:30:00Z", "UTC");
            let predicate = Predicate::compile("p", Some(operator), Some(&value), &moment).unwrap();
            let mut ends = Vec::new();
            let mut bytes = String::new();
            for text in &texts {
                bytes.push_str(text);
                ends.push(bytes.len());
            }
            let from = from.min(texts.len());
            let each: Vec<bool> = texts[from..].iter().map(|text| predicate.matches(text.as_str())).collect();
            let mut all = vec![false; texts.len() - from];
            predicate.mark_texts(Texts::new(&bytes, &ends, from..texts.len()), &mut all);
            prop_assert_eq!(all, each, "{} {} {:?}", operator, value, texts);
        }
    }

    #[test]
    fn beginnings_are_known_of_patterns_that_have_some() {
        for (pattern, known) in [
            ("smith[0-9]+@", Some(true)),
            ("abc[xy]$", Some(true)),
            ("abc(xyz|zyx)", Some(false)),
            ("(abc|abd)x*$", Some(false)),
            ("ab", None),
            ("^abc", Some(true)),
            ("a*b", None),
            ("(?i)abc", Some(false)),
            (".*abc", None),
            ("", None),
        ] {
            let found = literal_prefixes(pattern);
            let is_one = found.map(|found| matches!(found, Prefixes::One(_)));
            assert_eq!(is_one, known, "{pattern}");
        }
    }
}
