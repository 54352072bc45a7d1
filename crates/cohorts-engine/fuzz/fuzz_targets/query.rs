//! Arbitrary text as a query: it is refused with an error, or evaluated to known persons.

#![no_main]

mod persons;

use cohorts_engine::plan_query;
use libfuzzer_sys::fuzz_target;
use persons::{Population, now};
use serde_json::json;

fuzz_target!(|text: &str| {
    // JSON is a query object, and other input is the text of a query.
    let query = match serde_json::from_str(text) {
        Ok(query) => query,
        Err(_) => json!({"kind": "HogQLQuery", "query": text}),
    };
    match plan_query(&query, &now()) {
        Err(error) => {
            assert_eq!(
                (error.path.as_str(), error.code),
                ("query", "invalid_input")
            );
            assert!(error.detail.starts_with("query"), "{}", error.detail);
        }
        Ok(plan) => {
            let Ok(members) = plan.evaluate(&Population);
            assert!(members.max().is_none_or(|person| person < 6));
        }
    }
});
