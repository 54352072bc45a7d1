//! The text and the number of a JSON value, as comparisons use them.
//!
//! Numbers are compared exactly, also beyond 2^53; no comparison rounds.

use std::borrow::Cow;
use std::cmp::Ordering;

use bigdecimal::BigDecimal;
use serde_json::Value;

/// A stored value, borrowed. Texts and doubles need no JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stored<'a> {
    Text(&'a str),
    /// The bits of a double that equals the number exactly.
    Double(u64),
    /// Any other value.
    Json(&'a Value),
}

/// Every whole number up to this magnitude is a double.
const WHOLE_DOUBLE: i64 = 1 << 53;

/// The double that equals the number; `None` if there is none.
fn double(number: &serde_json::Number) -> Option<f64> {
    match number.as_i64() {
        Some(whole) => (-WHOLE_DOUBLE..=WHOLE_DOUBLE)
            .contains(&whole)
            .then_some(whole as f64),
        None if number.is_f64() => number.as_f64(),
        None => None,
    }
}

impl Stored<'_> {
    /// The value as JSON, integral doubles as integers.
    pub fn to_json(self) -> Value {
        match self {
            Stored::Text(text) => text.into(),
            Stored::Json(value) => value.clone(),
            Stored::Double(bits) => match f64::from_bits(bits) {
                whole if whole.fract() == 0.0 && whole.abs() <= WHOLE_DOUBLE as f64 => {
                    (whole as i64).into()
                }
                double => double.into(),
            },
        }
    }
}

impl<'a> From<&'a Value> for Stored<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::String(text) => Stored::Text(text),
            Value::Number(number) => {
                let double = double(number).map(|double| Stored::Double(double.to_bits()));
                double.unwrap_or(Stored::Json(value))
            }
            other => Stored::Json(other),
        }
    }
}

impl<'a> From<&'a str> for Stored<'a> {
    fn from(text: &'a str) -> Self {
        Stored::Text(text)
    }
}

/// The text of a value: a string itself, an integral number without fraction, any other value as
/// compact JSON.
#[inline]
pub(crate) fn text<'a>(value: impl Into<Stored<'a>>) -> Cow<'a, str> {
    match value.into() {
        Stored::Text(text) => Cow::Borrowed(text),
        Stored::Double(bits) => Cow::Owned(double_text(f64::from_bits(bits))),
        Stored::Json(other) => Cow::Owned(other.to_string()),
    }
}

fn double_text(double: f64) -> String {
    if double.fract() == 0.0 && double.abs() < 1e21 {
        (double as i128).to_string()
    } else {
        Value::from(double).to_string()
    }
}

/// A number that is compared by its exact value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    /// The number of a value: a JSON number, or a text that is a finite decimal without spaces.
    pub fn of<'a>(value: impl Into<Stored<'a>>) -> Option<Number> {
        match value.into() {
            Stored::Text(text) => Number::of_text(text),
            Stored::Double(bits) => Some(Number::from_float(f64::from_bits(bits))),
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
        if float.fract() == 0.0 && float.abs() < 1e37 {
            Number::Whole(float as i128)
        } else {
            Number::Float(float)
        }
    }

    /// The number times `factor`, rounded; `None` if out of range.
    pub fn scaled(self, factor: i64) -> Option<i64> {
        match self {
            Number::Whole(whole) => whole.checked_mul(factor.into())?.try_into().ok(),
            Number::Float(float) => {
                let product = (float * factor as f64).round();
                (product.abs() < 9e18).then_some(product as i64)
            }
        }
    }

    /// The nearest double.
    pub fn to_float(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            Number::Float(float) => float,
        }
    }

    /// The number as a decimal. A fraction is the shortest decimal that reads as its double, which is
    /// the decimal as written if that has at most 15 digits.
    pub fn to_decimal(self) -> BigDecimal {
        match self {
            Number::Whole(whole) => whole.into(),
            // The text of a finite double is a decimal.
            Number::Float(float) => format!("{float:e}").parse().unwrap_or_default(),
        }
    }

    /// The double that equals the number; `None` if there may be none.
    pub fn as_double(self) -> Option<f64> {
        match self {
            Number::Float(double) => Some(double),
            Number::Whole(whole) => {
                let limit = i128::from(WHOLE_DOUBLE);
                (-limit..=limit).contains(&whole).then_some(whole as f64)
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

/// Compares without converting `whole` to a float, which would make neighbours equal.
fn whole_to_float(whole: i128, float: f64) -> Ordering {
    const LIMIT: f64 = 1.7e38;
    if float > LIMIT {
        return Ordering::Less;
    }
    if float < -LIMIT {
        return Ordering::Greater;
    }
    let order = whole.cmp(&(float.trunc() as i128));
    order.then_with(|| 0.0_f64.total_cmp(&float.fract()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(a: Value, b: Value) -> Ordering {
        Number::of(&a).unwrap().compare(Number::of(&b).unwrap())
    }

    #[test]
    fn integral_floats_have_no_fraction_in_text() {
        assert_eq!(text(&json!(5.0)), "5");
        assert_eq!(text(&json!(-0.0)), "0");
        assert_eq!(text(&json!(5.5)), "5.5");
        assert_eq!(text(&json!(1e20)), "100000000000000000000");
        assert_eq!(text(&json!([1, "a", null])), r#"[1,"a",null]"#);
        assert_eq!(text(&json!(true)), "true");
    }

    #[test]
    fn only_complete_decimals_are_numbers() {
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
    fn fractions_are_the_decimals_as_written() {
        let decimal = |value: Value| Number::of(&value).unwrap().to_decimal().to_string();
        for (value, text) in [
            (json!(0.1), "0.1"),
            (json!("33.33"), "33.33"),
            (json!(-2.50), "-2.5"),
            (json!(1e-7), "1E-7"),
            (json!(u64::MAX), "18446744073709551615"),
        ] {
            assert_eq!(decimal(value.clone()), text, "{value}");
        }
        for double in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 123_456.789e30] {
            let text = decimal(json!(double));
            assert_eq!(text.parse(), Ok(double), "{double:e}");
        }
    }

    #[test]
    fn large_neighbours_are_different() {
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
