//! Reads the parameters of an operation, and lints them on the way.

use serde_json::Value;

use super::contract::{Document, object, repeated};

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
    pub kind: Kind,
    pub default: Option<Value>,
    /// Whether a value that cannot be read counts as absent.
    pub lenient: bool,
}

pub enum Kind {
    Text,
    Texts,
    Integer {
        minimum: Option<i64>,
        maximum: Option<i64>,
    },
    /// The words that are read as true.
    Boolean(Vec<String>),
    Instant,
    Choice(Vec<String>),
}

pub fn read(
    document: Document,
    path: &str,
    item: &Value,
    operation: &Value,
    place: &str,
) -> Vec<Parameter> {
    let lists = [&item["parameters"], &operation["parameters"]];
    let parameters: Vec<_> = lists
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|parameter| {
            let parameter = document.resolve(parameter, "parameters", place)?;
            let name = parameter["name"].as_str().unwrap_or_default();
            read_one(document, parameter, &format!("{place}.parameters.{name}"))
        })
        .collect();
    for name in repeated(parameters.iter().map(|one| one.name.as_str())) {
        document.add(place, format!("two parameters are called `{name}`"));
    }
    lint_path(document, path, &parameters, place);
    parameters
}

/// Compares the parameters in the path with those described.
fn lint_path(document: Document, path: &str, parameters: &[Parameter], place: &str) {
    let named: Vec<_> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .collect();
    if path.matches('{').count() != named.len() {
        document.add(place, "a parameter fills a whole part of the path");
    }
    for name in &named {
        if !parameters
            .iter()
            .any(|one| one.in_path && one.name == *name)
        {
            document.add(
                place,
                format!("the path parameter `{name}` is not described"),
            );
        }
    }
    for one in parameters.iter().filter(|one| one.in_path) {
        if !named.contains(&one.name.as_str()) {
            document.add(place, format!("the path has no parameter `{}`", one.name));
        }
    }
}

fn read_one(document: Document, parameter: &Value, place: &str) -> Option<Parameter> {
    document.only(parameter, &KEYS, place);
    let name = parameter["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        document.add(place, "a parameter has a name");
    }
    if name == "body" {
        document.add(
            place,
            "a parameter called `body` cannot be expressed in the client",
        );
    }
    let in_path = match parameter["in"].as_str() {
        Some("path") => true,
        Some("query") => false,
        _ => {
            document.add(place, "a parameter is in the path or in the query");
            return None;
        }
    };
    let schema = document.resolve(&parameter["schema"], "schemas", place)?;
    let kind = kind(document, parameter, schema, place)?;
    if in_path && !matches!(kind, Kind::Text | Kind::Integer { .. }) {
        document.add(place, "a path parameter is a string or an integer");
    }
    if schema.get("default").is_some() && !matches!(kind, Kind::Integer { .. }) {
        document.add(place, "only an integer parameter may have a default");
    }
    Some(Parameter {
        name: name.to_owned(),
        description: parameter["description"]
            .as_str()
            .unwrap_or_default()
            .trim()
            .to_owned(),
        in_path,
        required: document.flag(parameter, "required", place),
        kind,
        default: schema.get("default").cloned(),
        lenient: document.flag(parameter, "x-lenient", place),
    })
}

fn kind(document: Document, parameter: &Value, schema: &Value, place: &str) -> Option<Kind> {
    let known = [
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
    document.only(schema, &known, &format!("{place}.schema"));
    let words = document.texts(parameter, "x-true", place);
    let choices = document.texts(schema, "enum", place);
    let (r#type, format) = (schema["type"].as_str(), schema["format"].as_str());
    if words.is_some() && r#type != Some("boolean") {
        document.add(place, "`x-true` is for a boolean");
    }
    match (r#type, format, choices) {
        (Some("string"), None, Some(choices)) => Some(Kind::Choice(choices)),
        (Some("string"), None, None) => Some(Kind::Text),
        (Some("string"), Some("date-time"), None) => Some(Kind::Instant),
        (Some("boolean"), None, None) => Some(Kind::Boolean(
            words.unwrap_or_else(|| vec!["true".to_owned()]),
        )),
        (Some("integer"), None | Some("int64" | "int32"), None) => Some(Kind::Integer {
            minimum: schema["minimum"].as_i64(),
            maximum: schema["maximum"].as_i64(),
        }),
        (Some("array"), None, None) if object(&schema["items"]).len() == 1 => {
            (schema["items"]["type"] == "string").then_some(Kind::Texts)
        }
        _ => None,
    }
    .or_else(|| {
        document.add(
            place,
            format!("the schema {schema} cannot be read from a path or query"),
        );
        None
    })
}
