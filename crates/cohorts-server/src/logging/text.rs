//! Texts of clients in log lines and in the details of errors.
//!
//! Their control characters are escaped, so that they neither begin a new line nor change a terminal, and they are short.

use std::fmt::Write;

/// The most characters of the detail of an error that is stored, listed or logged.
const DETAIL_CHARS: usize = 500;
/// The most characters of the message of a log line.
const LINE_CHARS: usize = 2_000;

/// A detail for a stored error, a list or the log: one line of at most 500 characters.
pub fn detail(text: &str) -> String {
    shortened(text, DETAIL_CHARS)
}

/// A detail for a response: at most 500 characters. The JSON of the response escapes control characters.
pub fn truncated(text: String) -> String {
    match text.char_indices().nth(DETAIL_CHARS) {
        None => text,
        Some(_) => ended(&text, DETAIL_CHARS),
    }
}

/// The message of a log line.
pub fn line(text: &str) -> String {
    shortened(text, LINE_CHARS)
}

/// The line of a log in JSON. The escapes have the same meaning to a JSON parser as the characters.
pub fn json_line(value: &serde_json::Value) -> String {
    let text = value.to_string();
    text.chars().fold(String::new(), |mut line, letter| {
        if is_control(letter) {
            // Writing to a string cannot fail. No control character is above U+FFFF.
            let _ = write!(line, "\\u{:04x}", u32::from(letter));
        } else {
            line.push(letter);
        }
        line
    })
}

/// Escapes control characters. A text that is longer than `limit` ends with `…` instead.
fn shortened(text: &str, limit: usize) -> String {
    let mut short = String::new();
    let mut count = 0;
    for letter in text.chars() {
        let start = short.len();
        if is_control(letter) {
            short.extend(letter.escape_default());
        } else {
            short.push(letter);
        }
        count += short[start..].chars().count();
        if count > limit {
            // The ellipsis takes the place of this character and of the one before, which may be an escape.
            return ended(&short[..start], limit);
        }
    }
    short
}

fn ended(text: &str, limit: usize) -> String {
    let kept = text.chars().take(limit - 1).collect::<String>();
    format!("{kept}…")
}

/// Whether a character controls a terminal or the layout of a line: C0, DEL and C1, the line and paragraph separators, and
/// the marks of the writing direction.
fn is_control(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            detail("a\r\nb\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{2029}\u{202e}é→"),
            r"a\r\nb\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{2029}\u{202e}é→"
        );
        let json = json_line(&serde_json::json!({"message": "a\n\u{1b}\u{7f}\u{9b}\u{2028}é"}));
        assert_eq!(json, r#"{"message":"a\n\u001b\u007f\u009b\u2028é"}"#);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["message"], "a\n\u{1b}\u{7f}\u{9b}\u{2028}é");
    }

    #[test]
    fn a_detail_has_at_most_500_characters() {
        let exact = "é".repeat(500);
        assert_eq!(detail(&exact), exact);
        for text in ["é".repeat(501), "\n".repeat(1 << 20), "\u{1b}".repeat(100)] {
            let short = detail(&text);
            assert!(short.chars().count() <= 500, "{short}");
            assert!(short.ends_with('…'), "{short}");
        }
        assert_eq!(truncated(exact.clone()), exact);
        let long = truncated(format!("\n{exact}"));
        assert!(long.starts_with("\né") && long.ends_with('…'), "{long}");
        assert_eq!(long.chars().count(), 500);
    }
}
