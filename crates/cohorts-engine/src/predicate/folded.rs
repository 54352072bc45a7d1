//! Case-insensitive search for parts of texts.
//!
//! `part` must be lower case. Case is folded by [`str::to_lowercase`]; an ASCII text is compared
//! without a lower-case copy.

/// The longest part, in bytes, that is compared at each possible start, which takes quadratic time.
pub(super) const MAX_PART: usize = 64;

pub(super) fn contains(text: &str, part: &str) -> bool {
    if !text.is_ascii() || part.len() > MAX_PART {
        return text.to_lowercase().contains(part);
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

pub(super) fn starts_with(text: &str, part: &str) -> bool {
    if !text.is_ascii() {
        return text.to_lowercase().starts_with(part);
    }
    let start = text.as_bytes().get(..part.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(part.as_bytes()))
}

pub(super) fn ends_with(text: &str, part: &str) -> bool {
    if !text.is_ascii() {
        return text.to_lowercase().ends_with(part);
    }
    let start = text.len().checked_sub(part.len());
    let end = start.and_then(|start| text.as_bytes().get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The letters include some that change their length in lower case, or have no lower case.
        #[test]
        fn the_search_equals_a_search_in_lower_case(text in "[abAB1 ÄäßİſKσς]{0,8}", part in "[abAB1 ÄäßİſKσς]{0,3}") {
            let (lower, part) = (text.to_lowercase(), part.to_lowercase());
            prop_assert_eq!(contains(&text, &part), lower.contains(&part));
            prop_assert_eq!(starts_with(&text, &part), lower.starts_with(&part));
            prop_assert_eq!(ends_with(&text, &part), lower.ends_with(&part));
        }
    }
}
