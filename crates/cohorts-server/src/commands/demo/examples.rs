//! The objects of the demo that the examples of the contract name: persons, a static cohort with an upload, an action.
//!
//! Persons have the ids of the examples. The other ids depend on what else is in the database, so the document of the
//! demo names them.

use std::io::Write;

use anyhow::{Context, anyhow};
use cohorts_store::actions::{self, ActionFields};
use cohorts_store::keys::Teammate;
use cohorts_store::projects::Project;
use cohorts_store::{CohortId, Conn, JsonText, cohorts, uploads};
use serde_json::json;
use uuid::Uuid;

use crate::Data;
use crate::auth::Caller;
use crate::handlers;
use crate::ingest::{self, Arrival, Item};

/// Distinct ids, ids and plans of the persons.
const PERSONS: [(&str, &str, &str); 3] = [
    ("ana", "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "pro"),
    // The examples delete these two.
    ("ben", "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5d", "free"),
    ("cleo", "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5e", "starter"),
];
const STATIC_COHORT: &str = "Invited to the beta";
/// The last row belongs to no person, so the report has a problem.
const CSV: &str = "distinct_id\nana\ncleo\nbob\n";
const ACTION: &str = "Purchase";

/// The ids of the objects.
pub(super) struct Examples {
    pub static_cohort: i64,
    pub upload: i64,
    pub action: i64,
}

impl Examples {
    /// Creates the objects that are missing.
    pub(super) fn complete(
        data: &Data,
        project: &Project,
        owner: &Teammate,
    ) -> anyhow::Result<Self> {
        commit_persons(data, project)?;
        let conn = &mut *data.store.connection()?;
        let static_cohort = static_cohort(conn, data, project, owner)?;
        let newest = uploads::page(conn, project.id(), CohortId(static_cohort), 1, 0)?.ids;
        Ok(Self {
            static_cohort,
            upload: *newest.first().context("the cohort has no upload")?,
            action: action(conn, project, owner)?,
        })
    }
}

/// Commits the persons as lines of an export, which have the ids of persons.
fn commit_persons(data: &Data, project: &Project) -> anyhow::Result<()> {
    let arrival = Arrival::of_file();
    let items = PERSONS.map(|(distinct_id, id, plan)| {
        let line = json!({
            "person_id": id,
            "distinct_id": distinct_id,
            "created_at": project.created_at,
            "properties": {"email": format!("{distinct_id}@example.org"), "plan": plan},
        });
        Item::read(&line.to_string(), &arrival, Uuid::now_v7)
    });
    let items = items.into_iter().collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|refusal| anyhow!("a person of the demo was refused: {refusal}"))?;
    ingest::commit(&data.store, project.id(), &items)?;
    Ok(())
}

fn static_cohort(
    conn: &mut Conn,
    data: &Data,
    project: &Project,
    owner: &Teammate,
) -> anyhow::Result<i64> {
    if let Some(cohort) = cohorts::find_by_name(conn, project.id(), STATIC_COHORT)? {
        return Ok(cohort.id().0);
    }
    let mut file = tempfile::tempfile().context("cannot create a temporary file")?;
    file.write_all(CSV.as_bytes())?;
    let caller = Caller::of_command(owner.clone(), project.clone());
    let cohort = handlers::static_from_file(conn, &data.store, &caller, STATIC_COHORT, file)?;
    Ok(cohort.id)
}

fn action(conn: &mut Conn, project: &Project, owner: &Teammate) -> anyhow::Result<i64> {
    let page = actions::page(conn, project.id(), i64::MAX, 0)?;
    let existing = actions::by_ids(conn, project.id(), &page.ids)?;
    let mut named = existing
        .into_iter()
        .filter(|(action, _)| action.fields.name.as_deref() == Some(ACTION));
    if let Some((action, _)) = named.next() {
        return Ok(action.id);
    }
    let fields = ActionFields {
        name: Some(ACTION.to_owned()),
        description: String::new(),
        steps: JsonText::of(&json!([{"event": "purchase"}])),
        deleted: false,
    };
    Ok(actions::create(conn, project.id(), owner, &fields)?.id)
}
