//! Any JSON as a filter: it is refused with a place, or it is read, stored, read again and evaluated.

#![no_main]

mod persons;

use cohorts_engine::{Filter, plan};
use libfuzzer_sys::fuzz_target;
use persons::{Population, now};

fuzz_target!(|data: &[u8]| {
    let Ok(sent) = serde_json::from_slice(data) else {
        return;
    };
    // What is stored may be wrong in any way too.
    if let Ok(stored) = Filter::parse_stored(&sent) {
        evaluate(&stored);
    }
    match Filter::parse_and_normalise(&sent) {
        Err(error) => assert!(!error.detail.is_empty()),
        Ok((filter, normal)) => {
            let again = Filter::parse_and_normalise(&normal);
            assert_eq!(again, Ok((filter.clone(), normal)), "normalised once more");
            evaluate(&filter);
        }
    }
});

fn evaluate(filter: &Filter) {
    match plan(filter, &now()) {
        Err(error) => assert!(!error.detail.is_empty()),
        Ok(plan) => {
            let Ok(explanation) = plan.explain(&Population);
            assert!(explanation.members.max().is_none_or(|person| person < 6));
            assert_eq!(explanation.leaves.len(), filter.leaves().len());
        }
    }
}
