//! What deleted events were: their names and days for the erasure from segments, and their properties for the catalogue.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDate, NaiveTime};
use diesel::prelude::*;

use crate::definitions::CatalogueEntry;
use crate::erasures::EventDays;
use crate::scan::DAY_MICROS;
use crate::schema::events;
use crate::{JsonText, Result};

/// What the events were that a statement has deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedEvents {
    /// Their names and days by ordinal.
    pub days: BTreeMap<i64, EventDays>,
    /// The events and their properties.
    pub names: BTreeSet<CatalogueEntry>,
}

/// An event that a statement has deleted.
#[derive(QueryableByName, Queryable, Selectable)]
#[diesel(table_name = events)]
pub(super) struct DeletedEvent {
    ordinal: i64,
    event: String,
    day: NaiveDate,
    properties: JsonText,
}

/// With more names than this, all properties of the events count as deleted.
const MANY_NAMES: usize = 10_000;

impl DeletedEvents {
    pub(super) fn add(&mut self, row: DeletedEvent) -> Result<()> {
        let day = row.day.and_time(NaiveTime::MIN).and_utc();
        let day = day.timestamp_micros() / DAY_MICROS;
        if self.names.len() > MANY_NAMES {
            let all = CatalogueEntry::EventProperty(row.event.clone(), String::new());
            self.names.insert(all);
        } else {
            let keys = row.properties.member_names().into_iter();
            let name = |key| CatalogueEntry::EventProperty(row.event.clone(), key);
            self.names.extend(keys.map(name));
        }
        if !self
            .names
            .contains(&CatalogueEntry::Event(row.event.clone()))
        {
            self.names.insert(CatalogueEntry::Event(row.event.clone()));
        }
        let days = self.days.entry(row.ordinal).or_default();
        days.insert((row.event, day));
        Ok(())
    }

    /// Adds other events.
    pub fn extend(&mut self, other: Self) {
        for (ordinal, days) in other.days {
            self.days.entry(ordinal).or_default().extend(days);
        }
        self.names.extend(other.names);
    }
}
