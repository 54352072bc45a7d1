//! The actions resource: named sets of events, which behavioral criteria refer to.

use cohorts_api::types::{self, ActionCreate, PaginatedActionList, PatchedAction};
use cohorts_api::{
    ActionsApi, ActionsCreateRequest, ActionsCreateResponse, ActionsListRequest,
    ActionsListResponse, ActionsPartialUpdateRequest, ActionsPartialUpdateResponse,
    ActionsRetrieveRequest, ActionsRetrieveResponse, RawJson,
};
use cohorts_engine::Action as ParsedAction;
use cohorts_store::actions::{self, ActionFields};
use cohorts_store::definition::Definition;
use cohorts_store::pages::RowSize;
use cohorts_store::{Conn, JsonText, ProjectId, cohorts, projects, queue};

use super::responses::ListRows;
use super::{Service, limit_and_offset, present};
use crate::auth::Caller;
use crate::error::Error;

impl ActionsApi for Service {
    async fn actions_list(
        &self,
        caller: Caller,
        request: ActionsListRequest,
    ) -> Result<ActionsListResponse, Error> {
        let (limit, offset) = limit_and_offset(request.query.limit, request.query.offset);
        let project = caller.project.id();
        let read = move |conn: &mut Conn| Ok(actions::page(conn, project, limit, offset)?);
        let links = self.links(&request.http);
        let frame = move |count| {
            let (next, previous) = links.around(limit, offset, count);
            PaginatedActionList {
                count,
                next,
                previous,
                results: Vec::new(),
            }
        };
        let list = self.list(project, &request.http, ActionRows(project), read, frame);
        Ok(ActionsListResponse::Status200(list.await?.into()))
    }

    async fn actions_create(
        &self,
        caller: Caller,
        request: ActionsCreateRequest,
    ) -> Result<ActionsCreateResponse, Error> {
        let fields = new_fields(request.body)?;
        let project = caller.project.id();
        let create = move |conn: &mut Conn| {
            projects::lock(conn, project)?;
            check_name(conn, project, &fields, None)?;
            let row = actions::create(conn, project, &caller.teammate, &fields)?;
            Ok(present::action(project, (row, Some(caller.teammate))))
        };
        let action = self.transaction(project, create).await?;
        Ok(ActionsCreateResponse::Status201(action))
    }

    async fn actions_retrieve(
        &self,
        caller: Caller,
        request: ActionsRetrieveRequest,
    ) -> Result<ActionsRetrieveResponse, Error> {
        let project = caller.project.id();
        let read = move |conn: &mut Conn| Ok(actions::find(conn, project, request.path.id)?);
        let row = self.read(project, read).await?;
        let row = row.filter(|(action, _)| !action.fields.deleted);
        let action = present::action(project, row.ok_or(Error::NotFound)?);
        Ok(ActionsRetrieveResponse::Status200(action))
    }

    async fn actions_partial_update(
        &self,
        caller: Caller,
        request: ActionsPartialUpdateRequest,
    ) -> Result<ActionsPartialUpdateResponse, Error> {
        let (project, id) = (caller.project.id(), request.path.id);
        let body = request.body;
        let change = move |conn: &mut Conn| change(conn, project, id, body);
        let change = self.transaction(project, change).await?;
        if change.affects_cohorts {
            self.signal.notify();
        }
        Ok(ActionsPartialUpdateResponse::Status200(change.action))
    }
}

/// The actions of a project.
struct ActionRows(ProjectId);

impl ListRows for ActionRows {
    type Row = types::Action;

    fn sizes(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<RowSize>, Error> {
        Ok(actions::sizes(conn, self.0, ids)?)
    }

    fn rows(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<types::Action>, Error> {
        let rows = actions::by_ids(conn, self.0, ids)?.into_iter();
        Ok(rows.map(|row| present::action(self.0, row)).collect())
    }
}

fn new_fields(body: ActionCreate) -> Result<ActionFields, Error> {
    Ok(ActionFields {
        name: body.name,
        description: body.description.unwrap_or_default(),
        steps: match body.steps {
            Some(steps) => read_steps(&steps)?,
            None => JsonText("[]".to_owned()),
        },
        deleted: false,
    })
}

/// The steps to store. Fails if they cannot be parsed.
fn read_steps(steps: &RawJson) -> Result<JsonText, Error> {
    let read = ParsedAction::read(steps.as_str());
    let (_, steps) = read.map_err(|error| Error::field("steps", error.detail))?;
    Ok(JsonText::of(&steps))
}

fn check_name(
    conn: &mut Conn,
    project: ProjectId,
    fields: &ActionFields,
    id: Option<i64>,
) -> Result<(), Error> {
    let name = fields.name.as_deref().unwrap_or_default();
    if name.is_empty() || fields.deleted || !actions::has_name(conn, project, name, id)? {
        return Ok(());
    }
    Err(Error::Validation {
        attr: Some("name".to_owned()),
        code: "unique",
        detail: "This project already has an action with this name.".to_owned(),
    })
}

/// A changed action.
struct ActionChange {
    action: types::Action,
    /// Whether cohorts must be calculated again.
    affects_cohorts: bool,
}

fn change(
    conn: &mut Conn,
    project: ProjectId,
    id: i64,
    body: PatchedAction,
) -> Result<ActionChange, Error> {
    projects::lock(conn, project)?;
    let (mut row, teammate) = actions::find(conn, project, id)?.ok_or(Error::NotFound)?;
    let before = row.fields.clone();
    let fields = &mut row.fields;
    change_fields(fields, body)?;
    if before.deleted && fields.deleted {
        return Err(Error::NotFound);
    }
    check_name(conn, project, fields, Some(id))?;
    actions::update(conn, id, fields)?;
    let is_same = (&before.steps, before.deleted) == (&fields.steps, fields.deleted);
    let affects_cohorts = !is_same && request_calculations(conn, project, id)?;
    Ok(ActionChange {
        action: present::action(project, (row, teammate)),
        affects_cohorts,
    })
}

fn change_fields(fields: &mut ActionFields, body: PatchedAction) -> Result<(), Error> {
    if let Some(name) = body.name.change() {
        fields.name = name;
    }
    if let Some(description) = body.description.value() {
        fields.description = description;
    }
    if let Some(steps) = body.steps.value() {
        fields.steps = read_steps(&steps)?;
    }
    if let Some(deleted) = body.deleted.value() {
        fields.deleted = deleted;
    }
    Ok(())
}

/// Requests the calculation of the dynamic cohorts that refer to the action. Returns whether there are any.
fn request_calculations(conn: &mut Conn, project: ProjectId, action: i64) -> Result<bool, Error> {
    let refers = |definition: &Definition| {
        let filter = definition.filter();
        filter.is_ok_and(|filter| filter.action_ids().contains(&action))
    };
    let definitions = cohorts::dynamic_definitions(conn, project)?;
    let ids: Vec<i64> = definitions
        .into_iter()
        .filter(|(_, definition)| refers(definition))
        .map(|(id, _)| id)
        .collect();
    queue::request_calculations(conn, &ids)?;
    Ok(!ids.is_empty())
}
