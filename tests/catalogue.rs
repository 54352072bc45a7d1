//! The catalogue: names of events and properties, types, values.

mod definitions;
mod event_values;
mod histories;
mod person_values;
