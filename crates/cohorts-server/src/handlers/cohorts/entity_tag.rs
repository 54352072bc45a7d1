//! The `ETag` of a cohort, and the condition `If-Match` of an edit.
//!
//! The tag is the number of the definition. Only edits raise it, so a calculation never makes the copy of an editor stale.

use std::fmt;

use actix_web::http::header::{HeaderMap, IF_MATCH};
use cohorts_api::types::Cohort;
use cohorts_store::{Conn, cohorts};

use super::find;
use crate::error::{Error, StaleEdit};

/// The tag of one definition of a cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag(pub i64);

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"d{}\"", self.0)
    }
}

/// A cohort as responses show it, and its tag.
pub struct TaggedCohort {
    pub cohort: Cohort,
    pub tag: EntityTag,
}

/// The tags on which an edit is based; `None` if the edit has no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IfMatch(Option<String>);

impl IfMatch {
    /// Several header lines are one list. A line that is not text has no tag, but it is a condition nevertheless.
    pub fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(IF_MATCH);
        let lines = lines.map(|line| String::from_utf8_lossy(line.as_bytes()));
        let lines: Vec<_> = lines.collect();
        Self((!lines.is_empty()).then(|| lines.join(",")))
    }

    /// Whether a cohort with this tag fulfils the condition. Weak tags and texts that are no tags never do.
    fn admits(&self, tag: EntityTag) -> bool {
        let Some(list) = &self.0 else { return true };
        let current = tag.to_string();
        list.trim() == "*" || list.split(',').any(|listed| listed.trim() == current)
    }

    /// Fails with the current cohort if `row` does not fulfil the condition.
    pub fn check(&self, conn: &mut Conn, row: &cohorts::Cohort) -> Result<(), Error> {
        let tag = EntityTag(row.definition_number);
        if self.admits(tag) {
            return Ok(());
        }
        let cohort = find(conn, row.project(), row.id())?.cohort;
        let tag = tag.to_string();
        Err(Error::PreconditionFailed(Box::new(StaleEdit {
            cohort,
            tag,
        })))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn admits(lines: &[&str]) -> bool {
        let mut request = TestRequest::default();
        for line in lines {
            request = request.append_header((IF_MATCH, *line));
        }
        IfMatch::of(request.to_http_request().headers()).admits(EntityTag(7))
    }

    #[test]
    fn a_condition_is_a_list_of_strong_tags_or_a_star() {
        let matching: [&[&str]; 6] = [
            &[],
            &["*"],
            &[" \"d7\" "],
            &["\"d6\", \"d7\""],
            &["W/\"d7\",\"d7\""],
            &["\"d6\"", "\"d7\""],
        ];
        for lines in matching {
            assert!(admits(lines), "{lines:?}");
        }
        let failing: [&[&str]; 8] = [
            &["\"d6\""],
            &["W/\"d7\""],
            &["d7"],
            &[""],
            &["\"d70\""],
            &["\"a,d7\""],
            &["*, \"d6\""],
            &["\"\u{e9}\""],
        ];
        for lines in failing {
            assert!(!admits(lines), "{lines:?}");
        }
    }
}
