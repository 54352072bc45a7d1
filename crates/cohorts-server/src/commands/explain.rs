//! `cohorts explain`: whether a person is a member of a cohort, and why, as a tree or as JSON.

use anyhow::{Context, anyhow};
use cohorts_api::types::{CohortExplanation, CriterionExplanation, CriterionFound};
use cohorts_store::cohorts::{self, Cohort};
use cohorts_store::{CohortId, Conn, ProjectId, projects};
use serde_json::Value;

use super::output::{counted, print};
use crate::Data;
use crate::handlers::{MembershipQuestion, PersonId};

/// The longest text of a value.
const MAX_VALUE: usize = 80;

/// How the command line names a person.
#[derive(Debug)]
pub struct PersonArgument {
    /// A distinct id of the person.
    pub distinct_id: Option<String>,
    /// The id of the person.
    pub person_id: Option<String>,
}

/// Prints the explanation of a membership: the same as the API, as JSON or as a tree.
///
/// # Errors
///
/// Fails if the project, the cohort or the person does not exist, or if the criteria cannot be calculated.
pub fn run(
    data: &Data,
    project: i64,
    cohort: i64,
    person: PersonArgument,
    json: bool,
) -> anyhow::Result<()> {
    let conn = &mut *data.store.connection()?;
    let id = ProjectId(project);
    let row = projects::find(conn, id)?.with_context(|| {
        format!("there is no project {project}; create one with `cohorts project create`")
    })?;
    let cohort = find(conn, id, cohort)?
        .with_context(|| format!("project {project} has no cohort {cohort}"))?;
    let person =
        PersonId::new(person.person_id, person.distinct_id).map_err(|error| anyhow!("{error}"))?;
    if person.row(conn, id.shard_key()).is_err() {
        anyhow::bail!("project {project} has no person with this id");
    }
    let question = MembershipQuestion::of_saved(row, cohort.id(), person);
    let explanation = question.read(conn).map_err(|error| anyhow!("{error}"))?;
    if json {
        return print(serde_json::to_string(&explanation)?);
    }
    let mut tree = Tree {
        conn,
        project: id,
        lines: summary(&cohort, &explanation),
    };
    tree.add(&cohort, &explanation.criteria, 1)?;
    print(tree.lines.join("\n"))
}

fn find(conn: &mut Conn, project: ProjectId, id: i64) -> anyhow::Result<Option<Cohort>> {
    let row = cohorts::find(conn, project, CohortId(id))?;
    Ok(row.map(|(cohort, _)| cohort))
}

/// The first lines: the membership, the stored members, and the next change.
fn summary(cohort: &Cohort, explanation: &CohortExplanation) -> Vec<String> {
    let CohortExplanation {
        person,
        member,
        as_of,
        ..
    } = explanation;
    let verb = if *member { "is" } else { "is not" };
    let name = match cohort.definition.name.as_deref() {
        Some(name) if !name.is_empty() => format!(" ({})", shortened(name)),
        _ => String::new(),
    };
    let mut lines = vec![format!(
        "{} {} {verb} a member of cohort {}{name} as of {as_of}",
        mark(*member),
        shortened(&person.distinct_ids.join(", ")),
        cohort.id
    )];
    if let Some(since) = explanation.since {
        lines.push(format!("  since {since}"));
    }
    if explanation.published == Some(false) {
        lines.push("  the stored members do not agree yet; a calculation will follow".to_owned());
    }
    if let Some(found) = &explanation.found {
        lines.push(format!("  added at {} by: {}", found.added_at, found.cause));
    }
    if let Some(change) = &explanation.changes_at {
        let verb = if change.member {
            "becomes"
        } else {
            "is no longer"
        };
        lines.push(format!("  {verb} a member at {} by time alone", change.at));
    }
    lines
}

/// The lines of criteria, each level indented by two spaces.
struct Tree<'a> {
    conn: &'a mut Conn,
    project: ProjectId,
    lines: Vec<String>,
}

impl Tree<'_> {
    fn add(
        &mut self,
        cohort: &Cohort,
        criteria: &[CriterionExplanation],
        depth: usize,
    ) -> anyhow::Result<()> {
        let filters = cohort.definition.criteria().map(|text| text.parse());
        let filters = filters.unwrap_or_default();
        for criterion in criteria {
            let leaf = leaf(&filters, &criterion.path);
            self.lines.push(format!(
                "{}{} {}{}: {}",
                "  ".repeat(depth),
                mark(criterion.holds),
                described(leaf, &criterion.path),
                if criterion.negated { ", negated" } else { "" },
                found(&criterion.found)
            ));
            let (id, inner) = (criterion.found.cohort_id, &criterion.found.criteria);
            if let (Some(id), Some(inner)) = (id, inner)
                && let Some(other) = find(self.conn, self.project, id)?
            {
                self.add(&other, inner, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn mark(holds: bool) -> char {
    if holds { '✓' } else { '✗' }
}

/// The criterion at a path such as `properties.values[0].values[2]`.
fn leaf<'a>(filters: &'a Value, path: &str) -> Option<&'a Value> {
    let mut node = &filters["properties"];
    for part in path.split(".values[").skip(1) {
        let index: usize = part.strip_suffix(']')?.parse().ok()?;
        node = node["values"].get(index)?;
    }
    Some(node)
}

/// A criterion in a few words, otherwise its path.
fn described(leaf: Option<&Value>, path: &str) -> String {
    let Some(leaf) = leaf.filter(|_| path != "query") else {
        return path.to_owned();
    };
    let text = |key: &str| match &leaf[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    shortened(&match leaf["type"].as_str() {
        Some("behavioral") => format!("{} {}", text("value"), text("key")),
        Some("cohort") => format!("member of cohort {}", text("value")),
        Some("person" | "person_metadata") => {
            let operator = leaf["operator"].as_str().unwrap_or("exact");
            let value = match &leaf["value"] {
                Value::Null => String::new(),
                value => format!(" {value}"),
            };
            format!("{} {operator}{value}", text("key"))
        }
        _ => path.to_owned(),
    })
}

/// What a criterion found.
fn found(found: &CriterionFound) -> String {
    if let Some(count) = found.count {
        let events = counted(count as u64, "event");
        return match found.last_at {
            Some(last) => format!("{events}, the last at {last}"),
            None => events,
        };
    }
    match (found.member, &found.value) {
        (Some(true), _) => "a member".to_owned(),
        (Some(false), _) => "no member".to_owned(),
        (None, Some(Value::Null) | None) => "no value".to_owned(),
        (None, Some(value)) => shortened(&value.to_string()),
    }
}

/// A text without control characters, cut to a length that fits into a line.
fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut characters = text.chars().map(clean);
    let mut short: String = characters.by_ref().take(MAX_VALUE).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}
