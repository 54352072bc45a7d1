//! Reads the body of an operation.

use serde_json::Value;

use crate::keys;
use crate::model::Type;
use crate::reader::{object, reference};
use crate::responses::is_json;
use crate::schemas::{Place, Schemas};

pub struct Body {
    /// What the server parses.
    pub typed: Option<TypedBody>,
    /// The media types that the handler parses itself.
    pub opaque: Vec<String>,
    /// Whether the handler parses all media types itself (`x-raw-body`).
    pub raw: bool,
    pub description: String,
    pub required: bool,
}

/// A body that the server parses.
pub struct TypedBody {
    pub r#type: Type,
    /// The name of the component schema, if it is one.
    pub schema: Option<String>,
    pub media: Vec<Media>,
    /// The names of the files in a multipart body. Its other parts are the fields of `type`.
    pub uploads: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Json,
    Form,
    Multipart,
}

impl Body {
    /// The files of a multipart body.
    pub fn uploads(&self) -> &[String] {
        self.typed.as_ref().map_or(&[], |typed| &typed.uploads)
    }
}

/// A media type of a body, with its schema.
struct Content<'a> {
    media_type: &'a str,
    schema: &'a Value,
    kind: Option<Media>,
    location: String,
}

pub fn read(schemas: &mut Schemas, operation: &Value, name: &str, location: &str) -> Option<Body> {
    let reader = schemas.reader;
    let raw = reader.flag(operation, "x-raw-body", location);
    let Some(body) = operation.get("requestBody") else {
        if raw {
            reader.report(location, "`x-raw-body` needs a `requestBody`");
        }
        return None;
    };
    let location = format!("{location}.requestBody");
    let body = reader.resolve(body, "requestBodies", &location)?;
    reader.allow_keys(body, &[keys::BODY], &location);
    let contents = contents(schemas, body, &location);
    if contents.is_empty() {
        reader.report(&location, "a body must have `content`");
    }
    let required = reader.flag(body, "required", &location);
    let description = reader.prose(body, "description", &location);
    let is_opaque = |content: &&Content| content.kind.is_none();
    let opaque = contents
        .iter()
        .filter(is_opaque)
        .map(|content| content.media_type.to_owned());
    let opaque: Vec<_> = opaque.collect();
    let typed = if raw {
        None
    } else {
        typed(schemas, &contents, name, &location)
    };
    if !raw {
        lint_own(schemas, &contents, typed.as_ref(), &location);
        lint_required(schemas, required, typed.as_ref(), &location);
    }
    Some(Body {
        typed,
        opaque: if raw { Vec::new() } else { opaque },
        raw,
        description,
        required,
    })
}

fn contents<'a>(schemas: &Schemas<'a>, body: &'a Value, location: &str) -> Vec<Content<'a>> {
    let reader = schemas.reader;
    let mut contents = Vec::new();
    for (media_type, content) in reader.object(&body["content"], &format!("{location}.content")) {
        let location = format!("{location}.content.{media_type}");
        reader.allow_keys(content, &[keys::BODY_CONTENT], &location);
        let schema = &content["schema"];
        if !schema.is_null() {
            reader.resolve(schema, "schemas", &format!("{location}.schema"));
        }
        if !media_type.contains('/') {
            reader.report(&location, format!("`{media_type}` is not a media type"));
        }
        contents.push(Content {
            media_type,
            schema,
            kind: media(media_type),
            location,
        });
    }
    contents
}

fn media(media_type: &str) -> Option<Media> {
    match media_type {
        "application/x-www-form-urlencoded" => Some(Media::Form),
        "multipart/form-data" => Some(Media::Multipart),
        other => is_json(other).then_some(Media::Json),
    }
}

/// Reads the part of a body that the server parses: JSON, and forms with the same fields.
fn typed(
    schemas: &mut Schemas,
    contents: &[Content],
    name: &str,
    location: &str,
) -> Option<TypedBody> {
    let reader = schemas.reader;
    let with_media: Vec<_> = contents
        .iter()
        .filter(|content| content.kind.is_some())
        .collect();
    let main = with_media
        .iter()
        .find(|content| content.kind == Some(Media::Json))
        .or(with_media.first())?;
    if main.schema.is_null() {
        reader.report(&main.location, "a body must have a `schema`");
        return None;
    }
    let place = Place::new(format!("{name}Body"), format!("{}.schema", main.location));
    let is_form = main.kind != Some(Media::Json);
    let files = if is_form {
        files(schemas, main)
    } else {
        Vec::new()
    };
    let mut uploads = files.clone();
    let schema = without(schemas, main.schema, &files);
    let r#type = schemas.read(&schema, &place);
    if is_form && schemas.model.struct_of(&r#type).is_none() {
        reader.report(&main.location, "a form must be an object with `properties`");
    }
    for content in with_media
        .iter()
        .filter(|content| content.location != main.location)
    {
        if content.schema == main.schema {
            continue;
        }
        if content.kind == Some(Media::Json) {
            reader.report(
                &content.location,
                "all JSON media types of a body must have the same schema",
            );
            continue;
        }
        uploads.extend(form(schemas, content, &r#type, main));
    }
    let mut media: Vec<Media> = Vec::new();
    for kind in with_media.iter().filter_map(|content| content.kind) {
        if !media.contains(&kind) {
            media.push(kind);
        }
    }
    let has_fields = schemas.model.struct_of(&r#type).is_some();
    if media.iter().any(|kind| *kind != Media::Json) && !has_fields && !is_form {
        reader.report(
            location,
            "a form needs a JSON body that is an object with `properties`",
        );
    }
    Some(TypedBody {
        r#type,
        schema: reference(main.schema).map(str::to_owned),
        media,
        uploads,
    })
}

fn properties<'a>(
    schemas: &Schemas<'a>,
    content: &Content<'a>,
) -> &'a serde_json::Map<String, Value> {
    let schema = match reference(content.schema) {
        Some(name) => &schemas.reader.root["components"]["schemas"][name],
        None => content.schema,
    };
    object(&schema["properties"])
}

/// Whether a property of a form is a file, or a list of files.
fn is_file(property: &Value) -> bool {
    let is_binary = |schema: &Value| schema["format"] == "binary";
    is_binary(property) || (property["type"] == "array" && is_binary(&property["items"]))
}

fn files(schemas: &Schemas, content: &Content) -> Vec<String> {
    let properties = properties(schemas, content).iter();
    let files = properties.filter(|(_, property)| is_file(property));
    files.map(|(name, _)| name.clone()).collect()
}

/// Returns a schema without the properties that are files. A schema without files is unchanged.
fn without(schemas: &Schemas, schema: &Value, files: &[String]) -> Value {
    if files.is_empty() {
        return schema.clone();
    }
    let mut schema = match reference(schema) {
        Some(name) => schemas.reader.root["components"]["schemas"][name].clone(),
        None => schema.clone(),
    };
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.retain(|name, _| !files.contains(name));
        // An object without described members would be a map.
        let is_empty = properties.is_empty();
        if is_empty && let Some(schema) = schema.as_object_mut() {
            schema.insert("additionalProperties".to_owned(), false.into());
        }
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !files.iter().any(|file| name == file));
    }
    schema
}

/// Returns the names of the files in a form. Every other property must be a field of the main body too.
fn form(schemas: &Schemas, content: &Content, main: &Type, main_content: &Content) -> Vec<String> {
    let reader = schemas.reader;
    let files = files(schemas, content);
    if (content.kind == Some(Media::Multipart)) == files.is_empty() {
        reader.report(
            &content.location,
            "a multipart body must have a property of the format `binary`, and no other form may have one",
        );
    }
    let shape = schemas.model.struct_of(main);
    let is_field = |name: &String| {
        shape.is_some_and(|shape| shape.fields.iter().any(|field| field.name == *name))
    };
    for (name, property) in properties(schemas, content) {
        if !is_file(property) && !is_field(name) {
            let main = reference(main_content.schema).unwrap_or("the JSON body");
            let message = format!("`{name}` is neither a file nor a field of {main}");
            reader.report(&content.location, message);
        }
    }
    files
}

/// Reports what the hand-written runtime of a project cannot read.
fn lint_own(schemas: &Schemas, contents: &[Content], typed: Option<&TypedBody>, location: &str) {
    let reader = schemas.reader;
    if reader.config.is_bundled() {
        return;
    }
    for content in contents {
        if content.kind.is_none() {
            let message = format!(
                "a body of `{}` is not supported; use application/json, application/x-www-form-urlencoded or multipart/form-data",
                content.media_type
            );
            reader.report(&content.location, message);
        } else if reference(content.schema).is_none() {
            reader.report(
                &content.location,
                "the schema of a body must be a component",
            );
        }
    }
    if !contents
        .iter()
        .any(|content| content.kind == Some(Media::Json))
    {
        reader.report(location, "application/json is missing");
    }
    let is_struct = |typed: &TypedBody| schemas.model.struct_of(&typed.r#type).is_some();
    if let Some(typed) = typed.filter(|typed| !is_struct(typed)) {
        let name = typed.schema.clone().unwrap_or_default();
        reader.report(
            &format!("components.schemas.{name}"),
            "a body must be an object",
        );
    }
}

/// Checks `required` of a body where a missing body is equivalent to an empty object.
fn lint_required(schemas: &Schemas, required: bool, typed: Option<&TypedBody>, location: &str) {
    if !schemas.reader.rules().missing_body_is_empty {
        return;
    }
    let Some(shape) = typed.and_then(|typed| schemas.model.struct_of(&typed.r#type)) else {
        return;
    };
    let field = shape.fields.iter().find(|field| field.required);
    match field {
        Some(field) if !required => {
            let message = format!(
                "`required: true` is missing: the body has the required field `{}`",
                field.name
            );
            schemas.reader.report(location, message);
        }
        _ => {}
    }
}
