//! Reads the parameters of an operation.

use serde_json::Value;

use crate::keys;
use crate::model::{Shape, Type, TypeKind};
use crate::naming::{self, Namespace};
use crate::schemas::{Place, Schemas};

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    Path,
    Query,
    Header,
    Cookie,
}

impl Source {
    pub const ALL: [Self; 4] = [Self::Path, Self::Query, Self::Header, Self::Cookie];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == text)
    }

    /// The name in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Cookie => "cookie",
        }
    }

    /// The name of the field of a request.
    pub fn field(self) -> &'static str {
        match self {
            Self::Header => "headers",
            Self::Cookie => "cookies",
            other => other.name(),
        }
    }

    /// The suffix of the name of the struct.
    pub fn suffix(self) -> String {
        naming::pascal(self.field())
    }
}

#[derive(Clone)]
pub struct Parameter {
    pub name: String,
    /// The Rust name.
    pub rust: String,
    pub description: String,
    pub source: Source,
    pub required: bool,
    pub deprecated: bool,
    pub r#type: Type,
    pub default: Option<Value>,
    /// Whether an invalid value is treated as absent.
    pub lenient: bool,
    /// The values that mean `true`.
    pub words: Vec<String>,
    /// The character between the items of a list; `None` if the parameter is repeated.
    pub separator: Option<char>,
    /// The scopes that the key needs for this parameter, in addition to those of the operation.
    pub scopes: Vec<String>,
}

impl Parameter {
    pub fn in_path(&self) -> bool {
        self.source == Source::Path
    }
}

/// Reads the parameters of a path and of an operation. Those of the operation replace those of the path.
pub fn read(
    schemas: &mut Schemas,
    path: &str,
    item: &Value,
    operation: &Value,
    name: &str,
    location: &str,
) -> Vec<Parameter> {
    let own = read_list(schemas, operation, &[], name, location);
    let mut parameters = read_list(schemas, item, &own, name, location);
    parameters.extend(own);
    claim_names(schemas, &parameters, location);
    lint_path(schemas, path, &parameters, location);
    parameters
}

/// Reads a list of parameters, without those that others replace.
fn read_list(
    schemas: &mut Schemas,
    holder: &Value,
    others: &[Parameter],
    name: &str,
    location: &str,
) -> Vec<Parameter> {
    let reader = schemas.reader;
    let mut parameters: Vec<Parameter> = Vec::new();
    for parameter in reader.list(holder, "parameters", location) {
        let Some(parameter) = reader.resolve(parameter, "parameters", location) else {
            continue;
        };
        let is_same = |known: &Parameter| {
            parameter["name"] == known.name && parameter["in"] == known.source.name()
        };
        if others.iter().any(is_same) {
            continue;
        }
        let own_name = parameter["name"].as_str().unwrap_or_default();
        if parameters.iter().any(is_same) {
            let message = format!("two parameters have the name `{own_name}`");
            reader.report(location, message);
        }
        let location = format!("{location}.parameters.{own_name}");
        parameters.extend(read_one(schemas, parameter, name, &location));
    }
    parameters
}

fn claim_names(schemas: &Schemas, parameters: &[Parameter], location: &str) {
    for source in Source::ALL {
        let mut names = Namespace::default();
        for parameter in parameters
            .iter()
            .filter(|parameter| parameter.source == source)
        {
            let location = format!("{location}.parameters.{}", parameter.name);
            names.claim(
                schemas.reader.findings,
                &parameter.rust,
                &parameter.name,
                &location,
            );
        }
    }
    if schemas.reader.config.layout.client.is_some() {
        for (index, parameter) in parameters.iter().enumerate() {
            if parameters[..index]
                .iter()
                .any(|known| known.name == parameter.name)
            {
                let message = format!("two parameters have the name `{}`", parameter.name);
                schemas.reader.report(location, message);
            }
        }
    }
}

/// The names of the parameters in a path.
pub fn names_in_path(path: &str) -> Vec<&str> {
    let parts = path.split('/');
    parts
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .collect()
}

/// Reports differences between the parameters in the path and the described path parameters.
fn lint_path(schemas: &Schemas, path: &str, parameters: &[Parameter], location: &str) {
    let reader = schemas.reader;
    let names = names_in_path(path);
    let braces = path.matches(['{', '}']).count();
    if braces != 2 * names.len() || names.iter().any(|name| name.contains(['{', '}'])) {
        reader.report(location, "a path parameter must fill a whole path segment");
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            reader.report(
                location,
                format!("the path has the parameter `{name}` twice"),
            );
        }
        let mut in_path = parameters.iter().filter(|parameter| parameter.in_path());
        if !in_path.any(|parameter| parameter.name == *name) {
            reader.report(
                location,
                format!("the path parameter `{name}` is not described"),
            );
        }
    }
    for Parameter { name, .. } in parameters.iter().filter(|parameter| parameter.in_path()) {
        if !names.contains(&name.as_str()) {
            reader.report(location, format!("the path has no parameter `{name}`"));
        }
    }
}

fn read_one(
    schemas: &mut Schemas,
    parameter: &Value,
    operation: &str,
    location: &str,
) -> Option<Parameter> {
    let reader = schemas.reader;
    let extension = reader.rules().key.as_ref().map(|rule| rule.scopes.as_str());
    let extension: Vec<_> = extension.into_iter().collect();
    reader.allow_keys(parameter, &[keys::PARAMETER, &extension], location);
    let name = reader.text(parameter, "name", location).unwrap_or_default();
    if name.is_empty() {
        reader.report(location, "a parameter must have a name");
    }
    if name == "body" && reader.config.layout.client.is_some() {
        reader.report(
            location,
            "the client cannot have a parameter with the name `body`",
        );
    }
    let source = reader
        .text(parameter, "in", location)
        .and_then(Source::parse);
    let Some(source) = source else {
        reader.report(
            location,
            "`in` of a parameter must be path, query, header or cookie",
        );
        return None;
    };
    let required = reader.flag(parameter, "required", location);
    if source == Source::Path && !required {
        reader.report(location, "a path parameter must be `required: true`");
    }
    let ignored = ["accept", "content-type", "authorization"];
    if source == Source::Header && ignored.contains(&name.to_ascii_lowercase().as_str()) {
        reader.report(
            location,
            "OpenAPI ignores a header parameter with this name; use `content` or `security`",
        );
    }
    if parameter.get("schema").is_none() {
        reader.report(location, "a parameter must have a `schema`");
        return None;
    }
    let type_name = format!("{operation}{}", naming::pascal(name));
    // Parameters in different places may have one name.
    let place = match source {
        Source::Query => Place::new(type_name, format!("{location}.schema")),
        _ => Place::new(type_name, format!("{location}.{}.schema", source.name())),
    };
    let schema = reader.resolve(&parameter["schema"], "schemas", &place.location)?;
    let r#type = schemas.read(&parameter["schema"], &place);
    let words = reader.strings(parameter, "x-true", location);
    if words.is_some() && !matches!(r#type.kind, TypeKind::Boolean) {
        reader.report(location, "`x-true` needs a boolean");
    }
    let separator = separator(schemas, parameter, source, location);
    lint_type(schemas, &r#type, schema, source, location);
    let default = schema
        .get("default")
        .filter(|value| !value.is_null())
        .cloned();
    lint_default(schemas, &r#type, default.as_ref(), required, location);
    Some(Parameter {
        name: name.to_owned(),
        rust: naming::field(name),
        description: reader.prose(parameter, "description", location),
        source,
        required,
        deprecated: reader.flag(parameter, "deprecated", location),
        default,
        lenient: reader.flag(parameter, "x-lenient", location),
        words: words.unwrap_or_else(|| vec!["true".to_owned()]),
        separator,
        scopes: scopes(schemas, parameter, source, &extension, location),
        r#type,
    })
}

fn scopes(
    schemas: &Schemas,
    parameter: &Value,
    source: Source,
    extension: &[&str],
    location: &str,
) -> Vec<String> {
    let reader = schemas.reader;
    let lists = extension
        .iter()
        .filter_map(|name| reader.strings(parameter, name, location));
    let scopes: Vec<_> = lists.flatten().collect();
    if !scopes.is_empty() && source != Source::Query {
        reader.report(location, "only a parameter of the query can need scopes");
    }
    scopes
}

/// Reads `style` and `explode`, which determine how a list is written.
fn separator(schemas: &Schemas, parameter: &Value, source: Source, location: &str) -> Option<char> {
    let reader = schemas.reader;
    let usual = if matches!(source, Source::Query | Source::Cookie) {
        "form"
    } else {
        "simple"
    };
    let style = reader.text(parameter, "style", location).unwrap_or(usual);
    let is_repeated = match parameter.get("explode") {
        Some(_) => reader.flag(parameter, "explode", location),
        None => style == "form",
    };
    match (source, style) {
        (Source::Query, "form") if is_repeated => None,
        (Source::Query | Source::Cookie, "form") | (Source::Path | Source::Header, "simple") => {
            Some(',')
        }
        (Source::Query, "spaceDelimited") if !is_repeated => Some(' '),
        (Source::Query, "pipeDelimited") if !is_repeated => Some('|'),
        _ => {
            let message = format!(
                "the style `{style}` is not supported for a {} parameter",
                source.name()
            );
            reader.report(location, message);
            None
        }
    }
}

fn is_scalar(schemas: &Schemas, r#type: &Type) -> bool {
    match &r#type.kind {
        TypeKind::Item(id) => matches!(schemas.model.items[*id].shape, Shape::Enum(_)),
        TypeKind::Json
        | TypeKind::RawJson
        | TypeKind::List { .. }
        | TypeKind::Map(_)
        | TypeKind::Object => false,
        _ => true,
    }
}

fn lint_type(schemas: &Schemas, r#type: &Type, schema: &Value, source: Source, location: &str) {
    let is_supported = match &r#type.kind {
        TypeKind::List { item, .. } => source != Source::Path && is_scalar(schemas, item),
        _ => is_scalar(schemas, r#type),
    };
    if !is_supported {
        let message = format!(
            "the schema {schema} is not supported in a {}",
            source.name()
        );
        schemas.reader.report(location, message);
    }
    if r#type.nullable {
        schemas.reader.report(
            location,
            "a parameter cannot be null; make it optional instead",
        );
    }
    let own_kinds = matches!(
        &r#type.kind,
        TypeKind::Text { .. }
            | TypeKind::Integer { .. }
            | TypeKind::Boolean
            | TypeKind::Instant
            | TypeKind::Item(_)
    );
    let is_list_of_text = matches!(&r#type.kind, TypeKind::List { item, max_items: None }
        if matches!(item.kind, TypeKind::Text { min_length: 0, max_length: None, .. }) && item.limits.is_empty());
    let is_own = (own_kinds || is_list_of_text) && r#type.limits.is_empty();
    let is_own = is_own && source != Source::Cookie;
    let is_plain_path = source != Source::Path
        || matches!(
            r#type.kind,
            TypeKind::Text { .. } | TypeKind::Integer { .. }
        );
    if is_supported && !schemas.reader.config.is_bundled() && !(is_own && is_plain_path) {
        let message = format!(
            "the runtime `crate::support` does not read the schema {schema} from a {}",
            source.name()
        );
        schemas.reader.report(location, message);
    }
}

fn lint_default(
    schemas: &Schemas,
    r#type: &Type,
    default: Option<&Value>,
    required: bool,
    location: &str,
) {
    let Some(value) = default else { return };
    if required {
        schemas
            .reader
            .report(location, "a required parameter cannot have a default");
    } else if !crate::literals::is_supported(&schemas.model, r#type, value) {
        let message =
            format!("the default {value} is not a value of the schema, or not supported for it");
        schemas.reader.report(location, message);
    }
}
