//! How JSON values read as text and as numbers when they are compared.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

/// A value as it is looked at: most are texts, which need not be JSON values for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stored<'a> {
    Text(&'a str),
    /// Anything but a string.
    Json(&'a Value),
}

impl<'a> From<&'a Value> for Stored<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::String(text) => Stored::Text(text),
            other => Stored::Json(other),
        }
    }
}

impl<'a> From<&'a str> for Stored<'a> {
    fn from(text: &'a str) -> Self {
        Stored::Text(text)
    }
}

/// The text of a value: strings as they are, integral numbers without a fraction, lists and
/// objects as compact JSON.
pub(crate) fn text<'a>(value: impl Into<Stored<'a>>) -> Cow<'a, str> {
    match value.into() {
        Stored::Text(text) => Cow::Borrowed(text),
        Stored::Json(Value::Number(number)) => Cow::Owned(number_text(number)),
        Stored::Json(other) => Cow::Owned(other.to_string()),
    }
}

fn number_text(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e21 => {
            (float as i128).to_string()
        }
        _ => number.to_string(),
    }
}

/// A number compared by its exact value, however large.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    /// The number a value is: a JSON number, or text that is a finite decimal from end to end.
    pub fn of<'a>(value: impl Into<Stored<'a>>) -> Option<Number> {
        match value.into() {
            Stored::Text(text) => Number::of_text(text),
            Stored::Json(Value::Number(number)) => Number::of_json(number),
            Stored::Json(_) => None,
        }
    }

    fn of_json(number: &serde_json::Number) -> Option<Number> {
        if let Some(whole) = number.as_i128() {
            return Some(Number::Whole(whole));
        }
        Some(Number::from_float(number.as_f64()?))
    }

    fn of_text(text: &str) -> Option<Number> {
        let decimal = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
        if text.is_empty() || !text.bytes().all(decimal) {
            return None;
        }
        if let Ok(whole) = text.parse() {
            return Some(Number::Whole(whole));
        }
        let float: f64 = text.parse().ok()?;
        float.is_finite().then(|| Number::from_float(float))
    }

    fn from_float(float: f64) -> Number {
        match float.fract() == 0.0 && float.abs() < 1e37 {
            true => Number::Whole(float as i128),
            false => Number::Float(float),
        }
    }

    /// The number times a million, as microseconds, where that is an instant.
    pub fn seconds_to_micros(self) -> Option<i64> {
        match self {
            Number::Whole(whole) => whole.checked_mul(1_000_000)?.try_into().ok(),
            Number::Float(float) => {
                let micros = (float * 1e6).round();
                (micros.abs() < 9e18).then_some(micros as i64)
            }
        }
    }

    pub fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a.cmp(&b),
            (Number::Float(a), Number::Float(b)) => a.total_cmp(&b),
            (Number::Whole(a), Number::Float(b)) => whole_to_float(a, b),
            (Number::Float(a), Number::Whole(b)) => whole_to_float(b, a).reverse(),
        }
    }
}

/// Compares without rounding the whole number to a float, which would merge neighbours.
fn whole_to_float(whole: i128, float: f64) -> Ordering {
    const LIMIT: f64 = 1.7e38;
    if float > LIMIT {
        return Ordering::Less;
    }
    if float < -LIMIT {
        return Ordering::Greater;
    }
    let cut = whole.cmp(&(float.trunc() as i128));
    cut.then_with(|| 0.0_f64.total_cmp(&float.fract()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(a: Value, b: Value) -> Ordering {
        Number::of(&a).unwrap().compare(Number::of(&b).unwrap())
    }

    #[test]
    fn integral_floats_read_without_a_fraction() {
        assert_eq!(text(&json!(5.0)), "5");
        assert_eq!(text(&json!(-0.0)), "0");
        assert_eq!(text(&json!(5.5)), "5.5");
        assert_eq!(text(&json!(1e20)), "100000000000000000000");
        assert_eq!(text(&json!([1, "a", null])), r#"[1,"a",null]"#);
        assert_eq!(text(&json!(true)), "true");
    }

    #[test]
    fn only_whole_decimals_are_numbers() {
        for text in ["12", "-1.5", "1e2", "+3", ".5"] {
            assert!(Number::of(&json!(text)).is_some(), "{text}");
        }
        for value in [
            json!(""),
            json!("inf"),
            json!("nan"),
            json!("1e999"),
            json!(" 1"),
            json!("0x1"),
        ] {
            assert!(Number::of(&value).is_none(), "{value}");
        }
        for value in [json!(true), json!([1]), json!(null), json!({})] {
            assert!(Number::of(&value).is_none(), "{value}");
        }
    }

    #[test]
    fn large_neighbours_are_told_apart() {
        assert_eq!(
            order(json!(9007199254740993_i64), json!(9007199254740992_i64)),
            Ordering::Greater
        );
        assert_eq!(
            order(json!(u64::MAX), json!("18446744073709551616")),
            Ordering::Less
        );
        assert_eq!(order(json!(3), json!(3.5)), Ordering::Less);
        assert_eq!(order(json!(-3), json!(-3.5)), Ordering::Greater);
        assert_eq!(order(json!(3), json!("3.0")), Ordering::Equal);
        assert_eq!(order(json!(1e300), json!(7)), Ordering::Greater);
    }
}
