//! The findings of the generator. All of them are reported together.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

/// A construct of the document that the generator does not support, or that a rule of the configuration forbids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The path of the construct in the document, such as `paths./pets.post`. Empty for the whole document.
    pub location: String,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
}

/// All findings in a document, in the order in which they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The name of the document.
    pub document: String,
    /// At least one finding.
    pub list: Vec<Finding>,
}

impl fmt::Display for Findings {
    /// Writes one line per finding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Finding { location, message }) in self.list.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            let colon = if location.is_empty() { "" } else { ": " };
            write!(f, "{end}{}: {location}{colon}{message}", self.document)?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

impl Findings {
    pub(crate) fn one(document: &str, location: &str, message: impl fmt::Display) -> Self {
        let collector = Collector::default();
        collector.report(location, message.to_string());
        Self {
            document: document.to_owned(),
            list: collector.list.into_inner(),
        }
    }
}

/// Collects findings while the document is read.
#[derive(Default)]
pub(crate) struct Collector {
    list: RefCell<Vec<Finding>>,
    /// The findings in the list.
    known: RefCell<HashSet<Finding>>,
}

impl Collector {
    pub fn report(&self, location: &str, message: impl AsRef<str>) {
        let finding = Finding {
            location: location.to_owned(),
            message: message.as_ref().to_owned(),
        };
        // A component is read once per reference to it.
        if self.known.borrow_mut().insert(finding.clone()) {
            self.list.borrow_mut().push(finding);
        }
    }

    /// Fails if there are findings.
    pub fn into_result(self, document: &str) -> Result<(), Findings> {
        let list = self.list.into_inner();
        if list.is_empty() {
            return Ok(());
        }
        Err(Findings {
            document: document.to_owned(),
            list,
        })
    }
}
