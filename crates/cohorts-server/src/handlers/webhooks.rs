//! The webhooks resource: URLs that receive the changes of members.
//!
//! A secret leaves the service in two responses only: that of the creation and that of a rotation. The activity log has the
//! origin of a URL, because its path may contain a secret of the receiver.

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_api::types::{self, PatchedWebhook, WebhookCreate, WebhookDeliveryPage, WebhookPage};
use cohorts_api::{
    WebhooksActivityRetrieveRequest, WebhooksActivityRetrieveResponse, WebhooksApi,
    WebhooksCreateRequest, WebhooksCreateResponse, WebhooksDeliveriesRequest,
    WebhooksDeliveriesResponse, WebhooksDestroyRequest, WebhooksDestroyResponse,
    WebhooksListRequest, WebhooksListResponse, WebhooksPartialUpdateRequest,
    WebhooksPartialUpdateResponse, WebhooksReplayRequest, WebhooksReplayResponse,
    WebhooksRetrieveRequest, WebhooksRetrieveResponse, WebhooksRotateSecretRequest,
    WebhooksRotateSecretResponse, WebhooksTestRequest, WebhooksTestResponse,
};
use cohorts_store::pages::RowSize;
use cohorts_store::webhooks::{self, NewWebhook, WebhookFields, WebhookWithCreator, deliveries};
use cohorts_store::{Conn, ProjectId, projects};

use super::responses::ListRows;
use super::{MAX_LIMIT, Service, activity_log, present};
use crate::auth::Caller;
use crate::error::Error;
use crate::feed::{Feed, FeedCursor};
use crate::shares::ShareOwner;
use crate::webhooks::{
    AddressRules, HttpsClient, Message, NewSecret, SecretKeyError, Secrets, log_position, outcome,
};

/// Webhooks of a project.
const MAX_WEBHOOKS: i64 = 100;
/// How long the old secret signs after a rotation.
const OLD_SECRET: TimeDelta = TimeDelta::hours(24);

/// What the operations on webhooks work with. Clones share it.
#[derive(Clone)]
pub struct WebhookTools {
    pub secrets: Secrets,
    pub client: HttpsClient,
}

impl WebhooksApi for Service {
    async fn webhooks_list(
        &self,
        caller: Caller,
        request: WebhooksListRequest,
    ) -> Result<WebhooksListResponse, Error> {
        let (limit, offset) = (request.query.limit.min(MAX_LIMIT), request.query.offset);
        let project = caller.project.id();
        let read = move |conn: &mut Conn| Ok(webhooks::page(conn, project, limit, offset)?);
        let links = self.links(&request.http);
        let frame = move |count| {
            let (next, previous) = links.around(limit, offset, count);
            WebhookPage {
                count,
                next,
                previous,
                results: Vec::new(),
            }
        };
        let rows = WebhookRows(project);
        let list = self.list(project, &request.http, rows, read, frame);
        Ok(WebhooksListResponse::Status200(list.await?.into()))
    }

    async fn webhooks_create(
        &self,
        caller: Caller,
        request: WebhooksCreateRequest,
    ) -> Result<WebhooksCreateResponse, Error> {
        let fields = new_fields(request.body, self.webhooks.client.rules())?;
        let (project, secrets) = (caller.project.id(), self.webhooks.secrets.clone());
        let create = move |conn: &mut Conn| create(conn, &caller, &fields, &secrets);
        let webhook = self.transaction(project, create).await?;
        Ok(WebhooksCreateResponse::Status201(webhook))
    }

    async fn webhooks_activity_retrieve(
        &self,
        caller: Caller,
        request: WebhooksActivityRetrieveRequest,
    ) -> Result<WebhooksActivityRetrieveResponse, Error> {
        let (limit, page) = (request.query.limit, request.query.page);
        let project = caller.project.id();
        let read = move |conn: &mut Conn, limit, offset| {
            Ok(webhooks::activity::page(conn, project, limit, offset)?)
        };
        let rows = WebhookActivityRows(project);
        let response = self.activity_page(project, rows, read, limit, page, &request.http);
        Ok(WebhooksActivityRetrieveResponse::Status200(
            response.await?.into(),
        ))
    }

    async fn webhooks_retrieve(
        &self,
        caller: Caller,
        request: WebhooksRetrieveRequest,
    ) -> Result<WebhooksRetrieveResponse, Error> {
        let (project, id) = (caller.project.id(), request.path.id);
        let read = move |conn: &mut Conn| find(conn, project, id);
        let row = self.read(project, read).await?;
        let webhook = present::webhook(row, None);
        Ok(WebhooksRetrieveResponse::Status200(webhook))
    }

    async fn webhooks_partial_update(
        &self,
        caller: Caller,
        request: WebhooksPartialUpdateRequest,
    ) -> Result<WebhooksPartialUpdateResponse, Error> {
        let (project, id, body) = (caller.project.id(), request.path.id, request.body);
        let rules = self.webhooks.client.rules().clone();
        let change = move |conn: &mut Conn| change(conn, &caller, id, body, &rules);
        let webhook = self.transaction(project, change).await?;
        Ok(WebhooksPartialUpdateResponse::Status200(webhook))
    }

    async fn webhooks_destroy(
        &self,
        caller: Caller,
        request: WebhooksDestroyRequest,
    ) -> Result<WebhooksDestroyResponse, Error> {
        let (project, id) = (caller.project.id(), request.path.id);
        let delete = move |conn: &mut Conn| {
            let (webhook, _) = find(conn, project, id)?;
            if !webhooks::delete(conn, project, id)? {
                return Err(Error::NotFound);
            }
            activity_log::webhook_changed(conn, &caller, id, "deleted", &webhook.fields)
        };
        self.transaction(project, delete).await?;
        Ok(WebhooksDestroyResponse::Status204)
    }

    async fn webhooks_deliveries(
        &self,
        caller: Caller,
        request: WebhooksDeliveriesRequest,
    ) -> Result<WebhooksDeliveriesResponse, Error> {
        let (limit, offset) = (request.query.limit.min(MAX_LIMIT), request.query.offset);
        let (project, id) = (caller.project.id(), request.path.id);
        let read = move |conn: &mut Conn| {
            find(conn, project, id)?;
            Ok(deliveries::page(conn, project, id, limit, offset)?)
        };
        let links = self.links(&request.http);
        let frame = move |count| {
            let (next, previous) = links.around(limit, offset, count);
            WebhookDeliveryPage {
                count,
                next,
                previous,
                results: Vec::new(),
            }
        };
        let rows = DeliveryRows {
            project,
            webhook: id,
        };
        let list = self.list(project, &request.http, rows, read, frame);
        Ok(WebhooksDeliveriesResponse::Status200(list.await?.into()))
    }

    async fn webhooks_test(
        &self,
        caller: Caller,
        request: WebhooksTestRequest,
    ) -> Result<WebhooksTestResponse, Error> {
        let (project, id) = (caller.project.id(), request.path.id);
        let owner = ShareOwner::Project(project);
        let _permit = self.shares.webhook_tests.acquire(owner).await?;
        let secrets = self.webhooks.secrets.clone();
        let read = move |conn: &mut Conn| {
            let (webhook, _) = find(conn, project, id)?;
            let stored = webhooks::secrets(conn, project, id)?.ok_or(Error::NotFound)?;
            let secrets = secrets.open(project, &stored, Utc::now());
            Ok((webhook.fields.url, secrets.map_err(unreadable_secret)?))
        };
        let (url, secrets) = self.read(project, read).await?;
        let message = Message::test(id, Utc::now())?;
        let attempt = self.webhooks.client.send(&url, &message, &secrets).await;
        let outcome = outcome(&message, &attempt, 1);
        let record = move |conn: &mut Conn| Ok(deliveries::record(conn, id, &outcome)?);
        let delivery = self.transaction(project, record).await?;
        let delivery = present::delivery(delivery.ok_or(Error::NotFound)?);
        Ok(WebhooksTestResponse::Status200(delivery))
    }

    async fn webhooks_replay(
        &self,
        caller: Caller,
        request: WebhooksReplayRequest,
    ) -> Result<WebhooksReplayResponse, Error> {
        let (project, id, from) = (caller.project.id(), request.path.id, request.body.from);
        let replay = move |conn: &mut Conn| replay(conn, &caller, id, &from);
        let webhook = self.transaction(project, replay).await?;
        Ok(WebhooksReplayResponse::Status200(webhook))
    }

    async fn webhooks_rotate_secret(
        &self,
        caller: Caller,
        request: WebhooksRotateSecretRequest,
    ) -> Result<WebhooksRotateSecretResponse, Error> {
        let (project, id) = (caller.project.id(), request.path.id);
        let secrets = self.webhooks.secrets.clone();
        let rotate = move |conn: &mut Conn| {
            webhooks::lock(conn, project, id)?.ok_or(Error::NotFound)?;
            let (webhook, _) = find(conn, project, id)?;
            // A secret that cannot be read is replaced, so no other one is compared.
            let NewSecret { secret, sealed } = new_secret(&secrets, project, None)?;
            webhooks::rotate(conn, id, &sealed, Utc::now() + OLD_SECRET)?;
            activity_log::webhook_changed(conn, &caller, id, "secret_rotated", &webhook.fields)?;
            Ok(present::webhook(find(conn, project, id)?, Some(&secret)))
        };
        let webhook = self.transaction(project, rotate).await?;
        Ok(WebhooksRotateSecretResponse::Status200(webhook))
    }
}

fn find(conn: &mut Conn, project: ProjectId, id: i64) -> Result<WebhookWithCreator, Error> {
    webhooks::find(conn, project, id)?.ok_or(Error::NotFound)
}

fn new_fields(body: WebhookCreate, rules: &AddressRules) -> Result<WebhookFields, Error> {
    Ok(WebhookFields {
        url: checked_url(&body.url, rules)?,
        cohort_ids: body.cohort_ids,
        description: body.description.unwrap_or_default(),
        enabled: body.enabled,
    })
}

/// The URL in its normal form. Fails if it may not be called.
fn checked_url(url: &str, rules: &AddressRules) -> Result<String, Error> {
    let target = rules.parse(url);
    let target = target.map_err(|detail| Error::field("url", detail))?;
    Ok(target.as_str().to_owned())
}

fn check_cohorts(conn: &mut Conn, project: ProjectId, fields: &WebhookFields) -> Result<(), Error> {
    let Some(ids) = &fields.cohort_ids else {
        return Ok(());
    };
    let invalid = |detail| Err(Error::field("cohort_ids", detail));
    if ids.is_empty() {
        return invalid("Name at least one cohort, or send null for all cohorts.".to_owned());
    }
    match webhooks::unknown_cohorts(conn, project, ids)?.first() {
        Some(id) => invalid(format!("The project has no cohort {id}.")),
        None => Ok(()),
    }
}

fn new_secret(
    secrets: &Secrets,
    project: ProjectId,
    newest: Option<&[u8]>,
) -> Result<NewSecret, Error> {
    secrets
        .create(project, newest)
        .map_err(|cause| match cause {
            SecretKeyError::Unusable(cause) => Error::Internal(cause),
            other => Error::whole(other.to_string()),
        })
}

fn unreadable_secret(cause: anyhow::Error) -> Error {
    Error::Internal(cause.context("the secret of a webhook cannot be decrypted"))
}

fn create(
    conn: &mut Conn,
    caller: &Caller,
    fields: &WebhookFields,
    secrets: &Secrets,
) -> Result<types::Webhook, Error> {
    let project = caller.project.id();
    projects::lock(conn, project)?;
    check_cohorts(conn, project, fields)?;
    if webhooks::count(conn, project)? >= MAX_WEBHOOKS {
        let detail = format!("The project has {MAX_WEBHOOKS} webhooks already; delete one first.");
        return Err(Error::whole(detail));
    }
    let newest = webhooks::newest_secret(conn)?;
    let NewSecret { secret, sealed } = new_secret(secrets, project, newest.as_deref())?;
    let feed = Feed::new(project, fields.cohort_ids.clone());
    let new = NewWebhook {
        creator: &caller.teammate,
        key: caller.key,
        fields,
        secret: &sealed,
        position: &log_position(&feed.now(conn)?),
    };
    let webhook = webhooks::create(conn, project, &new)?;
    activity_log::webhook_changed(conn, caller, webhook.id, "created", fields)?;
    let row = (webhook, Some(caller.teammate.clone()));
    Ok(present::webhook(row, Some(&secret)))
}

fn change(
    conn: &mut Conn,
    caller: &Caller,
    id: i64,
    body: PatchedWebhook,
    rules: &AddressRules,
) -> Result<types::Webhook, Error> {
    let project = caller.project.id();
    projects::lock(conn, project)?;
    let position = webhooks::lock(conn, project, id)?.ok_or(Error::NotFound)?;
    let (webhook, _) = find(conn, project, id)?;
    let (before, mut after) = (webhook.fields.clone(), webhook.fields);
    let is_resumed = body.enabled.value() == Some(true);
    change_fields(&mut after, body, rules)?;
    webhooks::update(conn, id, &after)?;
    if before.cohort_ids != after.cohort_ids {
        check_cohorts(conn, project, &after)?;
        let feeds = [&before, &after].map(|fields| Feed::new(project, fields.cohort_ids.clone()));
        let cursor = FeedCursor::parse(&feeds[0], &position.cursor);
        let cursor = cursor.map_err(|cause| anyhow::anyhow!(cause.detail()))?;
        webhooks::set_position(conn, id, &log_position(&cursor.in_feed(&feeds[1])))?;
    }
    if is_resumed {
        webhooks::resume(conn, id, caller.key)?;
    }
    activity_log::webhook_updated(conn, caller, id, &before, &after)?;
    Ok(present::webhook(find(conn, project, id)?, None))
}

fn change_fields(
    fields: &mut WebhookFields,
    body: PatchedWebhook,
    rules: &AddressRules,
) -> Result<(), Error> {
    if let Some(url) = body.url.value() {
        fields.url = checked_url(&url, rules)?;
    }
    if let Some(ids) = body.cohort_ids.change() {
        fields.cohort_ids = ids;
    }
    if let Some(description) = body.description.value() {
        fields.description = description;
    }
    if let Some(enabled) = body.enabled.value() {
        fields.enabled = enabled;
    }
    Ok(())
}

fn replay(conn: &mut Conn, caller: &Caller, id: i64, from: &str) -> Result<types::Webhook, Error> {
    let project = caller.project.id();
    webhooks::lock(conn, project, id)?.ok_or(Error::NotFound)?;
    let (webhook, _) = find(conn, project, id)?;
    let feed = Feed::new(project, webhook.fields.cohort_ids.clone());
    let invalid = |detail: &str| Error::field("from", detail);
    let cursor = match DateTime::parse_from_rfc3339(from) {
        Ok(time) => feed.since(conn, time.to_utc())?,
        Err(_) => {
            let cursor = FeedCursor::parse_of_project(&feed, from);
            let cursor = cursor.map_err(|cause| invalid(cause.detail()))?;
            // Reading one row checks that the log has what follows.
            feed.page(conn, &cursor, 1)?.map(|_| cursor)
        }
    };
    let cursor = cursor.ok_or_else(|| {
        invalid("The change log no longer has the changes after this position. Use a later time.")
    })?;
    webhooks::set_position(conn, id, &log_position(&cursor))?;
    webhooks::forget_failures(conn, id)?;
    activity_log::webhook_changed(conn, caller, id, "replayed", &webhook.fields)?;
    Ok(present::webhook(find(conn, project, id)?, None))
}

/// The webhooks of a project.
struct WebhookRows(ProjectId);

impl ListRows for WebhookRows {
    type Row = types::Webhook;

    fn sizes(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<RowSize>, Error> {
        Ok(webhooks::sizes(conn, self.0, ids)?)
    }

    fn rows(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<types::Webhook>, Error> {
        let rows = webhooks::by_ids(conn, self.0, ids)?.into_iter();
        Ok(rows.map(|row| present::webhook(row, None)).collect())
    }
}

/// The deliveries of a webhook.
struct DeliveryRows {
    project: ProjectId,
    webhook: i64,
}

impl ListRows for DeliveryRows {
    type Row = types::WebhookDelivery;

    fn sizes(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<RowSize>, Error> {
        Ok(deliveries::sizes(conn, self.project, self.webhook, ids)?)
    }

    fn rows(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<types::WebhookDelivery>, Error> {
        let rows = deliveries::by_ids(conn, self.project, self.webhook, ids)?;
        Ok(rows.into_iter().map(present::delivery).collect())
    }
}

/// The activity log of the webhooks of a project.
struct WebhookActivityRows(ProjectId);

impl ListRows for WebhookActivityRows {
    type Row = types::ActivityEntry;

    fn sizes(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<RowSize>, Error> {
        Ok(webhooks::activity::sizes(conn, self.0, ids)?)
    }

    fn rows(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<types::ActivityEntry>, Error> {
        let rows = webhooks::activity::by_ids(conn, self.0, ids)?.into_iter();
        Ok(rows.map(present::webhook_activity).collect())
    }
}
