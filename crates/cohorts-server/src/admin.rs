//! Administration of projects and API keys by the command line. The HTTP API has no operations for this.

use std::str::FromStr;

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use cohorts_engine::Moment;
use serde::Serialize;

use crate::auth;
use cohorts_store::cohorts;
use cohorts_store::console_codes::{self, NewCode};
use cohorts_store::keys::{self, NewKey, Teammate};
use cohorts_store::projects::{self, Project};
use cohorts_store::{Conn, Error, ProjectId, Store, queue, transaction};

/// How long a code for the console is valid.
const CODE_AGE: TimeDelta = TimeDelta::minutes(10);

/// Changes projects and keys.
pub struct Admin {
    store: Store,
}

/// A new project.
#[derive(Clone, Debug, Serialize)]
pub struct CreatedProject {
    pub id: i64,
    pub name: String,
    pub timezone: String,
    /// The token for capture.
    pub token: String,
    /// How many days events are kept; null for all events.
    pub event_retention: Option<i32>,
}

/// An age in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub u32);

impl FromStr for Days {
    type Err = anyhow::Error;

    /// Parses `30` or `30d`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let days = text.strip_suffix('d').unwrap_or(text).parse().ok();
        let days = days.filter(|days| *days <= MAX_RETENTION_DAYS.unsigned_abs());
        let message = || format!("expected 0 to {MAX_RETENTION_DAYS} days, such as 30d");
        Ok(Self(days.with_context(message)?))
    }
}

/// How long a project keeps events, in days; `None` for all events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventRetention(pub Option<i32>);

/// The longest retention, in days.
const MAX_RETENTION_DAYS: i32 = 36_500;

impl FromStr for EventRetention {
    type Err = anyhow::Error;

    /// Parses `90`, `90d` or `all`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "all" {
            return Ok(Self(None));
        }
        let days = text.strip_suffix('d').unwrap_or(text).parse().ok();
        let days = days.filter(|days| (1..=MAX_RETENTION_DAYS).contains(days));
        let days = days.with_context(|| {
            format!("expected 1 to {MAX_RETENTION_DAYS} days, such as 90d, or `all`")
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

/// The permissions and the owner of a new key.
#[derive(Clone, Debug)]
pub struct KeyGrant {
    /// The projects of the key. An empty list means every project, also future ones.
    pub projects: Vec<i64>,
    pub scopes: Vec<String>,
    pub label: String,
    pub email: String,
    pub first_name: String,
    /// Days until the key expires; `None` means never.
    pub expires_in: Option<u32>,
}

impl KeyGrant {
    /// Fails if there is no scope, a scope is unknown, or the e-mail address is invalid.
    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.scopes.is_empty(), "a key needs at least one scope");
        for scope in &self.scopes {
            ensure!(
                auth::is_scope(scope),
                "`{scope}` is not a scope; use one such as cohort:read or cohort:write"
            );
        }
        let email = &self.email;
        ensure!(email.contains('@'), "`{email}` is not an e-mail address");
        Ok(())
    }
}

/// A new key, with its secret.
#[derive(Clone, Debug, Serialize)]
pub struct CreatedKey {
    pub id: String,
    /// The secret.
    pub key: String,
    pub scopes: Vec<String>,
}

/// An existing key, without its secret.
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
    /// Accurate to about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Admin {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Creates a project that keeps all events. `time_zone` is an IANA name; the project's days are counted in it.
    ///
    /// # Errors
    ///
    /// Fails if the name is blank or the time zone is unknown.
    pub fn create_project(&self, name: &str, time_zone: &str) -> anyhow::Result<CreatedProject> {
        self.create_project_with_retention(name, time_zone, EventRetention::default())
    }

    /// Like [`Self::create_project`], with a retention.
    ///
    /// # Errors
    ///
    /// Fails if the name is blank or the time zone is unknown.
    pub fn create_project_with_retention(
        &self,
        name: &str,
        time_zone: &str,
        EventRetention(days): EventRetention,
    ) -> anyhow::Result<CreatedProject> {
        ensure!(!name.trim().is_empty(), "a project needs a name");
        ensure!(
            Moment::new(0, time_zone).is_some(),
            "`{time_zone}` is not a time zone; use an IANA name such as Europe/Berlin or UTC"
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

    /// Sets how long a project keeps events. Calculations ignore older events at once; they are deleted in steps.
    ///
    /// # Errors
    ///
    /// Fails if there is no such project.
    pub fn set_event_retention(
        &self,
        project: i64,
        EventRetention(days): EventRetention,
    ) -> anyhow::Result<()> {
        let conn = &mut *self.store.connection()?;
        let exists = projects::set_retention(conn, ProjectId(project), days)?;
        ensure!(exists, "there is no project {project}");
        let dynamic = cohorts::dynamic(conn, ProjectId(project))?;
        Ok(queue::request_calculations(conn, &dynamic)?)
    }

    /// Creates an API key. Only its hash is stored, so the key itself is returned only here.
    ///
    /// # Errors
    ///
    /// Fails if there is no scope, a scope is unknown, a project does not exist, or the e-mail address is invalid.
    pub fn create_key(&self, grant: &KeyGrant) -> anyhow::Result<CreatedKey> {
        grant.check()?;
        let key = auth::new_key();
        let conn = &mut *self.store.connection()?;
        let id = transaction(conn, |conn| insert_key(conn, grant, &key))?;
        Ok(CreatedKey {
            id: id.to_string(),
            key,
            scopes: grant.scopes.clone(),
        })
    }

    /// Creates a code by which a browser signs in to the console, once and within ten minutes. The key of its session
    /// has the grant, and expires 12 hours after the sign-in, whatever the grant says.
    ///
    /// # Errors
    ///
    /// Fails as [`Self::create_key`] does.
    pub fn create_console_code(&self, grant: &KeyGrant) -> anyhow::Result<String> {
        grant.check()?;
        let code = auth::new_code();
        let conn = &mut *self.store.connection()?;
        transaction(conn, |conn| insert_code(conn, grant, &code))?;
        Ok(code)
    }

    /// All keys, also revoked ones, oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database is not available.
    pub fn list_keys(&self) -> anyhow::Result<Vec<ListedKey>> {
        let conn = &mut *self.store.connection()?;
        let listed = keys::list(conn)?.into_iter().map(|(key, owner)| {
            let projects = if key.every_project {
                None
            } else {
                let ids = keys::projects_of(conn, key.id)?;
                Some(ids.into_iter().map(|id| id.0).collect())
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

    /// Revokes a key. The next request with it fails.
    ///
    /// # Errors
    ///
    /// Fails if there is no such key, or it is already revoked.
    pub fn revoke_key(&self, id: &str) -> anyhow::Result<()> {
        let number = id
            .parse()
            .with_context(|| format!("`{id}` is not the id of a key"))?;
        let revoked = keys::revoke(&mut *self.store.connection()?, number)?;
        self.store.keys.forget();
        ensure!(revoked, "there is no key {id}, or it is already revoked");
        Ok(())
    }
}

fn insert_key(conn: &mut Conn, grant: &KeyGrant, key: &str) -> Result<i64, Error> {
    let (owner, projects) = owner_and_projects(conn, grant)?;
    let new = NewKey {
        hash: &auth::hash(key),
        label: &grant.label,
        scopes: &grant.scopes,
        projects: (!projects.is_empty()).then_some(&projects),
        expires_at: grant
            .expires_in
            .map(|days| Utc::now() + TimeDelta::days(i64::from(days))),
    };
    Ok(keys::create(conn, &owner, &new)?.id)
}

fn insert_code(conn: &mut Conn, grant: &KeyGrant, code: &str) -> Result<(), Error> {
    let (owner, projects) = owner_and_projects(conn, grant)?;
    let key = NewKey {
        hash: &[],
        label: &grant.label,
        scopes: &grant.scopes,
        projects: (!projects.is_empty()).then_some(&projects),
        expires_at: None,
    };
    let code = NewCode {
        hash: &auth::hash(code),
        expires_at: Utc::now() + CODE_AGE,
    };
    console_codes::create(conn, &owner, &code, &key)
}

/// The owner of a key, who is created if missing, and the sorted projects of the key.
fn owner_and_projects(
    conn: &mut Conn,
    grant: &KeyGrant,
) -> Result<(Teammate, Vec<ProjectId>), Error> {
    let mut ids: Vec<ProjectId> = grant.projects.iter().copied().map(ProjectId).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in &ids {
        let project = projects::find(conn, *id)?;
        project.with_context(|| format!("there is no project {}", id.0))?;
    }
    let owner = keys::teammate(conn, &grant.email, &grant.first_name)?;
    Ok((owner, ids))
}
