//! Filters: validation, error texts, and the shared cases of the filter language.

mod cases;
mod errors;
mod validation;
