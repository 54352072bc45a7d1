//! Versions of three numbers, and the version ranges of filters.
//!
//! More lenient than Semantic Versioning: missing numbers are zero, leading zeros are allowed.

use std::cmp::Ordering;

/// A version without its build metadata, which no comparison uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    numbers: [u64; 3],
    pre_release: Option<String>,
}

impl Version {
    /// Parses up to three numbers after an optional `v`.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, build) = match text.split_once('+') {
            Some((version, build)) => (version, Some(build)),
            None => (text, None),
        };
        let (core, pre_release) = match text.split_once('-') {
            Some((core, pre_release)) => (core, Some(pre_release)),
            None => (text, None),
        };
        let (numbers, count) = numbers(core)?;
        let labels = [build, pre_release];
        // A date has the form of one number with a pre-release.
        let is_version =
            labels.into_iter().flatten().all(is_label) && (count > 1 || pre_release.is_none());
        is_version.then(|| Version {
            numbers,
            pre_release: pre_release.map(str::to_owned),
        })
    }

    fn release(numbers: [u64; 3]) -> Version {
        Version {
            numbers,
            pre_release: None,
        }
    }

    pub fn compare(&self, other: &Version) -> Ordering {
        let numbers = self.numbers.cmp(&other.numbers);
        numbers.then_with(|| match (&self.pre_release, &other.pre_release) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => compare_pre_releases(a, b),
        })
    }
}

/// Whether a text is a pre-release or build metadata: words of ASCII letters, digits and hyphens, with dots between.
fn is_label(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.split('.')
        .all(|word| !word.is_empty() && word.bytes().all(is_allowed))
}

fn numbers(core: &str) -> Option<([u64; 3], usize)> {
    let mut numbers = [0; 3];
    let mut count = 0;
    for part in core.split('.') {
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *numbers.get_mut(count)? = part.parse().ok()?;
        count += 1;
    }
    Some((numbers, count))
}

fn compare_pre_releases(a: &str, b: &str) -> Ordering {
    let mut left = a.split('.');
    let mut right = b.split('.');
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The versions in `from..below`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionRange {
    from: Version,
    below: Option<Version>,
}

impl VersionRange {
    pub fn contains(&self, version: &Version) -> bool {
        let is_below = |end: &Version| version.compare(end) == Ordering::Less;
        version.compare(&self.from) != Ordering::Less && self.below.as_ref().is_none_or(is_below)
    }

    /// The range up to the next version in which the number at index `fixed` differs.
    fn up_to(from: Version, fixed: usize) -> Option<VersionRange> {
        let mut end = [0; 3];
        end[..=fixed].copy_from_slice(&from.numbers[..=fixed]);
        end[fixed] = end[fixed].checked_add(1)?;
        Some(VersionRange {
            from,
            below: Some(Version::release(end)),
        })
    }

    /// `~1.2.3`: the same minor version; `~1`: the same major version.
    pub fn tilde(text: &str) -> Option<VersionRange> {
        let from = Version::parse(text)?;
        let only_major = !text.split(['-', '+']).next()?.contains('.');
        VersionRange::up_to(from, if only_major { 0 } else { 1 })
    }

    /// `^1.2.3`: the same leftmost number that is not zero.
    pub fn caret(text: &str) -> Option<VersionRange> {
        let from = Version::parse(text)?;
        let leftmost = from.numbers.iter().position(|number| *number > 0);
        VersionRange::up_to(from, leftmost.unwrap_or(2))
    }

    /// `1.2.*`: the same numbers before the star.
    pub fn wildcard(text: &str) -> Option<VersionRange> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let core = text.strip_suffix('*')?;
        let zero = Version::release([0; 3]);
        if core.is_empty() {
            return Some(VersionRange {
                from: zero,
                below: None,
            });
        }
        let core = core.strip_suffix('.')?;
        let (numbers, count) = numbers(core.trim_end_matches(".*"))?;
        VersionRange::up_to(Version::release(numbers), count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap_or_else(|| panic!("{text} is a version"))
    }

    #[track_caller]
    fn range(range: Option<VersionRange>, inside: &[&str], outside: &[&str]) {
        let range = range.unwrap();
        for text in inside {
            assert!(range.contains(&version(text)), "{text} is inside");
        }
        for text in outside {
            assert!(!range.contains(&version(text)), "{text} is outside");
        }
    }

    #[test]
    fn versions_are_ordered_by_number_and_pre_releases_precede_releases() {
        let sorted = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1",
            "1.2",
            "v1.10.0",
            "2.0.0",
        ];
        for pair in sorted.windows(2) {
            let order = version(pair[0]).compare(&version(pair[1]));
            assert_eq!(order, Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn build_metadata_and_leading_zeros_do_not_matter() {
        assert_eq!(version("1.2.3+abc"), version("01.2.3"));
    }

    #[test]
    fn other_texts_are_no_versions() {
        for text in [
            "",
            "beta",
            "1.2.3.4",
            "1..2",
            "1.2.x",
            "-1",
            "vv1",
            "1.2.3-",
            "1.2.3+",
            "2025-03-03",
            "2025-03-03T10:00:00Z",
            "1.2.3-beta build 7",
            "1.2.3+build 7",
            "12-inch (2nd gen)",
            "1.2.3-a..b",
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn tilde_keeps_the_minor_version() {
        let inside = ["1.2.3", "1.2.99"];
        range(VersionRange::tilde("1.2.3"), &inside, &["1.2.2", "1.3.0"]);
        range(VersionRange::tilde("1"), &["1.0.0", "1.9"], &["2.0.0"]);
    }

    #[test]
    fn caret_keeps_the_leftmost_number() {
        range(
            VersionRange::caret("1.2.3"),
            &["1.9.9"],
            &["1.2.2", "2.0.0"],
        );
        range(VersionRange::caret("0.2.3"), &["0.2.4"], &["0.3.0"]);
        range(VersionRange::caret("0.0.3"), &["0.0.3"], &["0.0.4"]);
    }

    #[test]
    fn wildcard_keeps_the_numbers_before_the_star() {
        range(VersionRange::wildcard("1.2.*"), &["1.2.0"], &["1.3.0"]);
        range(VersionRange::wildcard("1.*"), &["1.0.0"], &["2.0.0", "0.9"]);
        assert_eq!(VersionRange::wildcard("1.2.3"), None);
        assert_eq!(VersionRange::wildcard("1*"), None);
    }
}
