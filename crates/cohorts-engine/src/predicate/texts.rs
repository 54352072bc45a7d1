//! Applies a predicate to many texts that are stored contiguously.
//!
//! One search through the whole buffer finds the few texts that need a closer test.

use aho_corasick::{AhoCorasick, Input};
use memchr::memmem::Finder;
use regex_syntax::hir::literal::{Extractor, Literal};

use super::folded::MAX_PART;
use super::{Predicate, Rule, ValueTest};

/// Shorter literals occur too often to be worth a search, in bytes.
const MIN_LITERAL: usize = 3;
/// A search for more literals is too slow.
const MAX_LITERALS: usize = 64;

/// A range of texts in one contiguous buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    bytes: &'a str,
    /// The end of each text, as an offset in the whole buffer.
    ends: &'a [usize],
    /// The offset of `bytes` in the whole buffer.
    offset: usize,
}

impl<'a> Texts<'a> {
    /// The texts with the indexes `range` of a buffer in which text `i` ends at `ends[i]`.
    pub fn new(buffer: &'a str, ends: &'a [usize], range: std::ops::Range<usize>) -> Texts<'a> {
        let offset = range.start.checked_sub(1).map_or(0, |last| ends[last]);
        let end = range.end.checked_sub(1).map_or(0, |last| ends[last]);
        Texts {
            bytes: &buffer[offset..end],
            ends: &ends[range],
            offset,
        }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The total length in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn end(&self, nth: usize) -> usize {
        self.ends[nth] - self.offset
    }

    fn at(&self, nth: usize) -> &'a str {
        let start = nth.checked_sub(1).map_or(0, |before| self.end(before));
        &self.bytes[start..self.end(nth)]
    }

    /// Marks the texts that contain a hit and satisfy `holds`. `next` returns the start and end of
    /// the first hit at or after an offset.
    fn mark(
        &self,
        marks: &mut [bool],
        mut next: impl FnMut(usize) -> Option<(usize, usize)>,
        holds: impl Fn(&str) -> bool,
    ) {
        let (mut from, mut nth) = (0, 0);
        while let Some((start, end)) = next(from) {
            // A linear search, because the hit is rarely far away.
            while self.end(nth) <= start {
                nth += 1;
            }
            // A hit across the end of a text is no hit.
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

    /// Marks the texts that contain `part`, ignoring case. All are ASCII; `part` is lower case.
    fn mark_folded(&self, marks: &mut [bool], part: &str) {
        if part.is_empty() {
            return marks.fill(true);
        }
        // The range is small enough for the copy to stay in the processor's cache.
        let lower = self.bytes.to_ascii_lowercase();
        let finder = Finder::new(part);
        let next = |from: usize| {
            let start = from + finder.find(&lower.as_bytes()[from..])?;
            Some((start, start + part.len()))
        };
        self.mark(marks, next, |_| true);
    }

    fn mark_prefixes(&self, marks: &mut [bool], prefixes: &Prefixes, holds: impl Fn(&str) -> bool) {
        let next = |from: usize| match prefixes {
            Prefixes::One(finder) => {
                let start = from + finder.find(&self.bytes.as_bytes()[from..])?;
                Some((start, start + finder.needle().len()))
            }
            Prefixes::Several(literals) => {
                let hit = literals.find(Input::new(self.bytes).span(from..self.bytes.len()))?;
                Some((hit.start(), hit.end()))
            }
        };
        self.mark(marks, next, holds);
    }
}

/// Literals such that every match of a pattern starts with one of them.
#[derive(Clone, Debug)]
pub(super) enum Prefixes {
    One(Box<Finder<'static>>),
    Several(AhoCorasick),
}

/// The literal prefixes of a pattern; `None` if a search for them would not be faster.
pub(super) fn literal_prefixes(pattern: &str) -> Option<Prefixes> {
    let hir = regex_syntax::parse(pattern).ok()?;
    let prefixes = Extractor::new().extract(&hir);
    // A single literal is faster to find than several, and nearly as selective if they are at
    // most one byte longer.
    let common = prefixes.longest_common_prefix()?;
    let is_near = |literal: &Literal| literal.len() <= common.len() + 1;
    let literals = prefixes.literals();
    if common.len() >= MIN_LITERAL && literals.is_some_and(|all| all.iter().all(is_near)) {
        let finder = Finder::new(common).into_owned();
        return Some(Prefixes::One(Box::new(finder)));
    }
    let literals = literals?;
    let is_long = |literal: &Literal| literal.len() >= MIN_LITERAL;
    if literals.len() > MAX_LITERALS || !literals.iter().all(is_long) {
        return None;
    }
    let automaton = AhoCorasick::new(literals.iter().map(|literal| literal.as_bytes())).ok()?;
    Some(Prefixes::Several(automaton))
}

impl Predicate {
    /// Sets `marks[i]` to the answer for text `i`. All marks must be false before.
    pub fn mark_texts(&self, texts: Texts, marks: &mut [bool]) {
        let (tests, negated) = match &self.rule {
            Rule::Constant(answer) => return marks.fill(*answer),
            Rule::Any(tests) => (tests, false),
            Rule::NoneOf(tests) => (tests, true),
        };
        let is_ascii = texts.bytes.is_ascii();
        let is_plain = |part: &str| is_ascii && part.is_ascii() && part.len() <= MAX_PART;
        for test in tests {
            match test {
                ValueTest::Contains(part) if is_plain(part) => texts.mark_folded(marks, part),
                ValueTest::Matches(pattern, Some(prefixes)) => {
                    texts.mark_prefixes(marks, prefixes, |text| pattern.is_match(text.as_bytes()));
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

    /// The estimated cost of testing all texts, in the units of [`Predicate::work`].
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

    /// Texts over few letters, so that many of them match; some are not ASCII.
    fn texts() -> impl Strategy<Value = Vec<String>> {
        prop_oneof![vec("[abAB]{0,6}", 0..20), vec("[abABäİ]{0,6}", 0..20)]
    }

    fn operators() -> impl Strategy<Value = (&'static str, Value)> {
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
        fn contiguous_texts_have_the_same_answers_as_single_texts((operator, value) in operators(), texts in texts(), from in 0..20_usize) {
            let moment = at("2025-06-18T15:30:00Z", "UTC");
            let predicate = Predicate::compile("p", Some(operator), Some(&value), &moment).unwrap();
            let mut ends = Vec::new();
            let mut bytes = String::new();
            for text in &texts {
                bytes.push_str(text);
                ends.push(bytes.len());
            }
            let from = from.min(texts.len());
            let answers: Vec<bool> = texts[from..].iter().map(|text| predicate.matches(text.as_str())).collect();
            let mut marks = vec![false; texts.len() - from];
            predicate.mark_texts(Texts::new(&bytes, &ends, from..texts.len()), &mut marks);
            prop_assert_eq!(marks, answers, "{} {} {:?}", operator, value, texts);
        }
    }

    #[test]
    fn prefixes_are_extracted_from_patterns_that_have_them() {
        for (pattern, expected) in [
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
            let prefixes = literal_prefixes(pattern);
            let is_one = prefixes.map(|prefixes| matches!(prefixes, Prefixes::One(_)));
            assert_eq!(is_one, expected, "{pattern}");
        }
    }
}
