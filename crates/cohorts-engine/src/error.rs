//! The one error of this crate: what is wrong with a filter, and where.

use std::fmt;

/// A filter that cannot be accepted or cannot be calculated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// The place inside the filter, such as `properties.values[0].values[2]`.
    pub path: String,
    /// A stable word: `invalid_input` and `missing_properties` when a filter is parsed,
    /// `validation_error` and `no_properties` when it is planned.
    pub code: &'static str,
    /// A sentence for the person who wrote the filter.
    pub detail: String,
}

impl FilterError {
    pub(crate) fn new(
        path: impl Into<String>,
        code: &'static str,
        detail: impl Into<String>,
    ) -> FilterError {
        FilterError {
            path: path.into(),
            code,
            detail: detail.into(),
        }
    }

    /// An error of code `invalid_input` whose sentence opens with the path.
    pub(crate) fn input(path: &str, sentence: impl fmt::Display) -> FilterError {
        FilterError::new(path, "invalid_input", format!("{path}: {sentence}"))
    }

    /// An error of code `validation_error` whose sentence opens with the path.
    pub(crate) fn calculation(path: &str, sentence: impl fmt::Display) -> FilterError {
        FilterError::new(path, "validation_error", format!("{path}: {sentence}"))
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for FilterError {}
