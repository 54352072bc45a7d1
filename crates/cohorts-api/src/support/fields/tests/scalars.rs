//! Scalar fields: what each type accepts, and the messages of the rest.

use super::*;

#[test]
fn text_is_trimmed_unless_trim_is_off() {
    assert_eq!(value(TEXT, json!(" \u{1f}a\n")), Ok(json!("a")));
    let exact = Kind::Text {
        trim: false,
        min_length: 0,
        max_length: None,
    };
    assert_eq!(value(exact, json!(" a ")), Ok(json!(" a ")));
}

#[test]
fn number_is_converted_to_text() {
    assert_eq!(value(TEXT, json!(12)), Ok(json!("12")));
    assert_eq!(value(TEXT, json!(1.0)), Ok(json!("1.0")));
}

#[test]
fn booleans_lists_and_objects_are_not_text() {
    for input in [json!(true), json!([]), json!({})] {
        assert_eq!(value(TEXT, input), invalid("Not a valid string."));
    }
}

#[test]
fn text_length_is_counted_in_characters() {
    assert_eq!(value(TEXT, json!("äöüßé")), Ok(json!("äöüßé")));
    let detail = "Ensure this field has no more than 5 characters.";
    let expected = Err(violation("f", "max_length", detail));
    assert_eq!(value(TEXT, json!("äöüßéà")), expected);
    // Trimmed white space does not count.
    assert_eq!(value(TEXT, json!("  12345  ")), Ok(json!("12345")));
}

#[test]
fn blank_text_needs_min_length_zero() {
    assert_eq!(value(TEXT, json!("  ")), Ok(json!("")));
    let kind = |min_length| Kind::Text {
        trim: true,
        min_length,
        max_length: None,
    };
    let blank = Err(violation("f", "blank", "This field may not be blank."));
    assert_eq!(value(kind(1), json!("  ")), blank);
    let detail = "Ensure this field has at least 3 characters.";
    let short = Err(violation("f", "min_length", detail));
    assert_eq!(value(kind(3), json!("ab")), short);
}

#[test]
fn null_characters_are_rejected() {
    let detail = "Null characters are not allowed.";
    let expected = Err(violation("f", "null_characters_not_allowed", detail));
    assert_eq!(value(TEXT, json!("a\0b")), expected);
}

#[test]
fn booleans_have_several_spellings() {
    for input in [
        json!(true),
        json!("TRUE"),
        json!("y"),
        json!(" on "),
        json!(1),
        json!("1"),
    ] {
        assert_eq!(value(Kind::Boolean, input), Ok(json!(true)));
    }
    for input in [
        json!(false),
        json!("False"),
        json!("n"),
        json!("off"),
        json!(0),
        json!("0"),
    ] {
        assert_eq!(value(Kind::Boolean, input), Ok(json!(false)));
    }
    for input in [json!("banana"), json!(2), json!([]), json!({}), json!("")] {
        assert_eq!(
            value(Kind::Boolean, input),
            invalid("Must be a valid boolean.")
        );
    }
    assert_eq!(nullable(Kind::Boolean, json!("null")), Ok(json!(null)));
}

#[test]
fn integers_can_be_text() {
    let kind = || Kind::Integer {
        minimum: Some(0),
        maximum: Some(100),
    };
    for input in [
        json!(12),
        json!("12"),
        json!(" +12 "),
        json!(12.0),
        json!("12.00"),
    ] {
        assert_eq!(value(kind(), input), Ok(json!(12)));
    }
    for input in [
        json!("a"),
        json!(1.5),
        json!(true),
        json!([]),
        json!(""),
        json!(1e30),
    ] {
        assert_eq!(
            value(kind(), input),
            invalid("A valid integer is required.")
        );
    }
}

#[test]
fn integers_outside_the_range_are_rejected() {
    let kind = || Kind::Integer {
        minimum: Some(0),
        maximum: Some(100),
    };
    let low = "Ensure this value is greater than or equal to 0.";
    let high = "Ensure this value is less than or equal to 100.";
    assert_eq!(
        value(kind(), json!(-1)),
        Err(violation("f", "min_value", low))
    );
    assert_eq!(
        value(kind(), json!(101)),
        Err(violation("f", "max_value", high))
    );
    for inside in [0, 100] {
        assert_eq!(value(kind(), json!(inside)), Ok(json!(inside)));
    }
}

#[test]
fn numbers_can_be_text() {
    assert_eq!(value(Kind::Number, json!("1.5")), Ok(json!(1.5)));
    for input in [json!("a"), json!(true), json!("inf"), json!("NaN")] {
        assert_eq!(
            value(Kind::Number, input),
            invalid("A valid number is required.")
        );
    }
}

#[test]
fn instants_are_converted_to_utc() {
    for input in [
        "2026-03-01T12:00:00Z",
        "2026-03-01 12:00",
        "2026-03-01T12:00:00.000000",
        "2026-03-01T13:00+01:00",
        "2026-03-01T07:30:00.0-0430",
    ] {
        let expected = Ok(json!("2026-03-01T12:00:00+00:00"));
        assert_eq!(value(Kind::Instant, json!(input)), expected, "{input}");
    }
}

#[test]
fn instant_in_another_format_is_rejected() {
    let detail = "Datetime has wrong format. Use one of these formats instead: \
                  YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z].";
    for input in [
        json!("tomorrow"),
        json!(1_772_366_400),
        json!("2026-03-01"),
        json!("2026-02-30T12:00:00Z"),
        json!("2026-03-01T12:00:00.1234567Z"),
        json!("2026-03-01T12:00:00.é"),
        json!([]),
    ] {
        assert_eq!(value(Kind::Instant, input), invalid(detail));
    }
}

#[test]
fn uuids_are_normalized() {
    let uuid = "0190A1B2C3D47E8F9012A3B4C5D6E7F8";
    let expected = Ok(json!("0190a1b2-c3d4-7e8f-9012-a3b4c5d6e7f8"));
    assert_eq!(value(Kind::Uuid, json!(uuid)), expected);
    assert_eq!(
        value(Kind::Uuid, json!("x")),
        invalid("Must be a valid UUID.")
    );
}

#[test]
fn choice_is_one_of_its_words() {
    let kind = || Kind::Choice(&["static", ""]);
    assert_eq!(value(kind(), json!("static")), Ok(json!("static")));
    assert_eq!(value(kind(), json!("")), Ok(json!("")));
    for (input, word) in [(json!("nope"), "nope"), (json!(5), "5")] {
        let detail = format!("\"{word}\" is not a valid choice.");
        assert_eq!(
            value(kind(), input),
            Err(violation("f", "invalid_choice", &detail))
        );
    }
    let detail = "\"\" is not a valid choice.";
    let blank = Err(violation("f", "invalid_choice", detail));
    assert_eq!(value(Kind::Choice(&["static"]), json!("")), blank);
}
