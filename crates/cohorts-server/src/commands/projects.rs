//! `cohorts project`: creates, updates and deletes projects.

use std::io::{BufRead, IsTerminal, stdin};

use anyhow::{Context, ensure};
use cohorts_store::project_deletion::{self, DeletableProject, ProjectDeletion};
use cohorts_store::{Conn, ProjectId};

use super::output::{counted, print};
use super::progress::Progress;
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

/// Deletes a project with all its data, in steps. A deletion that was interrupted is continued.
///
/// `is_confirmed` deletes without a question. Otherwise the name is read from a terminal.
///
/// # Errors
///
/// Fails if there is no such project, the deletion is not confirmed, or the database is not available.
pub fn delete(data: &Data, id: i64, is_confirmed: bool) -> anyhow::Result<()> {
    let conn = &mut *data.store.connection()?;
    let project = project_deletion::find(conn, ProjectId(id))?;
    let project = project.with_context(|| format!("there is no project {id}"))?;
    if project.deletion_started_at.is_none() {
        if !is_confirmed {
            confirm(&project)?;
        }
        project_deletion::begin(conn, ProjectId(id))?;
    } else {
        eprintln!("project {id}: the deletion continues");
    }
    print(summary(id, &delete_rows(conn, ProjectId(id))?))
}

/// Asks for the name of the project at a terminal.
fn confirm(project: &DeletableProject) -> anyhow::Result<()> {
    let DeletableProject { id, name, .. } = project;
    ensure!(
        stdin().is_terminal(),
        "this deletes project {id} ({name}) with all its persons, events and cohorts; add --yes to confirm"
    );
    eprintln!(
        "This deletes project {id} with all its persons, events and cohorts, and cannot be undone.\n\
         Type the name of the project, {name}, to confirm:"
    );
    check_name(name, stdin().lock())
}

fn check_name(name: &str, mut input: impl BufRead) -> anyhow::Result<()> {
    let mut typed = String::new();
    input.read_line(&mut typed)?;
    ensure!(
        typed.trim() == name.trim(),
        "this is not the name of the project; nothing was deleted"
    );
    Ok(())
}

/// A kind of rows and their number.
type Count = (&'static str, u64);

/// Deletes the rows of an unreachable project, and returns their numbers by kind.
fn delete_rows(conn: &mut Conn, id: ProjectId) -> anyhow::Result<Vec<Count>> {
    let mut progress = Progress::new(&format!("deleting project {}", id.0), None);
    let mut deletion = ProjectDeletion::new(id);
    let mut counts: Vec<Count> = Vec::new();
    while let Some(step) = deletion.step(conn)? {
        let known = counts.iter_mut().find(|(name, _)| *name == step.name);
        match known {
            Some((_, count)) => *count += step.count as u64,
            None => counts.push((step.name, step.count as u64)),
        }
        progress.set(0, listed(&counts));
    }
    Ok(counts)
}

fn listed(counts: &[Count]) -> String {
    let counts = counts.iter().map(|(name, count)| counted(*count, name));
    counts.collect::<Vec<_>>().join(", ")
}

fn summary(id: i64, counts: &[Count]) -> String {
    let rows: Vec<Count> = counts
        .iter()
        .filter(|(name, _)| *name != "project")
        .copied()
        .collect();
    if rows.is_empty() {
        return format!("Project {id} is deleted.");
    }
    format!("Project {id} is deleted, with {}.", listed(&rows))
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

    #[test]
    fn only_the_name_of_the_project_confirms_its_deletion() {
        assert!(check_name("Shop ", &b"Shop\n"[..]).is_ok());
        for typed in [&b"shop\n"[..], b"yes\n", b""] {
            let refusal = check_name("Shop", typed).unwrap_err().to_string();
            assert!(refusal.contains("nothing was deleted"), "{refusal}");
        }
    }

    #[test]
    fn a_deletion_is_summed_up_by_kinds_of_rows() {
        let counts = [("event", 2), ("person", 1), ("project", 1)];
        let text = summary(3, &counts);
        assert_eq!(text, "Project 3 is deleted, with 2 events, 1 person.");
        assert_eq!(summary(3, &counts[2..]), "Project 3 is deleted.");
    }
}
