//! What is wrong with the document, collected so that it can be told all at once.

use std::cell::RefCell;

use anyhow::{Result, bail};

use super::DOCUMENT;

#[derive(Default)]
pub struct Findings(RefCell<Vec<String>>);

impl Findings {
    /// `place` is the way through the document, such as `paths./batch/.post`.
    pub fn add(&self, place: &str, what: impl AsRef<str>) {
        let line = format!("{DOCUMENT}: {place}: {}", what.as_ref());
        let mut lines = self.0.borrow_mut();
        // A component is looked at once per place that refers to it.
        if !lines.contains(&line) {
            lines.push(line);
        }
    }

    pub fn settle(self) -> Result<()> {
        let lines = self.0.into_inner();
        if lines.is_empty() {
            return Ok(());
        }
        bail!("{}", lines.join("\n"));
    }
}
