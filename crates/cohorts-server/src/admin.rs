//! Projects and keys, which are made by the command line and not through the contract.

use std::str::FromStr;

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use cohorts_engine::Moment;
use serde::Serialize;

use crate::auth;
use cohorts_store::cohorts;
use cohorts_store::keys::{self, NewKey};
use cohorts_store::projects::{self, Project};
use cohorts_store::{Conn, Error, ProjectId, Store, queue, transaction};

/// What is done to projects and keys.
pub struct Admin {
    store: Store,
}

/// A project as it is shown to whoever made it.
#[derive(Clone, Debug, Serialize)]
pub struct CreatedProject {
    pub id: i64,
    pub name: String,
    pub timezone: String,
    pub token: String,
    /// How many days events are kept; null where all are.
    pub event_retention: Option<i32>,
}

/// How long a project keeps events, in days; all of them where it is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention(pub Option<i32>);

/// The longest retention, in days.
const LONGEST_RETENTION: i32 = 36_500;

impl FromStr for Retention {
    type Err = anyhow::Error;

    /// Reads `90`, `90d` or `all`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "all" {
            return Ok(Self(None));
        }
        let days = text.strip_suffix('d').unwrap_or(text).parse().ok();
        let days = days.filter(|days| (1..=LONGEST_RETENTION).contains(days));
        let days = days.with_context(|| {
            format!("name days, from 1 to {LONGEST_RETENTION} such as 90d, or `all`")
        })?;
        Ok(Self(Some(days)))
    }
}

impl From<Project> for CreatedProject {
    fn from(project: Project) -> Self {
        Self {
            id: project.id,
            name: project.name,
            timezone: project.time_zone,
            token: project.token,
            event_retention: project.event_retention_days,
        }
    }
}

/// What a new key may do, and for whom it acts.
#[derive(Clone, Debug)]
pub struct KeyGrant {
    /// The projects that the key reaches; none means all, those made later too.
    pub projects: Vec<i64>,
    pub scopes: Vec<String>,
    pub label: String,
    pub email: String,
    pub first_name: String,
    /// In how many days the key expires, if ever.
    pub expires_in: Option<u32>,
}

/// A key as it is shown once.
#[derive(Clone, Debug, Serialize)]
pub struct CreatedKey {
    pub id: String,
    pub key: String,
    pub scopes: Vec<String>,
}

/// A key as it is shown later, without the key itself.
#[derive(Clone, Debug, Serialize)]
pub struct ListedKey {
    pub id: String,
    pub label: String,
    pub email: String,
    pub scopes: Vec<String>,
    /// Null for a key that reaches every project.
    pub projects: Option<Vec<i64>>,
    pub created_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    /// To the minute or so.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Admin {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Makes a project, whose days are those of an IANA time zone.
    pub fn create_project(&self, name: &str, time_zone: &str) -> anyhow::Result<CreatedProject> {
        self.create_project_keeping(name, time_zone, Retention::default())
    }

    /// As `create_project`, for a project that may not keep all events.
    pub fn create_project_keeping(
        &self,
        name: &str,
        time_zone: &str,
        Retention(days): Retention,
    ) -> anyhow::Result<CreatedProject> {
        ensure!(!name.trim().is_empty(), "a project needs a name");
        ensure!(
            Moment::new(0, time_zone).is_some(),
            "`{time_zone}` is no time zone; name one such as Europe/Berlin or UTC"
        );
        let token = auth::new_token();
        let conn = &mut *self.store.connection()?;
        let project = transaction(conn, |conn| {
            let mut project = projects::create(conn, name.trim(), time_zone, &token)?;
            projects::set_retention(conn, project.id(), days)?;
            project.event_retention_days = days;
            Ok::<_, Error>(project)
        })?;
        Ok(project.into())
    }

    /// Sets how long a project keeps events. What is older is passed over at once, and deleted bit by bit.
    pub fn keep_events(&self, project: i64, Retention(days): Retention) -> anyhow::Result<()> {
        let conn = &mut *self.store.connection()?;
        let found = projects::set_retention(conn, ProjectId(project), days)?;
        ensure!(found, "there is no project {project}");
        let dynamic = cohorts::dynamic(conn, ProjectId(project))?;
        Ok(queue::request_calculations(conn, &dynamic)?)
    }

    /// Makes a personal key. Only its hash is kept, so this is the one time that it can be seen.
    pub fn create_key(&self, grant: &KeyGrant) -> anyhow::Result<CreatedKey> {
        ensure!(!grant.scopes.is_empty(), "a key needs at least one scope");
        for scope in &grant.scopes {
            ensure!(
                auth::is_scope(scope),
                "`{scope}` is no scope; name one such as cohort:read or cohort:write"
            );
        }
        ensure!(
            grant.email.contains('@'),
            "`{}` is no e-mail address",
            grant.email
        );
        let key = auth::new_key();
        let conn = &mut *self.store.connection()?;
        let id = transaction(conn, |conn| insert_key(conn, grant, &key))?;
        Ok(CreatedKey {
            id: id.to_string(),
            key,
            scopes: grant.scopes.clone(),
        })
    }

    /// All keys, revoked ones too, oldest first.
    pub fn list_keys(&self) -> anyhow::Result<Vec<ListedKey>> {
        let conn = &mut *self.store.connection()?;
        let listed = keys::list(conn)?.into_iter().map(|(key, owner)| {
            let projects = match key.every_project {
                true => None,
                false => Some(
                    keys::projects_of(conn, key.id)?
                        .into_iter()
                        .map(|id| id.0)
                        .collect(),
                ),
            };
            Ok(ListedKey {
                id: key.id.to_string(),
                label: key.label,
                email: owner.email,
                scopes: key.scopes,
                projects,
                created_at: key.created_at,
                revoked_at: key.revoked_at,
                expires_at: key.expires_at,
                last_used_at: key.last_used_at,
            })
        });
        listed.collect()
    }

    /// Revokes a key at once.
    pub fn revoke_key(&self, id: &str) -> anyhow::Result<()> {
        let number = id
            .parse()
            .with_context(|| format!("`{id}` is no number of a key"))?;
        let revoked = keys::revoke(&mut *self.store.connection()?, number)?;
        ensure!(revoked, "there is no key {id} that could be revoked");
        Ok(())
    }
}

fn insert_key(conn: &mut Conn, grant: &KeyGrant, key: &str) -> Result<i64, Error> {
    let mut ids: Vec<ProjectId> = grant.projects.iter().copied().map(ProjectId).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in &ids {
        let found = projects::find(conn, *id)?;
        found.with_context(|| format!("there is no project {}", id.0))?;
    }
    let owner = keys::teammate(conn, &grant.email, &grant.first_name)?;
    let new = NewKey {
        hash: &auth::hash(key),
        label: &grant.label,
        scopes: &grant.scopes,
        projects: (!ids.is_empty()).then_some(&ids),
        expires_at: grant
            .expires_in
            .map(|days| Utc::now() + TimeDelta::days(i64::from(days))),
    };
    Ok(keys::create(conn, &owner, &new)?.id)
}
