//! The list of breaks that are intended, each with its reason.

use super::parse;

/// Groups of breaks. In an entry, `*` matches any text.
#[derive(Default)]
pub struct Intended(Vec<String>);

impl Intended {
    /// Reads a list of groups with the keys `reason` and `breaks`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list = parse(text)?;
        let groups = list
            .as_array()
            .ok_or("the list of intended breaks is not a list")?;
        let mut lines = Vec::new();
        for group in groups {
            if group["reason"].as_str().is_none_or(str::is_empty) {
                return Err(format!("intended breaks without a reason: {group}"));
            }
            let breaks = group["breaks"].as_array().into_iter().flatten();
            lines.extend(breaks.filter_map(|line| Some(line.as_str()?.to_owned())));
        }
        Ok(Self(lines))
    }

    /// Returns the breaks that the list does not have, and the lines without a break.
    pub fn findings(&self, breaks: &[String]) -> Vec<String> {
        let is_intended = |one: &&String| self.0.iter().any(|line| fits(line, one));
        let unknown = breaks.iter().filter(|one| !is_intended(one)).cloned();
        let is_unused = |line: &&String| !breaks.iter().any(|one| fits(line, one));
        let unused = self.0.iter().filter(is_unused);
        unknown
            .chain(unused.map(|line| format!("no such break, remove it from the list: {line}")))
            .collect()
    }
}

/// Whether a text fits a pattern with `*`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| fits(rest, &text[at..]))
        }),
    }
}
