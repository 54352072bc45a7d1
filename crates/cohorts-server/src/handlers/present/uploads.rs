//! CSV uploads as responses show them.

use cohorts_api::types;
use cohorts_store::uploads::{Upload, UploadWithTeammate};
use serde::{Deserialize, Serialize};

use super::user;

/// A row of an uploaded file without a person, as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct RowProblem {
    pub line: u64,
    /// Whether the id is malformed; otherwise the id is unknown.
    pub is_bad: bool,
    pub id: String,
    pub reason: String,
}

pub fn upload((row, teammate): UploadWithTeammate) -> types::Upload {
    let Upload {
        id,
        created_at,
        outcome,
    } = row;
    let problems: Vec<RowProblem> = serde_json::from_str(&outcome.problems.0).unwrap_or_default();
    types::Upload {
        id,
        created_at,
        created_by: teammate.map(user),
        id_kind: outcome
            .id_kind
            .parse()
            .unwrap_or(types::UploadIdKind::DistinctId),
        rows: outcome.rows,
        added: outcome.added,
        already_members: outcome.already_members,
        unknown: outcome.unknown,
        bad_rows: outcome.bad_rows,
        created_people: outcome.created_people,
        removed: outcome.removed,
        problems: problems.into_iter().map(problem).collect(),
        problems_left_out: outcome.problems_left_out,
    }
}

fn problem(problem: RowProblem) -> types::UploadProblem {
    types::UploadProblem {
        line: problem.line as i64,
        outcome: if problem.is_bad {
            types::UploadProblemOutcome::Bad
        } else {
            types::UploadProblemOutcome::Unknown
        },
        id: problem.id,
        reason: problem.reason,
    }
}
