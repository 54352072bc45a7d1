//! JSON that is valid after a small rewrite: `NaN`, `Infinity` and `-Infinity`, which Python writes, become `null`, and raw
//! control characters in strings become escapes.
//!
//! The length of the result is known before its memory is allocated. Anything else that is invalid is unchanged.

/// A text that must be rewritten, and the length of the result.
pub struct Standardized<'a> {
    text: &'a str,
    length: usize,
}

/// What JSON does not have, and what replaces it. No literal begins with another.
const LITERALS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];
const REPLACEMENT: &str = "null";
const ESCAPES: [&str; 32] = [
    "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007",
    "\\u0008", "\\t", "\\n", "\\u000b", "\\u000c", "\\r", "\\u000e", "\\u000f", "\\u0010",
    "\\u0011", "\\u0012", "\\u0013", "\\u0014", "\\u0015", "\\u0016", "\\u0017", "\\u0018",
    "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e", "\\u001f",
];

impl<'a> Standardized<'a> {
    /// `None` if the text has nothing to rewrite.
    pub fn of(text: &'a str) -> Option<Self> {
        let (mut pieces, mut length) = (0, 0);
        for_each_piece(text, |piece| {
            pieces += 1;
            length += piece.len();
        });
        (pieces > 1).then_some(Self { text, length })
    }

    /// The bytes of the rewritten text.
    pub fn length(&self) -> usize {
        self.length
    }

    pub fn rewritten(&self) -> String {
        let mut rewritten = String::with_capacity(self.length);
        for_each_piece(self.text, |piece| rewritten.push_str(piece));
        rewritten
    }
}

/// Calls `add` with the pieces of the rewritten text in order.
fn for_each_piece<'a>(text: &'a str, mut add: impl FnMut(&'a str)) {
    let bytes = text.as_bytes();
    let (mut copied, mut at, mut is_string) = (0, 0, false);
    while let Some(byte) = bytes.get(at) {
        let replaced = match (is_string, byte) {
            (true, 0..=31) => Some((1, ESCAPES[usize::from(*byte)])),
            (false, b'N' | b'I' | b'-') => {
                literal_length(&bytes[at..]).map(|length| (length, REPLACEMENT))
            }
            _ => None,
        };
        if let Some((length, replacement)) = replaced {
            add(&text[copied..at]);
            add(replacement);
            at += length;
            copied = at;
            continue;
        }
        is_string ^= *byte == b'"';
        // A backslash takes the next character with it.
        at += if is_string && *byte == b'\\' { 2 } else { 1 };
    }
    add(&text[copied..]);
}

fn literal_length(bytes: &[u8]) -> Option<usize> {
    let literal = LITERALS
        .iter()
        .find(|literal| bytes.starts_with(literal.as_bytes()));
    literal.map(|literal| literal.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_control_characters_are_rewritten() {
        for (text, expected) in [
            (r#"{"a":NaN}"#, r#"{"a":null}"#),
            ("[Infinity, -Infinity,NaN]", "[null, null,null]"),
            ("[NaN,\"NaN -Infinity\"]", "[null,\"NaN -Infinity\"]"),
            ("\"a\tb\nc\u{0}é\u{1b}\"", "\"a\\tb\\nc\\u0000é\\u001b\""),
            ("[\"\\\"NaN\", NaN]\n", "[\"\\\"NaN\", null]\n"),
            ("[\"\\\\\",\tNaN]", "[\"\\\\\",\tnull]"),
            ("NaNs -", "nulls -"),
        ] {
            let standard = Standardized::of(text).expect(text);
            assert_eq!(standard.rewritten(), expected);
            assert_eq!(standard.length(), expected.len());
        }
    }

    #[test]
    fn standard_json_is_not_rewritten() {
        for text in [
            "",
            "{\n\t\"a\": -1}",
            r#"["NaN","\n","é\\"]"#,
            r#"["\"#,
            "\"\\é",
        ] {
            assert!(Standardized::of(text).is_none(), "{text}");
        }
    }
}
