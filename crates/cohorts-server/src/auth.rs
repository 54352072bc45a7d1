//! Authentication and authorization: from a key to a teammate, a project and scopes.
//!
//! The store contains the SHA-256 hash of each key. Keys are long random texts, so a dictionary attack is impossible and
//! a slow hash is not needed. Neither keys nor hashes are ever logged.

use std::sync::Arc;

use actix_web::HttpRequest;
use chrono::{DateTime, TimeDelta, Utc};
use cohorts_api::{CredentialSource, Credentials, Operation};
use rand::RngExt;
use sha2::{Digest, Sha256};

use crate::blocking;
use crate::error::Error;
use cohorts_store::key_cache::KeyCache;
use cohorts_store::keys::{self, KeyAccess, Teammate};
use cohorts_store::projects::Project;
use cohorts_store::{Conn, Lane, ProjectId, Store};

/// The scope that includes all others.
pub const EVERY_SCOPE: &str = "*";

/// The hash of a key. It is never shown.
#[derive(Clone)]
struct KeyHash(Vec<u8>);

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash")
    }
}

/// The authenticated caller of an operation, and the project of the call.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The id of the key.
    pub key: i64,
    pub teammate: Teammate,
    /// The project in the path, otherwise the current project of the key.
    pub project: Project,
    /// The projects that the key may access; `None` is all projects.
    pub projects: Option<Vec<ProjectId>>,
    scopes: Vec<String>,
    /// The scopes that the operation requires.
    required: Vec<&'static str>,
    hash: KeyHash,
}

impl Caller {
    /// The caller of a command on this machine, who needs no key.
    pub fn of_command(teammate: Teammate, project: Project) -> Self {
        Self {
            key: 0,
            teammate,
            project,
            projects: None,
            scopes: vec![EVERY_SCOPE.to_owned()],
            required: Vec::new(),
            hash: KeyHash(Vec::new()),
        }
    }

    /// Fails if the key does not have the scopes that an operation requires.
    fn with_scopes(self, required: Vec<&'static str>) -> Result<Self, Error> {
        required.iter().try_for_each(|scope| self.require(scope))?;
        Ok(Self { required, ..self })
    }

    /// Fails if the key does not have the scope.
    fn require(&self, scope: &str) -> Result<(), Error> {
        if allows(&self.scopes, scope) {
            return Ok(());
        }
        Err(denied(format!("API key missing required scope '{scope}'")))
    }
}

/// A new personal key.
pub fn new_key() -> String {
    format!("phx_{}", random_text::<32>())
}

/// A new code for the console.
pub fn new_code() -> String {
    random_text::<16>()
}

/// A new project token.
pub fn new_token() -> String {
    format!("phc_{}", random_text::<24>())
}

fn random_text<const BYTES: usize>() -> String {
    hex::encode(rand::rng().random::<[u8; BYTES]>())
}

/// The hash of a key, which is stored in its place.
pub fn hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}

/// The shortest interval between two records of the last use of a key.
const USE_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// Whether a text has the form of a scope: `*`, or a resource and a right.
pub fn is_scope(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    text == EVERY_SCOPE
        || text
            .split_once(':')
            .is_some_and(|(resource, right)| word(resource) && matches!(right, "read" | "write"))
}

/// `X:write` includes `X:read`.
fn allows(scopes: &[String], required: &str) -> bool {
    let write = required
        .strip_suffix(":read")
        .map(|resource| format!("{resource}:write"));
    scopes
        .iter()
        .any(|scope| scope == EVERY_SCOPE || scope == required || write.as_deref() == Some(scope))
}

/// A key that is looked up, and the project of the call.
struct KeyQuestion {
    hash: KeyHash,
    source: CredentialSource,
    /// The project in the path.
    project: Option<String>,
}

impl KeyQuestion {
    /// The id of the requested project.
    fn project_id(&self) -> Option<i64> {
        let id = self.project.as_deref();
        let id = id.filter(|project| *project != "@current");
        // Text that is not a number is an unknown project.
        id.map(|id| id.parse().unwrap_or(0))
    }

    /// The key, if it was looked up a moment ago.
    fn cached(&self, keys: &KeyCache) -> Option<Arc<KeyAccess>> {
        keys.get(&self.hash.0, self.project_id())
    }

    fn look_up(&self, conn: &mut Conn, keys: &KeyCache) -> Result<Arc<KeyAccess>, Error> {
        let access = keys.read(conn, &self.hash.0, self.project_id())?;
        let access = access.ok_or_else(|| invalid_key(self.source))?;
        record_key_use(conn, &access);
        Ok(access)
    }

    /// Scopes are checked later, so an unknown project is a 404 for every valid key.
    fn caller(self, access: &KeyAccess) -> Result<Caller, Error> {
        let project = match (&access.project, self.project) {
            (Some(project), _) => project.clone(),
            (None, Some(_)) => return Err(Error::ProjectNotFound),
            (None, None) => return Err(denied("API key does not have access to any project.")),
        };
        let projects = access.restricted_to.clone();
        if projects
            .as_ref()
            .is_some_and(|ids| !ids.contains(&project.id))
        {
            let id = project.id;
            return Err(denied(format!(
                "API key does not have access to the requested project: ID {id}."
            )));
        }
        Ok(Caller {
            key: access.key,
            teammate: access.teammate.clone(),
            project,
            projects: projects.map(|ids| ids.into_iter().map(ProjectId).collect()),
            scopes: access.scopes.clone(),
            required: Vec::new(),
            hash: self.hash,
        })
    }
}

/// Authenticates the caller of a request, and checks the scopes of the operation. A key that was looked up a moment ago needs
/// no statement.
pub async fn authorize(
    store: &Store,
    request: &HttpRequest,
    operation: &'static Operation,
    credentials: Credentials,
) -> Result<Caller, Error> {
    let question = KeyQuestion {
        hash: KeyHash(hash(&credentials.key)),
        source: credentials.source,
        project: request.match_info().get("project_id").map(str::to_owned),
    };
    let scopes = operation.required_scopes(request);
    if let Some(access) = question.cached(&store.keys) {
        return question.caller(&access)?.with_scopes(scopes);
    }
    look_up(store, question, scopes).await
}

/// Checks the key of a caller again, during a long response.
///
/// # Errors
///
/// Fails if the key does not allow the operation any more.
pub async fn check_again(store: &Store, caller: &Caller) -> Result<(), Error> {
    let question = KeyQuestion {
        hash: caller.hash.clone(),
        source: CredentialSource::Header,
        project: Some(caller.project.id.to_string()),
    };
    let caller = look_up(store, question, caller.required.clone());
    caller.await.map(drop)
}

async fn look_up(
    store: &Store,
    question: KeyQuestion,
    scopes: Vec<&'static str>,
) -> Result<Caller, Error> {
    let keys = Arc::clone(&store.keys);
    let read = move |conn: &mut Conn| {
        let access = question.look_up(conn, &keys)?;
        question.caller(&access)?.with_scopes(scopes)
    };
    blocking::read(&store.in_lane(Lane::Authorization), read).await
}

/// Records the last use of a key. A failure is logged only, so that requests that read succeed on a read-only database.
fn record_key_use(conn: &mut Conn, access: &KeyAccess) {
    let is_recent = |used: DateTime<Utc>| Utc::now() - used <= USE_INTERVAL;
    if access.last_used_at.is_some_and(is_recent) {
        return;
    }
    if let Err(cause) = keys::record_use(conn, access.key, Utc::now() - USE_INTERVAL) {
        log::warn!("cannot record the use of key {}: {cause}", access.key);
    }
}

fn denied(detail: impl Into<String>) -> Error {
    Error::PermissionDenied {
        detail: detail.into(),
    }
}

fn invalid_key(source: CredentialSource) -> Error {
    let place = match source {
        CredentialSource::Header => "Authorization header",
        CredentialSource::Body => "body",
        CredentialSource::Query => "query string",
    };
    Error::AuthenticationFailed {
        code: "authentication_failed",
        detail: format!("Personal API key found in request {place} is invalid."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_includes_read_and_the_star_includes_all() {
        let has = |scopes: &[&str], required| {
            let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            allows(&scopes, required)
        };
        assert!(has(&["cohort:write"], "cohort:read"));
        assert!(has(&["person:read", "cohort:read"], "cohort:read"));
        assert!(has(&["*"], "cohort:write"));
        assert!(!has(&["cohort:read"], "cohort:write"));
        assert!(!has(&["cohort:write"], "person:read"));
        assert!(!has(&[], "cohort:read"));
    }

    #[test]
    fn misspelled_scopes_are_recognised() {
        for scope in ["*", "cohort:read", "activity_log:write"] {
            assert!(is_scope(scope), "{scope}");
        }
        for scope in [
            "",
            "cohort",
            "cohort:",
            ":read",
            "cohort:delete",
            "Cohort:read",
        ] {
            assert!(!is_scope(scope), "{scope}");
        }
    }

    #[test]
    fn keys_differ_from_each_other_and_from_their_hashes() {
        let (first, second) = (new_key(), new_key());
        assert_ne!(first, second);
        assert_eq!(first.len(), "phx_".len() + 64);
        assert_ne!(hash(&first), first.as_bytes());
    }
}
