//! Parts of texts whatever the case of their letters, without a copy in lower case where the text is ASCII.
//!
//! The part comes in lower case. Texts are equal when they are so in lower case, as `str::to_lowercase` makes it.

/// Longer parts are not compared at each place where they may start, which could take very long.
pub(super) const LONGEST: usize = 64;

/// Whether the text holds the part.
pub(super) fn contains(text: &str, part: &str) -> bool {
    if !text.is_ascii() || part.len() > LONGEST {
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
    let mut starts = starts.map(|start| &text[start..start + part.len()]);
    starts.any(|found| found.eq_ignore_ascii_case(part))
}

/// Whether the text starts with the part.
pub(super) fn starts_with(text: &str, part: &str) -> bool {
    if !text.is_ascii() {
        return text.to_lowercase().starts_with(part);
    }
    let start = text.as_bytes().get(..part.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(part.as_bytes()))
}

/// Whether the text ends with the part.
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
        /// Letters whose lower case is of another length, or none of their own, among them.
        #[test]
        fn it_is_as_if_both_were_in_lower_case(text in "[abAB1 ÄäßİſKσς]{0,8}", part in "[abAB1 ÄäßİſKσς]{0,3}") {
            let (lower, part) = (text.to_lowercase(), part.to_lowercase());
            prop_assert_eq!(contains(&text, &part), lower.contains(&part));
            prop_assert_eq!(starts_with(&text, &part), lower.starts_with(&part));
            prop_assert_eq!(ends_with(&text, &part), lower.ends_with(&part));
        }
    }
}
