//! Reads the body of an operation.

use serde_json::{Map, Value, json};

use crate::keys;
use crate::model::Type;
use crate::naming;
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
    /// The names of the files in a multipart body.
    pub uploads: Vec<String>,
    /// The names of the files that a multipart body must have.
    pub required_uploads: Vec<String>,
    /// The fields that only forms have; `None` if a form has the fields of `type` and files.
    pub form: Option<Type>,
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

/// Reads the part of a body that the server parses: JSON, and forms with its fields or more.
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
    let mut required_uploads = required(schemas, main, &files);
    let schema = without(schemas, main.schema, &files);
    let r#type = schemas.read(&schema, &place);
    if is_form && schemas.model.struct_of(&r#type).is_none() {
        reader.report(&main.location, "a form must be an object with `properties`");
    }
    let is_other = |content: &&&Content| content.location != main.location;
    let mut forms: Vec<&Content> = is_form.then_some(*main).into_iter().collect();
    for content in with_media.iter().filter(is_other) {
        if content.schema == main.schema {
            forms.extend((content.kind != Some(Media::Json)).then_some(*content));
            continue;
        }
        if content.kind == Some(Media::Json) {
            reader.report(
                &content.location,
                "all JSON media types of a body must have the same schema",
            );
            continue;
        }
        let files = form_files(schemas, content);
        required_uploads.extend(required(schemas, content, &files));
        uploads.extend(files);
        forms.push(content);
    }
    let form = form_fields(schemas, &forms, &r#type, name, location);
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
        required_uploads,
        form,
    })
}

fn properties<'a>(schemas: &Schemas<'a>, content: &Content<'a>) -> &'a Map<String, Value> {
    object(&resolved(schemas, content)["properties"])
}

/// The schema of a content, without a reference.
fn resolved<'a>(schemas: &Schemas<'a>, content: &Content<'a>) -> &'a Value {
    match reference(content.schema) {
        Some(name) => &schemas.reader.root["components"]["schemas"][name],
        None => content.schema,
    }
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

/// The files that a form must have.
fn required(schemas: &Schemas, content: &Content, files: &[String]) -> Vec<String> {
    let required = resolved(schemas, content)["required"].as_array();
    let names = required.into_iter().flatten().filter_map(Value::as_str);
    let names = names.filter(|name| files.iter().any(|file| file == name));
    names.map(str::to_owned).collect()
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

/// Returns the names of the files in a form.
fn form_files(schemas: &Schemas, content: &Content) -> Vec<String> {
    let files = files(schemas, content);
    if (content.kind == Some(Media::Multipart)) == files.is_empty() {
        schemas.reader.report(
            &content.location,
            "a multipart body must have a property of the format `binary`, and no other form may have one",
        );
    }
    files
}

/// Reads the fields of forms that the main body does not have, into a type of their own.
///
/// Such a field is required if all forms require it. Forms that differ in this are a finding.
fn form_fields(
    schemas: &mut Schemas,
    forms: &[&Content],
    main: &Type,
    name: &str,
    location: &str,
) -> Option<Type> {
    let mut fields = Map::new();
    for form in forms {
        for (name, property) in form_only(schemas, form, main) {
            let known = fields.insert(name.clone(), property.clone());
            if known.is_some_and(|known| known != *property) {
                let message = format!("`{name}` is described differently in another form");
                schemas.reader.report(&form.location, message);
            }
        }
    }
    let is_required = |form: &&Content, name: &String| {
        let required = &resolved(schemas, form)["required"];
        let mut names = required.as_array().into_iter().flatten();
        names.any(|required| required == name)
    };
    let mut required = Vec::new();
    for name in fields.keys() {
        let count = forms.iter().filter(|form| is_required(form, name)).count();
        if count == forms.len() {
            required.push(name.clone());
        } else if count > 0 {
            let message =
                format!("`{name}` must be required in all forms of the body, or in none of them");
            schemas.reader.report(location, message);
        }
    }
    let mut forms = forms.iter().copied();
    let form = forms.find(|form| !form_only(schemas, form, main).is_empty());
    let place = form_place(form?, &fields, name, location);
    let schema = json!({
        "type": "object",
        "description": "The fields that only the forms of a body have.",
        "properties": fields,
        "required": required,
    });
    Some(schemas.read(&schema, &place))
}

/// Operations with the same component as their form have one type for the fields.
fn form_place(form: &Content, fields: &Map<String, Value>, name: &str, location: &str) -> Place {
    match reference(form.schema) {
        Some(component) => {
            let names = fields.keys().map(String::as_str).collect::<Vec<_>>();
            let location = format!("components.schemas.{component} ({})", names.join(", "));
            Place::new(format!("{}Only", naming::pascal(component)), location)
        }
        None => Place::new(format!("{name}Form"), format!("{location}.content")),
    }
}

/// The properties of a form that are neither files nor fields of the main body.
fn form_only<'a>(
    schemas: &Schemas<'a>,
    form: &Content<'a>,
    main: &Type,
) -> Vec<(&'a String, &'a Value)> {
    let shape = schemas.model.struct_of(main);
    let is_field = |name: &String| {
        shape.is_some_and(|shape| shape.fields.iter().any(|field| field.name == *name))
    };
    let properties = properties(schemas, form).iter();
    properties
        .filter(|(name, property)| !is_file(property) && !is_field(name))
        .collect()
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
