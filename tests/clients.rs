//! Clients of the API: the generated one, SDKs, published programs, and a browser.

mod browser;
mod changes;
mod other;
mod rust;
mod sdk;
