//! Actions: named sets of events, for criteria on what people did.

use std::collections::BTreeSet;

use cohorts_api::types::{self, ActionCreate, PaginatedActionList, PatchedAction};
use cohorts_api::{
    ActionsApi, ActionsCreateRequest, ActionsCreateResponse, ActionsListRequest,
    ActionsListResponse, ActionsPartialUpdateRequest, ActionsPartialUpdateResponse,
    ActionsRetrieveRequest, ActionsRetrieveResponse, Patch, RawJson,
};
use cohorts_engine::Action as Steps;

use super::cohorts::user;
use super::{Service, rows_of};
use crate::auth::Caller;
use crate::blocking;
use crate::error::Error;
use cohorts_store::actions::{self, ActionFields, ActionWithCreator};
use cohorts_store::{Conn, JsonText, ProjectId, cohorts, projects, queue};

impl ActionsApi for Service {
    async fn actions_list(
        &self,
        caller: Caller,
        request: ActionsListRequest,
    ) -> Result<ActionsListResponse, Error> {
        let (limit, offset) = rows_of(request.query.limit, request.query.offset);
        let project = caller.project.id();
        let read = move |conn: &mut Conn| Ok(actions::page(conn, project, limit, offset)?);
        let (rows, count) = blocking::snapshot(&self.store, read).await?;
        let (next, previous) = self.links(&request.http).around(limit, offset, count);
        Ok(ActionsListResponse::Status200(PaginatedActionList {
            count,
            next,
            previous,
            results: rows.into_iter().map(|row| shown(project, row)).collect(),
        }))
    }

    async fn actions_create(
        &self,
        caller: Caller,
        request: ActionsCreateRequest,
    ) -> Result<ActionsCreateResponse, Error> {
        let fields = new(request.body)?;
        let create = move |conn: &mut Conn| {
            let project = caller.project.id();
            projects::lock(conn, project)?;
            check_name(conn, project, &fields, None)?;
            let made = actions::create(conn, project, &caller.teammate, &fields)?;
            Ok(shown(project, (made, Some(caller.teammate))))
        };
        let made = blocking::transaction(&self.store, create).await?;
        Ok(ActionsCreateResponse::Status201(made))
    }

    async fn actions_retrieve(
        &self,
        caller: Caller,
        request: ActionsRetrieveRequest,
    ) -> Result<ActionsRetrieveResponse, Error> {
        let project = caller.project.id();
        let read = move |conn: &mut Conn| Ok(actions::find(conn, project, request.path.id)?);
        let found = blocking::read(&self.store, read).await?;
        let live = found.filter(|(action, _)| !action.fields.deleted);
        let found = live.ok_or(Error::NotFound)?;
        Ok(ActionsRetrieveResponse::Status200(shown(project, found)))
    }

    async fn actions_partial_update(
        &self,
        caller: Caller,
        request: ActionsPartialUpdateRequest,
    ) -> Result<ActionsPartialUpdateResponse, Error> {
        let (project, id) = (caller.project.id(), request.path.id);
        let body = request.body;
        let change = move |conn: &mut Conn| change(conn, project, id, body);
        let (changed, is_stale) = blocking::transaction(&self.store, change).await?;
        if is_stale {
            self.signal.notify();
        }
        Ok(ActionsPartialUpdateResponse::Status200(changed))
    }
}

fn new(body: ActionCreate) -> Result<ActionFields, Error> {
    Ok(ActionFields {
        name: body.name,
        description: body.description.unwrap_or_default(),
        steps: match body.steps {
            Some(steps) => checked(&steps)?,
            None => JsonText("[]".to_owned()),
        },
        deleted: false,
    })
}

/// Steps that can be read.
fn checked(steps: &RawJson) -> Result<JsonText, Error> {
    let steps = steps.parse();
    let read = Steps::parse(&steps);
    read.map_err(|error| Error::field("steps", error.detail))?;
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

/// The action after a change, and whether cohorts are to be calculated again by it.
fn change(
    conn: &mut Conn,
    project: ProjectId,
    id: i64,
    body: PatchedAction,
) -> Result<(types::Action, bool), Error> {
    projects::lock(conn, project)?;
    let (mut action, teammate) = actions::find(conn, project, id)?.ok_or(Error::NotFound)?;
    let before = action.fields.clone();
    let fields = &mut action.fields;
    match body.name {
        Patch::Absent => {}
        Patch::Null => fields.name = None,
        Patch::Value(name) => fields.name = Some(name),
    }
    if let Patch::Value(description) = body.description {
        fields.description = description;
    }
    if let Patch::Value(steps) = body.steps {
        fields.steps = checked(&steps)?;
    }
    if let Patch::Value(deleted) = body.deleted {
        fields.deleted = deleted;
    }
    if before.deleted && fields.deleted {
        return Err(Error::NotFound);
    }
    check_name(conn, project, fields, Some(id))?;
    actions::update(conn, id, fields)?;
    let is_stale = (&before.steps, before.deleted) != (&fields.steps, fields.deleted)
        && recalculate(conn, project, id)?;
    Ok((shown(project, (action, teammate)), is_stale))
}

/// Asks for the calculation of the dynamic cohorts with a criterion on the action; whether there are any.
fn recalculate(conn: &mut Conn, project: ProjectId, action: i64) -> Result<bool, Error> {
    let named = cohorts::dynamic_definitions(conn, project)?.into_iter();
    let named = named.filter(|(_, definition)| {
        let actions = definition.filter().map(|filter| filter.action_ids());
        actions.is_ok_and(|actions: BTreeSet<i64>| actions.contains(&action))
    });
    let ids: Vec<i64> = named.map(|(id, _)| id).collect();
    queue::request_calculations(conn, &ids)?;
    Ok(!ids.is_empty())
}

fn shown(project: ProjectId, (action, teammate): ActionWithCreator) -> types::Action {
    let fields = action.fields;
    types::Action {
        id: action.id,
        name: fields.name,
        description: fields.description,
        tags: Vec::new(),
        post_to_slack: false,
        slack_message_format: String::new(),
        steps: RawJson::trusted(fields.steps.0),
        created_at: action.created_at,
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
