//! The findings of the linters. All of them are reported together in one error.

use std::cell::RefCell;

use anyhow::{Result, bail};

use super::DOCUMENT;

#[derive(Default)]
pub struct Findings(RefCell<Vec<String>>);

impl Findings {
    /// Adds a finding. `location` is a path in the document, such as `paths./batch/.post`.
    pub fn report(&self, location: &str, message: impl AsRef<str>) {
        let line = format!("{DOCUMENT}: {location}: {}", message.as_ref());
        let mut lines = self.0.borrow_mut();
        // A component is read once per reference to it.
        if !lines.contains(&line) {
            lines.push(line);
        }
    }

    /// Fails with one line per finding if there are any.
    pub fn into_result(self) -> Result<()> {
        let lines = self.0.into_inner();
        if lines.is_empty() {
            return Ok(());
        }
        bail!("{}", lines.join("\n"));
    }
}
