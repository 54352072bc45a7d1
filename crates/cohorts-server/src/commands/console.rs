//! `cohorts console`: prints an address of the console that signs a browser in.

use std::borrow::Cow;

use anyhow::ensure;

use super::output::print;
use crate::{Data, KeyGrant, Origin, auth};

/// The owner of the sessions, as of keys without another owner.
const EMAIL: &str = "owner@localhost";

/// Prints the address of the console of the service at `url`, with a code for a session that reaches the project, or
/// every project.
///
/// # Errors
///
/// Fails if the project does not exist, or `url` is no base URL.
pub fn run(data: &Data, url: &str, project: Option<i64>) -> anyhow::Result<()> {
    ensure!(
        Origin::fixed(url).is_some(),
        "`{url}` is not the base URL of a service; use one such as https://cohorts.example.org"
    );
    let grant = grant(project.into_iter().collect(), "console", EMAIL, "");
    print(format!(
        "{}\n\nThe address signs one browser in, within ten minutes. The session ends after 12 hours.",
        address(data, url, &grant)?
    ))
}

/// The grant of a session with every scope.
pub(super) fn grant(projects: Vec<i64>, label: &str, email: &str, first_name: &str) -> KeyGrant {
    KeyGrant {
        projects,
        scopes: vec![auth::EVERY_SCOPE.to_owned()],
        label: label.to_owned(),
        email: email.to_owned(),
        first_name: first_name.to_owned(),
        expires_in: None,
    }
}

/// An address of the console with a new code. Browsers do not send what is behind `#`.
///
/// # Errors
///
/// Fails if a project of the grant does not exist.
pub(super) fn address(data: &Data, url: &str, grant: &KeyGrant) -> anyhow::Result<String> {
    let code = data.admin().create_console_code(grant)?;
    let base = url.trim_end_matches('/');
    Ok(format!("{}/#code={code}", reachable(base)))
}

/// The address for a browser on this machine, if the service listens on every address.
fn reachable(base: &str) -> Cow<'_, str> {
    for (every, local) in [("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")] {
        if base.contains(every) {
            return base.replacen(every, local, 1).into();
        }
    }
    base.into()
}
