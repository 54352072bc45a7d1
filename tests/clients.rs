//! Clients of the API: the generated one, SDKs, published programs, a browser, and libraries that verify webhooks.

mod browser;
mod changes;
mod other;
mod questions;
mod rust;
mod sdk;
mod webhooks;
