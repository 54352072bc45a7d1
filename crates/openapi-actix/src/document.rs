//! A parsed document.

use serde_json::Value;
use serde_yaml_ng::Value as Yaml;

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
    /// Fails if `text` is not YAML, or if a key is a list or an object, or occurs twice in an object.
    pub fn parse(name: &str, text: &str) -> Result<Self, Findings> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut yaml: Yaml = parse(text)
            .map_err(|error| Findings::one(name, "", format!("cannot be parsed: {error}")))?;
        // A status such as `200` may be written without quotes.
        stringify_keys(&mut yaml, "")
            .map_err(|(location, message)| Findings::one(name, &location, message))?;
        let root = serde_json::to_value(yaml)
            .map_err(|error| Findings::one(name, "", format!("cannot be parsed: {error}")))?;
        Ok(Self {
            name: name.to_owned(),
            text: text.to_owned(),
            root,
        })
    }
}

fn parse(text: &str) -> Result<Yaml, serde_yaml_ng::Error> {
    let mut yaml: Yaml = serde_yaml_ng::from_str(text)?;
    yaml.apply_merge()?;
    Ok(yaml)
}

/// Turns numbers and booleans that are keys into text. Fails with the location of a key that is none, or occurs twice.
fn stringify_keys(value: &mut Yaml, location: &str) -> Result<(), (String, String)> {
    match value {
        Yaml::Sequence(items) => {
            let mut items = items.iter_mut().enumerate();
            items
                .try_for_each(|(index, item)| stringify_keys(item, &format!("{location}[{index}]")))
        }
        Yaml::Mapping(mapping) => {
            for (key, mut member) in std::mem::take(mapping) {
                let key = key_text(key).map_err(|message| (location.to_owned(), message))?;
                let dot = if location.is_empty() { "" } else { "." };
                let place = format!("{location}{dot}{key}");
                stringify_keys(&mut member, &place)?;
                if mapping.insert(Yaml::String(key), member).is_some() {
                    let message = "this key occurs twice, with quotes and without";
                    return Err((place, message.to_owned()));
                }
            }
            Ok(())
        }
        Yaml::Tagged(tagged) => {
            let message = format!("the YAML tag `{}` is not supported", tagged.tag);
            Err((location.to_owned(), message))
        }
        _ => Ok(()),
    }
}

fn key_text(key: Yaml) -> Result<String, String> {
    match key {
        Yaml::String(text) => Ok(text),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Bool(flag) => Ok(flag.to_string()),
        Yaml::Null => Err("a key must be text, not null".to_owned()),
        Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => {
            Err("a key must be text, not a list, an object or a tag".to_owned())
        }
    }
}
