//! `cohorts key`: creates, lists and revokes API keys.

use chrono::{DateTime, Utc};

use super::output::print;
use crate::{CreatedKey, Data, KeyGrant, ListedKey};

/// Creates a key, and prints it with a first request.
///
/// # Errors
///
/// Fails if a scope is unknown, a project does not exist, or the e-mail address is invalid.
pub fn create(data: &Data, grant: &KeyGrant, json: bool) -> anyhow::Result<()> {
    let key = data.admin().create_key(grant)?;
    if json {
        return print(serde_json::to_string(&key)?);
    }
    print(describe(&key, grant.projects.first().copied()))
}

/// `project` is the first project of the key; `None` means every project.
fn describe(key: &CreatedKey, project: Option<i64>) -> String {
    let (id, secret, scopes) = (&key.id, &key.key, key.scopes.join(" "));
    let text = format!(
        "id      {id}\n\
         key     {secret}\n\
         scopes  {scopes}\n\n\
         The key is not shown again."
    );
    let can_list = |scope: &String| matches!(scope.as_str(), "*" | "cohort:read" | "cohort:write");
    if !key.scopes.iter().any(can_list) {
        return text;
    }
    let project = project.map_or("@current".to_owned(), |id| id.to_string());
    format!(
        "{text} List cohorts with it while `cohorts serve` runs:\n\n\
         curl -H 'Authorization: Bearer {secret}' http://127.0.0.1:8000/api/projects/{project}/cohorts/"
    )
}

/// Prints all keys, without the secrets.
///
/// # Errors
///
/// Fails if the database is not available.
pub fn list(data: &Data, json: bool) -> anyhow::Result<()> {
    let keys = data.admin().list_keys()?;
    if json {
        return print(serde_json::to_string(&keys)?);
    }
    keys.iter().try_for_each(|key| print(line(key)))
}

fn line(key: &ListedKey) -> String {
    let projects = match &key.projects {
        None => "every project".to_owned(),
        Some(ids) => {
            let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
            format!("projects {}", ids.join(", "))
        }
    };
    let day = |time: DateTime<Utc>| time.format("%Y-%m-%d");
    let state = match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "  revoked".to_owned(),
        (None, Some(time)) if time <= Utc::now() => "  expired".to_owned(),
        (None, Some(time)) => format!("  expires {}", day(time)),
        (None, None) => String::new(),
    };
    let last_use = key.last_used_at.map_or("never used".to_owned(), |time| {
        format!("last used {}", day(time))
    });
    format!(
        "{:>4}  {}  {}  {projects}  {}  {last_use}{state}",
        key.id,
        key.label,
        key.email,
        key.scopes.join(" ")
    )
}

/// Revokes a key.
///
/// # Errors
///
/// Fails if the key does not exist or is already revoked.
pub fn revoke(data: &Data, id: &str) -> anyhow::Result<()> {
    data.admin().revoke_key(id)?;
    print(format!("Key {id} is revoked."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scope: &str) -> CreatedKey {
        CreatedKey {
            id: "1".to_owned(),
            key: "phx_x".to_owned(),
            scopes: vec![scope.to_owned()],
        }
    }

    #[test]
    fn a_new_key_is_shown_with_a_request_that_it_permits() {
        let text = describe(&key("*"), Some(2));
        let request =
            "curl -H 'Authorization: Bearer phx_x' http://127.0.0.1:8000/api/projects/2/cohorts/";
        assert_eq!(text.lines().last(), Some(request));
        let text = describe(&key("cohort:read"), None);
        assert!(text.ends_with("/api/projects/@current/cohorts/"), "{text}");
        let text = describe(&key("person:read"), Some(2));
        assert!(!text.contains("curl"), "{text}");
    }
}
