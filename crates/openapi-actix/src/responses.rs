//! Reads the responses of an operation.

use serde_json::Value;

use crate::keys;
use crate::model::{Type, TypeKind};
use crate::naming::{self, Namespace};
use crate::reader::{object, reference};
use crate::schemas::{Place, Schemas};

pub const JSON: &str = "application/json";

/// The statuses of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Code(u16),
    /// The first digit, such as 4 for `4XX`.
    Range(u16),
    /// Every status that no other response has.
    Default,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        if text == "default" {
            return Some(Self::Default);
        }
        if let Some(digit) = text.strip_suffix("XX") {
            let digit = digit.parse().ok()?;
            return (2..=5).contains(&digit).then_some(Self::Range(digit));
        }
        let code = text.parse().ok()?;
        (text.len() == 3 && (200..600).contains(&code)).then_some(Self::Code(code))
    }

    /// The text in the document, and in the names of variants.
    pub fn text(self) -> String {
        match self {
            Self::Code(code) => code.to_string(),
            Self::Range(digit) => format!("{digit}XX"),
            Self::Default => "default".to_owned(),
        }
    }

    /// The name of the variant.
    pub fn variant(self) -> String {
        match self {
            Self::Default => "Default".to_owned(),
            status => format!("Status{}", status.text()),
        }
    }

    pub fn is_error(self) -> bool {
        match self {
            Self::Code(code) => code >= 400,
            Self::Range(digit) => digit >= 4,
            Self::Default => true,
        }
    }
}

/// The response with one status.
pub struct Response {
    pub status: Status,
    pub description: String,
    /// Empty if the response has no body.
    pub content: Vec<ResponseContent>,
    /// Whether the body described in `content` may be absent (`x-or-empty`).
    pub may_be_empty: bool,
    pub headers: Vec<ResponseHeader>,
}

pub struct ResponseContent {
    pub media_type: String,
    /// The end of the variant's name; empty for JSON.
    pub suffix: String,
    /// The type of a JSON body; `None` for other media types.
    pub r#type: Option<Type>,
    /// The name of the component schema, if the body is one.
    #[cfg(feature = "client")]
    pub schema: Option<String>,
    /// Whether the handler writes the body itself, in pieces (`x-streamed`). Bodies of other media types than JSON always are.
    pub is_streamed: bool,
}

/// A header that the handler sets.
pub struct ResponseHeader {
    pub name: String,
    /// The Rust name.
    pub rust: String,
    pub description: String,
    pub required: bool,
    pub deprecated: bool,
    pub r#type: Type,
}

impl Response {
    pub fn is_error(&self) -> bool {
        self.status.is_error()
    }

    /// Whether it is an error with a body.
    pub fn has_error_body(&self) -> bool {
        self.is_error() && !self.content.is_empty()
    }

    /// The JSON body, if it has one.
    #[cfg(feature = "client")]
    pub fn json(&self) -> Option<&ResponseContent> {
        self.content.iter().find(|content| content.r#type.is_some())
    }

    /// Returns the name of the component schema of the JSON body, if it has one.
    #[cfg(feature = "client")]
    pub fn json_schema(&self) -> Option<&str> {
        self.json()?.schema.as_deref()
    }
}

/// Whether a media type is JSON, such as `application/problem+json`.
pub fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case(JSON) || essence.to_ascii_lowercase().ends_with("+json")
}

pub fn read(schemas: &mut Schemas, operation: &Value, name: &str, location: &str) -> Vec<Response> {
    let reader = schemas.reader;
    let list = reader.object(&operation["responses"], &format!("{location}.responses"));
    let mut responses = Vec::new();
    for (status, response) in list {
        let location = format!("{location}.responses.{status}");
        responses.extend(read_one(schemas, status, response, name, &location));
    }
    let successes = responses
        .iter()
        .filter(|response| !response.is_error())
        .count();
    let is_answered = responses.iter().any(|response| {
        !response.is_error() || !response.has_error_body() || response.status == Status::Default
    });
    if list.is_empty() {
        reader.report(location, "an operation must have `responses`");
    } else if reader.config.layout.client.is_some() && successes > 1 {
        reader.report(
            location,
            "for the client, an operation must have only one success status",
        );
    } else if !is_answered {
        reader.report(
            location,
            "an operation must have a success status or an error without a body",
        );
    }
    responses
}

fn read_one(
    schemas: &mut Schemas,
    status: &str,
    response: &Value,
    name: &str,
    location: &str,
) -> Option<Response> {
    let reader = schemas.reader;
    let response = reader.resolve(response, "responses", location)?;
    reader.allow_keys(response, &[keys::RESPONSE], location);
    let may_be_empty = reader.flag(response, "x-or-empty", location);
    if may_be_empty && response.get("content").is_none() {
        reader.report(location, "`x-or-empty` needs `content`");
    }
    let Some(status) = Status::parse(status) else {
        reader.report(
            location,
            "a status must be a number from 200 to 599, a range such as `4XX`, or `default`",
        );
        return None;
    };
    if reader.rules().envelope.is_some() && matches!(status, Status::Default | Status::Range(2..=4))
    {
        let message =
            "a status must be a number or `5XX`; other ranges and `default` are not supported";
        reader.report(location, message);
        return None;
    }
    let place = Place::new(format!("{name}{}", status.variant()), location);
    let mut content = Vec::new();
    for (media_type, body) in reader.object(&response["content"], &format!("{location}.content")) {
        let location = format!("{location}.content.{media_type}");
        content.push(read_content(
            schemas,
            media_type,
            body,
            status,
            &place.name,
            &location,
        ));
    }
    name_variants(schemas, &mut content, location);
    lint_envelope(schemas, response, status, may_be_empty, location);
    let headers = headers(schemas, response, &place);
    Some(Response {
        status,
        description: reader.prose(response, "description", location),
        content,
        may_be_empty,
        headers,
    })
}

fn lint_envelope(
    schemas: &Schemas,
    response: &Value,
    status: Status,
    may_be_empty: bool,
    location: &str,
) {
    let Some(envelope) = &schemas.reader.rules().envelope else {
        return;
    };
    if matches!(status, Status::Range(5))
        && (object(&response["content"]).is_empty() || may_be_empty)
    {
        let message = format!("`5XX` must have the body `{envelope}`");
        schemas.reader.report(location, message);
    }
}

/// Gives each media type a suffix. Only the first JSON has none.
fn name_variants(schemas: &Schemas, content: &mut [ResponseContent], location: &str) {
    let mut names = Namespace::default();
    let mut has_json = false;
    for content in content {
        let is_first_json = content.r#type.is_some() && !has_json;
        has_json |= is_first_json;
        if !is_first_json {
            let essence = content.media_type.split(';').next().unwrap_or_default();
            let subtype = essence.rsplit('/').next().unwrap_or_default();
            content.suffix = naming::pascal(subtype.strip_prefix("x-").unwrap_or(subtype));
            names.claim(
                schemas.reader.findings,
                &content.suffix,
                &content.media_type,
                location,
            );
        }
    }
}

fn read_content(
    schemas: &mut Schemas,
    media_type: &str,
    content: &Value,
    status: Status,
    name: &str,
    location: &str,
) -> ResponseContent {
    let reader = schemas.reader;
    reader.allow_keys(content, &[keys::RESPONSE_CONTENT], location);
    let is_streamed = reader.flag(content, "x-streamed", location);
    let is_json = is_json(media_type);
    if is_streamed && (status.is_error() || !is_json) {
        reader.report(location, "`x-streamed` is for successes of JSON");
    }
    if media_type.contains('*') || !media_type.contains('/') || !media_type.is_ascii() {
        let message = format!(
            "`{media_type}` is not one media type, so the server does not know which one it sends"
        );
        reader.report(location, message);
    }
    let schema = &content["schema"];
    let component = reference(schema).map(str::to_owned);
    if let Some(envelope) = &reader.rules().envelope
        && status.is_error()
        && (media_type != JSON || component.as_ref() != Some(envelope))
    {
        let message = format!("an error must have no body or `{envelope}` as {JSON}");
        reader.report(location, message);
    }
    if reader.config.layout.client.is_some() && is_json && component.is_none() {
        reader.report(
            location,
            "for the client, the schema of a response must be a component",
        );
    }
    if !schema.is_null() {
        reader.resolve(schema, "schemas", &format!("{location}.schema"));
    }
    let r#type = is_json.then(|| match schema.is_null() {
        true => Type::new(TypeKind::Json),
        false => schemas.read(
            schema,
            &Place::new(format!("{name}Body"), format!("{location}.schema")),
        ),
    });
    ResponseContent {
        media_type: media_type.to_owned(),
        suffix: String::new(),
        #[cfg(feature = "client")]
        schema: component.filter(|_| is_json),
        r#type,
        is_streamed: is_streamed || !is_json,
    }
}

/// Reads the headers, except for those that the service sets outside of its operations.
fn headers(schemas: &mut Schemas, response: &Value, place: &Place) -> Vec<ResponseHeader> {
    let reader = schemas.reader;
    let mut names = Namespace::default();
    let mut headers = Vec::new();
    for (name, header) in
        reader.object(&response["headers"], &format!("{}.headers", place.location))
    {
        let location = format!("{}.headers.{name}", place.location);
        let Some(header) = reader.resolve(header, "headers", &location) else {
            continue;
        };
        reader.allow_keys(header, &[keys::HEADER], &location);
        let is_common = |common: &String| common.eq_ignore_ascii_case(name);
        let schema_place = Place::new(
            format!("{}{}", place.name, naming::pascal(name)),
            format!("{location}.schema"),
        );
        let r#type = match header.get("schema") {
            Some(schema) => schemas.read(schema, &schema_place),
            None => {
                reader.report(&location, "a header must have a `schema`");
                continue;
            }
        };
        if name.eq_ignore_ascii_case("content-type")
            || reader.rules().common_headers.iter().any(is_common)
        {
            continue;
        }
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            reader.report(&location, format!("`{name}` is not the name of a header"));
        }
        lint_header(schemas, &r#type, &location);
        let rust = naming::field(name);
        names.claim(reader.findings, &rust, name, &location);
        headers.push(ResponseHeader {
            name: name.clone(),
            rust,
            description: reader.prose(header, "description", &location),
            required: reader.flag(header, "required", &location),
            deprecated: reader.flag(header, "deprecated", &location),
            r#type,
        });
    }
    headers
}

fn lint_header(schemas: &Schemas, r#type: &Type, location: &str) {
    let reader = schemas.reader;
    let is_scalar = match &r#type.kind {
        TypeKind::Item(id) => {
            matches!(schemas.model.items[*id].shape, crate::model::Shape::Enum(_))
        }
        TypeKind::Json
        | TypeKind::RawJson
        | TypeKind::List { .. }
        | TypeKind::Map(_)
        | TypeKind::Object => false,
        _ => true,
    };
    if !is_scalar || r#type.nullable {
        reader.report(
            location,
            "the schema of a response header must be text, a number, a boolean or a time",
        );
    }
}
