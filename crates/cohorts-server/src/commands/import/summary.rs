//! What an import did, as its commands report it.

use crate::commands::output::counted;
use crate::ingest::{Committed, Denied, Item};

/// The result of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Events that were added.
    pub added: u64,
    /// Events that were in the log before.
    pub duplicates: u64,
    /// Distinct ids of persons.
    pub person_ids: u64,
    /// Persons that are marked as deleted.
    pub deleted_persons: u64,
    /// Lines that are not valid.
    pub refused: u64,
    pub denied: Denied,
}

impl Imported {
    pub fn add(&mut self, items: &[Item], committed: &Committed) {
        let is_person = |item: &&Item| item.exported_person.is_some();
        let person_ids = items.iter().filter(is_person).count();
        self.person_ids += person_ids as u64;
        self.added += committed.added as u64;
        self.duplicates += (items.len() - person_ids - committed.added) as u64;
        self.denied.add(committed.denied);
    }

    pub fn progress_message(&self) -> String {
        let events = counted(self.added + self.duplicates, "event");
        match self.person_ids {
            0 => events,
            count => format!("{events}, {}", counted(count, "distinct id")),
        }
    }

    /// One line per result.
    pub fn report(&self) -> String {
        let added = counted(self.added, "event");
        let duplicates = counted(self.duplicates, "duplicate");
        let mut lines = vec![format!("{added} imported, {duplicates}")];
        for (count, noun, result) in [
            (self.person_ids, "distinct id", "of persons imported"),
            (self.deleted_persons, "deleted person", "skipped"),
            (self.denied.merges, "merge", "of identified persons denied"),
            (
                self.denied.properties,
                "property change",
                "denied: too many properties",
            ),
            (
                self.denied.distinct_ids,
                "link",
                "denied: too many distinct ids",
            ),
        ] {
            if count > 0 {
                lines.push(format!("{} {result}", counted(count, noun)));
            }
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_for_each_result_that_occurred() {
        let mut imported = Imported {
            added: 1,
            ..Imported::default()
        };
        assert_eq!(imported.report(), "1 event imported, 0 duplicates");
        imported.person_ids = 2;
        imported.deleted_persons = 1;
        imported.denied.merges = 1;
        imported.denied.properties = 3;
        let lines: Vec<String> = imported.report().lines().map(str::to_owned).collect();
        assert_eq!(
            lines[1..],
            [
                "2 distinct ids of persons imported",
                "1 deleted person skipped",
                "1 merge of identified persons denied",
                "3 property changes denied: too many properties"
            ]
        );
    }
}
