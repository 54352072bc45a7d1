//! The only module that turns names of the document into Rust names.
//!
//! Two names of one namespace that become the same Rust name are a finding at the location of the second one.

use std::collections::HashMap;

use proc_macro2::Ident;
use quote::format_ident;

use crate::findings::Collector;

/// Returns the words of a name: it is split at capitals and at characters that are not ASCII letters or digits.
fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (index, &letter) in letters.iter().enumerate() {
        if !letter.is_ascii_alphanumeric() {
            words.push(String::new());
            continue;
        }
        let before = index.checked_sub(1).map(|index| letters[index]);
        let after = letters.get(index + 1);
        let after_lower = before.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        // In `HTTPServer`, the last capital begins a word.
        let ends_acronym = before.is_some_and(|c| c.is_ascii_uppercase())
            && after.is_some_and(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && (after_lower || ends_acronym) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `cohorts_list` and `my-schema.v1` become `CohortsList` and `MySchemaV1`.
pub fn pascal(name: &str) -> String {
    let name: String = words(name).iter().map(|word| capital(word)).collect();
    after_letter(name, "V")
}

/// `getPetById` becomes `get_pet_by_id`. The result may be a keyword.
pub fn snake(name: &str) -> String {
    after_letter(words(name).join("_").to_ascii_lowercase(), "_")
}

/// `CohortCreate` becomes `COHORT_CREATE`.
pub fn shouting(name: &str) -> String {
    snake(name).to_ascii_uppercase()
}

/// Puts `prefix` before a digit at the start.
fn after_letter(name: String, prefix: &str) -> String {
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("{prefix}{name}")
    } else {
        name
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The name of an enum variant for a value. Characters that are not in words have names, such as `Plus`.
pub fn variant(value: &str) -> String {
    let name = pascal(value);
    if !name.is_empty() {
        // `-1` differs from `1`.
        return match value.strip_prefix(['-', '+']) {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                let sign = if value.starts_with('-') {
                    "Minus"
                } else {
                    "Plus"
                };
                format!("{sign}{}", name.trim_start_matches('V'))
            }
            _ => name,
        };
    }
    value.chars().map(symbol).collect()
}

/// The name of the variant for other texts than those of the variants `names`.
pub fn other_variant<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let mut other = "Other".to_owned();
    while names.contains(&other.as_str()) {
        other.push_str("Value");
    }
    other
}

fn symbol(c: char) -> String {
    let name = match c {
        '+' => "Plus",
        '-' => "Minus",
        '*' => "Star",
        '/' => "Slash",
        '=' => "Equal",
        '<' => "Less",
        '>' => "Greater",
        '!' => "Not",
        '?' => "Question",
        '%' => "Percent",
        '&' => "And",
        '|' => "Or",
        '.' => "Dot",
        ',' => "Comma",
        ':' => "Colon",
        ';' => "Semicolon",
        '#' => "Hash",
        '@' => "At",
        '$' => "Dollar",
        '_' => "Underscore",
        '~' => "Tilde",
        '^' => "Caret",
        '(' | ')' | '[' | ']' | '{' | '}' => "Bracket",
        '\'' | '"' => "Quote",
        ' ' => "Space",
        c => return format!("U{:X}", u32::from(c)),
    };
    name.to_owned()
}

/// Returns a name as an identifier, with a `_` after a keyword.
pub fn ident(name: &str) -> Ident {
    syn::parse_str(name).unwrap_or_else(|_| {
        let plain = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
        let plain: String = plain.collect();
        syn::parse_str(&plain).unwrap_or_else(|_| format_ident!("_{plain}_"))
    })
}

/// Returns the identifier of a field, a parameter or a method.
///
/// A name without letters and digits is spelled out: `_` becomes `underscore`.
pub fn field(name: &str) -> String {
    let mut snake = snake(name);
    if snake.is_empty() {
        snake = self::snake(&variant(name));
    }
    match syn::parse_str::<Ident>(&snake) {
        Ok(_) => snake,
        Err(_) => format!("{snake}_"),
    }
}

/// The Rust names of one namespace, each with the name in the document and its location.
#[derive(Default)]
pub struct Namespace {
    claims: HashMap<String, (String, String)>,
}

impl Namespace {
    /// Takes a Rust name for `name`, which is at `location`.
    ///
    /// A name without an ASCII letter or digit, and a Rust name that is taken, are findings.
    pub fn claim(&mut self, findings: &Collector, rust: &str, name: &str, location: &str) {
        if rust.trim_matches('_').is_empty() {
            let message =
                format!("the name `{name}` has no ASCII letter or digit, so it has no Rust name");
            return findings.report(location, message);
        }
        if let Some((taken, place)) = self.claims.get(rust) {
            let message = format!(
                "`{name}` becomes the Rust name `{rust}`, as does `{taken}` at {place}; rename one of them"
            );
            return findings.report(location, message);
        }
        let claim = (name.to_owned(), location.to_owned());
        self.claims.insert(rust.to_owned(), claim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_capitals_and_separators() {
        for (name, expected) in [
            ("cohorts_list", "cohorts_list"),
            ("getPetById", "get_pet_by_id"),
            ("my-schema.v1", "my_schema_v1"),
            ("HTTPServer", "http_server"),
            ("userID", "user_id"),
            ("S3Key", "s3_key"),
            ("4xx", "_4xx"),
        ] {
            assert_eq!(snake(name), expected);
        }
        assert_eq!(pascal("my-schema.v1"), "MySchemaV1");
        assert_eq!(pascal("RawJson"), "RawJson");
        assert_eq!(shouting("CohortCreate"), "COHORT_CREATE");
    }

    #[test]
    fn every_value_has_a_variant_name() {
        for (value, expected) in [
            ("person_property", "PersonProperty"),
            ("+", "Plus"),
            ("-1", "Minus1"),
            ("1", "V1"),
            ("<=", "LessEqual"),
            ("é", "UE9"),
        ] {
            assert_eq!(variant(value), expected);
        }
    }

    #[test]
    fn keywords_are_valid_fields() {
        for name in ["type", "self", "Self", "crate", "async"] {
            let field = field(name);
            let _ = ident(&field);
            assert_ne!(field, name);
        }
        assert_eq!(field("_"), "underscore");
        assert_eq!(field("+1"), "_1");
    }
}
