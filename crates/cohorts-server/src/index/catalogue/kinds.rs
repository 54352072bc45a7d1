//! The kinds of values that a property has, and the type that follows from them.

/// The type of the values of a property, as PostHog names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyType {
    String,
    Numeric,
    Boolean,
    DateTime,
}

/// A set of kinds of values. Null, empty texts, lists and objects have no kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueKinds(pub(super) u8);

impl ValueKinds {
    pub const NONE: Self = Self(0);
    const TEXT: Self = Self(1);
    const NUMBER: Self = Self(2);
    const TRUTH: Self = Self(4);
    const TIME: Self = Self(8);

    /// The kind of a value as JSON text.
    pub fn of(json: &str) -> Self {
        match json.as_bytes() {
            [b'"', .., b'"'] => Self::of_text(&json[1..json.len() - 1]),
            [b'0'..=b'9' | b'-', ..] => Self::NUMBER,
            [b't' | b'f', ..] => Self::TRUTH,
            _ => Self::NONE,
        }
    }

    fn of_text(text: &str) -> Self {
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        match text {
            "" => Self::NONE,
            _ if is("true") || is("false") => Self::TRUTH,
            _ if begins_with_date(text.as_bytes()) => Self::TIME,
            _ => Self::TEXT,
        }
    }

    pub fn bits(self) -> i16 {
        self.0.into()
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The type of values of these kinds; `None` without a kind.
    pub fn property_type(self) -> Option<PropertyType> {
        match self {
            Self::NONE => None,
            Self::NUMBER => Some(PropertyType::Numeric),
            Self::TRUTH => Some(PropertyType::Boolean),
            Self::TIME => Some(PropertyType::DateTime),
            _ => Some(PropertyType::String),
        }
    }
}

/// Whether a text is a date, such as `2026-03-01` or `2026/03/01`, alone or before a time.
fn begins_with_date(text: &[u8]) -> bool {
    let Some((date, rest)) = text.split_first_chunk::<10>() else {
        return false;
    };
    let is_digits = |range: std::ops::Range<usize>| date[range].iter().all(u8::is_ascii_digit);
    let is_date = is_digits(0..4)
        && is_digits(5..7)
        && is_digits(8..10)
        && matches!(date[4], b'-' | b'/')
        && date[7] == date[4];
    let is_time = matches!(rest, [b'T' | b' ', hour, _, b':', ..] if hour.is_ascii_digit());
    is_date && (rest.is_empty() || is_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_from_all_values() {
        use PropertyType::{Boolean, DateTime, Numeric, String};
        for (values, expected) in [
            (&[][..], None),
            (&["null", "[1]", r#"{"a": 1}"#, r#""""#], None),
            (&["1", "-2.5", "null"], Some(Numeric)),
            (&["true", r#""False""#], Some(Boolean)),
            (&[r#""2026-03-01""#], Some(DateTime)),
            (
                &[r#""2026/03/01 10:00""#, r#""2026-03-01T10:00:00Z""#],
                Some(DateTime),
            ),
            (&[r#""2026-03-01x""#], Some(String)),
            (&[r#""2026-03/01""#], Some(String)),
            (&[r#""12""#], Some(String)),
            (&["12", r#""12""#], Some(String)),
            (&["12", "true"], Some(String)),
            (&[r#""2026-03-01""#, "1"], Some(String)),
        ] {
            let mut kinds = ValueKinds::NONE;
            values
                .iter()
                .for_each(|value| kinds.add(ValueKinds::of(value)));
            assert_eq!(kinds.property_type(), expected, "{values:?}");
        }
    }
}
