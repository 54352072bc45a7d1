//! The service as a process: health, metrics, limits, proxies.

mod bodies;
mod browser_protection;
pub mod console;
mod details;
mod form_json;
mod health;
mod overload;
mod pages;
mod paths;
mod proxy;
mod rate_limit;
mod statements;
mod wrong_keys;
