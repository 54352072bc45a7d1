//! Who calls: from a key to a teammate, a project and scopes.
//!
//! Keys are long random texts, so a plain SHA-256 is enough to store: there is no dictionary of them to try.
//! They are found by their hash, and neither keys nor hashes are ever logged.

use actix_web::HttpRequest;
use chrono::{TimeDelta, Utc};
use cohorts_api::{CredentialSource, Credentials, Operation};
use rand::RngExt;
use sha2::{Digest, Sha256};

use crate::blocking;
use crate::error::Error;
use cohorts_store::keys::{self, Teammate};
use cohorts_store::projects::Project;
use cohorts_store::{Conn, ProjectId, Store};

/// The scope that includes all others.
pub const EVERY_SCOPE: &str = "*";

/// Who calls an operation, and in which project.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The number of the key.
    pub key: i64,
    pub teammate: Teammate,
    /// The project that the path names, else the key's current one.
    pub project: Project,
    /// The projects that the key reaches; none are named if it reaches all.
    pub reached: Option<Vec<ProjectId>>,
    scopes: Vec<String>,
}

impl Caller {
    /// Refuses a caller whose key lacks the scope.
    pub fn require(&self, scope: &str) -> Result<(), Error> {
        if allows(&self.scopes, scope) {
            return Ok(());
        }
        Err(Error::PermissionDenied {
            detail: format!("API key missing required scope '{scope}'"),
        })
    }
}

/// A new personal key.
pub fn new_key() -> String {
    format!("phx_{}", random_text::<32>())
}

/// A new project token.
pub fn new_token() -> String {
    format!("phc_{}", random_text::<24>())
}

fn random_text<const BYTES: usize>() -> String {
    hex::encode(rand::rng().random::<[u8; BYTES]>())
}

/// What is stored of a key.
pub fn hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}

/// When a key was used is written down no more often.
const USED_EVERY: TimeDelta = TimeDelta::minutes(1);

/// Whether a text can be a scope: `*`, or a kind of thing and what may be done with it.
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
            .is_some_and(|(thing, right)| word(thing) && matches!(right, "read" | "write"))
}

/// `X:write` includes `X:read`.
fn allows(scopes: &[String], wanted: &str) -> bool {
    let including = wanted
        .strip_suffix(":read")
        .map(|thing| format!("{thing}:write"));
    scopes
        .iter()
        .any(|scope| scope == EVERY_SCOPE || scope == wanted || including.as_deref() == Some(scope))
}

/// Finds out who calls, or why they may not.
pub async fn authorize(
    store: &Store,
    request: &HttpRequest,
    operation: &'static Operation,
    credentials: Option<Credentials>,
) -> Result<Caller, Error> {
    let credentials = credentials.ok_or(Error::NotAuthenticated)?;
    let project = request.match_info().get("project_id").map(str::to_owned);
    let read = move |conn: &mut Conn| {
        let caller = find(conn, &credentials, project.as_deref())?;
        operation
            .scopes
            .iter()
            .try_for_each(|scope| caller.require(scope))?;
        Ok(caller)
    };
    blocking::read(store, read).await
}

/// The project is looked up before scopes are compared, so an unknown one is a 404 whatever the key may do.
fn find(
    conn: &mut Conn,
    credentials: &Credentials,
    project: Option<&str>,
) -> Result<Caller, Error> {
    let named = project.filter(|project| *project != "@current");
    let number: Option<Result<i64, _>> = named.map(str::parse);
    // What is no number is no project's.
    let asked = number.map(|number| number.unwrap_or(0));
    let found = keys::access(conn, &hash(&credentials.key), asked)?;
    let reach = found.ok_or_else(|| unknown_key(credentials.source))?;
    let used = reach.last_used_at;
    if used.is_none_or(|used| Utc::now() - used > USED_EVERY)
        && let Err(cause) = keys::record_use(conn, reach.key, Utc::now() - USED_EVERY)
    {
        // Reading is not to fail where nothing can be written.
        log::warn!(
            "it is not written down that key {} is used: {cause}",
            reach.key
        );
    }
    let project = match (reach.project, project) {
        (Some(project), _) => project,
        (None, Some(_)) => return Err(Error::ProjectNotFound),
        (None, None) => {
            return Err(Error::PermissionDenied {
                detail: "API key does not have access to any project.".to_owned(),
            });
        }
    };
    let restricted = reach.restricted_to.as_ref();
    if restricted.is_some_and(|projects| !projects.contains(&project.id)) {
        return Err(Error::PermissionDenied {
            detail: format!(
                "API key does not have access to the requested project: ID {}.",
                project.id
            ),
        });
    }
    let reached = reach.restricted_to;
    Ok(Caller {
        key: reach.key,
        teammate: reach.teammate,
        project,
        reached: reached.map(|ids| ids.into_iter().map(ProjectId).collect()),
        scopes: reach.scopes,
    })
}

fn unknown_key(source: CredentialSource) -> Error {
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
    fn writing_includes_reading_and_the_star_includes_all() {
        let has = |scopes: &[&str], wanted| {
            let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            allows(&scopes, wanted)
        };
        assert!(has(&["cohort:write"], "cohort:read"));
        assert!(has(&["person:read", "cohort:read"], "cohort:read"));
        assert!(has(&["*"], "cohort:write"));
        assert!(!has(&["cohort:read"], "cohort:write"));
        assert!(!has(&["cohort:write"], "person:read"));
        assert!(!has(&[], "cohort:read"));
    }

    #[test]
    fn scopes_are_told_from_typing_errors() {
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
    fn no_two_keys_are_alike_and_a_key_is_not_its_hash() {
        let (one, other) = (new_key(), new_key());
        assert_ne!(one, other);
        assert_eq!(one.len(), "phx_".len() + 64);
        assert_ne!(hash(&one), one.as_bytes());
    }
}
