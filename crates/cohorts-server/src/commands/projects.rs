//! `cohorts project`: creates and updates projects.

use super::output::{counted, print};
use crate::{CreatedProject, Data, EventRetention};

/// Creates a project, and prints its token and the next command.
///
/// # Errors
///
/// Fails if the name is blank or the time zone is unknown.
pub fn create(
    data: &Data,
    name: &str,
    time_zone: &str,
    retention: EventRetention,
    json: bool,
) -> anyhow::Result<()> {
    let project = data
        .admin()
        .create_project_with_retention(name, time_zone, retention)?;
    if json {
        return print(serde_json::to_string(&project)?);
    }
    print(describe(&project))
}

fn describe(project: &CreatedProject) -> String {
    let CreatedProject {
        id,
        name,
        timezone,
        token,
        ..
    } = project;
    format!(
        "project  {id}\n\
         name     {name}\n\
         zone     {timezone}\n\
         token    {token}\n\n\
         Next, create an API key:\n\n\
         cohorts key create --project {id} --all-scopes --email you@example.org"
    )
}

/// Sets how long a project keeps events.
///
/// # Errors
///
/// Fails if there is no such project.
pub fn update(data: &Data, id: i64, retention: EventRetention) -> anyhow::Result<()> {
    data.admin().set_event_retention(id, retention)?;
    print(match retention.0 {
        Some(days) => {
            let days = counted(days.unsigned_abs().into(), "day");
            format!("Project {id} keeps events for {days}.")
        }
        None => format!("Project {id} keeps all events."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_project_is_shown_with_the_command_that_creates_a_key_for_it() {
        let project = CreatedProject {
            id: 2,
            name: "Shop".to_owned(),
            timezone: "UTC".to_owned(),
            token: "phc_x".to_owned(),
            event_retention: None,
        };
        let text = describe(&project);
        assert!(text.starts_with("project  2\nname     Shop\n"), "{text}");
        let command = "cohorts key create --project 2 --all-scopes --email you@example.org";
        assert_eq!(text.lines().last(), Some(command));
    }
}
