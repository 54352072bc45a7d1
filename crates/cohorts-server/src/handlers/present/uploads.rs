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

/// A column of an uploaded file, as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct UploadedColumn {
    pub name: String,
    /// The kind of id, if the column identified the persons.
    pub used_as: Option<String>,
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
        id_kind: outcome.id_kind.into(),
        delimiter: outcome.delimiter,
        columns: outcome.file_columns.map(|columns| columns_of(&columns.0)),
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

fn columns_of(text: &str) -> Vec<types::UploadColumn> {
    let columns: Vec<UploadedColumn> = serde_json::from_str(text).unwrap_or_default();
    let column = |column: UploadedColumn| types::UploadColumn {
        name: column.name,
        used_as: column.used_as.map(Into::into),
    };
    columns.into_iter().map(column).collect()
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
