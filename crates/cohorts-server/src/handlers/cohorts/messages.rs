//! Why a calculation failed, in sentences for people.

use cohorts_store::cohorts::Cohort;

/// The sentence of a cohort's last failure. Where the criteria are at fault, it says what is wrong with them.
pub fn of_failure(cohort: &Cohort) -> Option<String> {
    let detail = cohort.last_error.as_deref().unwrap_or_default();
    let text = match cohort.last_error_code.as_deref()? {
        "capacity" => "The system was busy. The calculation is tried again by itself.",
        "interrupted" => "The calculation was interrupted. It is tried again by itself.",
        "timeout" => {
            "The calculation is taking too long. Narrow the criteria, such as by a shorter window."
        }
        "memory_limit" => "The calculation needs too much memory. Narrow the criteria.",
        "validation_error" | "no_properties" => {
            return Some(format!(
                "The criteria cannot be calculated. Please review them: {detail}"
            ));
        }
        _ => "The calculation failed. Please review the criteria.",
    };
    Some(text.to_owned())
}
