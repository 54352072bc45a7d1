//! Rows of the store as response types, for the handlers of all resources.
//!
//! Nothing here decides whether a caller may see a row.

use cohorts_api::RawJson;
use cohorts_api::types::{self, UserBasic};
use cohorts_store::keys::Teammate;
use cohorts_store::{JsonText, projects};

mod actions;
mod activity;
mod cohorts;
mod persons;
mod uploads;
mod webhooks;

pub use actions::action;
pub use activity::{activity_entry, webhook_activity};
pub use cohorts::cohort;
pub use persons::{first_persons, persons};
pub use uploads::{RowProblem, UploadedColumn, upload};
pub use webhooks::{delivery, webhook};

pub fn user(teammate: Teammate) -> UserBasic {
    UserBasic {
        id: teammate.id,
        uuid: teammate.uuid,
        distinct_id: Some(teammate.uuid.to_string()),
        first_name: teammate.first_name,
        last_name: String::new(),
        email: teammate.email,
        is_email_verified: None,
        hedgehog_config: None,
        role_at_organization: None,
    }
}

pub fn project(row: projects::Project) -> types::Project {
    types::Project {
        id: row.id,
        name: row.name,
        api_token: row.token,
        timezone: row.time_zone,
        created_at: row.created_at,
    }
}

/// A JSON column as part of a response.
pub fn raw(text: JsonText) -> RawJson {
    RawJson::trusted(text.0)
}
