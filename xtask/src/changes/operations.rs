//! Compares the operations of two documents: names, bodies, responses and credentials.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schemas::Direction;
use super::{Comparison, members, resolve, show};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// An operation, with the path that it is below.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    method: &'a str,
    pub path: &'a str,
    /// The part of the document that all operations of the path share.
    pub item: &'a Value,
    pub definition: &'a Value,
}

impl Operation<'_> {
    /// The method and the path, without the names of its parameters.
    fn key(&self) -> String {
        let parts = self.path.split('/').map(|part| match is_parameter(part) {
            true => "{}",
            false => part,
        });
        format!("{} {}", self.method, parts.collect::<Vec<_>>().join("/"))
    }

    fn location(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }
}

pub fn is_parameter(part: &str) -> bool {
    part.starts_with('{') && part.ends_with('}')
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let of_path = |(path, item)| {
        let item: &Value = resolve(document, item);
        let methods = METHODS
            .into_iter()
            .filter(move |method| item.get(method).is_some());
        methods.map(move |method| Operation {
            method,
            path,
            item,
            definition: &item[method],
        })
    };
    members(&document["paths"]).flat_map(of_path).collect()
}

impl<'a> Comparison<'a> {
    pub fn operations(&mut self) {
        let new = operations(self.new);
        for old in operations(self.old) {
            let location = old.location();
            match new.iter().find(|new| new.key() == old.key()) {
                Some(new) => self.operation(&location, old, *new),
                None => self.report(&location, "the operation was removed"),
            }
        }
    }

    fn operation(&mut self, location: &str, old: Operation<'a>, new: Operation<'a>) {
        // Clients take the names of their functions and classes from these.
        for (key, pointer) in [("operationId", "/operationId"), ("first tag", "/tags/0")] {
            let value =
                |one: Operation<'a>| one.definition.pointer(pointer).unwrap_or(&Value::Null);
            let (old, new) = (value(old), value(new));
            if !old.is_null() && old != new {
                self.report(location, was(key, old, new));
            }
        }
        self.credentials(location, old.definition, new.definition);
        self.parameters(location, old, new);
        let (old, new) = (old.definition, new.definition);
        self.request_body(location, &old["requestBody"], &new["requestBody"]);
        self.responses(location, &old["responses"], &new["responses"]);
    }

    fn credentials(&mut self, location: &str, old: &Value, new: &Value) {
        let accepted = |document: &Value, operation: &Value| {
            let security = operation.get("security").or(document.get("security"));
            let list = security.and_then(Value::as_array);
            list.filter(|list| !list.is_empty()).map_or_else(
                || vec![BTreeSet::new()],
                |list| list.iter().map(needs).collect(),
            )
        };
        let accepted_now = accepted(self.new, new);
        for credential in accepted(self.old, old) {
            if !accepted_now.iter().any(|one| one.is_subset(&credential)) {
                self.report(
                    location,
                    format!("no longer accepts the credentials {credential:?}"),
                );
            }
        }
        let scopes = |operation: &Value| -> BTreeSet<String> {
            let scopes = operation["x-required-scopes"].as_array().into_iter();
            scopes
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        for scope in scopes(new).difference(&scopes(old)) {
            self.report(location, format!("needs the scope `{scope}`"));
        }
    }

    fn request_body(&mut self, location: &str, old: &'a Value, new: &'a Value) {
        let (old, new) = (resolve(self.old, old), resolve(self.new, new));
        let location = format!("{location} request");
        if new["required"] == true && old["required"] != true {
            self.report(&location, "the body is required");
        }
        if !old.is_null() && new.is_null() {
            self.report(&location, "the body was removed");
            return;
        }
        self.content(&location, old, new, Direction::Request);
    }

    fn responses(&mut self, location: &str, old: &'a Value, new: &'a Value) {
        for (status, response) in members(old) {
            let location = format!("{location} {status}");
            let Some(other) = of_status(new, status) else {
                self.report(&location, "the status was removed");
                continue;
            };
            let (old, new) = (resolve(self.old, response), resolve(self.new, other));
            self.content(&location, old, new, Direction::Response);
            self.headers(&location, &old["headers"], &new["headers"]);
        }
        let added = members(new).map(|(status, _)| status);
        for status in added.filter(|status| status.starts_with('2')) {
            if of_status(old, status).is_none() {
                self.report(&format!("{location} {status}"), "a new status of success");
            }
        }
    }

    /// Compares the media types of a body.
    fn content(&mut self, location: &str, old: &'a Value, new: &'a Value, direction: Direction) {
        let (old, new) = (&old["content"], &new["content"]);
        if direction == Direction::Response && members(old).next().is_none() {
            for (name, _) in members(new) {
                self.report(&format!("{location} {name}"), "the response has a body");
            }
        }
        for (name, media) in members(old) {
            let location = format!("{location} {name}");
            match new.get(name) {
                None => self.report(&location, "the media type was removed"),
                Some(other) => {
                    self.schema(&location, &media["schema"], &other["schema"], direction);
                }
            }
        }
    }

    fn headers(&mut self, location: &str, old: &'a Value, new: &'a Value) {
        for (name, header) in members(old) {
            let location = format!("{location} header {name}");
            let other = members(new).find(|(other, _)| other.eq_ignore_ascii_case(name));
            let Some((_, other)) = other else {
                self.report(&location, "the header was removed");
                continue;
            };
            let (old, new) = (resolve(self.old, header), resolve(self.new, other));
            if old["required"] == true && new["required"] != true {
                self.report(&location, "the header may be absent");
            }
            self.schema(
                &location,
                &old["schema"],
                &new["schema"],
                Direction::Response,
            );
        }
    }
}

/// The schemes and scopes that one alternative of `security` needs.
fn needs(alternative: &Value) -> BTreeSet<String> {
    let of_scheme = |(scheme, scopes): (&str, &Value)| {
        let scopes = scopes.as_array().cloned().unwrap_or_default();
        let scopes = scopes
            .into_iter()
            .filter_map(|scope| Some(scope.as_str()?.to_owned()));
        std::iter::once(scheme.to_owned())
            .chain(scopes)
            .collect::<Vec<_>>()
    };
    members(alternative).flat_map(of_scheme).collect()
}

/// The response with a status, also as part of a range.
fn of_status<'a>(responses: &'a Value, status: &str) -> Option<&'a Value> {
    let range = format!("{}XX", &status[..1]);
    [status, &range, "default"]
        .into_iter()
        .find_map(|key| responses.get(key))
}

pub fn was(key: &str, old: &Value, new: &Value) -> String {
    format!("{key} is {}, was {}", show(new), show(old))
}
