//! Contract and behaviour tests. They speak only HTTP, to a real server on a real Postgres.

mod access;
mod activity;
mod browser;
mod calculation;
mod capture;
mod client;
mod cohorts;
mod conformance;
mod filters;
mod harness;
mod members;
mod persons;
mod references;
mod sdk;
mod service;
mod spec;
mod tidy;
