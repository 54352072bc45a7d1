//! Reads security schemes and requirements.

use serde_json::Value;

use crate::config::KeyRule;
use crate::naming::{self, Namespace};
use crate::reader::{Reader, object};

/// A security scheme that an operation uses.
#[derive(Clone, PartialEq)]
pub struct Scheme {
    pub name: String,
    pub kind: SchemeKind,
}

#[derive(Clone, PartialEq)]
pub enum SchemeKind {
    Header(String),
    Query(String),
    Cookie(String),
    Bearer,
    Basic,
}

/// A scheme with the scopes that an operation needs.
pub struct Requirement {
    pub scheme: String,
    pub scopes: Vec<String>,
}

/// The security of an operation.
pub enum Security {
    /// The scopes in an extension, for a project with such a rule.
    Scopes(Vec<String>),
    /// Alternatives, each with the schemes that are needed together.
    Alternatives(Vec<Vec<Requirement>>),
}

impl Security {
    /// The scopes of the extension.
    pub fn scopes(&self) -> &[String] {
        match self {
            Self::Scopes(scopes) => scopes,
            Self::Alternatives(_) => &[],
        }
    }
}

/// Reads all schemes.
pub fn schemes(reader: Reader) -> Vec<Scheme> {
    let mut names = Namespace::default();
    let mut schemes = Vec::new();
    for (name, scheme) in reader.object(
        &reader.root["components"]["securitySchemes"],
        "components.securitySchemes",
    ) {
        let location = format!("components.securitySchemes.{name}");
        names.claim(reader.findings, &naming::shouting(name), name, &location);
        let Some(scheme) = reader.resolve(scheme, "securitySchemes", &location) else {
            continue;
        };
        if let Some(kind) = scheme_kind(reader, scheme, &location) {
            schemes.push(Scheme {
                name: name.clone(),
                kind,
            });
        }
    }
    schemes
}

fn scheme_kind(reader: Reader, scheme: &Value, location: &str) -> Option<SchemeKind> {
    let kind = reader.text(scheme, "type", location).unwrap_or_default();
    let keys: &[&str] = match kind {
        "apiKey" => &["name", "in"],
        "http" => &["scheme", "bearerFormat"],
        "oauth2" => &["flows"],
        "openIdConnect" => &["openIdConnectUrl"],
        _ => {
            reader.report(
                location,
                "`type` must be apiKey, http, oauth2 or openIdConnect",
            );
            return None;
        }
    };
    reader.allow_keys(scheme, &[&["type", "description"], keys], location);
    match kind {
        "apiKey" => {
            let name = reader
                .text(scheme, "name", location)
                .unwrap_or_default()
                .to_owned();
            let r#in = reader.text(scheme, "in", location);
            let is_token = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
            match r#in {
                _ if !is_token => {
                    reader.report(location, "an apiKey must have a `name` of ASCII characters")
                }
                Some("header") => return Some(SchemeKind::Header(name)),
                Some("query") => return Some(SchemeKind::Query(name)),
                Some("cookie") => return Some(SchemeKind::Cookie(name)),
                _ => reader.report(
                    location,
                    "`in` of an apiKey must be header, query or cookie",
                ),
            }
            None
        }
        "http" => match reader
            .text(scheme, "scheme", location)
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("bearer") => Some(SchemeKind::Bearer),
            Some("basic") => Some(SchemeKind::Basic),
            _ => {
                reader.report(location, "`scheme` must be bearer or basic");
                None
            }
        },
        // The flows tell clients how to get a token. The server reads the token.
        _ => Some(SchemeKind::Bearer),
    }
}

/// Reads the security of an operation; `None` if it needs none.
pub fn read(reader: Reader, operation: &Value, location: &str) -> Option<Security> {
    match &reader.rules().key {
        Some(_) => scopes(reader, operation, location).map(Security::Scopes),
        None => alternatives(reader, operation, location).map(Security::Alternatives),
    }
}

fn alternatives(
    reader: Reader,
    operation: &Value,
    location: &str,
) -> Option<Vec<Vec<Requirement>>> {
    let holder = match operation.get("security") {
        Some(_) => operation,
        None => reader.root,
    };
    let list = reader.list(holder, "security", location);
    let alternatives = list.iter().map(|alternative| {
        let members = reader.object(alternative, location).iter();
        let requirement = |(name, scopes): (&String, &Value)| {
            if reader.root["components"]["securitySchemes"]
                .get(name)
                .is_none()
            {
                let message = format!("`{name}` is not one of components.securitySchemes");
                reader.report(location, message);
            }
            if !scopes.is_array() {
                reader.report(location, format!("`{name}` must have a list of scopes"));
            }
            let scopes = scopes.as_array().into_iter().flatten();
            Requirement {
                scheme: name.clone(),
                scopes: scopes
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            }
        };
        members.map(requirement).collect()
    });
    let alternatives: Vec<Vec<Requirement>> = alternatives.collect();
    let needs_none = alternatives.iter().all(Vec::is_empty);
    (!needs_none).then_some(alternatives)
}

/// Reads the scopes of a project that states them in an extension.
fn scopes(reader: Reader, operation: &Value, location: &str) -> Option<Vec<String>> {
    let rule = reader.rules().key.as_ref()?;
    let extension = &rule.scopes;
    let scopes = reader.strings(operation, extension, location);
    let Some(security) = operation["security"].as_array() else {
        reader.report(location, "`security` is missing");
        return None;
    };
    if is_handled(rule, security) {
        if scopes.is_some() {
            reader.report(location, format!("`{extension}` needs `security`"));
        }
        return None;
    }
    if !is_key(rule, security) {
        let list = |names: &[String]| format!("`{}`", names.join("`, `"));
        let mut message = format!(
            "`security` must be empty or have the alternatives {}",
            list(&rule.schemes)
        );
        if !rule.handled.is_empty() {
            message.push_str(&format!(", or some of {}", list(&rule.handled)));
        }
        reader.report(location, message);
        return None;
    }
    if scopes.as_ref().is_none_or(Vec::is_empty) {
        reader.report(location, format!("`{extension}` is missing"));
    }
    Some(scopes.unwrap_or_default())
}

/// Whether the alternatives are the schemes of the key.
fn is_key(rule: &KeyRule, security: &[Value]) -> bool {
    let names = security.iter().map(|alternative| {
        let mut names = object(alternative).keys();
        names.next().filter(|_| names.next().is_none())
    });
    names.eq(rule.schemes.iter().map(Some))
}

/// Whether the handler reads all credentials. Without an alternative, or with an empty one, none is needed.
fn is_handled(rule: &KeyRule, security: &[Value]) -> bool {
    security.iter().all(|alternative| {
        let mut names = object(alternative).keys();
        alternative.is_object() && names.all(|name| rule.handled.contains(name))
    })
}
