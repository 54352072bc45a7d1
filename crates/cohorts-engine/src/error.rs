//! The error type of the filter language: what is wrong with a filter, and where.
//!
//! It knows nothing of HTTP; callers map `code` to a status.

use std::fmt;

/// The reason why a filter or query is refused, or cannot be calculated.
///
/// [`Display`](fmt::Display) writes `detail`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// The path of the faulty node, such as `properties.values[0].values[2]`.
    /// Empty if the error concerns the input as a whole.
    pub path: String,
    /// A stable identifier: `invalid_input` or `missing_properties` from parsing,
    /// `validation_error`, `invalid_regex` or `no_properties` from planning.
    pub code: &'static str,
    /// A sentence for the author of the filter. Most sentences start with the path.
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

    /// An error with code `invalid_input`; the path is put before the sentence.
    pub(crate) fn input(path: &str, sentence: impl fmt::Display) -> FilterError {
        FilterError::new(path, "invalid_input", format!("{path}: {sentence}"))
    }

    /// An error with code `invalid_regex`; the path is put before the sentence.
    pub(crate) fn pattern(path: &str, sentence: impl fmt::Display) -> FilterError {
        FilterError::new(path, "invalid_regex", format!("{path}: {sentence}"))
    }

    /// An error with code `validation_error`; the path is put before the sentence.
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
