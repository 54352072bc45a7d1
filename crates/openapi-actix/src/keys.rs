//! The keys that the generator knows, for each kind of object in the document.
//!
//! A key that is in no list is a finding. A key for readers does not change the output. Every other key does, which
//! `tests/keys.rs` proves for each of them.

/// Keys that inform readers, wherever they are allowed.
#[cfg(test)]
pub const READERS: &[&str] = &[
    "example",
    "examples",
    "externalDocs",
    "title",
    // The server decodes every value, reserved characters or not.
    "allowReserved",
    // Links describe relations between operations.
    "links",
    "xml",
];

pub const DOCUMENT: &[&str] = &[
    "openapi",
    "info",
    "servers",
    "tags",
    "paths",
    "components",
    "security",
    "externalDocs",
];
pub const COMPONENTS: &[&str] = &[
    "schemas",
    "responses",
    "parameters",
    "requestBodies",
    "headers",
    "securitySchemes",
    "examples",
    "links",
];
pub const PATH: &[&str] = &[
    "summary",
    "description",
    "parameters",
    "get",
    "post",
    "put",
    "patch",
    "delete",
];
pub const OPERATION: &[&str] = &[
    "operationId",
    "tags",
    "summary",
    "description",
    "security",
    "parameters",
    "requestBody",
    "responses",
    "deprecated",
    "externalDocs",
    "x-raw-body",
    "x-writes",
];
pub const PARAMETER: &[&str] = &[
    "name",
    "in",
    "required",
    "description",
    "deprecated",
    "schema",
    "example",
    "examples",
    "style",
    "explode",
    "allowReserved",
    "x-lenient",
    "x-true",
];
pub const BODY: &[&str] = &["description", "required", "content"];
pub const BODY_CONTENT: &[&str] = &["schema", "example", "examples"];
pub const RESPONSE: &[&str] = &["description", "content", "headers", "links", "x-or-empty"];
pub const RESPONSE_CONTENT: &[&str] = &["schema", "example", "examples", "x-streamed"];
pub const HEADER: &[&str] = &[
    "description",
    "required",
    "schema",
    "example",
    "examples",
    "deprecated",
    // A header that is not a list has one notation.
    "style",
    "explode",
];
pub const SCHEMA: &[&str] = &[
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "nullable",
    "oneOf",
    "pattern",
    "properties",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
    "xml",
    "x-always-sent",
    "x-ignored-fields",
    "x-null",
    "x-patch",
    "x-raw-json",
    "x-rust-name",
    "x-trim",
];
