//! Arbitrary JSON as a filter: it is refused with an error, or parsed, normalised, parsed again and
//! evaluated.

#![no_main]

mod persons;

use cohorts_engine::{Filter, plan};
use libfuzzer_sys::fuzz_target;
use persons::{Population, now};

fuzz_target!(|data: &[u8]| {
    let Ok(input) = serde_json::from_slice(data) else {
        return;
    };
    // A stored filter may be invalid too.
    if let Ok(stored) = Filter::parse_stored(&input) {
        evaluate(&stored);
    }
    match Filter::parse_and_normalise(&input) {
        Err(error) => assert!(!error.detail.is_empty()),
        Ok((filter, normalised)) => {
            let reparsed = Filter::parse_and_normalise(&normalised);
            assert_eq!(reparsed, Ok((filter.clone(), normalised)));
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
