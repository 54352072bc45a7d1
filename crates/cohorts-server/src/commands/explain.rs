//! `cohorts explain`: whether a person is a member of a cohort, and why, as a tree or as JSON.

use anyhow::{Context, anyhow};
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
    // The command prints the response of the API.
    let explanation = serde_json::to_value(&explanation)?;
    if json {
        return print(explanation.to_string());
    }
    let mut tree = Tree {
        conn,
        project: id,
        lines: summary(&cohort, &explanation),
    };
    tree.add(&cohort, &explanation["criteria"], 1)?;
    print(tree.lines.join("\n"))
}

fn find(conn: &mut Conn, project: ProjectId, id: i64) -> anyhow::Result<Option<Cohort>> {
    let row = cohorts::find(conn, project, CohortId(id))?;
    Ok(row.map(|(cohort, _)| cohort))
}

/// The first lines: the membership, the stored members, and the next change.
fn summary(cohort: &Cohort, explanation: &Value) -> Vec<String> {
    let is_member = explanation["member"] == true;
    let verb = if is_member { "is" } else { "is not" };
    let name = match cohort.definition.name.as_deref() {
        Some(name) if !name.is_empty() => format!(" ({})", shortened(name)),
        _ => String::new(),
    };
    let ids = list(&explanation["person"]["distinct_ids"]).iter();
    let ids: Vec<&str> = ids.filter_map(Value::as_str).collect();
    let mut lines = vec![format!(
        "{} {} {verb} a member of cohort {}{name} as of {}",
        mark(is_member),
        shortened(&ids.join(", ")),
        cohort.id,
        text(&explanation["as_of"])
    )];
    if explanation["since"].is_string() {
        lines.push(format!("  since {}", text(&explanation["since"])));
    }
    if explanation["published"] == false {
        lines.push("  the stored members do not agree yet; a calculation will follow".to_owned());
    }
    if let Some(found) = explanation.get("found") {
        let (time, cause) = (text(&found["added_at"]), text(&found["cause"]));
        lines.push(format!("  added at {time} by: {cause}"));
    }
    let change = &explanation["changes_at"];
    if change.is_object() {
        let verb = if is_member { "is no longer" } else { "becomes" };
        let time = text(&change["at"]);
        lines.push(format!("  {verb} a member at {time} by time alone"));
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
    fn add(&mut self, cohort: &Cohort, criteria: &Value, depth: usize) -> anyhow::Result<()> {
        let filters = cohort.definition.criteria().map(|text| text.parse());
        let filters = filters.unwrap_or_default();
        for criterion in list(criteria) {
            let (path, found) = (text(&criterion["path"]), &criterion["found"]);
            let negated = criterion["negated"] == true;
            self.lines.push(format!(
                "{}{} {}{}: {}",
                "  ".repeat(depth),
                mark(criterion["holds"] == true),
                described(leaf(&filters, &path), &path),
                if negated { ", negated" } else { "" },
                evidence(found)
            ));
            if let Some(id) = found["cohort_id"].as_i64()
                && let Some(other) = find(self.conn, self.project, id)?
            {
                self.add(&other, &found["criteria"], depth + 1)?;
            }
        }
        Ok(())
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text as it is, and another value as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
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
    let text = |key: &str| text(&leaf[key]);
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
fn evidence(found: &Value) -> String {
    if let Some(count) = found["count"].as_u64() {
        let events = counted(count, "event");
        return match found["last_at"].as_str() {
            Some(last) => format!("{events}, the last at {last}"),
            None => events,
        };
    }
    match (found["member"].as_bool(), &found["value"]) {
        (Some(true), _) => "a member".to_owned(),
        (Some(false), _) => "no member".to_owned(),
        (None, Value::Null) => "no value".to_owned(),
        (None, value) => shortened(&value.to_string()),
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
