//! Unknown fields of a body: one with a name near that of a known field is probably a mistake, and is refused.
//!
//! PostHog's API ignores unknown fields, and its clients send some, such as all fields of a response. These are listed
//! in the contract and stay ignored.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use strsim::osa_distance;

use super::{Field, Violation};

/// How the unknown fields of a body are read.
#[derive(Debug, Clone, Copy)]
#[allow(
    dead_code,
    reason = "which variants are constructed depends on the contract"
)]
pub(crate) enum UnknownFields {
    /// All are ignored.
    Ignored,
    /// One with a name near that of a known field is refused, except these.
    NearRefused(&'static [&'static str]),
}

/// The most bytes of a name that is compared.
const MAX_NAME: usize = 64;

impl UnknownFields {
    /// Returns the valid `fields` of a body, unless one of the names in it is unknown and near a known one.
    pub(in super::super) fn check<T: AsRef<str>>(
        self,
        fields: String,
        names: impl IntoIterator<Item = T>,
        rules: &[&[Field]],
    ) -> Result<String, Violation> {
        let mut names = names.into_iter();
        match names.find_map(|name| self.violation(name.as_ref(), rules)) {
            Some(violation) => Err(violation.after(fields)),
            None => Ok(fields),
        }
    }

    /// As [`Self::check`], with the names of the members of a JSON object.
    pub(in super::super) fn check_object(
        self,
        fields: String,
        text: &str,
        rules: &[Field],
    ) -> Result<String, Violation> {
        if matches!(self, Self::Ignored) {
            return Ok(fields);
        }
        let mut names = Names {
            check: |name: &str| self.violation(name, &[rules]),
            violation: None,
        };
        // The text is a valid object, so there is no error.
        let _ = serde_json::Deserializer::from_str(text).deserialize_map(&mut names);
        match names.violation {
            Some(violation) => Err(violation.after(fields)),
            None => Ok(fields),
        }
    }

    fn violation(self, name: &str, rules: &[&[Field]]) -> Option<Violation> {
        let Self::NearRefused(ignored) = self else {
            return None;
        };
        let mut known = rules.iter().copied().flatten();
        let is_known = known.clone().any(|rule| rule.name == name) || ignored.contains(&name);
        if is_known || name.len() > MAX_NAME {
            return None;
        }
        let near = known.find(|rule| is_near(name, rule.name))?.name;
        let detail = format!("`{name}` is not a field of this body. Did you mean `{near}`?");
        Some(Violation::new("unknown_field", detail).within(name))
    }
}

/// Whether two names differ only in letter case, separators and, in four letters, one mistake.
fn is_near(name: &str, known: &str) -> bool {
    let (name, known) = (letters(name), letters(known));
    let mistakes = known.len() / 4;
    name.len().abs_diff(known.len()) <= mistakes && osa_distance(&name, &known) <= mistakes
}

fn letters(name: &str) -> String {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// Checks the names of the members until one is refused.
struct Names<C> {
    check: C,
    violation: Option<Violation>,
}

impl<'de, C: Fn(&str) -> Option<Violation>> Visitor<'de> for &mut Names<C> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<IgnoredAny>()?;
            if self.violation.is_none() {
                self.violation = (self.check)(&name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Rejection};
    use super::*;

    const RULES: &[Field] = &[
        field("name"),
        field("description"),
        field("groups"),
        field("deleted"),
        field("filters"),
        field("is_static"),
        field("_create_static_person_ids"),
    ];

    const fn field(name: &'static str) -> Field {
        Field {
            name,
            required: false,
            nullable: false,
            kind: Kind::Json,
        }
    }

    const CHECKED: UnknownFields = UnknownFields::NearRefused(&["group", "created_by"]);

    /// The attr and the text of the refusal of a name.
    fn refusal(name: &str) -> Option<(String, String)> {
        let violation = CHECKED.check(String::new(), [name], &[RULES]).err()?;
        match violation.into_rejection() {
            Rejection::Field {
                attr: Some(attr),
                code: "unknown_field",
                detail,
                ..
            } => Some((attr, detail)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_near_a_known_field_are_refused() {
        for (name, meant) in [
            ("filterz", "filters"),
            ("filter", "filters"),
            ("fitlers", "filters"),
            ("Filters", "filters"),
            ("is_Static", "is_static"),
            ("isStatic", "is_static"),
            ("is-static", "is_static"),
            ("static", "is_static"),
            ("descripton", "description"),
            ("Name", "name"),
            ("names", "name"),
            ("delete", "deleted"),
            ("grups", "groups"),
            ("create_static_person_ids", "_create_static_person_ids"),
        ] {
            let detail = format!("`{name}` is not a field of this body. Did you mean `{meant}`?");
            assert_eq!(refusal(name), Some((name.to_owned(), detail)));
        }
    }

    #[test]
    fn other_names_are_ignored() {
        let long = format!("filters{}", "_".repeat(1_000));
        for name in [
            "name",
            "filters",
            "group",
            "created_by",
            "count",
            "id",
            "people",
            "properties",
            "key",
            "is_calculating",
            "same_date",
            "",
            "ü",
            &long,
        ] {
            assert_eq!(refusal(name), None, "{name}");
        }
    }

    #[test]
    fn the_first_near_member_of_an_object_is_refused() {
        let text = r#"{"x": {"filterz": 1}, "filters": [], "\u0066ilterz": 1, "nam": 2}"#;
        let fields = r#"{"filters":[]}"#.to_owned();
        let violation = CHECKED
            .check_object(fields.clone(), text, RULES)
            .unwrap_err();
        assert_eq!(
            (violation.path, violation.preceding),
            (vec!["filterz".to_owned()], fields.clone())
        );
        let ignored = UnknownFields::Ignored;
        assert_eq!(
            ignored.check_object(fields.clone(), text, RULES),
            Ok(fields)
        );
        assert!(ignored.check(String::new(), ["filterz"], &[RULES]).is_ok());
    }
}
