//! Responses about the calculations of a cohort, and about its uses.

use cohorts_api::types::{
    CalculationHistoryItem, CalculationHistoryPage, UsedIn, UsedInCohort, UsedInCohorts,
    UsedInNothing,
};
use cohorts_store::history::{self, Calculation};
use cohorts_store::pages::RowSize;
use cohorts_store::{CohortId, Conn, ProjectId};

use crate::error::Error;
use crate::handlers::present::raw;
use crate::handlers::responses::ListRows;
use crate::logging;

/// Uses that a response lists; the others are counted.
const LISTED_USES: usize = 100;

/// The calculations of a cohort.
pub struct HistoryRows(pub ProjectId, pub CohortId);

impl ListRows for HistoryRows {
    type Row = CalculationHistoryItem;

    fn sizes(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<RowSize>, Error> {
        Ok(history::sizes(conn, self.0, self.1, ids)?)
    }

    fn rows(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<CalculationHistoryItem>, Error> {
        let rows = history::by_ids(conn, self.0, self.1, ids)?;
        Ok(rows.into_iter().map(item).collect())
    }
}

/// A page without rows, with links that consist of a query only, as PostHog's do.
pub fn page(count: i64, limit: i64, offset: i64) -> CalculationHistoryPage {
    let link = |offset: i64| format!("?limit={limit}&offset={offset}");
    let after = offset.saturating_add(limit);
    CalculationHistoryPage {
        count,
        next: (after < count).then(|| link(after)),
        previous: (offset > 0).then(|| link((offset - limit).max(0))),
        results: Vec::new(),
    }
}

fn item(row: Calculation) -> CalculationHistoryItem {
    let duration = row.finished_at.map(|finished| finished - row.started_at);
    CalculationHistoryItem {
        id: row.id,
        filters: row.filters.map(raw),
        count: row.count,
        started_at: row.started_at,
        finished_at: row.finished_at,
        queries: Vec::new(),
        is_completed: row.finished_at.is_some(),
        is_successful: row.finished_at.is_some() && row.error.is_none(),
        error: row.error.as_deref().map(logging::detail),
        error_code: row.error_code.map(Into::into),
        duration_seconds: duration.map(|duration| duration.as_seconds_f64()),
        total_query_ms: None,
        total_memory_mb: None,
        total_read_rows: None,
        total_written_rows: None,
        main_query: None,
        main_query_id: None,
    }
}

/// The service has neither feature flags nor insights.
pub fn usage(cohorts: Vec<(i64, String)>) -> UsedIn {
    let none = || UsedInNothing {
        results: Vec::new(),
        total: 0,
        has_more: false,
    };
    UsedIn {
        feature_flags: none(),
        insights: none(),
        cohorts: UsedInCohorts {
            total: cohorts.len() as i64,
            has_more: cohorts.len() > LISTED_USES,
            results: cohorts
                .into_iter()
                .take(LISTED_USES)
                .map(|(id, name)| UsedInCohort { id, name })
                .collect(),
        },
    }
}
