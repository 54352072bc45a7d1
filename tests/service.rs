//! The service as a process: health, metrics, limits, proxies.

mod browser_protection;
mod bodies;
mod health;
mod overload;
mod proxy;
mod rate_limit;
mod statements;
mod wrong_keys;
