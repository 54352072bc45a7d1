//! The activity log: its pages, and the entries that changes of cohorts write.

use cohorts_api::types::{ActivityChange, ActivityChangeAction, ActivityChangeType, ActivityPage};
use cohorts_api::{
    ActivityApi, CohortsActivityRequest, CohortsActivityResponse, CohortsAllActivityRequest,
    CohortsAllActivityResponse, RequestHead,
};
use cohorts_store::activity::{self, NewEntry};
use cohorts_store::definition::Definition;
use cohorts_store::{CohortId, Conn, JsonText, cohorts};
use serde_json::Value;

use super::{Service, present};
use crate::auth::Caller;
use crate::blocking;
use crate::error::Error;

impl ActivityApi for Service {
    async fn cohorts_all_activity(
        &self,
        caller: Caller,
        request: CohortsAllActivityRequest,
    ) -> Result<CohortsAllActivityResponse, Error> {
        let (limit, page) = (request.query.limit, request.query.page);
        let response = self.activity_page(caller, None, limit, page, &request.http);
        let response = response.await?.ok_or(Error::NotFound)?;
        Ok(CohortsAllActivityResponse::Status200(response))
    }

    async fn cohorts_activity(
        &self,
        caller: Caller,
        request: CohortsActivityRequest,
    ) -> Result<CohortsActivityResponse, Error> {
        let (limit, page) = (request.query.limit, request.query.page);
        let cohort = Some(CohortId(request.path.id));
        let response = self.activity_page(caller, cohort, limit, page, &request.http);
        Ok(match response.await? {
            Some(response) => CohortsActivityResponse::Status200(response),
            None => CohortsActivityResponse::Status404,
        })
    }
}

impl Service {
    /// A page of the entries of one cohort, or of all cohorts; `None` if the cohort does not exist.
    async fn activity_page(
        &self,
        caller: Caller,
        cohort: Option<CohortId>,
        limit: i64,
        page: i64,
        head: &RequestHead,
    ) -> Result<Option<ActivityPage>, Error> {
        let project = caller.project.id();
        let offset = limit.saturating_mul(page - 1);
        let read = move |conn: &mut Conn| {
            if let Some(cohort) = cohort
                && cohorts::find(conn, project, cohort)?.is_none()
            {
                return Ok(None);
            }
            Ok(Some(activity::page(conn, project, cohort, limit, offset)?))
        };
        let Some((rows, total_count)) = blocking::snapshot(&self.store, read).await? else {
            return Ok(None);
        };
        let links = self.links(head);
        let link =
            |page: i64| links.with(&[("page", page.to_string()), ("limit", limit.to_string())]);
        Ok(Some(ActivityPage {
            next: (offset.saturating_add(limit) < total_count).then(|| link(page + 1)),
            previous: (page > 1).then(|| link(page - 1)),
            total_count,
            results: rows.into_iter().map(present::activity_entry).collect(),
        }))
    }
}

fn record(conn: &mut Conn, caller: &Caller, entry: &NewEntry<'_>) -> Result<(), Error> {
    let project = caller.project.id();
    Ok(activity::record(conn, project, &caller.teammate, entry)?)
}

/// Records that a cohort was created.
pub(super) fn created(
    conn: &mut Conn,
    caller: &Caller,
    cohort: CohortId,
    definition: &Definition,
) -> Result<(), Error> {
    let entry = NewEntry {
        cohort,
        activity: "created",
        name: definition.name.as_deref(),
        changes: None,
    };
    record(conn, caller, &entry)
}

/// Records the changed fields of a cohort, if there are any.
pub(super) fn changed(
    conn: &mut Conn,
    caller: &Caller,
    cohort: CohortId,
    before: &Definition,
    after: &Definition,
) -> Result<(), Error> {
    let changes = differences(before, after);
    if changes.is_empty() {
        return Ok(());
    }
    let entry = NewEntry {
        cohort,
        activity: match (before.deleted, after.deleted) {
            (false, true) => "deleted",
            (true, false) => "restored",
            _ => "updated",
        },
        name: after.name.as_deref(),
        changes: Some(json_of(&changes)?),
    };
    record(conn, caller, &entry)
}

/// Records that members were added to or removed from a static cohort.
pub(super) fn persons_edited(
    conn: &mut Conn,
    caller: &Caller,
    cohort: CohortId,
    activity: &str,
) -> Result<(), Error> {
    let entry = NewEntry {
        cohort,
        activity,
        name: None,
        changes: Some(json_of(&[change(None, Value::Null, Value::Null)])?),
    };
    record(conn, caller, &entry)
}

fn differences(before: &Definition, after: &Definition) -> Vec<ActivityChange> {
    let (before, after) = (fields(before), fields(after));
    let pairs = before.into_iter().zip(after);
    pairs
        .filter(|((_, before), (_, after))| before != after)
        .map(|((field, before), (_, after))| change(Some(field), before, after))
        .collect()
}

fn fields(definition: &Definition) -> [(&'static str, Value); 8] {
    let json = |text: Option<&JsonText>| text.map_or(Value::Null, JsonText::parse);
    [
        ("name", definition.name.clone().into()),
        ("description", definition.description.clone().into()),
        ("groups", definition.groups().parse()),
        ("deleted", definition.deleted.into()),
        ("filters", json(definition.filters())),
        ("query", json(definition.query.as_ref())),
        ("is_static", definition.is_static.into()),
        ("cohort_type", definition.cohort_type.clone().into()),
    ]
}

fn change(field: Option<&str>, before: Value, after: Value) -> ActivityChange {
    let action = if field.is_none() {
        ActivityChangeAction::Changed
    } else if before.is_null() {
        ActivityChangeAction::Created
    } else if after.is_null() {
        ActivityChangeAction::Deleted
    } else {
        ActivityChangeAction::Changed
    };
    ActivityChange {
        type_: ActivityChangeType::Cohort,
        action,
        field: field.map(str::to_owned),
        before,
        after,
    }
}

fn json_of(changes: &[ActivityChange]) -> Result<JsonText, Error> {
    let text = serde_json::to_string(changes).map_err(anyhow::Error::from)?;
    Ok(JsonText(text))
}
