//! The configuration: the rules that a document must follow, and the form of the output.

/// What a document must follow, and where the generated files go.
///
/// The default accepts every document that the generator can express, and writes a complete crate.
#[derive(Debug, Clone)]
pub struct Config {
    /// The command that the first line of a generated file names.
    pub command: String,
    /// The code that generated code calls.
    pub runtime: Runtime,
    /// The paths of the generated files.
    pub layout: Layout,
    /// Component schemas for which the client has a type of its own, each with the path of the Rust type.
    pub client_types: Vec<(String, String)>,
    /// The rules of the project.
    pub rules: Rules,
}

/// The code that generated code calls: it parses requests and builds responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// The runtime of this crate, which becomes the module `support` of the generated crate.
    Bundled,
    /// The module `crate::support` of the crate that contains the generated files, written by hand.
    ///
    /// It offers what [`Runtime::Bundled`] offers to generated code, except for constraints in bodies other than
    /// lengths of text and lists and bounds of integers. A document that needs more has a finding.
    Own,
}

/// The paths of the generated files, relative to the folder of the output.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The types of the schemas.
    pub types: String,
    /// Traits, requests, responses and routes.
    pub server: String,
    /// The client, if one is generated. It needs the feature `client`.
    pub client: Option<String>,
    /// The name of the crate, if its other files are generated too.
    pub package: Option<String>,
}

/// The rules of a project. A document that violates one has a finding.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Every path ends with a slash, or with the name of a file such as `list.csv`. The server accepts the path with and
    /// without the slash.
    pub trailing_slash: bool,
    /// Every operation has exactly one tag, which the document describes.
    ///
    /// Otherwise an operation belongs to its first tag, or to `default`.
    pub one_tag: bool,
    /// Every `operationId` is present and in `snake_case`.
    pub snake_case_ids: bool,
    /// The component schema of every error body. Without it, each error may have its own schema.
    ///
    /// With it, the service returns errors as its error type, and responses have no variants for them.
    pub envelope: Option<String>,
    /// The schemes of the key, if an operation states its scopes in an extension.
    pub key: Option<KeyRule>,
    /// An extension (`x-…`) that the generator does not know is a finding. Otherwise it informs readers.
    pub known_extensions: bool,
    /// A missing body is equivalent to an empty object.
    ///
    /// Otherwise a body without `required: true` is an `Option`.
    pub missing_body_is_empty: bool,
    /// Every property, parameter and response header has a description, or refers to a component with one.
    pub descriptions: bool,
    /// Statuses that an operation with a body that the server parses documents.
    pub statuses_with_parsed_body: Vec<u16>,
    /// Statuses that an operation with a body documents.
    pub statuses_with_body: Vec<u16>,
    /// Statuses that an operation with security documents.
    pub statuses_with_key: Vec<u16>,
    /// The header parameter with which the client names a request, so that a retry is not carried out again. Every POST with
    /// security has it, and documents 409 and 422. Only [`Runtime::Own`] has the function that its routes call.
    pub idempotency_key: Option<String>,
    /// Response headers that the service sets outside of its operations. The types of responses omit them.
    pub common_headers: Vec<String>,
}

/// The rule that operations need a key, and state its scopes in an extension.
#[derive(Debug, Clone)]
pub struct KeyRule {
    /// The security schemes of the key: the places from which the service reads it. An operation that needs a key has all
    /// of them as alternatives.
    pub schemes: Vec<String>,
    /// Security schemes of operations that need no key, because their handlers read and check the credentials.
    pub handled: Vec<String>,
    /// The name of the extension, such as `x-required-scopes`. An operation with a key has it, and a parameter that needs
    /// further scopes can have it.
    pub scopes: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            command: "openapi-actix".to_owned(),
            runtime: Runtime::Bundled,
            layout: Layout {
                types: "src/types.rs".to_owned(),
                server: "src/server.rs".to_owned(),
                client: None,
                package: Some("server".to_owned()),
            },
            client_types: Vec::new(),
            rules: Rules::default(),
        }
    }
}

impl Config {
    pub(crate) fn is_bundled(&self) -> bool {
        self.runtime == Runtime::Bundled
    }
}
