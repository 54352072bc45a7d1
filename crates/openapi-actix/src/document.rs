//! A parsed document.

use serde_json::Value;

use crate::findings::Findings;

/// An OpenAPI document, parsed but not checked.
#[derive(Debug, Clone)]
pub struct Document {
    /// The name that findings and generated files mention.
    pub(crate) name: String,
    /// The text, which the generated crate contains.
    pub(crate) text: String,
    /// The content, with YAML anchors and merge keys resolved.
    pub(crate) root: Value,
}

impl Document {
    /// Parses YAML or JSON. `name` is a name for messages, such as `openapi.yaml`.
    ///
    /// # Errors
    ///
    /// Fails if `text` is not YAML, or if a key is not a string.
    pub fn parse(name: &str, text: &str) -> Result<Self, Findings> {
        let root = parse(text)
            .map_err(|error| Findings::one(name, "", format!("cannot be parsed: {error}")))?;
        Ok(Self {
            name: name.to_owned(),
            text: text.to_owned(),
            root,
        })
    }
}

fn parse(text: &str) -> Result<Value, String> {
    let mut yaml: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    yaml.apply_merge().map_err(|error| error.to_string())?;
    // A status such as `200` may be written without quotes.
    stringify_keys(&mut yaml);
    serde_json::to_value(yaml).map_err(|error| error.to_string())
}

/// Turns numbers and booleans that are keys into text.
fn stringify_keys(value: &mut serde_yaml_ng::Value) {
    use serde_yaml_ng::Value;
    match value {
        Value::Sequence(items) => items.iter_mut().for_each(stringify_keys),
        Value::Mapping(mapping) => {
            let members = std::mem::take(mapping);
            for (key, mut member) in members {
                stringify_keys(&mut member);
                let key = match key {
                    Value::Number(number) => Value::String(number.to_string()),
                    Value::Bool(flag) => Value::String(flag.to_string()),
                    key => key,
                };
                mapping.insert(key, member);
            }
        }
        Value::Tagged(tagged) => stringify_keys(&mut tagged.value),
        _ => (),
    }
}
