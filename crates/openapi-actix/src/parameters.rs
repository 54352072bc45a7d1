//! Reads and lints the parameters of an operation.

use serde_json::Value;

use super::contract::{Linter, duplicates, object};

const KEYS: [&str; 11] = [
    "name",
    "in",
    "required",
    "description",
    "deprecated",
    "schema",
    "example",
    "examples",
    "x-lenient",
    "x-true",
    "allowEmptyValue",
];

pub struct Parameter {
    pub name: String,
    pub description: String,
    pub in_path: bool,
    pub required: bool,
    pub kind: ParameterKind,
    pub default: Option<Value>,
    /// Whether an invalid value is treated as absent.
    pub lenient: bool,
}

pub enum ParameterKind {
    Text,
    TextList,
    Integer {
        minimum: Option<i64>,
        maximum: Option<i64>,
    },
    /// The values that mean `true`.
    Boolean(Vec<String>),
    Instant,
    Choice(Vec<String>),
}

pub fn read(
    linter: Linter,
    path: &str,
    item: &Value,
    operation: &Value,
    location: &str,
) -> Vec<Parameter> {
    let lists = [&item["parameters"], &operation["parameters"]];
    let parameters: Vec<_> = lists
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|parameter| {
            let parameter = linter.resolve(parameter, "parameters", location)?;
            let name = parameter["name"].as_str().unwrap_or_default();
            read_one(linter, parameter, &format!("{location}.parameters.{name}"))
        })
        .collect();
    for name in duplicates(parameters.iter().map(|parameter| parameter.name.as_str())) {
        linter.report(location, format!("two parameters have the name `{name}`"));
    }
    lint_path(linter, path, &parameters, location);
    parameters
}

/// Reports differences between the parameters in the path and the described path parameters.
fn lint_path(linter: Linter, path: &str, parameters: &[Parameter], location: &str) {
    let names: Vec<_> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .collect();
    if path.matches('{').count() != names.len() {
        linter.report(location, "a path parameter must fill a whole path segment");
    }
    for name in &names {
        if !parameters
            .iter()
            .any(|parameter| parameter.in_path && parameter.name == *name)
        {
            linter.report(
                location,
                format!("the path parameter `{name}` is not described"),
            );
        }
    }
    for Parameter { name, .. } in parameters.iter().filter(|parameter| parameter.in_path) {
        if !names.contains(&name.as_str()) {
            linter.report(location, format!("the path has no parameter `{name}`"));
        }
    }
}

fn read_one(linter: Linter, parameter: &Value, location: &str) -> Option<Parameter> {
    linter.allow_keys(parameter, &KEYS, location);
    let name = parameter["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        linter.report(location, "a parameter must have a name");
    }
    if name == "body" {
        linter.report(
            location,
            "the client cannot have a parameter with the name `body`",
        );
    }
    let in_path = match parameter["in"].as_str() {
        Some("path") => true,
        Some("query") => false,
        _ => {
            linter.report(location, "a parameter must be in the path or in the query");
            return None;
        }
    };
    let schema = linter.resolve(&parameter["schema"], "schemas", location)?;
    let kind = kind(linter, parameter, schema, location)?;
    if in_path && !matches!(kind, ParameterKind::Text | ParameterKind::Integer { .. }) {
        linter.report(location, "a path parameter must be a string or an integer");
    }
    if schema.get("default").is_some() && !matches!(kind, ParameterKind::Integer { .. }) {
        linter.report(location, "only an integer parameter may have a default");
    }
    Some(Parameter {
        name: name.to_owned(),
        description: parameter["description"]
            .as_str()
            .unwrap_or_default()
            .trim()
            .to_owned(),
        in_path,
        required: linter.flag(parameter, "required", location),
        kind,
        default: schema.get("default").cloned(),
        lenient: linter.flag(parameter, "x-lenient", location),
    })
}

fn kind(
    linter: Linter,
    parameter: &Value,
    schema: &Value,
    location: &str,
) -> Option<ParameterKind> {
    let allowed = [
        "type",
        "format",
        "enum",
        "items",
        "default",
        "minimum",
        "maximum",
        "example",
        "maxLength",
        "description",
    ];
    linter.allow_keys(schema, &allowed, &format!("{location}.schema"));
    let words = linter.strings(parameter, "x-true", location);
    let choices = linter.strings(schema, "enum", location);
    let (r#type, format) = (schema["type"].as_str(), schema["format"].as_str());
    if words.is_some() && r#type != Some("boolean") {
        linter.report(location, "`x-true` needs a boolean");
    }
    match (r#type, format, choices) {
        (Some("string"), None, Some(choices)) => Some(ParameterKind::Choice(choices)),
        (Some("string"), None, None) => Some(ParameterKind::Text),
        (Some("string"), Some("date-time"), None) => Some(ParameterKind::Instant),
        (Some("boolean"), None, None) => Some(ParameterKind::Boolean(
            words.unwrap_or_else(|| vec!["true".to_owned()]),
        )),
        (Some("integer"), None | Some("int64" | "int32"), None) => Some(ParameterKind::Integer {
            minimum: schema["minimum"].as_i64(),
            maximum: schema["maximum"].as_i64(),
        }),
        (Some("array"), None, None) if object(&schema["items"]).len() == 1 => {
            (schema["items"]["type"] == "string").then_some(ParameterKind::TextList)
        }
        _ => None,
    }
    .or_else(|| {
        linter.report(
            location,
            format!("the schema {schema} is not supported in a path or query"),
        );
        None
    })
}
