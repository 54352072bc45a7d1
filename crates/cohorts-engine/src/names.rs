//! The form in which names of events and distinct ids are stored.
//!
//! Senders, filters and requests may write one name in several ways. All of them use [`stored_name`], so a filter finds
//! an event by the name that the client sent.

use std::borrow::Cow;

/// The most characters of a stored name, as in PostHog.
pub const LONGEST_NAME: usize = 200;

/// The stored form of a name: trimmed, cut to [`LONGEST_NAME`] characters, and without NUL. The stored form of a stored
/// name is the same name.
pub fn stored_name(name: &str) -> Cow<'_, str> {
    let name = name.trim();
    let name = match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => name[..end].trim_end(),
        None => name,
    };
    if name.contains('\0') {
        Cow::Owned(name.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether [`stored_name`] cuts the name.
pub fn is_too_long(name: &str) -> bool {
    name.trim().chars().nth(LONGEST_NAME).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_form_of_a_stored_name_is_the_same() {
        let (long, spaced) = ("é".repeat(201), format!("{} b", "a".repeat(199)));
        for (name, stored, is_cut) in [
            ("buy", "buy", false),
            (" \tbuy\u{a0}\n", "buy", false),
            (" ", "", false),
            ("a\0b", "a\u{fffd}b", false),
            (&long, &long[..400], true),
            (&spaced, &spaced[..199], true),
        ] {
            assert_eq!(stored_name(name), stored, "{name:?}");
            assert_eq!(stored_name(stored), stored, "{name:?}");
            assert_eq!(is_too_long(name), is_cut, "{name:?}");
        }
    }
}
