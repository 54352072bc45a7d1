//! Contract and behaviour tests. They speak only HTTP, to a real server on a real Postgres.

mod access;
mod activity;
mod api;
mod browser;
mod calculation;
mod capture;
mod client;
mod clients;
mod cohorts;
mod conformance;
mod filters;
mod harness;
mod identity;
mod members;
mod pages;
mod people;
mod persons;
mod references;
mod sdk;
mod service;
mod spec;
mod statements;
mod throttle;
mod tidy;
mod uploads;
mod wire;
