//! Events come in: batches, requests of browsers, identity and times of events, properties of persons.

mod batch;
mod browsers;
mod identity;
mod leniency;
mod properties;
mod times;
