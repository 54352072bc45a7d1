//! The service as a process: health, metrics, limits, proxies.

mod health;
mod overload;
mod pages;
mod proxy;
mod rate_limit;
mod statements;
