//! The service as a process: health, metrics, limits, proxies.

mod bodies;
mod health;
mod overload;
mod proxy;
mod rate_limit;
mod statements;
