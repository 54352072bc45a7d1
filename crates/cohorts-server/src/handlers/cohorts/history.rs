//! How calculations went, and where a cohort is used, as callers see it.

use cohorts_api::types::{
    CalculationHistoryItem, CalculationHistoryPage, UsedIn, UsedInCohort, UsedInCohorts,
    UsedInNothing,
};

use super::raw;
use cohorts_store::history::Calculation;

/// Uses that are listed; the others are counted.
const LISTED: usize = 100;

/// A page with links that are queries alone, as PostHog's are.
pub fn page(rows: Vec<Calculation>, count: i64, limit: i64, offset: i64) -> CalculationHistoryPage {
    let link = |offset: i64| format!("?limit={limit}&offset={offset}");
    let after = offset.saturating_add(limit);
    CalculationHistoryPage {
        count,
        next: (after < count).then(|| link(after)),
        previous: (offset > 0).then(|| link((offset - limit).max(0))),
        results: rows.into_iter().map(item).collect(),
    }
}

fn item(row: Calculation) -> CalculationHistoryItem {
    let took = row.finished_at.map(|finished| finished - row.started_at);
    CalculationHistoryItem {
        id: row.id,
        filters: row.filters.map(raw),
        count: row.count,
        started_at: row.started_at,
        finished_at: row.finished_at,
        queries: Vec::new(),
        is_completed: row.finished_at.is_some(),
        is_successful: row.finished_at.is_some() && row.error.is_none(),
        error: row.error,
        error_code: row.error_code,
        duration_seconds: took.map(|took| took.as_seconds_f64()),
        total_query_ms: None,
        total_memory_mb: None,
        total_read_rows: None,
        total_written_rows: None,
        main_query: None,
        main_query_id: None,
    }
}

/// There are neither feature flags nor insights here.
pub fn usage(cohorts: Vec<(i64, String)>) -> UsedIn {
    let nothing = || UsedInNothing {
        results: Vec::new(),
        total: 0,
        has_more: false,
    };
    UsedIn {
        feature_flags: nothing(),
        insights: nothing(),
        cohorts: UsedInCohorts {
            total: cohorts.len() as i64,
            has_more: cohorts.len() > LISTED,
            results: cohorts
                .into_iter()
                .take(LISTED)
                .map(|(id, name)| UsedInCohort { id, name })
                .collect(),
        },
    }
}
