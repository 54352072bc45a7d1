//! Compares the parameters of an operation.

use serde_json::Value;

use super::operations::{Operation, is_parameter, was};
use super::schemas::Direction;
use super::{Comparison, members, resolve};

/// The parameters of an operation. Its own replace those of its path.
fn parameters<'a>(document: &'a Value, operation: Operation<'a>) -> Vec<&'a Value> {
    let list = |holder: &'a Value| {
        let list = holder["parameters"].as_array().into_iter().flatten();
        list.map(|parameter| resolve(document, parameter))
    };
    let mut parameters: Vec<&Value> = list(operation.definition).collect();
    for shared in list(operation.item) {
        if !parameters
            .iter()
            .any(|one| is_same(one, shared, &name(one)))
        {
            parameters.push(shared);
        }
    }
    parameters
}

/// The name, in lower case for headers.
fn name(parameter: &Value) -> String {
    let name = parameter["name"].as_str().unwrap_or_default();
    match parameter["in"] == "header" {
        true => name.to_lowercase(),
        false => name.to_owned(),
    }
}

fn is_same(one: &Value, other: &Value, name_of_one: &str) -> bool {
    one["in"] == other["in"] && name_of_one == name(other)
}

/// The name that a parameter of a path has in another path of the same form.
fn renamed(old: &str, new: &str, name: &str) -> String {
    let pairs = old.split('/').zip(new.split('/'));
    let mut parameters = pairs.filter(|(old, _)| is_parameter(old));
    let found = parameters.find(|(old, _)| old.trim_matches(['{', '}']) == name);
    found
        .map_or(name, |(_, new)| new.trim_matches(['{', '}']))
        .to_owned()
}

/// The schema, which may be below a media type.
fn schema(parameter: &Value) -> &Value {
    let of_content = || {
        members(&parameter["content"])
            .next()
            .map(|(_, media)| &media["schema"])
    };
    parameter
        .get("schema")
        .or_else(of_content)
        .unwrap_or(&Value::Null)
}

impl<'a> Comparison<'a> {
    pub fn parameters(&mut self, location: &str, old: Operation<'a>, new: Operation<'a>) {
        let (old_list, new_list) = (parameters(self.old, old), parameters(self.new, new));
        let mut found = Vec::new();
        for parameter in old_list {
            let old_name = name(parameter);
            let new_name = match parameter["in"] == "path" {
                true => renamed(old.path, new.path, &old_name),
                false => old_name.clone(),
            };
            let location = parameter_location(location, parameter);
            if new_name != old_name {
                self.report(&location, format!("the name is `{new_name}`"));
            }
            let other = new_list
                .iter()
                .find(|one| is_same(parameter, one, &new_name));
            match other {
                None => self.report(&location, "the parameter was removed"),
                Some(other) => self.parameter(&location, parameter, other),
            }
            found.extend(other.copied());
        }
        for parameter in new_list {
            let is_found = found.iter().any(|one| std::ptr::eq(*one, parameter));
            if parameter["required"] == true && !is_found {
                let location = parameter_location(location, parameter);
                self.report(&location, "a new required parameter");
            }
        }
    }

    fn parameter(&mut self, location: &str, old: &'a Value, new: &'a Value) {
        if new["required"] == true && old["required"] != true {
            self.report(location, "the parameter is required");
        }
        for key in ["style", "explode"] {
            if old[key] != new[key] {
                self.report(location, was(key, &old[key], &new[key]));
            }
        }
        self.schema(location, schema(old), schema(new), Direction::Request);
    }
}

fn parameter_location(location: &str, parameter: &Value) -> String {
    let place = parameter["in"].as_str().unwrap_or_default();
    let name = parameter["name"].as_str().unwrap_or_default();
    format!("{location} {place} parameter {name}")
}
