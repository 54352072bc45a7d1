//! Events come in: batches, requests of browsers, properties of persons.

mod batch;
mod browsers;
mod leniency;
mod properties;
