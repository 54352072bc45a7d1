//! Case-insensitive search for parts of texts.
//!
//! `part` must be lower case. Case is folded letter by letter, so that a text contains each of its parts: the lower
//! case of a letter does not depend on its position, as it does in [`str::to_lowercase`]. An ASCII text is compared
//! without a lower-case copy.

/// The longest part, in bytes, that is compared at each possible start, which takes quadratic time.
pub(super) const MAX_PART: usize = 64;

/// The text with each letter in lower case.
pub(crate) fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

pub(super) fn contains(text: &str, part: &str) -> bool {
    if !text.is_ascii() || part.len() > MAX_PART {
        return lower(text).contains(part);
    }
    let (text, part) = (text.as_bytes(), part.as_bytes());
    let Some(&first) = part.first() else {
        return true;
    };
    let Some(last) = text.len().checked_sub(part.len()) else {
        return false;
    };
    let starts = memchr::memchr2_iter(first, first.to_ascii_uppercase(), &text[..=last]);
    let mut candidates = starts.map(|start| &text[start..start + part.len()]);
    candidates.any(|candidate| candidate.eq_ignore_ascii_case(part))
}

#[inline]
pub(crate) fn starts_with(text: &str, part: &str) -> bool {
    // Most texts differ in their first letter.
    let [first, wanted] = [text, part].map(|text| text.as_bytes().first());
    if let (Some(first), Some(wanted)) = (first, wanted)
        && first.is_ascii()
        && first.to_ascii_lowercase() != *wanted
    {
        return false;
    }
    if !text.is_ascii() {
        return lower(text).starts_with(part);
    }
    let start = text.as_bytes().get(..part.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(part.as_bytes()))
}

pub(super) fn ends_with(text: &str, part: &str) -> bool {
    if !text.is_ascii() {
        return lower(text).ends_with(part);
    }
    let start = text.len().checked_sub(part.len());
    let end = start.and_then(|start| text.as_bytes().get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_contains_each_part_of_itself() {
        for part in ["ΟΔΟΣ", "οδοσ", "ΔΟΣ"] {
            assert!(contains("ΟΔΟΣ", &lower(part)) && contains("ΟΔΟΣΑ", &lower(part)));
        }
    }

    proptest! {
        /// The letters include some that change their length in lower case, or have no lower case.
        #[test]
        fn the_search_equals_a_search_in_lower_case(text in "[abAB1 ÄäßİſKσς]{0,8}", part in "[abAB1 ÄäßİſKσς]{0,3}") {
            let (lower, part) = (lower(&text), lower(&part));
            prop_assert_eq!(contains(&text, &part), lower.contains(&part));
            prop_assert_eq!(starts_with(&text, &part), lower.starts_with(&part));
            prop_assert_eq!(ends_with(&text, &part), lower.ends_with(&part));
        }
    }
}
