//! Counts the values of properties over a snapshot.

use cohorts_engine::{EventQuery, Interrupt, Source, ValueCounts};

use super::{IndexError, IndexResult, Snapshot};

/// What has the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueOwner {
    Persons,
    /// Events of this name, or of all names.
    Events(Option<String>),
}

impl Snapshot<'_, '_> {
    /// Counts the values of the property `key` that `selection` selects; `None` if there are more than `most` of them.
    pub fn count_values(
        &self,
        owner: &ValueOwner,
        key: &str,
        selection: &ValueCounts,
        most: usize,
    ) -> IndexResult<Option<ValueCounts>> {
        let mut counts = selection.empty();
        let result = self.add_values(owner, key, &mut counts, most);
        self.tx.release_memory();
        let is_complete = match result {
            Err(IndexError::OverBudget) => {
                counts = selection.empty();
                let mut is_complete = true;
                self.for_each_range(|range| {
                    if is_complete {
                        let mut part = selection.empty();
                        is_complete = range.add_values(owner, key, &mut part, most)?;
                        counts.merge(&part);
                        is_complete &= counts.len() <= most;
                    }
                    Ok(())
                })?;
                is_complete
            }
            result => result?,
        };
        Ok(is_complete.then_some(counts))
    }

    /// Returns false, and may have counted some values only, if there are more than `most` then.
    fn add_values(
        &self,
        owner: &ValueOwner,
        key: &str,
        counts: &mut ValueCounts,
        most: usize,
    ) -> IndexResult<bool> {
        let names = match owner {
            ValueOwner::Persons => {
                let block = self.person_property(key)?;
                let is_complete = block.count_values(&*self.persons()?, self, counts, most)?;
                self.check_memory(counts.bytes())?;
                return Ok(is_complete);
            }
            ValueOwner::Events(Some(event)) => vec![event.clone()],
            ValueOwner::Events(None) => self.event_names()?,
        };
        for event in names {
            let query = EventQuery {
                event,
                from: None,
                to: i64::MAX,
                properties: vec![key.to_owned()],
                persons_only: false,
            };
            for block in self.events(&query)? {
                self.interrupt()?;
                block.count_values(key, counts);
                if counts.len() > most {
                    return Ok(false);
                }
            }
            self.check_memory(counts.bytes())?;
        }
        Ok(true)
    }
}
