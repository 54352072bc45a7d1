//! Actions as responses show them.

use cohorts_api::types;
use cohorts_store::ProjectId;
use cohorts_store::actions::ActionWithCreator;

use super::{raw, user};

pub fn action(project: ProjectId, (row, teammate): ActionWithCreator) -> types::Action {
    let fields = row.fields;
    types::Action {
        id: row.id,
        name: fields.name,
        description: fields.description,
        tags: Vec::new(),
        post_to_slack: false,
        slack_message_format: String::new(),
        steps: raw(fields.steps),
        created_at: row.created_at,
        created_by: teammate.map(user),
        deleted: fields.deleted,
        is_calculating: false,
        last_calculated_at: None,
        team_id: project.0,
        is_action: true,
        pinned_at: None,
        creation_context: None,
    }
}
